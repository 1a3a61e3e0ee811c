"""Linear forecasts whose weights are learned as the series goes, for absolute or pinball loss.

The problem: least squares on loads learns a few bursts, and a fit a day learns them a day late. The approach:
iteratively reweighted least squares in one pass. Each example enters two sums with the weight that makes its
square count like the wanted loss at the present error; older examples fade; the weights are the solution of
the ridge system. The ridge holds them to a prior (zero: the last value) until examples outweigh it.

With weight tau / |e| above and (1 - tau) / |e| below the forecast, the minimum is the tau-quantile; tau = 1/2
gives least absolute deviations. Source: Schlossmacher, JASA 68(344), 1973; Koenker, "Quantile Regression",
2005.

Shapes: S series, H horizons, p features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drse_forecaster.experts import Grid
from drse_forecaster.series import FloatArray

#: The prior counts like this many examples at first, and like this share of all of them ever after.
PRIOR_EXAMPLES = 9.0
PRIOR_SHARE = 0.01

FADE_HALF_LIFE_SECONDS = 3 * 86400.0
SCALE_SECONDS = 2 * 86400.0
SOLVE_SECONDS = 1800


@dataclass(slots=True, eq=False)
class Regression:
    """Sums and weights of one regression for all series and horizons.

    Examples wait until the weights are next solved for, and then enter the sums at once: it is the same and
    costs a fraction, because the sums are large.
    """

    gram: FloatArray  #: (S, H, p, p)
    moment: FloatArray  #: (S, H, p)
    weights: FloatArray  #: (S, H, p)
    prior: FloatArray  #: (S, H, p), where the ridge pulls to
    scale: FloatArray  #: running mean of |target|, (S, H)
    count: FloatArray  #: faded number of examples, (S, H)
    waiting: FloatArray  #: features of examples, (S, H, E, p)
    targets: FloatArray  #: their targets, (S, H, E)
    importance: FloatArray  #: their weights, zero for none, (S, H, E)

    @classmethod
    def start(cls, grid: Grid, series: int, prior: FloatArray) -> Regression:
        shape = (series, len(grid.horizons), prior.size)
        examples = (*shape[:2], solve_steps(grid))
        return cls(
            gram=np.zeros((*shape, prior.size)),
            moment=np.zeros(shape),
            weights=np.broadcast_to(prior, shape).copy(),
            prior=np.broadcast_to(prior, shape).copy(),
            scale=np.zeros(shape[:2]),
            count=np.zeros(shape[:2]),
            waiting=np.zeros((*examples, prior.size)),
            targets=np.zeros(examples),
            importance=np.zeros(examples),
        )

    def say(self, features: FloatArray) -> FloatArray:
        """Return the forecast distance to the last value, (S, H), from features (S, H, p)."""
        return np.asarray((features * self.weights).sum(axis=-1))


def solve_steps(grid: Grid) -> int:
    """Return the number of steps between two solutions."""
    return max(SOLVE_SECONDS // grid.step_seconds, 1)


@dataclass(frozen=True, slots=True)
class Learning:
    """How regressions learn: the loss and the speed of forgetting."""

    grid: Grid
    tau: float = 0.5
    least_error: float = 0.05  #: errors below this share of the scale count alike
    prior_share: float = PRIOR_SHARE

    @property
    def fade(self) -> float:
        return float(0.5 ** (self.grid.step_seconds / FADE_HALF_LIFE_SECONDS))

    def learn(
        self,
        state: Regression,
        index: int,
        features: FloatArray,
        target: FloatArray,
        known: NDArray[np.bool_],
    ) -> None:
        """Take in the examples of grid time `index`: features (S, H, p), target and known (S, H)."""
        error = target - state.say(features)
        state.count *= self.fade
        state.count += known
        pace = np.minimum(np.maximum(state.count, 1.0), SCALE_SECONDS / self.grid.step_seconds)
        state.scale += np.where(known, (np.abs(target) - state.scale) / pace, 0.0)
        floor = self.least_error * state.scale + 1e-12
        weight = 2 * np.where(error > 0, self.tau, 1 - self.tau) * state.scale
        slots = solve_steps(self.grid)
        slot = index % slots
        state.waiting[:, :, slot] = np.where(known[..., None], features, 0.0)
        state.targets[:, :, slot] = np.where(known, target, 0.0)
        state.importance[:, :, slot] = np.where(known, weight / np.maximum(np.abs(error), floor), 0.0)
        if slot == slots - 1:
            self._collect(state)
            self._solve(state)

    def _collect(self, state: Regression) -> None:
        slots = state.importance.shape[-1]
        faded = state.importance * self.fade ** np.arange(slots)[::-1]
        weighted = np.swapaxes(state.waiting * faded[..., None], -1, -2)  # (S, H, p, E)
        state.gram *= self.fade**slots
        state.gram += weighted @ state.waiting
        state.moment *= self.fade**slots
        state.moment += (weighted @ state.targets[..., None])[..., 0]
        state.importance[...] = 0.0

    def _solve(self, state: Regression) -> None:
        place = np.arange(state.prior.shape[-1])
        diagonal = state.gram[..., place, place]
        ridge = diagonal * (PRIOR_EXAMPLES / np.maximum(state.count, 1.0) + self.prior_share)[..., None]
        ridge += 1e-9 * diagonal.max(axis=-1, keepdims=True) + 1e-12
        system = state.gram.copy()
        system[..., place, place] += ridge
        right = state.moment + ridge * state.prior
        state.weights[...] = np.linalg.solve(system, right[..., None])[..., 0]
