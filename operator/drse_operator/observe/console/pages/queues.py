"""``/queues`` and ``/queues/NAME``: what each queue holds against what it is due, and who is next."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from drse_operator.observe.console.address import job_path
from drse_operator.observe.console.charts import bars, waterfall
from drse_operator.observe.console.pages.page import (
    NotFound,
    Page,
    Visit,
    command,
    job_link,
    queue_chip,
)
from drse_operator.observe.console.tables import Column, Table, show
from drse_operator.observe.console.words import amount, at, span, until
from drse_operator.observe.views.base import Row
from drse_operator.observe.views.queue import QueueReport, QueueRow
from drse_operator.observe.views.share import ShareReport, ShareRow

#: Jobs of a queue that are shown in their order.
_NEXT = 20


class QueueDocument(Row):
    """The page of one queue as JSON."""

    share: ShareReport
    waiting: QueueReport


@dataclass(frozen=True, slots=True)
class Pair:
    """A queue that gets less than it is guaranteed while another holds more than its own."""

    starved: ShareRow
    lacking: int
    borrowing: ShareRow


def page(visit: Visit) -> Page:
    """All queues."""
    report = visit.sight.share
    shown = show(_table(visit, report), report.items, visit.address)
    return Page(
        template="queues.html",
        title="Queues",
        topics=("queues", "jobs", "gpus"),
        document=report,
        command="drse share",
        table=shown,
        values={
            "waterfall": waterfall.waterfall(shown.rows, report.capacity_gpus or 0, visit.look.colours),
            "rows": [(row, queue_chip(visit, row.queue)) for row in shown.rows],
            "capacity": report.capacity_gpus or 0,
            "free": max(0, (report.capacity_gpus or 0) - sum(row.held_gpus for row in report.items)),
            "pairs": [
                (pair, queue_chip(visit, pair.starved.queue), queue_chip(visit, pair.borrowing.queue))
                for pair in pairs(report.items)
            ],
        },
    )


def one(visit: Visit, name: str) -> Page:
    """One queue. Raises NotFound."""
    sight = visit.sight
    report = sight.share.model_copy(update={"items": tuple(r for r in sight.share.items if r.queue == name)})
    found = visit.look.scene.world.queues.get("", name)
    if found is None or not report.items:
        raise NotFound(f"there is no GPUQueue {name}")
    waiting = tuple(row for row in sight.queue.items if row.queue == name)
    told = sum(
        wait.job.spec is not None and wait.job.spec.queue == name for wait in visit.look.scene.waits.values()
    )
    queue = sight.queue.model_copy(
        update={"items": waiting, "hidden_jobs": told - len(waiting), "hidden_gpus": 0}
    )
    shown = show(_order(visit), waiting, visit.address)
    status = found.status
    return Page(
        template="queue.html",
        title=f"Queue {name}",
        topics=("queues", "jobs", "gpus"),
        document=QueueDocument(share=report, waiting=queue),
        command=command("drse", "queue", "-A", "-q", name),
        table=shown,
        values={
            "row": report.items[0],
            "chip": queue_chip(visit, name),
            "spec": found.spec,
            "lag": _lag(visit, name),
            "bound": status.fairness_bound_used,
            "told": status.told,
            "hidden": queue.hidden_jobs,
            "running": _running(visit, name),
            "jobs_href": f"/jobs?queue={name}",
        },
    )


def pairs(rows: tuple[ShareRow, ...]) -> list[Pair]:
    """Starved queues, each with the queue that borrows most."""
    borrowers = sorted((r for r in rows if r.borrowed_gpus), key=lambda r: -r.borrowed_gpus)
    starved = [r for r in rows if r.held_gpus < r.guaranteed_gpus and r.waiting_gpus]
    return [
        Pair(row, min(row.guaranteed_gpus - row.held_gpus, row.waiting_gpus), borrowers[0])
        for row in starved
        if borrowers
    ]


def _lag(visit: Visit, name: str) -> list[tuple[str, float, str]]:
    """Flows of a queue: task type, finish tag, and whether it waits."""
    found = visit.look.scene.world.queues.get("", name)
    if found is None:
        return []
    return [
        (str(f.task_type), float(f.finish), "waiting" if f.waiting else "idle") for f in found.status.flows
    ]


def _running(visit: Visit, name: str) -> list[tuple[Markup, int, str, Markup]]:
    rows = [row for row in visit.sight.jobs.items if row.queue == name and row.gpus]
    rows.sort(key=lambda row: -row.gpus)
    return [
        (job_link(row.namespace, row.job), row.gpus, row.task_type, at(row.started_at, visit.now))
        for row in rows[:_NEXT]
    ]


def _table(visit: Visit, report: ShareReport) -> Table[ShareRow]:
    now, most = visit.now, max((row.asked_gpus for row in report.items), default=1)

    def held(row: ShareRow) -> Markup:
        colour = visit.look.colours.get(row.queue, 0)
        drawn = bars.stacked(
            [
                (row.held_gpus, f"fill-{colour}", f"{row.held_gpus} held"),
                (row.waiting_gpus, f"wait line-{colour}", f"{row.waiting_gpus} waited for"),
            ],
            most,
            120.0,
        )
        return Markup("{}").format(drawn)

    return Table(
        name="queues",
        noun="queue",
        columns=(
            Column("queue", "Queue", lambda r: r.queue, lambda r: queue_chip(visit, r.queue)),
            Column("weight", "Weight", lambda r: r.weight, number=True),
            Column("guaranteed", "Guaranteed", lambda r: r.guaranteed_gpus, number=True, unit="GPUs"),
            Column("limit", "Limit", lambda r: r.limit_gpus, number=True, unit="GPUs"),
            Column("held", "Held", lambda r: r.held_gpus, number=True, unit="GPUs"),
            Column("borrowed", "Borrowed", lambda r: r.borrowed_gpus, number=True, unit="GPUs"),
            Column(
                "fair",
                "Fair share",
                lambda r: r.fair_gpus,
                lambda r: amount(r.fair_gpus),
                number=True,
                unit="GPUs",
                note="GPUs divided by weight among queues that ask, none beyond its demand or limit",
            ),
            Column("asked", "Held and asked", lambda r: r.asked_gpus, held, number=True),
            Column("running", "Running", lambda r: r.running_jobs, number=True, unit="jobs"),
            Column("waiting", "Waiting", lambda r: r.waiting_jobs, number=True, unit="jobs"),
            Column("waiting_gpus", "Asked", lambda r: r.waiting_gpus, number=True, unit="GPUs"),
            Column(
                "last",
                "Last grant",
                lambda r: r.last_grant,
                lambda r: at(r.last_grant, now),
                number=True,
                optional=True,
            ),
        ),
        key=lambda r: r.queue,
        order="queue",
        href=lambda r: f"/queues/{r.queue}",
        search=lambda r: r.queue,
    )


def _order(visit: Visit) -> Table[QueueRow]:
    now = visit.now
    return Table(
        name="order",
        noun="waiting job",
        columns=(
            Column("pos", "Pos", lambda r: r.position, number=True),
            Column("job", "Job", lambda r: f"{r.namespace}/{r.job}", lambda r: job_link(r.namespace, r.job)),
            Column("type", "Type", lambda r: r.task_type, filter=True),
            Column("priority", "Priority", lambda r: r.priority, number=True),
            Column("gpus", "GPUs", lambda r: r.gpus, number=True),
            Column("reason", "Reason", lambda r: r.reason, _reason, filter=True),
            Column(
                "waited", "Waited", lambda r: r.waited_seconds, lambda r: span(r.waited_seconds), number=True
            ),
            Column(
                "eta",
                "Starts",
                lambda r: r.eta_p50,
                lambda r: until(r.eta_p50, r.eta_p90, now),
                note="From the time by which one in two such jobs starts to that of nine in ten",
            ),
            Column("message", "In words", lambda r: r.message, wide=True),
        ),
        key=lambda r: f"{r.namespace}/{r.job}",
        order="pos",
        href=lambda r: job_path(r.namespace, r.job),
        search=lambda r: f"{r.namespace}/{r.job} {r.reason} {r.message}",
        urgent=lambda r: r.must_act,
        page=_NEXT,
    )


def _reason(row: QueueRow) -> Markup:
    return Markup('<span class="{}">{}</span>').format("act" if row.must_act else "reason", row.reason)
