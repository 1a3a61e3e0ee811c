"""``/whatif``: ask the planner what would happen; the link keeps the question, and nothing is written."""

from __future__ import annotations

from markupsafe import Markup
from pydantic import Field

from drse_operator.observe.console.charts import gantt
from drse_operator.observe.console.pages.page import Page, Visit, command, job_link, state
from drse_operator.observe.console.words import at, span, until
from drse_operator.observe.views.base import Row
from drse_operator.observe.views.changes import ChangeError, parse_changes, settings
from drse_operator.observe.views.fork import Change, WithoutNode
from drse_operator.observe.views.whatif import Answer, IncompleteSceneError, Shift, WhatIfReport, whatif

#: Shifts that are drawn and listed.
_SHIFTS = 40
EXAMPLE = """apiVersion: drse.dev/v1alpha1
kind: DeepSeekJob
metadata:
  name: try
  namespace: {namespace}
spec:
  taskType: FineTuning
  queue: {queue}
  resources:
    gpusPerReplica: 8
  estimatedDuration: 4h
  runtime:
    engine: Custom
    image: registry.example.com/train:1
"""


class WhatIfDocument(Row):
    """The page as JSON."""

    answer: WhatIfReport | None = Field(
        description="Null when nothing was asked, or it could not be answered."
    )
    trouble: str


def page(visit: Visit) -> Page:
    """The page. Parameters: ``job`` YAML, ``set`` settings, ``without`` nodes, ``namespace``."""
    address = visit.address
    answer, trouble = _ask(visit)
    queues = sorted(q.name for q in visit.look.scene.world.queues.values())
    namespaces = sorted(visit.look.namespaces if visit.sight.visible is None else visit.sight.visible)
    example = EXAMPLE.format(
        namespace=namespaces[0] if namespaces else "default", queue=queues[0] if queues else "default"
    )
    return Page(
        template="whatif.html",
        title="What if",
        topics=(),
        document=WhatIfDocument(answer=answer, trouble=trouble),
        command=_command(visit),
        values={
            "answer": answer,
            "trouble": trouble,
            "job": address.get("job") or ("" if address.params else example),
            "sets": "\n".join(address.all("set")),
            "without": address.all("without"),
            "nodes": sorted({n.node for n in visit.sight.nodes.items}),
            "weights": _weights(visit),
            "items": [] if answer is None else [_item(visit, item) for item in answer.items],
            "shifts": [] if answer is None else [_shift(visit, s) for s in answer.shifts[:_SHIFTS]],
            "more": 0 if answer is None else max(0, len(answer.shifts) - _SHIFTS),
            "chart": None if answer is None else _chart(visit, answer),
        },
    )


def _ask(visit: Visit) -> tuple[WhatIfReport | None, str]:
    """The answer, or why there is none."""
    try:
        changes = _changes(visit)
        if not changes:
            return None, ""
        if not visit.sight.everything:
            return (
                None,
                "planning needs to see the whole cluster: ask an administrator, or for the role drse-view",
            )
        return whatif(visit.sight.planned(), changes), ""
    except (ChangeError, IncompleteSceneError) as error:
        return None, str(error)


def _changes(visit: Visit) -> list[Change]:
    address = visit.address
    namespace = address.get("namespace", "default")
    changes: list[Change] = []
    if text := address.get("job").strip():
        changes += parse_changes(text, "the job", namespace)
    changes += settings(visit.look.scene.world, _settings(visit), namespace)
    for name in address.all("without"):
        if visit.look.scene.world.nodes.get("", name) is None:
            raise ChangeError(f"there is no node {name}")
        changes.append(WithoutNode(name))
    return changes


def _command(visit: Visit) -> str:
    address = visit.address
    chosen = ["-f", "job.yaml"] if address.get("job") else []
    for text in _settings(visit):
        chosen += ["--set", text]
    for name in address.all("without"):
        chosen += ["--without", name]
    return command("drse", "whatif", *chosen)


def _settings(visit: Visit) -> list[str]:
    """Settings, one a line."""
    lines = (line.strip() for value in visit.address.all("set") for line in value.splitlines())
    return [line for line in lines if line]


def _weights(visit: Visit) -> list[tuple[str, str]]:
    """One click each: twice the weight of a queue."""
    found = []
    for queue in sorted(visit.look.scene.world.queues.values(), key=lambda q: q.name):
        if queue.spec is not None:
            text = f"queue.{queue.name}.weight={2 * queue.spec.weight}"
            found.append((f"{queue.name} ×2", f"/whatif?set={text}"))
    return found


def _item(visit: Visit, item: Answer) -> tuple[Answer, Markup, str, Markup]:
    places = ", ".join(f"{p.count} × {p.product} on {p.node}" for p in item.places)
    looks = {"Starts": "Running", "Preempts": "Starting", "Waits": "Queued", "Refused": "Failed"}
    shape = state(looks[item.outcome], item.outcome == "Refused", item.outcome)
    return item, shape, places, until(item.eta_p50, item.eta_p90, visit.now)


def _shift(visit: Visit, shift: Shift) -> tuple[Markup, Markup, Markup, str]:
    if shift.loses_gpus:
        moved = "loses its GPUs"
    elif shift.delta_seconds is None:
        moved = "beyond the forecast" if shift.start_then is None else "comes into the forecast"
    else:
        moved = f"{span(abs(shift.delta_seconds))} {'later' if shift.delta_seconds > 0 else 'earlier'}"
    return (
        job_link(shift.namespace, shift.job),
        at(shift.start_now, visit.now),
        at(shift.start_then, visit.now),
        moved,
    )


def _chart(visit: Visit, answer: WhatIfReport) -> gantt.Gantt | None:
    """Starts before and after, one line each."""
    now, lanes = visit.look.scene.now, []
    for shift in answer.shifts[:12]:
        bars = []
        if shift.start_now is not None:
            bars.append(
                gantt.Bar(
                    now, shift.start_now.timestamp(), "span-before", f"now: starts {shift.start_now:%H:%M}"
                )
            )
        if shift.start_then is not None:
            bars.append(
                gantt.Bar(
                    shift.start_then.timestamp() - 60,
                    shift.start_then.timestamp() + 60,
                    "span-then",
                    f"then: {shift.start_then:%H:%M}",
                )
            )
        if bars:
            lanes.append(gantt.Lane(f"{shift.namespace}/{shift.job}", tuple(bars)))
    return gantt.gantt(lanes, now) if lanes else None
