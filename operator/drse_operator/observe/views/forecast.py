"""Load, forecast and what scaling makes of them; each forecast with its own measured skill."""

from __future__ import annotations

from pydantic import Field

from drse_forecaster.contract import ForecastList, JobForecast
from drse_operator.api.enums import ScalingMode
from drse_operator.api.reasons import ConditionType
from drse_operator.api.types import seconds
from drse_operator.observe.views.base import Instant, Report, Row, instant
from drse_operator.observe.views.scene import EVERYWHERE, Scene, Where
from drse_operator.workloads.observed import Job


class PointRow(Row):
    """Load expected so many minutes after the newest sample, in GPU-equivalents."""

    minutes: int
    p50: float
    p90: float


class ForecastRow(Row):
    """A job whose load is watched. Loads are in GPU-equivalents."""

    namespace: str
    job: str
    load: float | None = Field(description="Load now.")
    p50_at_5_minutes: float | None
    p50_at_10_minutes: float | None
    p90: float | None = Field(description="Highest P90 up to the job's horizon.")
    capacity_gpus: int = Field(description="GPUs that the job holds.")
    wanted_gpus: int | None = Field(description="GPUs that scaling asks for.")
    skill_ratio: float | None = Field(
        description="Error of the forecast / error of the last value, 10 minutes ahead; below 1 is better."
    )
    coverage_ratio: float | None = Field(description="Share of loads that stayed at or below their P90.")
    mode: str = Field(description="Off, Recommend or Auto.")
    state: str = Field(description="State of the forecast; Unreachable when the forecaster did not answer.")
    state_reason: str = Field(description="Why the forecast is in that state; empty when it is not known.")
    reason: str = Field(description="Typed reason of the last scaling decision.")
    says: str = Field(description="The last scaling decision, or why there is none.")
    model: str | None = Field(description="Which forecasting model spoke.")
    as_of: Instant | None = Field(description="Time of the newest sample.")
    points: tuple[PointRow, ...]


class ForecastReport(Report):
    """Jobs that scale, or whose load is known; none that have ended."""

    items: tuple[ForecastRow, ...]
    forecaster: str = Field(description="Answered, or why the forecaster could not be asked.")


def forecast(
    scene: Scene, forecasts: ForecastList | None, where: Where = EVERYWHERE, trouble: str = ""
) -> ForecastReport:
    """Jobs with scaling on, or known to the forecaster. ``trouble`` says why ``forecasts`` is missing."""
    known = {} if forecasts is None else {(f.namespace, f.name): f for f in forecasts.forecasts}
    rows = []
    for job in sorted(scene.world.all_jobs(), key=lambda j: (j.key.namespace, j.key.name)):
        found = known.get((job.key.namespace, job.key.name))
        scales = job.spec is not None and job.spec.scaling.mode is not ScalingMode.OFF
        if job.status.phase is not None and job.status.phase.finished:
            continue  # the forecaster knows it until its samples are old
        if where.shows(job) and scene.may_name(job.key) and (scales or found is not None):
            rows.append(_row(job, found, forecasts is not None))
    answered = trouble or ("Answered" if forecasts is not None else "not asked")
    return ForecastReport(
        as_of=instant(scene.now), unread=scene.unread, items=tuple(rows), forecaster=answered
    )


def _row(job: Job, found: JobForecast | None, answered: bool) -> ForecastRow:
    scaling, per_replica = job.status.scaling, job.status.gpus_per_replica
    wanted = None
    if scaling is not None and scaling.desired_replicas is not None and per_replica:
        wanted = scaling.desired_replicas * per_replica
    frozen = next((c for c in job.status.conditions if c.type == ConditionType.SCALING_ACTIVE), None)
    says = "" if scaling is None else scaling.message
    if frozen is not None and frozen.status == "False" and frozen.message:
        says = frozen.message
    if not says and found is not None:
        says = found.reason
    return ForecastRow(
        namespace=job.key.namespace,
        job=job.key.name,
        load=found.load if found is not None else None if scaling is None else scaling.load,
        p50_at_5_minutes=_median(found, 5),
        p50_at_10_minutes=_median(found, 10),
        p90=_bound(job, found),
        capacity_gpus=job.status.gpus,
        wanted_gpus=wanted,
        skill_ratio=None if found is None else found.skill,
        coverage_ratio=None if found is None else found.coverage,
        mode="" if job.spec is None else job.spec.scaling.mode,
        state=str(found.state) if found is not None else "Unknown" if answered else "Unreachable",
        state_reason="" if found is None else found.reason,
        reason="" if scaling is None else scaling.reason,
        says=says,
        model=None if found is None else found.model,
        as_of=None if found is None else found.as_of,
        points=() if found is None else tuple(_point(p.minutes, p.p50, p.p90) for p in found.points),
    )


def _point(minutes: int, p50: float, p90: float) -> PointRow:
    return PointRow(minutes=minutes, p50=p50, p90=p90)


def _median(found: JobForecast | None, minutes: int) -> float | None:
    point = None if found is None else found.at(minutes)
    return None if point is None else point.p50


def _bound(job: Job, found: JobForecast | None) -> float | None:
    """Highest P90 up to the job's horizon: the forecaster's, else the one of the last decision."""
    if found is not None and job.spec is not None:
        highest = found.highest_p90(seconds(job.spec.scaling.horizon) / 60)
        if highest is not None:
            return highest
    return None if job.status.scaling is None else job.status.scaling.forecast_p90
