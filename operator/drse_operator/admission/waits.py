"""For everybody who waits after a pass: the reason, in words, and the place in the queue."""

from __future__ import annotations

import heapq
from collections import defaultdict

from drse_operator.admission import explain
from drse_operator.admission.decisions import Wait
from drse_operator.admission.dispatch import Blocked, Outcome
from drse_operator.admission.explain import Verdict
from drse_operator.admission.flows import Flow, Rank, Record
from drse_operator.admission.state import Park, State
from drse_operator.api.reasons import WaitReason


def waits(state: State, outcome: Outcome, now: float) -> tuple[Wait, ...]:
    """One wait for each job that lacks replicas, by queue and in the order of their turns."""
    by_queue: dict[str, list[tuple[float, Record]]] = defaultdict(list)
    for flow in state.flows.values():
        if flow.groups:
            by_queue[flow.key.queue].extend(_turns(state, flow))
    teller = _Teller(state, outcome, now)
    told: list[Wait] = []
    parked = sorted(state.parked(), key=lambda r: r.job.order)
    for name in sorted({*by_queue, *(r.job.queue for r in parked)}):
        mine = sorted(by_queue[name], key=_turn)
        asides = [r for r in parked if r.job.queue == name]
        position = 0
        for record in (*(r for _, r in mine), *asides):
            reason, message = teller.tell(record)
            if not reason.user_must_act:
                position += 1
            job = record.job
            place = None if reason.user_must_act else position
            gpus = record.lacking * _least(record)
            told.append(Wait(job.key, job.uid, reason, message, place, gpus))
    return tuple(told)


def _least(record: Record) -> int:
    """GPUs of one replica in its smallest shape."""
    if record.group is not None:
        return record.group.ask.least // record.group.ask.replicas
    return min((s.gpus for s in record.job.shapes), default=0)


def _turns(state: State, flow: Flow) -> list[tuple[float, Record]]:
    """Those who wait in a flow with the start tags that they will have if all goes in order."""
    entries = list(heapq.merge(*(group.records for group in flow.groups.values())))
    tag = flow.finish
    turns = []
    shares: dict[int, float] = {}
    for _, record in entries:
        ask = record.ask
        assert ask is not None
        turns.append((tag, record))
        share = shares.get(ask.number)
        if share is None:
            share = shares[ask.number] = ask.replicas * state.share(ask.options[0][0]) / flow.weight
        tag += share * min(record.estimate.expected, state.rules.quantum * 1e6)
    return turns


def _turn(turn: tuple[float, Record]) -> tuple[float, Rank]:
    return turn[0], turn[1].rank


class _Teller:
    """Finds the dominant reason of a wait."""

    def __init__(self, state: State, outcome: Outcome, now: float) -> None:
        self._state = state
        self._outcome = outcome
        self._now = now
        self._behind: dict[tuple[int, str], Verdict] = {}

    def tell(self, record: Record) -> Verdict:
        """Why a job waits."""
        if record.parked:
            return self._parked(record)
        job, ask, outcome = record.job, record.ask, self._outcome
        assert ask is not None
        reservation = outcome.reservations.get(job.uid)
        if reservation is not None:
            return explain.reserved(job, ask, reservation, self._now)
        limited = outcome.limited.get(job.queue)
        if limited is not None:
            queue = self._state.queues[job.queue]
            if limited is record:
                return explain.limit_reached(queue, self._state.held[job.queue], ask.least)
            return explain.behind_limited(queue, limited.job)
        capped = outcome.capped.get(job.flow)
        if capped is not None and capped.mask & ask.mask:
            flow = self._state.flows[job.flow]
            return explain.lead_cap(job.flow, capped.record.job, (flow.finish - capped.start) * flow.weight)
        ahead = self._ahead(record)
        if ahead is None:
            return explain.no_room(job, ask)
        key = (ask.number, ahead.record.job.uid)
        if key not in self._behind:
            self._behind[key] = explain.waiting_for_turn(ahead.record.job, ask)
        return self._behind[key]

    def _ahead(self, record: Record) -> Blocked | None:
        """Who waits ahead for a kind that the job could use."""
        assert record.ask is not None
        for blocked in self._outcome.blocked:
            if blocked.mask & record.ask.mask and blocked.record is not record:
                return blocked
        return None

    def _parked(self, record: Record) -> Verdict:
        job = record.job
        match record.parked:
            case Park.REFUSED if job.refusal is not None:
                return job.refusal.reason, job.refusal.message
            case Park.REFUSED:
                return WaitReason.QUEUE_NOT_FOUND, f"GPUQueue {job.queue} does not exist: create it"
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
                return explain.never_fits(job, ask, self._state.pools)
