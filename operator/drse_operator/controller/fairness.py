"""How much of the fairness bound the live operator has used: ``drse_fairness_bound_used_ratio``.

``admission.fairness`` states the bound and measures it. It speaks of flows that wait for the same GPUs and
are served by turns alone, so what is measured here is

* flows of work that ends: a service is charged while it runs, whoever waits, and nothing but preemption could
  take from it what it was given;
* of queues without a guarantee and without preemption: what they take by these rights goes before turns;
* while they wait for exactly the same kinds of accelerator, and not for their own queue's limit, a back-off
  or a change by their user.

Costs are what flows were charged when GPUs were promised, and what is found wrong with that when work ends.
By how much running work was misjudged is known only then, so the allowance for it is made when it ends: as
much as was found wrong with all work of the flow that ended while the ending work ran.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Container, Iterable, Mapping

from drse_operator.admission.decisions import Plan
from drse_operator.admission.engine import DEFAULT_RULES
from drse_operator.admission.fairness import FairnessMeter
from drse_operator.admission.persistence import kind_name
from drse_operator.admission.snapshot import Ended, FlowKey, Job, Preemption, Queue, Snapshot
from drse_operator.api.reasons import WaitReason

#: Waits for turns and for room; whoever waits for anything else asks for nothing now.
_NOT_BACKLOGGED = frozenset({WaitReason.LIMIT_REACHED, WaitReason.BACKING_OFF, WaitReason.ASSIGNING})
_REMEMBERED = 1000

Kinds = frozenset[str]


class FairnessWatch:
    """Follows passes; ``used`` is the largest part of the bound that two flows have used since it began."""

    def __init__(self, lead_cap: float = DEFAULT_RULES.lead_cap) -> None:
        self.used = 0.0
        self.used_by: dict[str, float] = defaultdict(float)
        self._lead_cap = lead_cap
        self._weights: dict[FlowKey, float] = {}
        self._meters: dict[Kinds, FairnessMeter[FlowKey]] = {}
        #: Of each flow, work that has ended: when, and by how much its cost was wrong.
        self._wrong: dict[FlowKey, deque[tuple[float, float]]] = defaultdict(
            lambda: deque(maxlen=_REMEMBERED)
        )

    def take(self, snapshot: Snapshot, plan: Plan) -> None:
        """A pass was made."""
        waiting = [
            (pending.flow, pending.kinds)
            for pending in plan.pending
            if pending.kinds and pending.reason not in _NOT_BACKLOGGED
        ]
        jobs = snapshot.by_uid if plan.assign else {}
        starting = [(jobs[a.uid].flow, _kinds_of(jobs[a.uid])) for a in plan.assign]
        measured = {name for name, queue in snapshot.queues.items() if _by_turns(queue)}
        self._weigh(snapshot.queues, {flow for flow, _ in (*waiting, *starting)})
        wanted = _kinds((*waiting, *starting), measured)
        self._correct(snapshot.ended)
        self._set_backlogged(wanted)
        left = Counter(flow for flow, _ in (*starting, *waiting))
        for assign in plan.assign:
            flow = jobs[assign.uid].flow
            if flow in wanted:
                meter = self._meter(wanted[flow])
                meter.dispatched(flow, assign.charged, self._weights[flow])
                left[flow] -= 1
                # Whoever has nothing left to start is not behind those who start after it in the same pass.
                meter.backlogged(flow, left[flow] > 0, self._weights[flow])
        self._set_backlogged({f: k for f, k in _kinds(waiting, measured).items() if wanted.get(f) == k})
        for meter in self._meters.values():
            self.used = max(self.used, meter.used)
            for flow, used in meter.used_by.items():
                self.used_by[flow.queue] = max(self.used_by[flow.queue], used)

    def _weigh(self, queues: Mapping[str, Queue], flows: Iterable[FlowKey]) -> None:
        """Weights of the flows; the cap goes by the largest of them."""
        for flow in flows:
            queue = queues.get(flow.queue)
            factor = 1.0 if queue is None else queue.task_weights.get(flow.task_type, 1.0)
            self._weights[flow] = 1.0 if queue is None else queue.weight * factor
        for meter in self._meters.values():
            meter.allow(self._cap)

    @property
    def _cap(self) -> float:
        return self._lead_cap / max(self._weights.values(), default=1.0)

    def _meter(self, kinds: Kinds) -> FairnessMeter[FlowKey]:
        found = self._meters.get(kinds)
        if found is None:
            found = self._meters[kinds] = FairnessMeter(self._cap)
        return found

    def _set_backlogged(self, wanted: Mapping[FlowKey, Kinds]) -> None:
        for kinds in {*self._meters, *wanted.values()}:
            meter = self._meter(kinds)
            for flow in self._weights:
                meter.backlogged(flow, wanted.get(flow) == kinds, self._weights[flow])

    def _correct(self, ended: Iterable[Ended]) -> None:
        """What flows were charged turns out to be wrong."""
        for over in sorted(ended, key=lambda e: e.ended_at):
            flow = over.flow
            if over.used is None or over.charged is None or flow not in self._weights:
                continue
            wrong, weight = over.used - over.charged, self._weights[flow]
            known = self._wrong[flow]
            known.append((over.ended_at, wrong))
            began = over.ended_at - over.seconds
            together = [error for at, error in known if at >= began]
            most = max(sum(e for e in together if e > 0), -sum(e for e in together if e < 0))
            for meter in self._meters.values():
                meter.misjudged(flow, most, weight)
                meter.misjudged(flow, -most, weight)
                meter.dispatched(flow, wrong, weight)


def _by_turns(queue: Queue) -> bool:
    return not queue.guaranteed and queue.preemption is Preemption.NEVER


def _kinds_of(job: Job) -> Kinds:
    return frozenset(kind_name(shape.kind) for shape in job.shapes)


def _kinds(asking: Iterable[tuple[FlowKey, Kinds]], queues: Container[str]) -> dict[FlowKey, Kinds]:
    """Flows of the queues whose jobs all ask for the same kinds, with these kinds."""
    found: dict[FlowKey, Kinds | None] = {}
    for flow, kinds in asking:
        if flow.queue in queues and not flow.task_type.serves:
            found[flow] = kinds if found.get(flow, kinds) == kinds else None
    return {flow: kinds for flow, kinds in found.items() if kinds is not None}
