"""Dominant resource fairness as Volcano does it: no memory of the past, only of who holds what now.

The flow whose jobs hold the smallest dominant share per weight goes first, with its oldest job that fits; a
job that does not fit is passed over (volcano/pkg/scheduler/plugins/drf, actions/allocate). With GPUs as the
only contended resource the dominant share is the share of GPUs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from drse_operator.admission.snapshot import Node
from drse_operator.simulator.policies.listed import Listed, Passing
from drse_operator.simulator.trace import TraceJob


class DominantShare:
    """One list a flow over shared pools; flows take turns by what they hold."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.stopped: Sequence[str] = ()
        self._nodes = nodes
        self._lists: dict[str, Listed] = {}
        self._shared: Listed = Listed(nodes, lambda job, _: (job.submit,), Passing.SKIP)
        self._held: Counter[str] = Counter()
        self._flow_of: dict[str, TraceJob] = {}

    def arrive(self, job: TraceJob, now: float) -> None:
        """A job is submitted."""
        if job.flow not in self._lists:
            self._lists[job.flow] = self._shared.beside()
        self._flow_of[job.uid] = job
        self._lists[job.flow].arrive(job, now)

    def end(self, uid: str, now: float) -> None:
        """A running job has ended."""
        job = self._flow_of.pop(uid)
        self._held[job.flow] -= job.gpus
        self._lists[job.flow].end(uid, now)

    def expected(self, uid: str) -> float:
        """Seconds that a job is taken to run."""
        return self._lists[self._flow_of[uid].flow].expected(uid)

    def decide(self, now: float) -> Sequence[str]:
        """Start one job after the other, of the flow that holds least."""
        started: list[str] = []
        open_ = dict(self._lists)
        while open_:
            flow = min(open_, key=lambda f: (self._held[f], f))
            uid = open_[flow].start_one(now)
            if uid is None:
                del open_[flow]
                continue
            self._held[flow] += self._flow_of[uid].gpus
            started.append(uid)
        return started
