"""``drse doctor``."""

from __future__ import annotations

import time

import click
from pydantic import Field

from drse_operator.api.words import count
from drse_operator.cli.answer import Sheet, answer
from drse_operator.cli.connect import Session
from drse_operator.cli.diagnosis.all import diagnose
from drse_operator.cli.diagnosis.finding import Case, Finding, State
from drse_operator.cli.forecaster import forecaster_option
from drse_operator.cli.load import load_scene
from drse_operator.cli.output import Request, reading
from drse_operator.cli.prometheus import prometheus_option
from drse_operator.cli.table import Column
from drse_operator.observe.views.base import Report, instant
from drse_operator.outside.prometheus import PrometheusSettings

_COLOURS = {State.OK: "green", State.WARN: "yellow", State.FAIL: "red"}


class DoctorReport(Report):
    """What was checked."""

    healthy: bool = Field(description="Whether nothing has failed.")
    items: tuple[Finding, ...]


@click.command()
@click.option(
    "--lease",
    metavar="NAME",
    envvar="DRSE_LEASE",
    default="drse-operator",
    show_default=True,
    help="Name of the operator's Lease, which is that of its Deployment.",
)
@forecaster_option
@prometheus_option
@reading(watch=False)
def doctor(
    request: Request, lease: str, forecaster: str | None, prometheus: PrometheusSettings | None
) -> None:
    """Is DRSE healthy? Checks API, CRDs, rights, leader, plan, GPUs, exclusivity, forecasts, alerts.

    Exit status 1 when a check fails; warnings alone do not fail.
    """

    async def ask(session: Session) -> Sheet:
        scene = await load_scene(session)
        case = Case(session, scene, request.access.drse_namespace, lease, forecaster, prometheus)
        findings = await diagnose(case)
        healthy = all(finding.state is not State.FAIL for finding in findings)
        report = DoctorReport(
            as_of=instant(time.time()), unread=scene.unread, healthy=healthy, items=findings
        )
        names = [finding.check for finding in findings]
        return Sheet(report, findings, _COLUMNS, names=names, below=f"\n{verdict(findings)}")

    sheet = answer(request, ask)
    assert isinstance(sheet.report, DoctorReport)
    if not sheet.report.healthy:
        raise click.exceptions.Exit(1)


def verdict(findings: tuple[Finding, ...]) -> str:
    """What it comes to, and every problem in full: the table's last column may be cut."""
    failed = [one for one in findings if one.state is State.FAIL]
    warned = [one for one in findings if one.state is State.WARN]
    skipped = [one.check for one in findings if one.state is State.SKIP]
    warnings = f", with {count(len(warned), 'warning')}" if warned else ""
    lines = [
        f"DRSE is not healthy: {count(len(failed), 'check')} failed."
        if failed
        else f"DRSE is healthy{warnings}.",
        *(f"- {one.check}: {one.says}{_remedy(one)}" for one in (*failed, *warned)),
    ]
    if skipped:
        lines.append(f"Not looked at: {', '.join(skipped)}.")
    return "\n".join(lines)


def _remedy(one: Finding) -> str:
    return f": {one.do}" if one.do else ""


_COLUMNS: list[Column[Finding]] = [
    Column("CHECK", lambda r: r.check),
    Column("STATE", lambda r: r.state, colour=lambda r: _COLOURS.get(r.state)),
    Column("SAYS", lambda r: r.says),
]
