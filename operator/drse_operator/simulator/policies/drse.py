"""DRSE itself: the engine that the operator runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drse_operator.admission.engine import Engine
from drse_operator.admission.ledger import Rules
from drse_operator.admission.snapshot import Node, Queue
from drse_operator.simulator.cluster import Sizer
from drse_operator.simulator.trace import TraceJob


class Drse:
    """Fair queueing between flows, fair sojourn within them, backfilling under a cap."""

    def __init__(
        self, nodes: Sequence[Node], rules: Rules | None = None, queues: Mapping[str, Queue] | None = None
    ) -> None:
        self.engine = Engine(0.0, rules or Rules())
        self.stopped: Sequence[str] = ()
        self._sizer = Sizer(nodes)
        self._queues = queues or {}
        for node in nodes:
            self.engine.state.put_node(node)

    def arrive(self, job: TraceJob, now: float) -> None:
        """A job is submitted; its queue appears with its first job."""
        state = self.engine.state
        if job.flow not in state.queues:
            state.put_queue(self._queues.get(job.flow, Queue(job.flow, 1, 0, None, 0)))
        state.advance(now)
        state.put_job(self._sizer.job(job))

    def end(self, uid: str, now: float) -> None:
        """A running job has ended."""
        state = self.engine.state
        state.advance(now)
        state.drop_job(uid, ended=True)

    def decide(self, now: float) -> Sequence[str]:
        """Start whom the engine starts."""
        return [assign.uid for assign in self.engine.decide(now).assigns]

    def expected(self, uid: str) -> float:
        """Seconds that the engine takes a job to run."""
        return self.engine.state.records[uid].estimate.expected
