"""``/decisions``: what was decided, with the numbers behind it, newest first."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from markupsafe import Markup

from drse_operator.observe.console.address import part
from drse_operator.observe.console.charts import bars
from drse_operator.observe.console.pages.page import Page, Visit, command, job_link, queue_chip, reach
from drse_operator.observe.console.tables import Column, Table, show
from drse_operator.observe.console.words import NOTHING, amount, at, span
from drse_operator.observe.views.decisions import DecisionRow

_SHAPES = {
    "Admit": "full",
    "Reserve": "half",
    "Preempt": "down",
    "Shrink": "down",
    "Scale": "up",
    "Deny": "cross",
}
#: Reasons that say no more than their kind.
_SAME = {"Admit": "Assigned", "Reserve": "Reserved", "Preempt": "Preempted"}
#: Spans of time that can be asked for, in hours.
_SINCE = (("1h", 1), ("6h", 6), ("1d", 24), ("7d", 168))


def badge(kind: str) -> Markup:
    """A kind of decision as a word with its shape."""
    tone = "act" if kind == "Deny" else "tone-full"
    return Markup('<span class="state {}"><span class="shape {}"></span>{}</span>').format(
        tone, _SHAPES.get(kind, "hollow"), kind
    )


def identity(row: DecisionRow) -> str:
    """Names a decision for good."""
    return f"{row.at:%Y%m%dT%H%M%SZ}.{row.kind}.{row.namespace}.{row.job}.{row.reason}"


def path(row: DecisionRow) -> str:
    """Link to a decision's page."""
    return f"/decisions/{part(identity(row))}"


def page(visit: Visit) -> Page:
    """The page."""
    report, address = visit.sight.decisions, visit.address
    hours = dict(_SINCE).get(address.get("since"))
    oldest = None if hours is None else visit.now - timedelta(hours=hours)
    shown = show(
        _table(visit), report.items, address, lambda row: oldest is None or row.at >= oldest, visit.sight
    )
    reasons = Counter((row.kind, row.reason) for row in shown.rows).most_common(8)
    most = max((count for _, count in reasons), default=1)
    return Page(
        template="decisions.html",
        title="Decisions",
        topics=("decisions",),
        document=report.model_copy(update={"items": shown.rows}),
        command=_command(visit),
        table=shown,
        values={
            "reasons": [
                (
                    badge(kind),
                    "" if _SAME.get(kind) == reason else reason,
                    count,
                    bars.bar(count, most, "bar-fill", 48.0),
                    address.with_(kind=kind, reason=reason).href,
                )
                for (kind, reason), count in reasons
            ],
            "sinces": [("all", address.with_(since=None).href, hours is None)]
            + [(f"last {key}", address.with_(since=key).href, hours == value) for key, value in _SINCE],
            "source": visit.sight.around.source("accounts"),
        },
    )


def _command(visit: Visit) -> str:
    address = visit.address
    chosen = reach(visit)
    for option, value in (
        ("--kind", address.get("kind").lower()),
        ("-q", address.get("queue")),
        ("--since", address.get("since") if address.get("since") in dict(_SINCE) else ""),
    ):
        chosen += [option, value] if value else []
    return command("drse", "decisions", *chosen)


def _table(visit: Visit) -> Table[DecisionRow]:
    now = visit.now
    return Table(
        name="decisions",
        noun="decision",
        columns=(
            Column("time", "Time", lambda r: r.at, lambda r: at(r.at, now)),
            Column("kind", "Kind", lambda r: r.kind, lambda r: badge(r.kind), filter=True),
            Column(
                "job",
                "Job",
                lambda r: f"{r.namespace}/{r.job}",
                lambda r: job_link(r.namespace, r.job),
                filter=True,
            ),
            Column(
                "queue",
                "Queue",
                lambda r: r.queue,
                lambda r: queue_chip(visit, r.queue, visit.address.plus("queue", r.queue).href),
                filter=True,
            ),
            Column("gpus", "GPUs", lambda r: r.gpus, number=True),
            Column("reason", "Reason", lambda r: r.reason, _reason, filter=True),
            Column("by", "For", lambda r: r.by, taker, note="The job that it was done for", optional=True),
            Column("effect", "Effect", lambda r: r.effect, wide=True),
            Column(
                "numbers",
                "Numbers",
                lambda r: "; ".join(f"{k} {v:g}" for k, v in r.numbers.items()),
                _numbers,
                wide=True,
            ),
        ),
        key=identity,
        order="-time",
        href=path,
        search=lambda r: f"{r.kind} {r.namespace}/{r.job} {r.queue} {r.reason} {r.by} {r.effect}",
    )


def _reason(row: DecisionRow) -> str:
    """The reason, where it says more than the kind."""
    return NOTHING if _SAME.get(row.kind) == row.reason else row.reason


def taker(row: DecisionRow) -> Markup:
    """The job that it was done for."""
    if "/" not in row.by:
        return Markup('<span class="muted">{}</span>').format(row.by or NOTHING)
    namespace, _, job = row.by.partition("/")
    return job_link(namespace, job)


def _numbers(row: DecisionRow) -> Markup:
    """Names without their units, figures with them."""
    return Markup(" ").join(
        Markup('<span class="figure"><span class="muted">{}</span> {}</span>').format(*figure(name, value))
        for name, value in row.numbers.items()
    )


def figure(name: str, value: float) -> tuple[str, str]:
    """A number behind a decision: its name without the unit, and the figure with it."""
    for suffix, words in (("_cluster_seconds", "cluster-s"), ("_gpus", "GPUs"), ("_seconds", "")):
        if name.endswith(suffix):
            figure = span(value) if suffix == "_seconds" else f"{amount(value, 2)} {words}"
            return name.removesuffix(suffix).replace("_", " "), figure
    if name.endswith("share"):
        return name.replace("_", " "), f"{100 * value:.1f} %"
    return name.replace("_", " "), amount(value, 2)
