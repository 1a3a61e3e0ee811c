"""``/jobs/NAMESPACE/NAME``: why it waits or where it runs, its way so far, GPUs, load, events and YAML."""

from __future__ import annotations

from dataclasses import dataclass

import yaml
from markupsafe import Markup
from pydantic import Field

from drse_operator.api import times
from drse_operator.api.base import API_VERSION
from drse_operator.api.keys import JobKey
from drse_operator.observe.console.charts import bars, gantt, lines
from drse_operator.observe.console.pages import decisions
from drse_operator.observe.console.pages.page import (
    NotFound,
    Page,
    Visit,
    command,
    job_link,
    move,
    queue_chip,
    state,
)
from drse_operator.observe.console.words import at, model_of, percent, span, until
from drse_operator.observe.journal import DecisionKind
from drse_operator.observe.views.base import Instant, Row, instant
from drse_operator.observe.views.decisions import DecisionRow
from drse_operator.observe.views.forecast import ForecastRow
from drse_operator.observe.views.gpus import GpuRow
from drse_operator.observe.views.jobs import JobRow
from drse_operator.observe.views.scene import UnknownJobError
from drse_operator.observe.views.suggestions import Suggestion, suggestions
from drse_operator.observe.views.why import WhyReport, why
from drse_operator.workloads.observed import Job

#: Suggestions are worked out unasked in clusters with at most so many jobs: each takes some plans.
_UNASKED = 200
_DECISIONS = 12


class EventRow(Row):
    """An event on the job."""

    at: Instant
    reason: str
    note: str
    warning: bool


class JobDocument(Row):
    """The page as JSON."""

    why: WhyReport
    gpus: tuple[GpuRow, ...]
    forecast: ForecastRow | None
    decisions: tuple[DecisionRow, ...]
    events: tuple[EventRow, ...] | None = Field(description="Null when they could not be read.")
    spec: dict[str, object] | None
    status: dict[str, object]


