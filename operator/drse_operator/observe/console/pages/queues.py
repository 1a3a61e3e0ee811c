"""``/queues`` and ``/queues/NAME``: what each queue holds against what it is due, and who is next."""

from __future__ import annotations

from collections.abc import Sequence
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
    reach,
)
from drse_operator.observe.console.pages.whatif import double_weight
from drse_operator.observe.console.tables import Column, Table, show
from drse_operator.observe.console.words import NOTHING, amount, at, span, until
from drse_operator.observe.views.base import Row
from drse_operator.observe.views.queue import QueueReport, QueueRow
from drse_operator.observe.views.share import FlowRow, ShareReport, ShareRow
from drse_operator.observe.views.suggestions import uncordon_queue

#: Jobs of a queue that are shown in their order.
_NEXT = 20


class QueueDocument(Row):
    """The page of one queue as JSON."""

    share: ShareReport
    waiting: QueueReport


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow, with a bar for how far it is behind."""

    chip: Markup
    row: FlowRow
    bar: Markup


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
    # Not what is in service less what is held: jobs may hold GPUs of a node that takes nothing any more.
    free = visit.sight.now.free_gpus
    return Page(
        template="queues.html",
        title="Queues",
        topics=("queues", "jobs", "gpus"),
        document=report,
        command=command("drse", "share", *reach(visit, "")),
        table=shown,
        values={
            "waterfall": waterfall.waterfall(shown.rows, free, visit.look.colours),
            "rows": [(row, _marked(visit, row)) for row in shown.rows],
            "capacity": report.capacity_gpus or 0,
            "free": free,
            "flows": _flows(visit, report.flows),
            "bounds": [
                (queue_chip(visit, row.queue), _bound(row), row.bound_used_ratio)
                for row in report.items
                if row.bound_used_ratio is not None
            ],
            "pairs": [
                (pair, queue_chip(visit, pair.starved.queue), queue_chip(visit, pair.borrowing.queue))
                for pair in pairs(report.items)
            ],
        },
    )


def one(visit: Visit, name: str) -> Page:
    """One queue. Raises NotFound."""
    sight = visit.sight
    whole = sight.share
    own = {
        "items": tuple(row for row in whole.items if row.queue == name),
        "flows": tuple(row for row in whole.flows if row.queue == name),
    }
    report = whole.model_copy(update=own)
    found = visit.look.scene.world.queues.get("", name)
    if found is None or not report.items:
        raise NotFound(f"there is no GPUQueue {name}")
    queue = sight.queue(name)
    shown = show(_order(visit), queue.items, visit.address)
    status = found.status
    return Page(
        template="queue.html",
        title=f"Queue {name}",
        topics=("queues", "jobs", "gpus"),
        document=QueueDocument(share=report, waiting=queue.model_copy(update={"items": shown.rows})),
        command=command("drse", "queue", *reach(visit), "-q", name),
        table=shown,
        values={
            "row": report.items[0],
            "chip": queue_chip(visit, name),
            "spec": found.spec,
            "flows": _flows(visit, report.flows),
            "bound": report.items[0].bound_used_ratio,
            "told": status.told,
            "fair_note": Markup('weight {} · <a href="{}">twice the weight?</a>').format(
                report.items[0].weight, double_weight(name, report.items[0].weight)
            ),
            "uncordon": uncordon_queue(name),
            "hidden": queue.hidden_jobs,
            "running": _running(visit, name),
            "jobs_href": f"/jobs?queue={name}",
        },
    )


def pairs(rows: tuple[ShareRow, ...]) -> list[Pair]:
    """Starved queues, each with the queue that borrows most."""
    borrowers = sorted((r for r in rows if r.borrowed_gpus), key=lambda r: -r.borrowed_gpus)
    starved = [r for r in rows if r.held_gpus < r.guaranteed_gpus and r.waiting_gpus and not r.cordoned]
    return [
        Pair(row, min(row.guaranteed_gpus - row.held_gpus, row.waiting_gpus), borrowers[0])
        for row in starved
        if borrowers
    ]


def _flows(visit: Visit, rows: Sequence[FlowRow]) -> list[Flow]:
    """Flows with bars for their lags: which is served next, and how far it is behind."""
    most = max((row.lag or 0.0 for row in visit.sight.share.flows), default=0.0)
    found = []
    for row in rows:
        drawn = Markup("") if row.lag is None else bars.bar(row.lag, most, "bar-fill", 120.0)
        found.append(Flow(queue_chip(visit, row.queue), row, drawn))
    return found


def _bound(row: ShareRow) -> Markup:
    """How much of the bound was used; the bar ends where it would be broken."""
    used = row.bound_used_ratio or 0.0
    return bars.bar(used, 1.0, "bar-fill act" if used > 1 else "bar-fill", 120.0)


def _running(visit: Visit, name: str) -> list[tuple[Markup, int, str, Markup]]:
    rows = [row for row in visit.sight.jobs.items if row.queue == name and row.gpus]
    rows.sort(key=lambda row: -row.gpus)
    return [
        (job_link(row.namespace, row.job), row.gpus, row.task_type, at(row.started_at, visit.now))
        for row in rows[:_NEXT]
    ]


def _marked(visit: Visit, row: ShareRow) -> Markup:
    """A queue by name, with a word where it is cordoned."""
    chip = queue_chip(visit, row.queue)
    return chip + Markup('<span class="tag">cordoned</span>') if row.cordoned else chip


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
            96.0,
        )
        return drawn

    def weight(row: ShareRow) -> Markup:
        return Markup(
            '{} <a class="ask-double" href="{}" title="What if {} had twice its weight?">×2</a>'
        ).format(row.weight, double_weight(row.queue, row.weight), row.queue)

    return Table(
        name="queues",
        noun="queue",
        columns=(
            Column("queue", "Queue", lambda r: r.queue, lambda r: _marked(visit, r)),
            Column(
                "weight",
                "Weight",
                lambda r: r.weight,
                weight,
                number=True,
                note="Shares are divided by weight; ×2 asks the planner what twice the weight would do",
            ),
            Column("guaranteed", "Guaranteed", lambda r: r.guaranteed_gpus, number=True, unit="GPUs"),
            Column("limit", "Limit", lambda r: r.limit_gpus, number=True, unit="GPUs"),
            Column("held", "Held", lambda r: r.held_gpus, number=True, unit="GPUs"),
            Column(
                "borrowed", "Borrowed", lambda r: r.borrowed_gpus, number=True, unit="GPUs", optional=True
            ),
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
            Column("running", "Running", lambda r: r.running_jobs, number=True, unit="jobs", optional=True),
            Column("waiting", "Waiting", lambda r: r.waiting_jobs, number=True, unit="jobs"),
            Column("waiting_gpus", "Asked", lambda r: r.waiting_gpus, number=True, unit="GPUs"),
            Column("cordoned", "Cordoned", lambda r: r.cordoned, optional=True),
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
            Column(
                "moved",
                "Moved",
                lambda r: None if r.moved is None else r.moved.seconds,
                _moved,
                number=True,
                note="How much later, or earlier, than it was told before its last move",
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


def _moved(row: QueueRow) -> Markup:
    """By how much the expected start has moved, with the cause on hover."""
    if row.moved is None:
        return Markup(NOTHING)
    sign = "+" if row.moved.seconds > 0 else "−"
    return Markup('<span title="{}">{}{}</span>').format(
        row.moved.says or row.moved.reason, sign, span(abs(row.moved.seconds))
    )


def _reason(row: QueueRow) -> Markup:
    return Markup('<span class="{}">{}</span>').format("act" if row.must_act else "reason", row.reason)
