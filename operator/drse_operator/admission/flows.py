"""Flows: finish tags, and who of a flow waits, in order.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) over flows: the flow with the smallest start tag
goes first, and a dispatch moves its tag on by cost / weight. The start tag of a flow with work waiting is its
finish tag F; when a flow begins to wait, F is lifted to ``v``, the start tag of the last dispatch in order:
being idle has saved it nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sortedcontainers import SortedList

from drse_operator.admission.asks import Ask
from drse_operator.admission.durations import Estimate
from drse_operator.admission.snapshot import Device, FlowKey, Job
from drse_operator.admission.sojourn import Member
from drse_operator.api.keys import JobKey
from drse_operator.sizing.shapes import Shape

#: Order within a flow: priority (negative, so that high comes first), key, age, name.
Rank = tuple[int, float, float, JobKey]


@dataclass(slots=True, eq=False)
class Unit:
    """One replica of ours that holds GPUs. Times are seconds since the epoch."""

    serial: int
    uid: str
    replica: int
    shape: Shape
    places: tuple[tuple[str, int, tuple[Device, ...]], ...]
    since: float
    estimate: Estimate
    share: float
    charged: float
    end: float

    @property
    def gpus(self) -> int:
        """GPUs it holds."""
        return sum(count for _, count, _ in self.places)


@dataclass(slots=True, eq=False)
class Record:
    """A job in the engine: what it asks for next, where it stands, what it holds."""

    job: Job
    estimate: Estimate
    member: Member
    rank: Rank
    ask: Ask | None = None
    #: Replicas that the ask is about.
    replicas: tuple[int, ...] = ()
    #: How many replicas it lacks.
    lacking: int = 0
    #: Why it takes no part in the pass although it lacks replicas.
    parked: str = ""
    units: dict[int, Unit] = field(default_factory=dict)
    #: The group it waits in, if it does.
    group: Group | None = None


class Group:
    """Jobs of one flow that ask for the same, in order."""

    __slots__ = ("ask", "durations", "lacking", "milliseconds", "records")

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.records: SortedList[tuple[Rank, Record]] = SortedList()
        self.durations: SortedList[float] = SortedList()
        #: Replicas that all of them lack, and their expected durations: whole numbers, so that sums are the
        #: same however they came about.
        self.lacking = 0
        self.milliseconds = 0

    def add(self, record: Record) -> None:
        self.records.add((record.rank, record))
        self.durations.add(record.estimate.conservative)
        self.lacking += record.lacking
        self.milliseconds += _milliseconds(record.estimate.expected)

    def remove(self, record: Record) -> None:
        self.records.remove((record.rank, record))
        self.durations.remove(record.estimate.conservative)
        self.lacking -= record.lacking
        self.milliseconds -= _milliseconds(record.estimate.expected)

    def before(self, record: Record) -> int:
        """How many of the group come before a record of the flow."""
        return self.records.bisect_left((record.rank, record))

    @property
    def first(self) -> Record:
        return self.records[0][1]

    def first_within(self, seconds: float) -> Record | None:
        """The first in order that surely ends within so many seconds."""
        if self.durations[0] > seconds:
            return None
        return next((r for _, r in self.records if r.estimate.conservative <= seconds), None)


def _milliseconds(seconds: float) -> int:
    """A year stands for ever."""
    return round(1000 * min(seconds, 365 * 86400.0))


@dataclass(slots=True, eq=False)
class Flow:
    """A flow with its finish tag and those who wait."""

    key: FlowKey
    weight: float
    finish: float = 0.0
    groups: dict[int, Group] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """The record waits for its ask."""
        assert record.ask is not None
        group = self.groups.get(record.ask.number)
        if group is None:
            group = self.groups[record.ask.number] = Group(record.ask)
        group.add(record)
        record.group = group

    def remove(self, record: Record) -> None:
        """The record no longer waits."""
        group = record.group
        if group is None:
            return
        group.remove(record)
        record.group = None
        if not group.records:
            del self.groups[group.ask.number]

    @property
    def head(self) -> Record:
        """The first of all who wait in the flow."""
        return min(g.records[0] for g in self.groups.values())[1]

    @property
    def head_mask(self) -> int:
        """The kinds that the first of all could use."""
        ask = self.head.ask
        return 0 if ask is None else ask.mask
