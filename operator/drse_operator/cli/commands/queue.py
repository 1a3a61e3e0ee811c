"""``drse queue``."""

from __future__ import annotations

import click

from drse_operator.cli import wording
from drse_operator.cli.access import queue_option
from drse_operator.cli.answer import Sheet, answer
from drse_operator.cli.connect import Session
from drse_operator.cli.load import load_scene, shortcomings, where
from drse_operator.cli.output import Request, reading
from drse_operator.cli.table import Column
from drse_operator.observe.views import queue as view
from drse_operator.observe.views.queue import QueueReport, QueueRow


@click.command()
@queue_option
@reading(scoped=True, selector=True)
def queue(request: Request, queue_name: str | None) -> None:
    """Who waits for GPUs, why, and until when.

    Jobs of one namespace by default, -A shows all. The expected start is a range: as likely earlier as later
    than its beginning, and nine in ten start before its end. MOVED is by how much its beginning was moved
    last; drse why says why.
    """

    async def ask(session: Session) -> Sheet:
        scene = await load_scene(session)
        report = view.queue(scene, await where(session, request, scoped=True, queue=queue_name))
        place = "any namespace" if request.all_namespaces else f"namespace {session.namespace}"
        hint = "" if request.all_namespaces else "; -A looks at all namespaces"
        return Sheet(
            report,
            report.items,
            columns(report, request.all_namespaces),
            names=[f"deepseekjob.drse.dev/{row.job}" for row in report.items],
            empty=f"no job waits in {place}{hint}",
            notes=shortcomings(scene),
        )

    answer(request, ask)


_NAMESPACE: Column[QueueRow] = Column("NAMESPACE", lambda r: r.namespace)


def columns(report: QueueReport, namespaces: bool) -> list[Column[QueueRow]]:
    """Columns of the waiting jobs."""
    today = report.as_of
    return [
        *([_NAMESPACE] if namespaces else []),
        Column("POS", lambda r: wording.number(r.position), right=True, order=lambda r: r.position),
        Column("JOB", lambda r: r.job),
        Column("QUEUE", lambda r: r.queue),
        Column("TYPE", lambda r: r.task_type),
        Column(
            "PRIO",
            lambda r: r.priority_class or wording.number(r.priority),
            order=lambda r: r.priority,
        ),
        Column("GPUS", lambda r: str(r.gpus), right=True, order=lambda r: r.gpus),
        Column("REASON", lambda r: r.reason, colour=lambda r: "red" if r.must_act else None),
        Column(
            "WAITED", lambda r: wording.age(r.waited_seconds), right=True, order=lambda r: r.waited_seconds
        ),
        Column("ETA", lambda r: wording.between(r.eta_p50, r.eta_p90, today), order=lambda r: r.eta_p50),
        Column(
            "MOVED",
            lambda r: "-" if r.moved is None else wording.signed_age(r.moved.seconds),
            right=True,
            order=lambda r: None if r.moved is None else r.moved.seconds,
        ),
        Column("MESSAGE", lambda r: r.message, wide=True),
    ]
