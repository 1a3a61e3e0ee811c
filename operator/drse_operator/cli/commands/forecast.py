"""``drse forecast``."""

from __future__ import annotations

import click

from drse_operator.cli import wording
from drse_operator.cli.access import complete_jobs
from drse_operator.cli.answer import Sheet, answer
from drse_operator.cli.connect import Session
from drse_operator.cli.forecaster import ask_forecaster, forecaster_option
from drse_operator.cli.load import load_scene, where
from drse_operator.cli.output import Request, reading
from drse_operator.cli.table import Column
from drse_operator.cluster import kinds
from drse_operator.observe.views import forecast as view
from drse_operator.observe.views.forecast import ForecastRow


@click.command()
@click.argument("job", required=False, shell_complete=complete_jobs)
@forecaster_option
@reading(scoped=True, selector=True)
def forecast(request: Request, job: str | None, forecaster: str | None) -> None:
    """Load now and soon of jobs that scale, and what scaling makes of it.

    Loads are in GPU-equivalents. SKILL compares the forecast's error with that of the last value: below 1 is
    worth having. COVERAGE is how often the load stayed at or below P90.
    """

    async def ask(session: Session) -> Sheet:
        scene = await load_scene(session, (kinds.DEEPSEEKJOB,))
        found, trouble = await ask_forecaster(session, request.access.drse_namespace, forecaster)
        report = view.forecast(scene, found, await where(session, request, scoped=True), trouble)
        if job is not None:
            items = tuple(row for row in report.items if row.job == job)
            report = report.model_copy(update={"items": items})
        return Sheet(
            report,
            report.items,
            columns(request.all_namespaces),
            names=[f"deepseekjob.drse.dev/{row.job}" for row in report.items],
            empty="no such job scales, and none is known to the forecaster: set spec.scaling.mode"
            + ("" if request.all_namespaces else f"; this is namespace {session.namespace}, -A shows all"),
            notes=(f"{trouble}; figures are those of the last scaling decision",) if trouble else (),
        )

    answer(request, ask)


_NAMESPACE: Column[ForecastRow] = Column("NAMESPACE", lambda r: r.namespace)


def columns(namespaces: bool) -> list[Column[ForecastRow]]:
    """Columns of loads and forecasts."""
    return [
        *([_NAMESPACE] if namespaces else []),
        Column("JOB", lambda r: r.job),
        Column("NOW", lambda r: wording.number(r.load), right=True, order=lambda r: r.load),
        Column("+5M", lambda r: wording.number(r.p50_at_5_minutes), right=True),
        Column("+10M", lambda r: wording.number(r.p50_at_10_minutes), right=True),
        Column("P90", lambda r: wording.number(r.p90), right=True, order=lambda r: r.p90),
        Column("CAPACITY", lambda r: str(r.capacity_gpus), right=True, order=lambda r: r.capacity_gpus),
        Column("WANTED", lambda r: wording.number(r.wanted_gpus), right=True, order=lambda r: r.wanted_gpus),
        Column(
            "SKILL", lambda r: wording.number(r.skill_ratio, 2), right=True, order=lambda r: r.skill_ratio
        ),
        Column("COVERAGE", lambda r: wording.percent(r.coverage_ratio), right=True),
        Column("MODE", lambda r: r.mode),
        Column("STATE", lambda r: r.state, colour=lambda r: None if r.state == "Ready" else "yellow"),
        Column("MODEL", lambda r: r.model or "-", wide=True),
        Column("SAYS", lambda r: r.says or r.reason or "-"),
    ]
