"""How much of the fairness bound is used: the number behind ``drse_fairness_bound_used_ratio``.

For any two flows f and m and any interval during which both have work waiting, what they are given must obey

    |W_f / w_f - W_m / w_m|  <=  (l_f + 2 e_f) / w_f + (l_m + 2 e_m) / w_m + 2 B

with l the largest single cost of a flow, B the cap on the lead (in tags), and e the most that the costs of a
flow's running jobs were ever misjudged by, taken together: 0 when durations are known. The meter follows
every pair that waits together and keeps the largest ratio of left to right that any interval has shown.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

FlowT = TypeVar("FlowT", bound=Hashable)


class FairnessMeter(Generic[FlowT]):
    """Largest share of the bound ever used; ``lead_cap`` is B, in seconds of the cluster per weight."""

    def __init__(self, lead_cap: float) -> None:
        self.used = 0.0
        self.worst: tuple[FlowT, FlowT] | None = None
        #: The same of the pairs that a flow is in.
        self.used_by: dict[FlowT, float] = {}
        self._cap = lead_cap
        self._service: dict[FlowT, float] = {}
        self._largest: dict[FlowT, float] = {}
        self._error: dict[FlowT, float] = {}
        self._worst_error: dict[FlowT, float] = {}
        self._waiting: dict[FlowT, None] = {}
        #: Of each pair (by order of first sight): lowest and highest lead while both wait.
        self._extremes: dict[tuple[FlowT, FlowT], list[float]] = {}
        self._order: dict[FlowT, int] = {}

    def allow(self, lead_cap: float) -> None:
        """The cap is this from now on. A smaller one changes no lead that there is: the largest counts."""
        self._cap = max(self._cap, lead_cap)

    def backlogged(self, flow: FlowT, waits: bool, weight: float) -> None:
        """Whether the flow has work waiting from now on."""
        if waits == (flow in self._waiting):
            return
        self._order.setdefault(flow, len(self._order))
        self._service.setdefault(flow, 0.0)
        self._largest.setdefault(flow, 0.0)
        if not waits:
            del self._waiting[flow]
            for other in self._waiting:
                self._extremes.pop(self._pair(flow, other), None)
            return
        for other in self._waiting:
            lead = self._lead(*self._pair(flow, other))
            self._extremes[self._pair(flow, other)] = [lead, lead]
        self._waiting[flow] = None

    def misjudged(self, flow: FlowT, error: float, weight: float) -> None:
        """Work of the flow that begins to run costs ``error`` more than thought; negative when it ends."""
        now = self._error.get(flow, 0.0) + error / weight
        self._error[flow] = now
        self._worst_error[flow] = max(self._worst_error.get(flow, 0.0), abs(now))

    def dispatched(self, flow: FlowT, cost: float, weight: float) -> None:
        """The flow is given ``cost`` (seconds of the whole cluster)."""
        self._service[flow] = self._service.get(flow, 0.0) + cost / weight
        self._largest[flow] = max(self._largest.get(flow, 0.0), cost / weight)
        if flow not in self._waiting:
            return
        for other in self._waiting:
            if other == flow:
                continue
            pair = self._pair(flow, other)
            extremes, lead = self._extremes[pair], self._lead(*pair)
            extremes[0], extremes[1] = min(extremes[0], lead), max(extremes[1], lead)
            errors = self._worst_error.get(flow, 0.0) + self._worst_error.get(other, 0.0)
            bound = self._largest[flow] + self._largest[other] + 2 * errors + 2 * self._cap
            used = (extremes[1] - extremes[0]) / bound if bound else 0.0
            for one in pair:
                self.used_by[one] = max(self.used_by.get(one, 0.0), used)
            if used > self.used:
                self.used, self.worst = used, pair

    def _pair(self, a: FlowT, b: FlowT) -> tuple[FlowT, FlowT]:
        return (a, b) if self._order[a] < self._order[b] else (b, a)

    def _lead(self, a: FlowT, b: FlowT) -> float:
        return self._service[a] - self._service[b]
