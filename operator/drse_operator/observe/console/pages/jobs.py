"""``/jobs``: every job in a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from drse_operator.observe.console.address import job_path
from drse_operator.observe.console.charts import bars
from drse_operator.observe.console.pages.page import Page, Visit, command, queue_chip, reach, state
from drse_operator.observe.console.tables import Column, Table, show
from drse_operator.observe.console.words import NOTHING, ago, at, fixed, model_of, span, until
from drse_operator.observe.views.jobs import JobRow

_FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class View:
    """A choice of rows with a name."""

    key: str
    title: str
    keeps: Callable[[JobRow], bool]
    sort: str = ""


VIEWS = (
    View("", "Active", lambda row: row.state not in _FINISHED),
    View("waiting", "Waiting", lambda row: row.reason is not None, "-waited"),
    View("act", "Needs a person", lambda row: row.must_act),
    View("running", "Running", lambda row: row.gpus > 0, "-gpus"),
    View("finished", "Finished", lambda row: row.state in _FINISHED, "-finished"),
    View("all", "All", lambda row: True),
)


def page(visit: Visit) -> Page:
    """The page."""
    report, address = visit.sight.jobs, visit.address
    view = next((v for v in VIEWS if v.key == address.get("view")), VIEWS[0])
    table = _table(visit, view)
    shown = show(table, report.items, address, view.keeps, visit.sight)
    counts = visit.sight.once(("views",), lambda: {v.key: sum(map(v.keeps, report.items)) for v in VIEWS})
    tabs = [
        (v.title, address.with_(view=v.key or None, sort=None).href, v is view, counts[v.key]) for v in VIEWS
    ]
    return Page(
        template="jobs.html",
        title="Jobs",
        topics=("jobs",),
        document=report.model_copy(update={"items": shown.rows}),
        command=_command(visit, view),
        table=shown,
        values={
            "tabs": tabs,
            "held": sum(row.gpus for row in shown.rows),
            "lacking": sum(row.lacking_gpus for row in shown.rows),
            "hidden_jobs": report.hidden_jobs,
            "hidden_gpus": report.hidden_gpus,
        },
    )


def _command(visit: Visit, view: View) -> str:
    if view.key not in ("waiting", "act"):
        return command("kubectl", "get", "dsj", *reach(visit))
    queue = visit.address.get("queue")
    return command("drse", "queue", *reach(visit), *(["-q", queue] if queue else []))


def _table(visit: Visit, view: View) -> Table[JobRow]:
    now, address = visit.now, visit.address
    waits = (row.waited_seconds or 0.0 for row in visit.sight.jobs.items if not row.must_act)
    longest = visit.sight.once(("longest",), lambda: max(waits, default=0.0))

    def queue(row: JobRow) -> Markup:
        return queue_chip(visit, row.queue, address.plus("queue", row.queue).href)

    def waited(row: JobRow) -> Markup:
        if row.waited_seconds is None:
            return Markup(NOTHING)
        if view.key != "waiting":
            return Markup(span(row.waited_seconds))
        cls = "bar-fill act" if row.must_act else "bar-fill"
        return bars.beside(bars.bar(row.waited_seconds, longest, cls, 36.0), span(row.waited_seconds))

    def load(row: JobRow) -> Markup:
        if row.load is None or not row.gpus:
            return Markup(NOTHING)
        return bars.beside(bars.load(row.load, None, row.gpus, 28.0), fixed(row.load))

    columns: tuple[Column[JobRow], ...] = (
        Column("job", "Job", lambda r: f"{r.namespace}/{r.job}", cell=_name, wide=True),
        Column("namespace", "Namespace", lambda r: r.namespace, filter=True, optional=True),
        Column("queue", "Queue", lambda r: r.queue, queue, filter=True),
        Column("type", "Type", lambda r: r.task_type, filter=True),
        Column("state", "State", lambda r: r.state, lambda r: state(r.state, r.must_act), filter=True),
        Column("reason", "Reason", lambda r: r.reason, _reason, filter=True),
        Column("pos", "Pos", lambda r: r.position, number=True, note="Place in its queue"),
        Column(
            "eta",
            "Starts",
            lambda r: r.eta_p50,
            lambda r: until(r.eta_p50, r.eta_p90, now),
            note="From the time by which one in two such jobs starts to that of nine in ten",
        ),
        Column(
            "gpus", "GPUs", lambda r: r.gpus, _gpus, number=True, note="Held, and waited for after the plus"
        ),
        Column(
            "ready", "Ready", lambda r: r.ready_replicas, _ready, number=True, note="Ready of wanted replicas"
        ),
        Column("load", "Load", lambda r: r.load, load, number=True, unit="GPUs"),
        Column("waited", "Waited", lambda r: r.waited_seconds, waited, number=True),
        Column(
            "age",
            "Age",
            lambda r: (now - r.created).total_seconds(),
            lambda r: ago(r.created, now),
            number=True,
            optional=True,
        ),
        Column("user", "User", lambda r: r.user, filter=True, optional=True),
        Column("model", "Model", lambda r: r.model, filter=True, optional=True),
        Column("priority", "Priority", lambda r: r.priority_class, filter=True, optional=True),
        Column(
            "product", "Product", lambda r: ", ".join(map(model_of, r.products)), filter=True, optional=True
        ),
        Column("nodes", "Nodes", lambda r: ", ".join(r.nodes), optional=True),
        Column("preempted", "Preempted", lambda r: r.preemptions, number=True, unit="times", optional=True),
        Column("failures", "Failures", lambda r: r.failures, number=True, optional=True),
        Column("started", "Started", lambda r: r.started_at, lambda r: at(r.started_at, now), optional=True),
        Column(
            "finished",
            "Finished",
            lambda r: r.finished_at,
            lambda r: at(r.finished_at, now),
            optional=view.key not in ("finished", "all"),
        ),
    )
    return Table(
        name="jobs",
        noun="job",
        columns=_fitting(columns, view),
        key=lambda r: f"{r.namespace}/{r.job}",
        order=view.sort or "job",
        href=lambda r: job_path(r.namespace, r.job),
        groups=("queue", "namespace", "user", "type", "model"),
        search=lambda r: (
            f"{r.namespace}/{r.job} {r.queue} {r.user} {r.model} {r.reason or ''} {' '.join(r.nodes)}"
        ),
        urgent=lambda r: r.must_act,
    )


#: Columns that say nothing about jobs of a view, or too little for the room they take; they can be chosen.
_SILENT = {
    "": {"ready"},
    "all": {"ready", "load", "pos"},
    "waiting": {"state", "ready", "load"},
    "act": {"ready", "load", "eta", "pos"},
    "running": {"reason", "pos", "eta", "waited"},
    "finished": {"reason", "pos", "eta", "ready", "load", "waited", "gpus"},
}


def _fitting(columns: tuple[Column[JobRow], ...], view: View) -> tuple[Column[JobRow], ...]:
    silent = _SILENT.get(view.key, set())
    return tuple(
        Column(c.key, c.title, c.value, c.cell, c.number, c.unit, c.note, c.filter, True, c.wide)
        if c.key in silent
        else c
        for c in columns
    )


def _name(row: JobRow) -> Markup:
    return Markup('<span class="ns">{}/</span>{}').format(row.namespace, row.job)


def _reason(row: JobRow) -> Markup:
    if row.reason is None:
        return Markup('<span class="muted">{}</span>').format(NOTHING)
    cls = "act" if row.must_act else "reason"
    return Markup('<span class="{}" title="{}">{}</span>').format(cls, row.message, row.reason)


def _gpus(row: JobRow) -> Markup:
    more = Markup(' <span class="muted">+{}</span>').format(row.lacking_gpus) if row.lacking_gpus else ""
    return Markup("{}{}").format(row.gpus or ("" if more else 0), more)


def _ready(row: JobRow) -> str:
    return f"{row.ready_replicas}/{row.wanted_replicas}" if row.wanted_replicas else NOTHING
