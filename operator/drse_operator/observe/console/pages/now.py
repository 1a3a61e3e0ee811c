"""``/``: is all well, what needs a person, what was decided last."""

from __future__ import annotations

from pydantic import Field

from drse_operator.observe.console.charts import lines
from drse_operator.observe.console.pages import decisions, health
from drse_operator.observe.console.pages.page import Page, Visit, command, reach
from drse_operator.observe.console.words import span
from drse_operator.observe.views.base import Row
from drse_operator.observe.views.closed import ClosedRow
from drse_operator.observe.views.decisions import DecisionRow
from drse_operator.observe.views.jobs import JobRow
from drse_operator.observe.views.now import NowReport

#: Latest decisions that are shown, and things that need a person.
_LATEST = 10
_NEEDS = 8


class AlertRow(Row):
    """A firing alert."""

    name: str
    severity: str
    about: str


class NowDocument(Row):
    """The page as JSON."""

    now: NowReport
    verdict: str = Field(description="Whether DRSE itself is well, in a sentence.")
    needs: tuple[JobRow, ...] = Field(description="Jobs that go on only when somebody acts.")
    closed: tuple[ClosedRow, ...] = Field(
        description="Nodes, devices and queues that take nothing while jobs wait for them."
    )
    alerts: tuple[AlertRow, ...] | None = Field(description="Null when Prometheus is not asked.")
    decisions: tuple[DecisionRow, ...] = Field(description="The latest ones, newest first.")


def page(visit: Visit) -> Page:
    """The page."""
    sight = visit.sight
    needs = tuple(row for row in sight.jobs.items if row.must_act)
    alerts = sight.around.alerts if sight.everything else ()
    latest = tuple(reversed(sight.decisions.items[-_LATEST:]))
    whole = health.verdict(visit, health.checks(visit))
    document = NowDocument(
        now=sight.now,
        verdict=whole.says,
        needs=needs,
        closed=sight.closed,
        alerts=None
        if alerts is None
        else tuple(AlertRow(name=a.name, severity=a.severity, about=a.about) for a in alerts),
        decisions=latest,
    )
    own = sight.jobs.items
    return Page(
        template="now.html",
        title="Now",
        topics=("jobs", "gpus", "use", "decisions", "health"),
        document=document,
        command=command("drse", "top", *reach(visit, "")),
        values={
            "now_": sight.now,
            "verdict": whole,
            "badge": health.shape(whole.state, ""),
            "oldest": span(sight.now.oldest_wait_seconds)
            if sight.now.oldest_wait_seconds is not None
            else "–",
            "needs": needs[:_NEEDS],
            "needs_total": len(needs),
            "closed": sight.closed,
            "alerts": alerts,
            "latest": [(row, decisions.badge(row.kind), decisions.path(row)) for row in latest],
            "chart": lines.day(sight.around.history) if sight.everything else None,
            "own_gpus": sum(row.gpus for row in own),
            "own_waiting": sum(row.reason is not None for row in own),
            "prometheus": sight.around.source("prometheus"),
        },
    )
