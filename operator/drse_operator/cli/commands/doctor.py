"""``drse doctor``."""

from __future__ import annotations

import time

import click
from pydantic import Field

from drse_operator.cli.answer import Sheet, answer
from drse_operator.cli.connect import Session
from drse_operator.cli.diagnosis import Diagnosis, Finding, State, diagnose
from drse_operator.cli.forecaster import forecaster_option
from drse_operator.cli.load import load_scene
from drse_operator.cli.output import Request, reading
from drse_operator.cli.prometheus import prometheus_option
from drse_operator.cli.table import Column
from drse_operator.observe.views.base import Report, instant

_COLOURS = {State.OK: "green", State.WARN: "yellow", State.FAIL: "red"}


class DoctorReport(Report):
    """What was checked."""

    healthy: bool = Field(description="Whether nothing has failed.")
    items: tuple[Finding, ...]


@click.command()
@forecaster_option
@prometheus_option
@reading(watch=False)
def doctor(request: Request, forecaster: str | None, prometheus: str | None) -> None:
    """Is DRSE healthy? Checks the API, the CRDs, your rights, the leader, GPUs, exclusivity, forecasts.

    Exit status 1 when a check fails; warnings alone do not fail.
    """

    async def ask(session: Session) -> Sheet:
        scene = await load_scene(session)
        case = Diagnosis(session, scene, request.access.drse_namespace, forecaster, prometheus)
        findings = tuple([finding async for finding in diagnose(case)])
        healthy = all(finding.state is not State.FAIL for finding in findings)
        report = DoctorReport(
            as_of=instant(time.time()), unread=scene.unread, healthy=healthy, items=findings
        )
        return Sheet(report, findings, _COLUMNS, names=[finding.check for finding in findings])

    sheet = answer(request, ask)
    assert isinstance(sheet.report, DoctorReport)
    if not sheet.report.healthy:
        raise click.exceptions.Exit(1)


_COLUMNS: list[Column[Finding]] = [
    Column("CHECK", lambda r: r.check),
    Column("STATE", lambda r: r.state, colour=lambda r: _COLOURS.get(r.state)),
    Column("SAYS", lambda r: f"{r.says}: {r.do}" if r.do else r.says),
]
