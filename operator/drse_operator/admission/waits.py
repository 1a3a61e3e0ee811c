"""For those who wait after a pass: the reason, in words, and the place in the queue; and how many they are.

Jobs of one flow that ask for the same wait for the same reason, but for the few that a pass dealt with by
name, so a reason is found once for all of them. Whoever is asked about costs a few binary searches; only a
whole queue costs as much as it is long.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from drse_operator.admission import explain
from drse_operator.admission.aside import Cause, Park
from drse_operator.admission.decisions import Pending, Tell, Wait
from drse_operator.admission.dispatch import Blocked, Outcome
from drse_operator.admission.explain import Verdict
from drse_operator.admission.flows import Flow, Group, Record
from drse_operator.admission.snapshot import FlowKey
from drse_operator.admission.state import State
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import WaitReason

#: Sort key of jobs set aside: priority, age, name.
_Order = tuple[int, float, JobKey]
_PARKED_REASON = {
    Park.BACKING_OFF: WaitReason.BACKING_OFF,
    Park.CLEARING: WaitReason.BACKING_OFF,
    Park.EXCEEDS_LIMIT: WaitReason.EXCEEDS_QUEUE_LIMIT,
}


@dataclass(frozen=True, slots=True)
class _Turns:
    """When the jobs of a flow have their turns, if all goes in order: the first at ``start``, the others
    ``step`` apart, which is what a job of the flow costs on average. In units of tags."""

    key: FlowKey
    start: float
    step: float
    count: int

    def at(self, index: int) -> tuple[float, FlowKey]:
        return self.start + index * self.step, self.key

    def before(self, turn: tuple[float, FlowKey]) -> int:
        """How many of the flow's jobs have their turn before another flow's job."""
        return bisect_left(range(self.count), turn, key=self.at)


@dataclass(slots=True)
class _Line:
    """Those of a queue who wait in order, by flow, and those set aside who come after them."""

    turns: dict[FlowKey, _Turns] = field(default_factory=dict)
    aside: list[_Order] | None = None

    @property
    def count(self) -> int:
        return sum(turns.count for turns in self.turns.values())


class Waiting:
    """Everybody who waits after a pass. To be asked before anything else changes the state."""

    def __init__(self, state: State, outcome: Outcome, now: float) -> None:
        self._state = state
        self._teller = _Teller(state, outcome, now)
        self._lines: dict[str, _Line] = defaultdict(_Line)
        for flow in state.flows.values():
            if flow.groups:
                self._lines[flow.key.queue].turns[flow.key] = _turns(state, flow)

    def tell(self, tell: Tell | None) -> tuple[Wait, ...]:
        """The waits of those asked about, or of all: queue by queue in the order of their turns."""
        queues = {*self._lines, *self._state.aside.queues}
        if tell is not None:
            queues &= set(tell.queues)
        told = [wait for name in sorted(queues) for wait in self._queue(name)]
        if tell is None:
            return tuple(told)
        records = (self._state.records.get(uid) for uid in tell.uids)
        return (*told, *(self._one(r) for r in records if r is not None and self._is_asked(r, queues)))

    def pending(self) -> tuple[Pending, ...]:
        """How many wait for what, by flow and reason."""
        tallies: dict[tuple[FlowKey, WaitReason, frozenset[str]], list[int]] = defaultdict(lambda: [0, 0])
        for flow in self._state.flows.values():
            for group in flow.groups.values():
                for reason, count, gpus in self._counts(group):
                    tally = tallies[flow.key, reason, group.ask.kinds]
                    tally[0] += count
                    tally[1] += gpus
        for queue in self._state.aside.queues:
            for cause, parked in self._state.aside.of(queue).items():
                record = next(iter(parked.records.values()))
                tally = tallies[cause.flow, self._teller.parked_reason(cause, record), frozenset()]
                tally[0] += len(parked.records)
                tally[1] += parked.gpus
        ordered = sorted(tallies.items(), key=lambda item: (item[0][0], item[0][1], sorted(item[0][2])))
        return tuple(Pending(*key, *tally) for key, tally in ordered)

    def first(self, count: int) -> tuple[Wait, ...]:
        """The first so many of each queue whose start can be foretold, in the order of their turns."""
        found: list[Wait] = []
        for name in sorted({*self._lines, *self._state.aside.queues}):
            patient = (wait for wait in self._queue(name) if wait.reason.has_start)
            found.extend(islice(patient, count))
        return tuple(found)

    def _counts(self, group: Group) -> Iterator[tuple[WaitReason, int, int]]:
        """(reason, jobs, GPUs) of a group: those with a reason of their own, then the others."""
        own = self._teller.named(group)
        count, lacking = len(group.records), group.lacking
        least = group.ask.least // group.ask.replicas
        for record in own:
            yield self._teller.tell(record).reason, 1, record.lacking * least
            count, lacking = count - 1, lacking - record.lacking
        if count:
            yield self._teller.common_reason(group), count, lacking * least

    # -- places ----------------------------------------------------------------------------------------

    @staticmethod
    def _is_asked(record: Record, told: set[str]) -> bool:
        return record.lacking > 0 and record.job.queue not in told

    def _queue(self, name: str) -> Iterator[Wait]:
        line = self._lines[name]
        merged = heapq.merge(*(self._flow(turns) for turns in line.turns.values()), key=lambda turn: turn[0])
        parked = (r for causes in self._state.aside.of(name).values() for r in causes.records.values())
        position = 0
        for record in (*(r for _, r in merged), *sorted(parked, key=lambda r: r.job.order)):
            verdict = self._teller.tell(record)
            position += not verdict.reason.user_must_act
            yield _wait(record, verdict, position)

    def _flow(self, turns: _Turns) -> Iterator[tuple[tuple[float, FlowKey], Record]]:
        flow = self._state.flows[turns.key]
        for i, (_, record) in enumerate(heapq.merge(*(group.records for group in flow.groups.values()))):
            yield turns.at(i), record

    def _one(self, record: Record) -> Wait:
        verdict = self._teller.tell(record)
        return _wait(record, verdict, 0 if verdict.reason.user_must_act else self._position(record))

    def _position(self, record: Record) -> int:
        line = self._lines[record.job.queue]
        if record.parked:
            if line.aside is None:
                line.aside = self._aside(record.job.queue)
            return line.count + 1 + bisect_left(line.aside, record.job.order)
        flow = self._state.flows[record.job.flow]
        own = line.turns[flow.key]
        index = sum(group.before(record) for group in flow.groups.values())
        turn = own.at(index)
        others = (turns.before(turn) for turns in line.turns.values() if turns is not own)
        return 1 + index + sum(others)

    def _aside(self, queue: str) -> list[_Order]:
        """Those of a queue set aside who need not act themselves, in order."""
        orders: list[_Order] = []
        for cause, parked in self._state.aside.of(queue).items():
            record = next(iter(parked.records.values()))
            if not self._teller.parked_reason(cause, record).user_must_act:
                orders.extend(r.job.order for r in parked.records.values())
        return sorted(orders)


def _turns(state: State, flow: Flow) -> _Turns:
    costs = []
    for group in flow.groups.values():
        share = group.ask.replicas * state.share(group.ask.options[0][0])
        costs.append(share * group.milliseconds / 1000)
    count = sum(len(group.records) for group in flow.groups.values())
    return _Turns(flow.key, flow.finish, math.fsum(costs) / count / flow.weight, count)


def _wait(record: Record, verdict: Verdict, position: int) -> Wait:
    job, (reason, message, mentions) = record.job, verdict
    if record.group is not None:
        least = record.group.ask.least // record.group.ask.replicas
    else:
        least = min((s.gpus for s in job.shapes), default=0)
    place = None if reason.user_must_act else position
    return Wait(job.key, job.uid, reason, message, place, record.lacking * least, mentions=mentions)


class _Teller:
    """Finds the dominant reason of a wait."""

    def __init__(self, state: State, outcome: Outcome, now: float) -> None:
        self._state = state
        self._outcome = outcome
        self._now = now
        self._common: dict[tuple[FlowKey, int], Verdict] = {}
        self._never: dict[int, Verdict] = {}
        #: Those that the pass dealt with by name, by uid.
        dealt = (*outcome.limited.values(), *(blocked.record for blocked in outcome.blocked))
        reserved = (record for uid in outcome.reservations if (record := state.records.get(uid)) is not None)
        self._named = {record.job.uid: record for record in (*dealt, *reserved) if record.group is not None}
        self._by_group: dict[Group, list[Record]] = defaultdict(list)
        for record in self._named.values():
            assert record.group is not None
            self._by_group[record.group].append(record)

    def named(self, group: Group) -> Sequence[Record]:
        """Those of a group who may have a reason of their own."""
        return self._by_group.get(group, ())

    def tell(self, record: Record) -> Verdict:
        """Why a job waits."""
        if record.parked:
            return self._parked(record)
        group, outcome, job = record.group, self._outcome, record.job
        assert group is not None
        if job.uid not in self._named:
            return self.common(group)
        reservation = outcome.reservations.get(job.uid)
        if reservation is not None:
            return explain.reserved(job, group.ask, reservation, self._state.out_of_service, self._now)
        if outcome.limited.get(job.queue) is record:
            queue = self._state.queues[job.queue]
            return explain.limit_reached(queue, self._state.held[job.queue], group.ask.least)
        return self._behind(group, record)

    def common(self, group: Group) -> Verdict:
        """Why those of a group wait whom the pass did not deal with by name."""
        first = group.first
        key = first.job.flow, group.ask.number
        verdict = self._common.get(key)
        if verdict is None:
            verdict = self._common[key] = self._behind(group, None)
        return verdict

    def common_reason(self, group: Group) -> WaitReason:
        """As :meth:`common`, without the words."""
        flow, mask = group.first.job.flow, group.ask.mask
        if flow.queue in self._outcome.limited:
            return WaitReason.LIMIT_REACHED
        if self._capped(flow, mask) is not None:
            return WaitReason.LEAD_CAP_REACHED
        if self._ahead(mask, None) is not None:
            return WaitReason.WAITING_FOR_TURN
        return self.common(group).reason

    def _behind(self, group: Group, record: Record | None) -> Verdict:
        """Why somebody of a group, or the given one, waits behind others."""
        job, ask = group.first.job, group.ask
        limited = self._outcome.limited.get(job.queue)
        if limited is not None:
            return explain.behind_limited(self._state.queues[job.queue], limited.job)
        capped = self._capped(job.flow, ask.mask)
        if capped is not None:
            flow = self._state.flows[job.flow]
            return explain.lead_cap(job.flow, capped.record.job, (flow.finish - capped.start) * flow.weight)
        ahead = self._ahead(ask.mask, record)
        if ahead is None:
            return explain.no_room(job, ask, self._state.out_of_service)
        return explain.waiting_for_turn(ahead.record.job, ask)

    def _capped(self, flow: FlowKey, mask: int) -> Blocked | None:
        """Of whom a flow has run ahead by more than the cap, for one of the kinds."""
        capped = self._outcome.capped.get(flow)
        return capped if capped is not None and capped.mask & mask else None

    def _ahead(self, mask: int, record: Record | None) -> Blocked | None:
        """Who waits ahead for one of the kinds."""
        for blocked in self._outcome.blocked:
            if blocked.mask & mask and blocked.record is not record:
                return blocked
        return None

    def parked_reason(self, cause: Cause, record: Record) -> WaitReason:
        """Why those wait who were set aside for a cause; ``record`` is one of them."""
        return cause.refusal or _PARKED_REASON.get(cause.park) or self._parked(record).reason

    def _parked(self, record: Record) -> Verdict:
        job = record.job
        match record.parked:
            case Park.REFUSED if job.refusal is not None:
                return Verdict(job.refusal.reason, job.refusal.message)
            case Park.REFUSED:
                message = f"GPUQueue {job.queue} does not exist: create it"
                return Verdict(WaitReason.QUEUE_NOT_FOUND, message)
            case Park.BACKING_OFF:
                return explain.backing_off(job, self._now)
            case Park.CLEARING:
                return explain.clearing(job)
            case Park.EXCEEDS_LIMIT:
                held = sum(unit.gpus for unit in record.units.values())
                least = len(record.replicas) * min(s.gpus for s in job.shapes)
                return explain.exceeds_limit(self._state.queues[job.queue], held + least)
            case _:
                ask = record.ask
                assert ask is not None
                if ask.number not in self._never:
                    closed = self._state.out_of_service
                    self._never[ask.number] = explain.never_fits(job, ask, self._state.pools, closed)
                return self._never[ask.number]
