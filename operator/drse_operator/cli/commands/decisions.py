"""``drse decisions``."""

from __future__ import annotations

import time
from datetime import datetime

import click

from drse_operator.api.keys import JobKey
from drse_operator.cli import wording
from drse_operator.cli.access import complete_jobs, queue_option
from drse_operator.cli.answer import Sheet, answer
from drse_operator.cli.connect import Session
from drse_operator.cli.load import where
from drse_operator.cli.output import Request, reading
from drse_operator.cli.records import read_decisions
from drse_operator.cli.spans import Span
from drse_operator.cli.table import Column
from drse_operator.observe.journal import DecisionKind
from drse_operator.observe.views import decisions as view
from drse_operator.observe.views.decisions import DecisionReport, DecisionRow
from drse_operator.observe.views.scene import Where


@click.command()
@click.option("--job", metavar="JOB", shell_complete=complete_jobs, help="Of one job, or for it.")
@queue_option
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([str(kind) for kind in DecisionKind], case_sensitive=False),
    help="Of this kind; may be repeated.",
)
@click.option("--since", type=Span(), metavar="SPAN", help="Not older than this, such as 12h or 7d.")
@click.option("-f", "--follow", is_flag=True, help="The same as --watch.")
@reading(scoped=True)
def decisions(
    request: Request,
    job: str | None,
    queue_name: str | None,
    kinds: tuple[str, ...],
    since: float | None,
    follow: bool,
) -> None:
    """What was decided, newest last: who got GPUs, who gave way for whom, what scaling did, and why.

    From the journal in DRSE's namespace; who may not read it is told what the events say.
    """

    async def ask(session: Session) -> Sheet:
        now = time.time()
        shown = await where(session, request, scoped=True, queue=queue_name)
        if job is not None:
            shown = Where(queue=queue_name, keys=frozenset({JobKey(session.namespace, job)}))
        namespace = None if request.all_namespaces else session.namespace
        records, source, note = await read_decisions(session, request.access.drse_namespace, namespace)
        start = None if since is None else now - since
        report = view.decisions(records, now, shown, frozenset(kinds), start, source)
        return Sheet(
            report,
            report.items,
            columns(report),
            names=[f"deepseekjob.drse.dev/{row.job}" for row in report.items],
            empty="no decision is known here" + ("" if request.all_namespaces else "; -A looks everywhere"),
            notes=(note,) if note else (),
        )

    answer(request.watching() if follow else request, ask)


def columns(report: DecisionReport) -> list[Column[DecisionRow]]:
    """Columns of the decisions."""
    today = report.as_of
    return [
        Column("TIME", lambda r: _time(r, today), order=lambda r: r.at),
        Column("KIND", lambda r: r.kind, colour=lambda r: "red" if r.kind in ("Preempt", "Deny") else None),
        Column("JOB", lambda r: f"{r.namespace}/{r.job}"),
        Column("QUEUE", lambda r: r.queue or "-", wide=True),
        Column("GPUS", lambda r: str(r.gpus) if r.gpus else "-", right=True, order=lambda r: r.gpus),
        Column("REASON", lambda r: r.reason),
        Column("BY", lambda r: r.by or "-"),
        Column("NUMBERS", _numbers, wide=True),
        Column("EFFECT", lambda r: r.effect),
    ]


def _time(row: DecisionRow, today: datetime) -> str:
    here = row.at.astimezone()
    if here.date() == today.astimezone().date():
        return f"{here:%H:%M:%S}"
    return wording.clock(row.at, today)


def _numbers(row: DecisionRow) -> str:
    return " ".join(f"{name}={wording.number(value, 3)}" for name, value in row.numbers.items()) or "-"
