"""``/whatif``: ask the planner what would happen; the link keeps the question, and nothing is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup
from pydantic import Field

from drse_operator.cluster.parse import QueueObject
from drse_operator.observe.console.address import link
from drse_operator.observe.console.charts import gantt
from drse_operator.observe.console.pages.page import Page, Visit, command, job_link, queue_chip, state
from drse_operator.observe.console.words import amount, at, clock, many, span, until
from drse_operator.observe.views.base import Row
from drse_operator.observe.views.changes import ChangeError, parse_changes, settings
from drse_operator.observe.views.fork import Change, WithoutNode
from drse_operator.observe.views.whatif import (
    Answer,
    IncompleteSceneError,
    ShareShift,
    Shift,
    WhatIfReport,
    whatif,
)

#: Shifts that are listed, and those of them that are drawn.
_SHIFTS, _DRAWN = 40, 12
#: Queues whose weights can be moved by hand; of others they are set by name.
_WEIGHTS = 24
_WEIGHT = "weight."
_SETS_WEIGHT = re.compile(r"queue\.([a-z0-9.-]+)\.weight=([0-9]+)")
_LACKING = (
    "planning needs to see the whole cluster, and you may not list DeepSeekJobs in all namespaces: ask an "
    "administrator what would happen, or for a ClusterRoleBinding to the role drse-view"
)
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


@dataclass(frozen=True, slots=True)
class Weight:
    """A queue's weight as it is and as it is asked about; ``doubled`` asks for twice as much."""

    queue: str
    chip: Markup
    current: int
    asked: str
    doubled: str


def page(visit: Visit) -> Page:
    """The page. Parameters: ``job`` YAML, ``set`` settings, ``weight.QUEUE`` weights, ``without`` nodes."""
    address = visit.address
    question = Question.of(visit)
    answer, trouble = _ask(visit, question)
    job = address.get("job") or ("" if address.params else _example(visit))
    return Page(
        template="whatif.html",
        title="What if",
        topics=(),
        document=WhatIfDocument(answer=answer, trouble=trouble),
        command=_command(question),
        values={
            "answer": answer,
            "trouble": trouble,
            "job": job,
            "lines": 15 if job else 4,
            "sets": "\n".join(question.texts),
            "without": question.without,
            "nodes": sorted({n.node for n in visit.sight.nodes.items}),
            "weights": _weights(visit, question),
            "items": [] if answer is None else [_item(visit, item) for item in answer.items],
            "shares": [] if answer is None else [_share(visit, s) for s in answer.shares],
            "summary": "" if answer is None else _summary(answer),
            "shifts": [] if answer is None else [_shift(visit, s) for s in answer.shifts[:_SHIFTS]],
            "more": 0 if answer is None else max(0, len(answer.shifts) - _SHIFTS),
            "chart": None if answer is None else _chart(visit, answer),
        },
    )


