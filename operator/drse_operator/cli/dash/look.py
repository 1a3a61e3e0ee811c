"""One look at the cluster, with everything that the pages show worked out from it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from drse_operator.cli.connect import Session
from drse_operator.cli.forecaster import ask_replicas
from drse_operator.cli.load import load_scene, shortcomings
from drse_operator.cli.prometheus import utilisation
from drse_operator.observe.views.forecast import ForecastReport, forecast
from drse_operator.observe.views.gpus import GpuReport, gpus
from drse_operator.observe.views.jobs import JobReport, jobs
from drse_operator.observe.views.now import NowReport, now
from drse_operator.observe.views.queue import QueueReport, queue
from drse_operator.observe.views.scene import EVERYWHERE, Scene
from drse_operator.observe.views.share import ShareReport, share
from drse_operator.outside.forecaster import Answer
from drse_operator.outside.prometheus import PrometheusSettings


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to ask: DRSE's namespace, and addresses where the caller has stated some."""

    drse_namespace: str
    forecaster: str | None = None
    prometheus: PrometheusSettings | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """The cluster as it was seen. ``notes`` say what is missing; ``forecaster_note`` what of forecasts is."""

    scene: Scene
    now: NowReport
    shares: ShareReport
    running: JobReport
    waiting: QueueReport
    gpus: GpuReport
    forecasts: ForecastReport
    measured: bool
    notes: tuple[str, ...]
    forecaster_note: str


async def look(session: Session, sources: Sources) -> Look:
    """Look now. Raises ClickException, ApiError and ApiUnreachable."""
    scene, use, told = await asyncio.gather(
        load_scene(session),
        utilisation(sources.prometheus),
        ask_replicas(session, sources.drse_namespace, sources.forecaster),
    )
    # Planning thousands of jobs takes a moment, in which keys must still be answered.
    return await asyncio.to_thread(draw, scene, use, told)


def draw(scene: Scene, use: Mapping[str, float] | None, told: Answer) -> Look:
    """Everything that is shown of a scene. ``use`` is utilisation (0..1) by UUID, ``told`` the forecaster's
    answer."""
    trouble = "; ".join(told.troubles)
    return Look(
        scene=scene,
        now=now(scene, use),
        shares=share(scene),
        running=jobs(scene, holding_only=True),
        waiting=queue(scene),
        gpus=gpus(scene, use=use),
        forecasts=forecast(scene, told.merged(), EVERYWHERE, trouble),
        measured=use is not None,
        notes=shortcomings(scene),
        forecaster_note=trouble,
    )
