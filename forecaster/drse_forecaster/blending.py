"""Whom to believe: experts weighted by how they did, and a gate that keeps the last value unless it is
beaten.

The problem: no single forecast is best on all loads, the best in hindsight is only known in hindsight, and
switching to the best of last week loses what it should save. The approach: Bernstein online aggregation. Each
expert has a weight that grows exponentially with its regret (how much less it would have lost than the blend)
less a penalty for the regret's variance, at a rate fitted to each expert from what was seen. Old losses
fade, so that a change of regime is followed. The blend is then as good as the best expert up to a small term.

On a load that hardly moves even a small term is a large share of the last value's tiny loss. Therefore the
gate: the blend speaks only while its faded gain over the last value is one standard error above zero, over
one day as over four, and keeps the floor until that gain is gone.

Source: Wintenberger, "Optimal learning with Bernstein online aggregation", Machine Learning 106, 2017.

Shapes: S series, H horizons, K experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drse_forecaster.series import FloatArray

#: Half-life of losses in the weights.
WEIGHT_HALF_LIFE_SECONDS = 2 * 86400.0

#: Both spans must show a gain.
GATE_HALF_LIVES_SECONDS = (86400.0, 4 * 86400.0)
GATE_OPENS_AT = 1.5  # standard errors: three equal gains and no loss; one lucky event makes just one
GATE_CLOSES_AT = 0.0

_TINY = 1e-12


@dataclass(slots=True, eq=False)
class Blend:
    """Weights of experts and what they come from; each (S, H, K)."""

    regret: FloatArray
    variance: FloatArray
    largest: FloatArray
    weights: FloatArray
    prior: FloatArray

    @classmethod
    def start(cls, series: int, horizons: int, prior: FloatArray) -> Blend:
        shape = (series, horizons, prior.size)
        full = np.broadcast_to(prior, shape)
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape), full.copy(), full.copy())

    def say(self, experts: FloatArray) -> FloatArray:
        """Return the weighted mean of the experts, (S, H)."""
        return np.asarray((experts * self.weights).sum(axis=-1))

    def learn(self, experts: FloatArray, said: FloatArray, slope: FloatArray, step_seconds: int) -> None:
        """Take in one outcome: experts (S, H, K), the blend that was said and its loss's slope there (S, H).

        The slope is zero where the outcome is unknown.
        """
        fade = 0.5 ** (step_seconds / WEIGHT_HALF_LIFE_SECONDS)
        gain = slope[..., None] * (said[..., None] - experts)
        self.regret *= fade
        self.regret += gain
        self.variance *= fade
        self.variance += gain * gain
        np.maximum(self.largest * fade, np.abs(gain), out=self.largest)
        rate = np.sqrt(np.log(self.prior.shape[-1]) / (self.variance + _TINY))
        np.minimum(rate, 1.0 / (2.0 * self.largest + _TINY), out=rate)
        exponent = rate * self.regret - rate * rate * self.variance
        exponent -= exponent.max(axis=-1, keepdims=True)
        weights = self.prior * np.exp(exponent)
        self.weights[...] = weights / weights.sum(axis=-1, keepdims=True)


@dataclass(slots=True, eq=False)
class Gate:
    """Whether the blend may speak in place of the last value."""

    gain: FloatArray  #: faded sum of the last value's loss less the blend's, (S, H, spans)
    square: FloatArray  #: faded sum of its squares, (S, H, spans)
    open: NDArray[np.bool_]  #: (S, H)

    @classmethod
    def start(cls, series: int, horizons: int) -> Gate:
        shape = (series, horizons, len(GATE_HALF_LIVES_SECONDS))
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape[:2], dtype=np.bool_))

    def learn(self, gain: FloatArray, step_seconds: int, opens_at: float = GATE_OPENS_AT) -> None:
        """Take in the gain of one outcome, (S, H), zero where unknown."""
        fade = 0.5 ** (step_seconds / np.array(GATE_HALF_LIVES_SECONDS))
        self.gain *= fade
        self.gain += gain[..., None]
        self.square *= fade
        self.square += (gain * gain)[..., None]
        surely = (self.gain / np.sqrt(self.square + _TINY)).min(axis=-1)
        self.open[...] = np.where(self.open, surely > GATE_CLOSES_AT, surely > opens_at)
