"""The policies of the closed loop by name, run over one load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.simulator.scaling import Demand, Moment, Outcome, Policy, Service, simulate
from drse_operator.simulator.scaling_policies import Drse, Forecast, Foresight, Hpa, Keda, Textbook

DRSE = "drse"
#: The autoscaler with the target at which it takes the GPU-hours that DRSE took.
HPA_EQUAL = "hpa-equal"
HPA_TARGETS = (0.5, 0.65, 0.8)
#: Requests waiting for each replica in the vLLM production stack's example for KEDA.
KEDA_WAITING = 5

POLICIES: tuple[str, ...] = (
    DRSE,
    *(f"hpa-{target}" for target in HPA_TARGETS),
    HPA_EQUAL,
    "keda-queue",
    "textbook-prophet",
    "foresight",
)

#: How near the GPU-hours must come, and how many targets are tried for it; each simulates the whole load.
_EQUAL = 0.003
_TRIES = 7


@dataclass(frozen=True, slots=True)
class Case:
    """One load and what was expected of it. ``expected``: (unix seconds, load ten minutes later) by plain
    Prophet; ``spec`` holds DRSE's bounds."""

    demand: Demand
    service: Service
    spec: DeepSeekJobSpec
    forecasts: Sequence[Forecast] = ()
    expected: Sequence[tuple[float, float]] = ()


@dataclass(slots=True)
class Contest:
    """Outcomes by policy, and their moments for plots."""

    case: Case
    keep_moments: bool = False
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    moments: dict[str, list[Moment]] = field(default_factory=dict)

    def run(self, names: Sequence[str]) -> list[Outcome]:
        """Run the named policies; ``hpa-equal`` runs DRSE, too."""
        for name in POLICIES:
            if name in names or (name == DRSE and HPA_EQUAL in names):
                self._one(name, self._equal() if name == HPA_EQUAL else self._policy(name))
        return list(self.outcomes.values())

    def _one(self, name: str, policy: Policy) -> None:
        moments: list[Moment] | None = [] if self.keep_moments else None
        self.outcomes[name] = simulate(self.case.demand, self.case.service, policy, name, moments)
        if moments is not None:
            self.moments[name] = moments

    def _policy(self, name: str) -> Policy:
        case = self.case
        g = case.service.gpus_per_replica
        match name.partition("-"):
            case "drse", _, _:
                return Drse(case.spec, case.service, case.forecasts)
            case "hpa", _, target:
                return Hpa(float(target), g)
            case "keda", _, _:
                return Keda(KEDA_WAITING / case.service.target_concurrency * g)
            case "textbook", _, _:
                return Textbook(g, case.expected)
            case _:
                return Foresight(case.demand, case.service)

    def _equal(self) -> Hpa:
        """The autoscaler whose target brings its GPU-hours nearest to DRSE's.

        GPU-hours fall with the target about as its inverse, so each try corrects by the ratio that is left.
        """
        case, wanted = self.case, self.outcomes[DRSE].gpu_hours
        target = HPA_TARGETS[1]
        found = (math.inf, target)
        for _ in range(_TRIES):
            hpa = Hpa(target, case.service.gpus_per_replica)
            taken = simulate(case.demand, case.service, hpa, "").gpu_hours
            found = min(found, (abs(taken / wanted - 1), target))
            if found[0] <= _EQUAL:
                break
            target = min(max(target * taken / wanted, target / 2), 2 * target)
        return Hpa(found[1], case.service.gpus_per_replica)