def double_weight(queue: str, weight: int) -> str:
    """Link to the question of what twice the weight would do."""
    return link("/whatif", {f"{_WEIGHT}{queue}": str(2 * weight)})


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, beside a job: weights by queue that differ from the present ones, other settings as they
    were written, nodes that are gone."""

    job: str
    weights: Mapping[str, str]
    texts: tuple[str, ...]
    without: tuple[str, ...]

    @classmethod
    def of(cls, visit: Visit) -> Question:
        """From the address. A setting of a weight counts as a weight, so that the form shows it as one."""
        address = visit.address
        weights = {
            key.removeprefix(_WEIGHT): value for key, value in address.params if key.startswith(_WEIGHT)
        }
        texts = []
        for text in (line.strip() for value in address.all("set") for line in value.splitlines()):
            if found := _SETS_WEIGHT.fullmatch(text):
                weights[found[1]] = found[2]
            elif text:
                texts.append(text)
        current = {q.name: str(q.spec.weight) for q in _queues(visit) if q.spec is not None}
        moved = {name: value.strip() for name, value in weights.items() if value.strip() != current.get(name)}
        return cls(address.get("job").strip(), moved, tuple(texts), address.all("without"))

    @property
    def settings(self) -> list[str]:
        """All settings as the command line takes them."""
        return [f"queue.{name}.weight={value}" for name, value in self.weights.items()] + list(self.texts)


def _ask(visit: Visit, question: Question) -> tuple[WhatIfReport | None, str]:
    """The answer, or why there is none."""
    # Before the question is looked at: even an error would tell which jobs of others there are.
    if not visit.sight.everything:
        return None, _LACKING
    if not visit.address.params:
        return None, ""
    try:
        changes = _changes(visit, question)
        if not changes:
            return None, "nothing would be otherwise: change a weight, a setting, a node or a job"
        return whatif(visit.sight.planned(), changes), ""
    except (ChangeError, IncompleteSceneError) as error:
        return None, str(error)


def _changes(visit: Visit, question: Question) -> list[Change]:
    namespace = visit.address.get("namespace", "default")
    changes: list[Change] = []
    if question.job:
        changes += parse_changes(question.job, "the job", namespace)
    changes += settings(visit.look.scene.world, question.settings, namespace)
    for name in question.without:
        if visit.look.scene.world.nodes.get("", name) is None:
            raise ChangeError(f"there is no node {name}")
        changes.append(WithoutNode(name))
    return changes


def _command(question: Question) -> str:
    chosen = ["-f", "job.yaml"] if question.job else []
    for text in question.settings:
        chosen += ["--set", text]
    for name in question.without:
        chosen += ["--without", name]
    return command("drse", "whatif", *chosen)


def _example(visit: Visit) -> str:
    queues = [queue.name for queue in _queues(visit)]
    namespaces = sorted(visit.look.namespaces if visit.sight.visible is None else visit.sight.visible)
    return EXAMPLE.format(
        namespace=namespaces[0] if namespaces else "default", queue=queues[0] if queues else "default"
    )


def _queues(visit: Visit) -> list[QueueObject]:
    return sorted(visit.look.scene.world.queues.values(), key=lambda queue: queue.name)


def _weights(visit: Visit, question: Question) -> list[Weight]:
    return [
        Weight(
            queue=queue.name,
            chip=queue_chip(visit, queue.name),
            current=queue.spec.weight,
            asked=question.weights.get(queue.name, str(queue.spec.weight)),
            doubled=double_weight(queue.name, queue.spec.weight),
        )
        for queue in _queues(visit)[:_WEIGHTS]
        if queue.spec is not None
    ]


def _summary(answer: WhatIfReport) -> str:
    """What becomes of others, in a sentence."""
    moved = [s.delta_seconds for s in answer.shifts if s.delta_seconds is not None]
    earlier, later = [d for d in moved if d < 0], [d for d in moved if d > 0]
    parts = []
    if earlier:
        parts.append(
            f"{many(len(earlier), 'job starts', 'jobs start')} earlier, by up to {span(-min(earlier))}"
        )
    if later:
        parts.append(f"{many(len(later), 'job starts', 'jobs start')} later, by up to {span(max(later))}")
    if lost := sum(s.loses_gpus for s in answer.shifts):
        parts.append(
            f"{many(lost, 'job loses', 'jobs lose')} GPUs that it holds now"
            if lost == 1
            else f"{lost} jobs lose GPUs that they hold now"
        )
    return f"{'; '.join(parts)}." if parts else "Nobody starts earlier or later by more than a minute."


def _share(visit: Visit, shift: ShareShift) -> tuple[Markup, str, str, int]:
    return (
        queue_chip(visit, shift.queue),
        _then(shift.weight_now, shift.weight_then, 0),
        _then(shift.fair_gpus_now, shift.fair_gpus_then, 1),
        shift.held_gpus,
    )


def _then(now: float | None, then: float | None, digits: int) -> str:
    first, second = amount(now, digits), amount(then, digits)
    return first if first == second else f"{first} → {second}"


def _item(visit: Visit, item: Answer) -> tuple[Answer, Markup, str, Markup]:
    places = ", ".join(f"{p.count} × {p.product} on {p.node}" for p in item.places)
    looks = {"Starts": "Running", "Preempts": "Starting", "Waits": "Queued", "Refused": "Failed"}
    shape = state(looks[item.outcome], item.outcome == "Refused", item.outcome)
    return item, shape, places, until(item.eta_p50, item.eta_p90, visit.now)


def _shift(visit: Visit, shift: Shift) -> tuple[Markup, Markup, Markup, str]:
    if shift.loses_gpus:
        moved = "loses its GPUs"
    elif shift.never_then:
        moved = "cannot start any more"
    elif shift.delta_seconds is None:
        moved = "beyond the forecast" if shift.start_then is None else "comes into the forecast"
    else:
        moved = f"{span(abs(shift.delta_seconds))} {'later' if shift.delta_seconds > 0 else 'earlier'}"
    return (
        job_link(shift.namespace, shift.job),
        Markup("never") if shift.never_now else at(shift.start_now, visit.now),
        Markup("never") if shift.never_then else at(shift.start_then, visit.now),
        moved,
    )


def _chart(visit: Visit, answer: WhatIfReport) -> gantt.Gantt | None:
    """How long each would wait: as things are above, with the change below."""
    now, lanes = visit.look.scene.now, []
    for shift in answer.shifts[:_DRAWN]:
        bars = []
        for start, cls, word, slot in (
            (shift.start_now, "span-before", "now", gantt.Slot.UPPER),
            (shift.start_then, "span-then", "then", gantt.Slot.LOWER),
        ):
            if start is not None:
                title = f"{word}: starts {clock(start, visit.now)}"
                bars.append(gantt.Bar(now, max(now, start.timestamp()), cls, title, slot))
        if bars:
            lanes.append(gantt.Lane(f"{shift.namespace}/{shift.job}", tuple(bars)))
    return gantt.gantt(lanes, now) if lanes else None
