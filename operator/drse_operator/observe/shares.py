"""What each queue would hold if the GPUs were divided by weight among those who ask, and nobody got more than
asked: weighted max-min fairness by filling (Bertsekas and Gallager, Data Networks, 6.5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claimant:
    """``weight`` > 0; ``asked`` is GPUs held and waited for, at most the queue's limit."""

    weight: float
    asked: float


def fair_shares(capacity: float, claimants: Mapping[str, Claimant]) -> dict[str, float]:
    """GPUs of each by name. They add up to the smaller of ``capacity`` and what is asked."""
    shares = dict.fromkeys(claimants, 0.0)
    left, weight = max(0.0, capacity), sum(c.weight for c in claimants.values())
    # Who is content with least per weight is served first, so that what remains is split by weight.
    for name, claimant in sorted(claimants.items(), key=lambda item: item[1].asked / item[1].weight):
        shares[name] = min(claimant.asked, left * claimant.weight / weight)
        left -= shares[name]
        weight -= claimant.weight
    return shares
