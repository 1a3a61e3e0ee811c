"""``simulate scaling``: from a file of recorded load to what each policy would have done.

The forecasts come from the forecaster's own procedure, which this module alone calls: the simulator proper
takes them as data.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import TypeAdapter, ValidationError

from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.types import Duration, seconds
from drse_operator.scaling.policy import Point
from drse_operator.simulator.scaling import Between, Demand, Outcome, Service
from drse_operator.simulator.scaling_contest import POLICIES, Case, Contest
from drse_operator.simulator.scaling_plot import draw
from drse_operator.simulator.scaling_policies import Forecast

if TYPE_CHECKING:
    from drse_forecaster.recorded import Recorded
    from drse_forecaster.rehearsal import Answer
    from drse_forecaster.series import FloatArray

#: A load that needs more replicas than a job may have is no load of GPUs: it is scaled to this mean.
MEAN_GPUS = 10.0
MAX_REPLICAS = 1000
_HORIZON = "10m"


@click.command()
@click.option(
    "--series",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV file (.gz too) with a column of times and columns of loads.",
)
@click.option("--column", help="Column to scale on; by default the first with numbers.")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Choice(["all", *POLICIES]),
    default=("all",),
    show_default=True,
    help="Policies to run; repeatable. hpa-equal is the HPA at the target that takes DRSE's GPU-hours.",
)
@click.option("--startup", default="3m", show_default=True, help="From asking for a replica until it serves.")
@click.option("--gpus-per-replica", type=click.IntRange(1, 1024), default=1, show_default=True)
@click.option(
    "--mean-gpus",
    type=click.FloatRange(0, MAX_REPLICAS, min_open=True),
    help="Scale the load so that it takes this many GPUs on average. [default: as recorded, in "
    f"GPU-equivalents; {MEAN_GPUS:g} if that is more than {MAX_REPLICAS} replicas can serve]",
)
@click.option("--min-replicas", type=click.IntRange(1, MAX_REPLICAS), default=1, show_default=True)
@click.option("--max-replicas", type=click.IntRange(1, MAX_REPLICAS), default=MAX_REPLICAS, show_default=True)
@click.option(
    "--between",
    type=click.Choice([one.value for one in Between]),
    default=Between.STEP.value,
    show_default=True,
    help="The load between two samples: that of the first, or on a straight line.",
)
@click.option("--plot", "plot_file", type=click.Path(dir_okay=False, path_type=Path), help="PNG to draw.")
@click.option("--output", type=click.Choice(["json", "text"]), default="text", show_default=True)
def scaling(
    series: Path,
    column: str | None,
    policies: tuple[str, ...],
    startup: str,
    gpus_per_replica: int,
    mean_gpus: float | None,
    min_replicas: int,
    max_replicas: int,
    between: str,
    plot_file: Path | None,
    output: str,
) -> None:
    """Let a recorded load drive replicas, under DRSE's scaling and under others.

    DRSE decides as in a cluster, on the forecasts that its forecaster would have made at each moment.
    """
    service = Service(_seconds(startup), gpus_per_replica, min_replicas, max_replicas)
    began = time.perf_counter()
    case, factor = _read(series, column, service, mean_gpus, Between(between))
    forecast_seconds = time.perf_counter() - began
    contest = Contest(case, keep_moments=plot_file is not None)
    outcomes = contest.run(POLICIES if "all" in policies else policies)
    if plot_file is not None:
        try:
            draw(contest.moments, case.demand.name, plot_file)
        except ImportError as error:
            raise click.ClickException("--plot needs matplotlib: pip install matplotlib") from error
    if output == "json":
        document = {
            "series": case.demand.name,
            "gpu_equivalents_per_unit": factor,
            "startup_seconds": service.startup,
            "forecast_seconds": forecast_seconds,
            "seconds": time.perf_counter() - began,
            "policies": [asdict(one) for one in outcomes],
        }
        click.echo(json.dumps(document))
    else:
        click.echo(table(case.demand.name, factor, outcomes))


def prepare(
    recorded: Recorded,
    answers: Sequence[Answer],
    expected: FloatArray,
    service: Service,
    factor: float,
    between: Between = Between.STEP,
) -> Case:
    """A recording with what was said about it, times ``factor``, as the simulator takes it."""
    times = [float(one) for one in recorded.times]
    values = tuple(float(one) * factor for one in recorded.values)
    demand = Demand(recorded.name, times[0], float(recorded.step_seconds), values, between)
    forecasts = [
        Forecast(one.as_of, tuple(Point(p.minutes, p.p50 * factor, p.p90 * factor) for p in one.points))
        for one in answers
    ]
    known = [
        (at, float(one) * factor)
        for at, one in zip(times, expected, strict=True)
        if one == one  # not NaN
    ]
    return Case(demand, service, _spec(service), forecasts, known)


def _read(
    path: Path, column: str | None, service: Service, mean_gpus: float | None, between: Between
) -> tuple[Case, float]:
    """The case of a file, and GPU-equivalents a unit of its column."""
    try:
        from drse_forecaster.recorded import SeriesError, read
        from drse_forecaster.rehearsal import rehearse, textbook_prophet
    except ImportError as error:
        raise click.ClickException(
            f"this command needs the forecaster ({error.name} is missing): pip install 'drse[forecaster]'"
        ) from error
    try:
        recorded = read(path, column, step_seconds=60)
    except SeriesError as error:
        raise click.ClickException(str(error)) from error
    known = [float(one) for one in recorded.values if math.isfinite(one)]
    mean, peak = sum(known) / len(known), max(known)
    if mean <= 0:
        raise click.ClickException(f"{recorded.name} is zero throughout: there is no load to scale on.")
    if mean_gpus is None and peak > 0.8 * MAX_REPLICAS * service.gpus_per_replica:
        mean_gpus = MEAN_GPUS
    factor = 1.0 if mean_gpus is None else mean_gpus / mean
    expected = textbook_prophet(recorded, seconds(_HORIZON))
    return prepare(recorded, rehearse([recorded])[0], expected, service, factor, between), factor


def _spec(service: Service) -> DeepSeekJobSpec:
    """A service with the defaults of the API, within the bounds given."""
    return DeepSeekJobSpec.model_validate(
        {
            "taskType": "Inference",
            "resources": {"gpusPerReplica": service.gpus_per_replica},
            "scaling": {
                "mode": "Auto",
                "minReplicas": service.min_replicas,
                "maxReplicas": service.max_replicas,
                "horizon": _HORIZON,
                "targetConcurrency": service.target_concurrency,
            },
        }
    )


def _seconds(text: str) -> float:
    try:
        return float(seconds(TypeAdapter(Duration).validate_python(text)))
    except ValidationError as error:
        raise click.BadParameter("write a duration such as 90s or 3m", param_hint="--startup") from error


def table(name: str, factor: float, outcomes: Sequence[Outcome]) -> str:
    """Outcomes as a table for people."""
    first = outcomes[0]
    lines = [
        f"{name}: {first.hours / 24:.1f} days, {first.demand_gpu_hours:.0f} GPU-hours of load"
        + ("" if factor == 1 else f" (each unit of the column taken as {factor:.3g} GPUs)"),
        f"{'policy':18}{'GPU-hours':>10}{'/ load':>8}{'under capacity':>16}{'queued':>9}{'lost':>9}"
        f"{'P95 delay':>11}{'actions/day':>13}",
    ]
    lines += [
        f"{one.policy:18}{one.gpu_hours:10.0f}{one.gpu_hours / one.demand_gpu_hours:8.2f}"
        f"{one.under_capacity_share:16.2%}{one.queued_share:9.2%}{one.lost_share:9.2%}"
        f"{one.queueing_delay_p95_seconds:9.1f} s{one.actions_per_day:13.1f}"
        for one in outcomes
    ]
    return "\n".join(lines)
