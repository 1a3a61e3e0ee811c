"""One run: a trace, a cluster, a policy, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from drse_operator.admission.ledger import Rules
from drse_operator.admission.snapshot import Node
from drse_operator.simulator.eta import EtaWatch
from drse_operator.simulator.loop import Observer, Run, replay
from drse_operator.simulator.measure import FlowWatch, Measures, measure
from drse_operator.simulator.policies.drse import Drse
from drse_operator.simulator.policies.registry import POLICIES
from drse_operator.simulator.trace import TraceJob

#: One in so many waiting jobs is told an ETA.
_TOLD_EVERY = 20


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
    decider = POLICIES[policy](nodes)
    etas = EtaWatch(decider.engine, _TOLD_EVERY) if eta and isinstance(decider, Drse) else None
    watches = (watch, *observers) if etas is None else (watch, *observers, etas)
    run = replay(jobs, decider, watches)
    seconds = time.perf_counter() - began
    coverage = None if etas is None else etas.calibration.coverage
    return measure(policy, run, gpus, weights or {}, watch, seconds, coverage), run
