"""One run: a trace, a cluster, a policy, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from drse_operator.admission.snapshot import Node
from drse_operator.admission.state import Rules
from drse_operator.simulator.loop import Observer, Run, replay
from drse_operator.simulator.measure import FlowWatch, Measures, measure
from drse_operator.simulator.policies.registry import POLICIES
from drse_operator.simulator.trace import TraceJob


def simulate(
    jobs: Sequence[TraceJob],
    nodes: Sequence[Node],
    policy: str,
    observers: Sequence[Observer] = (),
    weights: Mapping[str, float] | None = None,
    eta: bool = False,
) -> tuple[Measures, Run]:
    """Replay ``jobs`` on ``nodes`` under a policy named in the registry.

    With ``eta`` (policy ``drse`` only) ETAs are made for a sample of the jobs and compared with what happens.
    """
    gpus = sum(node.capacity for node in nodes)
    watch = FlowWatch(gpus, Rules().lead_cap, weights or {})
    began = time.perf_counter()
    run = replay(jobs, POLICIES[policy](nodes), (watch, *observers))
    seconds = time.perf_counter() - began
    coverage = None
    return measure(policy, run, gpus, weights or {}, watch, seconds, coverage), run
