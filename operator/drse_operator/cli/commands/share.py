"""``drse share`` and ``drse prio``."""

from __future__ import annotations

import click

from drse_operator.api.keys import JobKey
from drse_operator.cli import table, wording
from drse_operator.cli.access import complete_jobs, queue_option
from drse_operator.cli.answer import Sheet, answer
from drse_operator.cli.connect import Session
from drse_operator.cli.load import load_scene, shortcomings
from drse_operator.cli.output import Request, reading
from drse_operator.cli.table import Column
from drse_operator.observe.views import prio as prio_view
from drse_operator.observe.views import share as view
from drse_operator.observe.views.prio import Neighbour, Term
from drse_operator.observe.views.scene import UnknownJobError
from drse_operator.observe.views.share import ShareReport, ShareRow


@click.command()
@queue_option
@reading()
def share(request: Request, queue_name: str | None) -> None:
    """What each queue holds against what it is due now.

    FAIR divides the GPUs by weight among the queues with demand; what one cannot use goes to the others.
    """

    async def ask(session: Session) -> Sheet:
        scene = await load_scene(session)
        report = view.share(scene, queue_name)
        return Sheet(
            report,
            report.items,
            columns(report),
            names=[f"gpuqueue.drse.dev/{row.queue}" for row in report.items],
            empty=_nothing(queue_name, "gpuqueues" not in scene.unread),
            notes=shortcomings(scene),
        )

    answer(request, ask)


def _nothing(queue_name: str | None, known: bool) -> str:
    if not known:
        return "you may not list GPUQueues: ask an administrator for that right"
    return "no such GPUQueue" if queue_name else "there is no GPUQueue: create one, such as default"


def columns(report: ShareReport) -> list[Column[ShareRow]]:
    """Columns of the queues."""
    today = report.as_of
    return [
        Column("QUEUE", lambda r: f"{r.queue} (cordoned)" if r.cordoned else r.queue),
        Column("WEIGHT", lambda r: str(r.weight), right=True, order=lambda r: r.weight),
        Column(
            "GUARANT",
            lambda r: str(r.guaranteed_gpus),
            right=True,
            order=lambda r: r.guaranteed_gpus,
        ),
        Column("LIMIT", lambda r: wording.number(r.limit_gpus), right=True, order=lambda r: r.limit_gpus),
        Column("HELD", lambda r: str(r.held_gpus), right=True, order=lambda r: r.held_gpus),
        Column("BORROWED", lambda r: str(r.borrowed_gpus), right=True, order=lambda r: r.borrowed_gpus),
        Column("FAIR", lambda r: wording.number(r.fair_gpus), right=True, order=lambda r: r.fair_gpus),
        Column("ASKED", lambda r: str(r.asked_gpus), right=True, order=lambda r: r.asked_gpus),
        Column("WAITING", lambda r: str(r.waiting_jobs), right=True, order=lambda r: r.waiting_jobs),
        Column("RUNNING", lambda r: str(r.running_jobs), right=True, order=lambda r: r.running_jobs),
        Column(
            "BOUND-USED",
            lambda r: wording.percent(r.bound_used_ratio),
            right=True,
            order=lambda r: r.bound_used_ratio,
        ),
        Column("LAST-GRANT", lambda r: wording.clock(r.last_grant, today), order=lambda r: r.last_grant),
    ]


@click.command()
@click.argument("job", shell_complete=complete_jobs)
@reading(watch=False)
def prio(request: Request, job: str) -> None:
    """By which numbers JOB is ordered, and who stands just before and behind it."""

    async def ask(session: Session) -> Sheet:
        scene = await load_scene(session)
        try:
            report = prio_view.prio(scene, JobKey(session.namespace, job))
        except UnknownJobError as error:
            raise click.ClickException(f"{error}: see drse queue -A for those that wait") from error
        around = table.draw(report.neighbours, _NEIGHBOURS, width=table.terminal_width())
        return Sheet(
            report,
            report.items,
            _TERMS,
            names=[f"deepseekjob.drse.dev/{job}"],
            empty="its order cannot be told: that needs to see the whole cluster",
            below=f"\n{around}" if report.neighbours else "",
            notes=shortcomings(scene),
        )

    answer(request, ask)


_TERMS: list[Column[Term]] = [
    Column("TERM", lambda r: r.term),
    Column("VALUE", lambda r: wording.number(r.value, 3), right=True, order=lambda r: r.value),
    Column("UNIT", lambda r: r.unit),
    Column("NOTE", lambda r: r.note),
]
_NEIGHBOURS: list[Column[Neighbour]] = [
    Column("PLACE", lambda r: "before" if r.ahead else "behind"),
    Column("JOB", lambda r: "another tenant's" if r.job is None else f"{r.namespace}/{r.job}"),
    Column("PRIO", lambda r: str(r.priority), right=True),
    Column("TURN", lambda r: wording.number(r.turn), right=True),
    Column("NOTE", lambda r: r.note),
]
