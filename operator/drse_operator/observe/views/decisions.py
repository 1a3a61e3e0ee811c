"""What was decided, newest last, with the numbers behind it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from drse_operator.api import times
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import EventReason, WaitReason
from drse_operator.observe.journal import Decision, DecisionKind
from drse_operator.observe.views.base import Instant, Report, Row, instant
from drse_operator.observe.views.scene import EVERYWHERE, Where

#: Events of the operator that tell of a decision.
_KINDS = {
    EventReason.ASSIGNED: DecisionKind.ADMIT,
    EventReason.PREEMPTED: DecisionKind.PREEMPT,
    EventReason.RELEASED: DecisionKind.SHRINK,
    EventReason.SCALED_UP: DecisionKind.SCALE,
    EventReason.SCALED_DOWN: DecisionKind.SCALE,
}
_ASSIGNED_GPUS = re.compile(r"^([0-9]+) x ")


class DecisionRow(Row):
    """One decision."""

    at: Instant
    kind: str = Field(description="Admit, Reserve, Preempt, Shrink, Scale or Deny.")
    namespace: str
    job: str
    queue: str
    gpus: int
    reason: str
    by: str = Field(description="The job it was made for, as namespace/name, when that is another.")
    effect: str = Field(description="What follows, in a sentence.")
    numbers: dict[str, float]


class DecisionReport(Report):
    """Decisions, newest last."""

    items: tuple[DecisionRow, ...]
    source: str = Field(description="journal, or events where the journal may not be read.")


def decisions(
    records: Iterable[Decision],
    now: float,
    where: Where = EVERYWHERE,
    kinds: frozenset[str] = frozenset(),
    since: float | None = None,
    source: str = "journal",
    visible: frozenset[str] | None = None,
) -> DecisionReport:
    """The records that concern the jobs shown: as those decided on, or as those it was done for.

    ``kinds`` keeps some kinds only; ``visible`` are the namespaces whose jobs may be named, all when None.
    """
    rows = []
    for record in records:
        at = times.from_wire(record.at)
        if (kinds and record.kind not in kinds) or (since is not None and at < since):
            continue
        if _concerns(record, where) and (visible is None or record.namespace in visible):
            rows.append(_row(record, at, visible))
    rows.sort(key=lambda row: row.at)
    return DecisionReport(as_of=instant(now), items=tuple(rows), source=source)


def from_event(document: Mapping[str, Any]) -> Decision | None:
    """A decision as its event tells it; None for events about anything else."""
    reason, note = document.get("reason", ""), document.get("note", "")
    kind: DecisionKind | None = _KINDS.get(reason)
    if kind is None and reason == EventReason.WAITING:
        word = note.partition(":")[0]
        kind = DecisionKind.RESERVE if word == WaitReason.RESERVED else None
        if document.get("type") == "Warning":
            kind = DecisionKind.DENY
        reason = word
    if kind is None:
        return None
    counted = _ASSIGNED_GPUS.match(note)
    regarding = document["regarding"]
    return Decision(
        at=times.to_wire(times.from_wire(document["eventTime"])),
        kind=kind,
        namespace=regarding.get("namespace", ""),
        job=regarding.get("name", ""),
        queue="",
        gpus=int(counted.group(1)) if counted else 0,
        reason=reason,
        effect=note,
    )


def _concerns(record: Decision, where: Where) -> bool:
    if where.queue is not None and record.queue != where.queue:
        return False
    concerned = [JobKey(record.namespace, record.job)]
    if record.by:
        namespace, _, name = record.by.partition("/")
        concerned.append(JobKey(namespace, name))
    return any(
        (where.namespaces is None or key.namespace in where.namespaces)
        and (where.keys is None or key in where.keys)
        for key in concerned
    )


def _row(record: Decision, at: float, visible: frozenset[str] | None) -> DecisionRow:
    hidden = visible is not None and record.by and record.by.partition("/")[0] not in visible
    return DecisionRow(
        at=instant(at),
        kind=record.kind,
        namespace=record.namespace,
        job=record.job,
        queue=record.queue,
        gpus=record.gpus,
        reason=record.reason,
        by="another job" if hidden else record.by,
        effect=record.effect,
        numbers=dict(record.numbers),
    )
