"""``/decisions/ID``: one decision with what it was made from: numbers, rule, candidates.

The journal keeps decisions and their numbers, not whole snapshots, which would be megabytes each. Who could
have been chosen instead is told by the jobs themselves: those that were queued by then and had not started.
"""

from __future__ import annotations

from datetime import datetime

from markupsafe import Markup
from pydantic import Field

from drse_operator.api.reasons import WaitReason
from drse_operator.observe.console.pages import decisions
from drse_operator.observe.console.pages.page import (
    NotFound,
    Page,
    Visit,
    command,
    job_link,
    queue_chip,
)
from drse_operator.observe.console.words import at, span, stamp
from drse_operator.observe.journal import DecisionKind
from drse_operator.observe.views.base import Instant, Row
from drse_operator.observe.views.decisions import DecisionRow
from drse_operator.observe.views.jobs import JobRow

#: Candidates, and decisions of the same pass, that are listed.
_LISTED = 30
#: By which rule each kind is decided, in short; the guide on fairness has it at length.
_RULES = {
    DecisionKind.ADMIT: (
        "The flow with the lowest start tag goes first (service given, divided by weight); inside a flow "
        "priority counts, then who would be done first if the flow's share were split equally. Who is not "
        "first goes ahead only where that delays no reservation and stays within the lead that the "
        "fairness bound allows."
    ),
    DecisionKind.RESERVE: (
        "Whoever is first in order and finds no room is kept the earliest room that will be free. Others "
        "may pass only if they end before that, or use GPUs that it leaves over."
    ),
    DecisionKind.PREEMPT: (
        "A queue below its guarantee takes back from those that borrow, and higher priority from lower "
        "where the queue says so. The cheapest set that suffices gives way: least work lost, nobody "
        "within its minimal run time."
    ),
    DecisionKind.SHRINK: ("A job that wants fewer replicas gives up those beyond its wish."),
    DecisionKind.SCALE: (
        "Replicas grow when load, or the highest P90 within the horizon, exceeds scaleUpAt of what is "
        "held, and shrink when both stay below scaleDownAt for the whole stabilization window."
    ),
    DecisionKind.DENY: (
        "No passing of time would let it start: somebody has to change the job, the queue or the cluster."
    ),
}


class CandidateRow(Row):
    """A job that was queued by then and had not started."""

    namespace: str
    job: str
    queue: str
    task_type: str
    priority_class: str | None
    gpus: int = Field(description="GPUs that it holds or waits for now.")
    queued_at: Instant
    started_at: Instant | None = Field(description="When it became ready, after the decision.")


class DecisionDocument(Row):
    """The page as JSON."""

    decision: DecisionRow
    rule: str
    meaning: str = Field(description="What the typed reason means; empty for words that need no telling.")
    same_pass: tuple[DecisionRow, ...] = Field(description="Others that were decided at the same moment.")
    candidates: tuple[CandidateRow, ...] = Field(
        description="Jobs that waited then, as far as they still exist and may be named, longest wait first."
    )


def page(visit: Visit, name: str) -> Page:
    """The page. Raises NotFound."""
    every = visit.sight.decisions.items
    row = next((one for one in reversed(every) if decisions.identity(one) == name), None)
    if row is None:
        raise NotFound("this decision is not kept, or is about a job that you may not see")
    same = tuple(one for one in every if one.at == row.at and one is not row)[:_LISTED]
    found = _candidates(visit, row.at)
    document = DecisionDocument(
        decision=row, rule=_rule(row), meaning=_meaning(row), same_pass=same, candidates=found
    )
    return Page(
        template="decision.html",
        title=f"{row.kind} {row.namespace}/{row.job}",
        topics=("decisions", "jobs"),
        document=document,
        command=command("drse", "decisions", "-n", row.namespace, "--job", row.job),
        values={
            "row": row,
            "badge": decisions.badge(row.kind),
            "chip": queue_chip(visit, row.queue),
            "link": job_link(row.namespace, row.job),
            "by": decisions.taker(row),
            "when": stamp(row.at, f"{row.at:%a %H:%M:%S}", clocked=True),
            "ago": span((visit.now - row.at).total_seconds()),
            "rule": document.rule,
            "meaning": document.meaning,
            "numbers": [decisions.figure(key, value) for key, value in row.numbers.items()],
            "same": [
                (decisions.badge(one.kind), job_link(one.namespace, one.job), one, decisions.path(one))
                for one in same
            ],
            "candidates": [_candidate(visit, row, one) for one in found[:_LISTED]],
            "more": max(0, len(found) - _LISTED),
        },
    )


def _rule(row: DecisionRow) -> str:
    return _RULES[DecisionKind(row.kind)] if row.kind in set(DecisionKind) else ""


def _meaning(row: DecisionRow) -> str:
    return WaitReason(row.reason).meaning if row.reason in set(WaitReason) else ""


def _candidates(visit: Visit, moment: datetime) -> tuple[CandidateRow, ...]:
    waited = [row for row in visit.sight.jobs.items if _waited(row, moment)]
    waited.sort(key=lambda row: row.queued_at)
    return tuple(
        CandidateRow(
            namespace=row.namespace,
            job=row.job,
            queue=row.queue,
            task_type=row.task_type,
            priority_class=row.priority_class,
            gpus=row.gpus + row.lacking_gpus,
            queued_at=row.queued_at,
            started_at=row.started_at,
        )
        for row in waited
    )


def _waited(row: JobRow, moment: datetime) -> bool:
    """Queued by then, and not ready or ended before."""
    started = row.started_at is not None and row.started_at <= moment
    ended = row.finished_at is not None and row.finished_at <= moment
    return row.queued_at <= moment and not started and not ended


def _candidate(
    visit: Visit, row: DecisionRow, one: CandidateRow
) -> tuple[Markup, Markup, CandidateRow, str, Markup, bool]:
    waited = span((row.at - one.queued_at).total_seconds())
    chosen = (one.namespace, one.job) == (row.namespace, row.job)
    started = at(one.started_at, visit.now)
    return job_link(one.namespace, one.job), queue_chip(visit, one.queue), one, waited, started, chosen