#: Spans of the strip of a job's life: class and word.
_SPANS = (
    ("span-wait", "waits"),
    ("span-start", "starts"),
    ("span-run", "runs"),
    ("span-ahead", "expected to run"),
    ("span-eta", "expected start"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A moment in the job's life."""

    name: str
    at: Markup
    done: bool
    note: str = ""


def page(visit: Visit, namespace: str, name: str, events: tuple[EventRow, ...] | None) -> Page:
    """The page. Raises NotFound."""
    sight, key = visit.sight, JobKey(namespace, name)
    try:
        job = sight.scene.job(key)
    except UnknownJobError as error:
        raise NotFound(str(error)) from error
    report = _why(visit, key)
    held = tuple(row for row in sight.gpus.items if _is(row, key))
    watched = next((row for row in sight.forecast.items if _is(row, key)), None)
    concerned = [d for d in sight.decisions.items if _is(d, key) or d.by == str(key)]
    latest = tuple(reversed(concerned[-_DECISIONS:]))
    past = sight.around.loads.get((namespace, name))
    tried = _suggestions(visit, job, report)
    document = JobDocument(
        why=report if tried is None else report.model_copy(update={"suggestions": tried}),
        gpus=held,
        forecast=watched,
        decisions=latest,
        events=events,
        spec=None if job.spec is None else job.spec.to_wire(),
        status=job.status.to_wire(),
    )
    row = next(r for r in sight.jobs.items if _is(r, key))
    return Page(
        template="job.html",
        title=f"{namespace}/{name}",
        topics=("jobs", "gpus", "use", "forecast", "decisions"),
        document=document,
        command=command("drse", "why", name, "-n", namespace),
        values={
            "row": row,
            "state": state(row.state, row.must_act),
            "chip": queue_chip(visit, row.queue),
            "why": report,
            "starts": until(report.eta_p50, report.eta_p90, visit.now),
            "waited": span(report.waited_seconds),
            "told": _told(visit, row.queue),
            "moved": None if report.moved is None else move(visit, report.moved),
            "rooms": [(r, model_of(r.product)) for r in report.room],
            "holders": [
                (job_link(h.namespace, h.job), h.gpus, ", ".join(h.nodes), at(h.free_at, visit.now))
                for h in report.holders
            ],
            "ahead": [(job_link(a.namespace, a.job), a.gpus, a.reason) for a in report.ahead],
            "suggestions": tried,
            "suggest_href": visit.address.with_(suggest="yes").href,
            "steps": _steps(visit, job),
            "strip": _strip(visit, job),
            "spans": _SPANS,
            "gpus": [(g, _use(g), at(g.since, visit.now), at(g.free_at, visit.now)) for g in held],
            "watched": watched,
            "chart": None if watched is None else lines.fan(watched, past, visit.look.scene.now),
            "decisions": [
                (d, decisions.badge(d.kind), at(d.at, visit.now), decisions.path(d)) for d in latest
            ],
            "events": None if events is None else [(e, at(e.at, visit.now)) for e in events],
            "yaml": _yaml(job),
            "conditions": job.status.conditions,
            "percent": percent,
        },
    )


def _scaled(visit: Visit, key: JobKey) -> DecisionRow | None:
    """The latest change of how many replicas are wanted."""
    return next(
        (d for d in reversed(visit.sight.decisions.items) if d.kind == DecisionKind.SCALE and _is(d, key)),
        None,
    )


def _why(visit: Visit, key: JobKey) -> WhyReport:
    """The wait as the operator has written it, with what only a plan tells where that was asked for."""
    report = why(visit.sight.scene, key, suggest=False)
    if report.reason is None or not _asked(visit):
        return report
    tried = why(visit.sight.planned(), key, suggest=False)
    return report.model_copy(update={"reservation": tried.reservation, "preempts": tried.preempts})


def _asked(visit: Visit) -> bool:
    """Whether the planner is to be asked: always in small clusters."""
    return visit.address.get("suggest") == "yes" or len(visit.sight.scene.asking) <= _UNASKED


def _suggestions(visit: Visit, job: Job, report: WhyReport) -> tuple[Suggestion, ...] | None:
    """Changes with which the job would start now, tried by the planner; None when they were not asked for."""
    if report.reason is None or not visit.sight.scene.complete:
        return ()
    return suggestions(visit.sight.planned(), job) if _asked(visit) else None


def _told(visit: Visit, queue: str) -> tuple[int, int] | None:
    """How many of the queue's jobs started by their p90, of how many."""
    found = visit.look.scene.world.queues.get("", queue)
    told = None if found is None else found.status.told
    return None if told is None or not told.judged else (told.kept, told.judged)


def _use(gpu: GpuRow) -> Markup:
    if gpu.utilisation_ratio is None:
        return Markup("–")
    drawn = bars.bar(gpu.utilisation_ratio, 1.0, "bar-fill", 48.0)
    return bars.beside(drawn, percent(gpu.utilisation_ratio))


def _steps(visit: Visit, job: Job) -> list[Step]:
    """Apply, queue, promise, ready, end: with their times as far as they have come."""
    status, now = job.status, visit.now
    promised = min((a.since for a in status.assignments), default=None)
    ended = "Failed" if status.phase == "Failed" else "Finished"
    scaled = _scaled(visit, job.key)
    moments = (
        ("Applied", times.to_wire(job.created)),
        ("Queued", status.queued_at),
        ("GPUs promised", promised),
        ("Ready", status.start_time),
        *((("Scaled", times.to_wire(scaled.at.timestamp())),) if scaled is not None else ()),
        *(() if job.spec is not None and job.spec.task_type.serves else ((ended, status.completion_time),)),
    )
    return [
        Step(name, at(None if wire is None else instant(times.from_wire(wire)), now), wire is not None)
        for name, wire in moments
    ]


def _strip(visit: Visit, job: Job) -> gantt.Gantt | None:
    """Waiting, starting and running of each replica as spans of time."""
    status, now = job.status, visit.look.scene.now
    queued = times.from_wire_or(status.queued_at, job.created)
    end = None if status.completion_time is None else times.from_wire(status.completion_time)
    started = None if status.start_time is None else times.from_wire(status.start_time)
    promised = min((times.from_wire(a.since) for a in status.assignments), default=None)
    waited_until = promised if promised is not None else started if started is not None else end or now
    bars_: list[gantt.Bar] = [
        gantt.Bar(queued, waited_until, "span-wait", f"waited {span(waited_until - queued)}")
    ]
    if promised is not None:
        ready = min(max(started or now, promised), now)
        bars_.append(gantt.Bar(promised, ready, "span-start", f"starting {span(ready - promised)}"))
        if started is not None:
            bars_.append(gantt.Bar(ready, now, "span-run", f"running {span(now - ready)}"))
    elif started is not None and end is not None:
        bars_.append(gantt.Bar(started, end, "span-run", f"ran {span(end - started)}"))
    free = next((g.free_at for g in visit.sight.gpus.items if _is(g, job.key) and g.free_at), None)
    if free is not None and free.timestamp() > now:
        bars_.append(gantt.Bar(now, free.timestamp(), "span-ahead", "expected to run"))
    eta = None if status.queue is None else status.queue.eta
    if eta is not None and eta.p50 is not None and eta.p90 is not None and promised is None:
        first, last = times.from_wire(eta.p50), times.from_wire(eta.p90)
        bars_.append(gantt.Bar(first, last, "span-eta", "expected start"))
    return gantt.gantt([gantt.Lane("life", tuple(bars_))], now)


def _is(row: GpuRow | ForecastRow | DecisionRow | JobRow, key: JobKey) -> bool:
    return row.namespace == key.namespace and row.job == key.name


def _yaml(job: Job) -> str:
    document = {
        "apiVersion": API_VERSION,
        "kind": "DeepSeekJob",
        "metadata": {"namespace": job.key.namespace, "name": job.key.name},
        "spec": {} if job.spec is None else job.spec.to_wire(),
        "status": job.status.to_wire(),
    }
    return yaml.safe_dump(document, sort_keys=False, width=110)
