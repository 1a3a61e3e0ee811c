"""The cluster in a handful of numbers."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from drse_operator.observe.views.base import Report, instant
from drse_operator.observe.views.gpus import GpuReport, GpuState, count_by_state, gpus
from drse_operator.observe.views.nodes import held_idle
from drse_operator.observe.views.queue import must_act, queued
from drse_operator.observe.views.scene import EVERYWHERE, Scene


class NowReport(Report):
    """GPUs by state, and who waits."""

    gpus: int
    free_gpus: int
    held_gpus: int
    held_idle_gpus: int | None = Field(description="Held GPUs used less than 5 %; null when not measured.")
    foreign_gpus: int
    out_of_service_gpus: int
    running_jobs: int
    waiting_jobs: int
    waiting_gpus: int
    must_act_jobs: int = Field(description="Waiting jobs that somebody has to do something about.")
    oldest_wait_seconds: float | None


def now(scene: Scene, use: Mapping[str, float] | None = None, found: GpuReport | None = None) -> NowReport:
    """The figures of the whole cluster. ``use`` is utilisation (0..1) by UUID; ``found`` are its GPUs, where
    they have been worked out already."""
    rows = (gpus(scene, EVERYWHERE, use=use) if found is None else found).items
    states = count_by_state(rows)
    waits = scene.waits.values()
    return NowReport(
        as_of=instant(scene.now),
        unread=scene.unread,
        gpus=sum(states.values()),
        free_gpus=states[GpuState.FREE],
        held_gpus=states[GpuState.HELD],
        held_idle_gpus=None if use is None else held_idle(rows),
        foreign_gpus=states[GpuState.FOREIGN],
        out_of_service_gpus=states[GpuState.OUT_OF_SERVICE],
        running_jobs=sum(bool(job.status.assignments) for job in scene.world.all_jobs()),
        waiting_jobs=len(waits),
        waiting_gpus=sum(wait.gpus for wait in waits),
        must_act_jobs=sum(must_act(wait.reason) for wait in waits),
        oldest_wait_seconds=max((scene.now - queued(wait.job) for wait in waits), default=None),
    )
