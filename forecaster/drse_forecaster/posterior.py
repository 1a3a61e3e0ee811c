"""The maximum a posteriori fit of Prophet's additive model, for many series at once.

The problem: Prophet hands one series after the other to Stan's L-BFGS, which reads all samples in every
step: a second for a week of minutes. The approach: with linear trend and additive terms the log-posterior is

    -N log s - RSS / (2 s^2) - 2 s^2 - (k^2 + m^2) / 50 - sum |delta_i| / tau - sum beta_j^2 / 2 sigma_j^2

and the samples enter only through X'X, X'y and y'y, which are formed once. What remains is solved exactly:

1. Given the noise s, everything but `delta` is Gaussian. In the basis that diagonalises X'X against the prior
   it is eliminated for any s by a division, and series on the same grid share that basis.
2. The 25 or so `delta` are left with a lasso, because their prior is Laplace's. Coordinate descent finds
   their signs, one linear solve on the support then gives the exact minimum, and the Karush-Kuhn-Tucker
   conditions prove it. A series is *converged* only when they hold.
3. Given the coefficients, s has a closed form. Steps 1 to 3 repeat until s stands still; each only ever
   raises the posterior.

Sources: Taylor and Letham, "Forecasting at scale", The American Statistician 72(1), 2018; Prophet's own
`prophet.stan`, whose constants the priors above are; Friedman et al., "Regularization paths for generalized
linear models via coordinate descent", JSS 33(1), 2010.

Neighbours: `seasonal` makes the moments of regular histories, `stan` plugs this into Prophet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drse_forecaster.series import FloatArray

#: Standard deviation of the priors of growth and offset, and of the noise (prophet.stan).
TREND_SCALE = 5.0
NOISE_SCALE = 0.5

_MAX_NOISE_STEPS = 60
_NOISE_TOLERANCE = 1e-6  # relative change of the variance: 1e-9 in the density at 2,000 samples
_SWEEPS = 4
_ACTIVE_SET_STEPS = 12  # a coordinate; a few in all is what it takes
_KKT_TOLERANCE = 1e-7  # of the largest gradient

#: A noiseless history has no posterior maximum: the noise would go to zero and the density to infinity. Below
#: this the residual is rounding.
_LEAST_VARIANCE = 1e-12

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Cross products of the features of G grids, and the scales of the priors.

    Gaussian features g are (t, 1, seasonal features), in this order; d are the hinges (t - changepoint)+. G
    is 1 when all series share one grid, else the number of series.
    """

    gg: FloatArray  #: (G, q, q)
    gd: FloatArray  #: (G, q, c)
    dd: FloatArray  #: (G, c, c)
    scales: FloatArray  #: prior standard deviation of each Gaussian coefficient, (q,)
    laplace: float  #: tau, scale of the Laplace prior of the deltas
    samples: FloatArray  #: N, (G,)


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What the scaled loads y of S series on that grid add: cross products with the features."""

    gy: FloatArray  #: (S, q)
    dy: FloatArray  #: (S, c)
    yy: FloatArray  #: (S,)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Parameters at the maximum, by series."""

    gaussian: FloatArray  #: k, m, beta, shape (S, q)
    deltas: FloatArray  #: (S, c)
    sigma: FloatArray  #: (S,)
    log_posterior: FloatArray  #: up to the constants that Stan leaves out too, (S,)
    converged: BoolArray  #: (S,)
    noiseless: (
        BoolArray  #: whether the noise went to its floor: the curve is exact, the density arbitrary, (S,)
    )


def maximise(design: Design, targets: Targets) -> Fit:
    """Return the parameters of the highest posterior density of each series."""
    problem = _Elimination.of(design, targets)
    series = targets.yy.size
    samples = np.broadcast_to(design.samples, (series,))
    deltas = np.zeros((series, design.dd.shape[-1]))
    variance = np.maximum(targets.yy / np.maximum(samples, 1), _LEAST_VARIANCE)
    moving = np.ones(series, dtype=np.bool_)
    solved = np.zeros(series, dtype=np.bool_)
    for _ in range(_MAX_NOISE_STEPS):
        rows = np.flatnonzero(moving)
        part = problem.of_rows(rows)
        quadratic, linear = part.lasso(variance[rows])
        penalty = variance[rows] / design.laplace
        deltas[rows], solved[rows] = _lasso(quadratic, linear, penalty, deltas[rows])
        new = _variance(part.residual(variance[rows], deltas[rows]), samples[rows])
        new = np.maximum(new, _LEAST_VARIANCE)
        moving[rows] = np.abs(new - variance[rows]) > _NOISE_TOLERANCE * variance[rows]
        variance[rows] = new
        if not moving.any():
            break
    coordinates = problem.coordinates(variance, deltas)
    density = _log_posterior(design, problem.residual(variance, deltas), variance, coordinates, deltas)
    gaussian = (problem.basis @ coordinates[..., None])[..., 0]
    noiseless = variance < 10 * _LEAST_VARIANCE
    return Fit(gaussian, deltas, np.sqrt(variance), density, solved & ~moving, noiseless)


@dataclass(frozen=True, slots=True, eq=False)
class _Elimination:
    """The Gaussian coefficients in the diagonal basis, and what is left of the problem without them.

    With U the basis and L the spectrum: U' gg U = diag(L) and U' diag(1 / scales^2) U = 1.
    """

    basis: FloatArray  #: (G, q, q)
    spectrum: FloatArray  #: (G, q)
    coupling: FloatArray  #: U' gd, (G, q, c)
    hinges: FloatArray  #: dd, (G, c, c)
    projected: FloatArray  #: U' gy, (S, q)
    dy: FloatArray  #: (S, c)
    yy: FloatArray  #: (S,)

    @classmethod
    def of(cls, design: Design, targets: Targets) -> _Elimination:
        spectrum, vectors = np.linalg.eigh(design.gg * np.outer(design.scales, design.scales))
        basis = design.scales[:, None] * vectors
        turned = np.swapaxes(basis, 1, 2)
        return cls(
            basis=basis,
            spectrum=np.maximum(spectrum, 0.0),
            coupling=turned @ design.gd,
            hinges=design.dd,
            projected=(turned @ targets.gy[..., None])[..., 0],
            dy=targets.dy,
            yy=targets.yy,
        )

    def of_rows(self, rows: NDArray[np.intp]) -> _Elimination:
        """Return the same problem for these series only."""
        shared = self.spectrum.shape[0] == 1
        grids = (self.basis, self.spectrum, self.coupling, self.hinges)
        if not shared:
            grids = tuple(one[rows] for one in grids)  # type: ignore[assignment]
        return _Elimination(*grids, self.projected[rows], self.dy[rows], self.yy[rows])

    def lasso(self, variance: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return (A, b) of the lasso 1/2 d'Ad - b'd + variance / tau |d|, shapes (S, c, c) and (S, c)."""
        weights = 1.0 / (self.spectrum + variance[:, None])
        if self.spectrum.shape[0] == 1:  # one product for all series is several times faster
            shared = self.coupling[0]
            pairs = (shared[:, :, None] * shared[:, None, :]).reshape(shared.shape[0], -1)
            eliminated = (weights @ pairs).reshape(-1, shared.shape[1], shared.shape[1])
        else:
            eliminated = np.swapaxes(self.coupling * weights[..., None], 1, 2) @ self.coupling
        linear = self.dy - _times(self.projected * weights, self.coupling)
        return self.hinges - eliminated, linear

    def coordinates(self, variance: FloatArray, deltas: FloatArray) -> FloatArray:
        """Return the Gaussian coefficients in the diagonal basis, shape (S, q)."""
        projected = self.projected - _times(deltas, np.swapaxes(self.coupling, 1, 2))
        return np.asarray(projected / (self.spectrum + variance[:, None]))

    def residual(self, variance: FloatArray, deltas: FloatArray) -> FloatArray:
        """Return the residual sum of squares, shape (S,)."""
        at = self.coordinates(variance, deltas)
        linear = (self.projected * at).sum(1) + (self.dy * deltas).sum(1)
        square = (self.spectrum * at**2).sum(1) + (_times(deltas, self.hinges) * deltas).sum(1)
        cross = (_times(at, self.coupling) * deltas).sum(1)
        return np.asarray(np.maximum(self.yy - 2 * linear + square + 2 * cross, 0.0))


def _times(rows: FloatArray, matrices: FloatArray) -> FloatArray:
    """Return each row times its matrix: (S, m) and (G, m, n) to (S, n)."""
    if matrices.shape[0] == 1:
        return np.asarray(rows @ matrices[0])
    return (rows[:, None, :] @ matrices)[:, 0]


def _variance(residual: FloatArray, samples: FloatArray) -> FloatArray:
    """Return the s^2 that maximises -N log s - RSS / (2 s^2) - 2 s^2."""
    curvature = 8.0 / (2 * NOISE_SCALE**2)  # 16 for a scale of 1/2
    root = np.sqrt(samples**2 + curvature * residual)
    return np.asarray(2 * residual / (samples + root))


def _log_posterior(
    design: Design, residual: FloatArray, variance: FloatArray, coordinates: FloatArray, deltas: FloatArray
) -> FloatArray:
    likelihood = -design.samples * np.log(variance) / 2 - residual / (2 * variance)
    priors = -(coordinates**2).sum(1) / 2 - np.abs(deltas).sum(1) / design.laplace
    return np.asarray(likelihood + priors - variance / (2 * NOISE_SCALE**2))


def _lasso(
    quadratic: FloatArray, linear: FloatArray, penalty: FloatArray, start: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """Minimise 1/2 d'Ad - b'd + penalty |d|_1 for each row, from `start`.

    Shapes (n, c, c), (n, c), (n,), (n, c). Returns the minima and whether each is proven to be one. An active
    set method: solve on the support as if signs were given; where a sign would change, stop there and drop
    that coordinate; where all hold, let in the coordinate whose gradient its penalty cannot hold, until
    there is none.
    """
    found = start.copy()
    cold = ~found.any(axis=1)
    if cold.any():
        found[cold] = _descend(quadratic[cold], linear[cold], penalty[cold], found[cold])
    signs = np.sign(found)
    proven = np.zeros(linear.shape[0], dtype=np.bool_)
    left = np.arange(linear.shape[0])
    for _ in range(_ACTIVE_SET_STEPS * linear.shape[1]):
        a, b, weight = quadratic[left], linear[left], penalty[left]
        exact = _solve_on_support(a, b, weight, signs[left])
        found[left], signs[left], whole = _advance(found[left], exact, signs[left])
        gradient = b - np.einsum("ijk,ik->ij", a, found[left])
        slack = _KKT_TOLERANCE * (np.abs(b).max(axis=1) + weight)[:, None]
        excess = np.where(signs[left] == 0, np.abs(gradient) - weight[:, None] - slack, -1.0)
        worst = excess.argmax(axis=1)
        waiting = excess[np.arange(left.size), worst] > 0
        settled = np.abs(gradient - signs[left] * weight[:, None]) <= slack
        proven[left] = whole & ~waiting & (settled | (signs[left] == 0)).all(axis=1)
        entering = np.flatnonzero(whole & waiting)
        signs[left[entering], worst[entering]] = np.sign(gradient[entering, worst[entering]])
        left = left[~(whole & ~waiting)]
        if not left.size:
            break
    return found, proven


def _descend(a: FloatArray, b: FloatArray, penalty: FloatArray, start: FloatArray) -> FloatArray:
    """Return `start` after a few sweeps of coordinate descent: most signs are right then."""
    deltas = start.copy()
    diagonal = np.maximum(np.diagonal(a, axis1=1, axis2=2), 1e-300)
    for _ in range(_SWEEPS):
        for place in range(deltas.shape[1]):
            pull = b[:, place] - np.einsum("ij,ij->i", a[:, place], deltas)
            pull += diagonal[:, place] * deltas[:, place]
            shrunk = np.sign(pull) * np.maximum(np.abs(pull) - penalty, 0.0)
            deltas[:, place] = shrunk / diagonal[:, place]
    return deltas


def _solve_on_support(a: FloatArray, b: FloatArray, penalty: FloatArray, signs: FloatArray) -> FloatArray:
    """Return the minimum of the problem in which these signs are given and zero means zero."""
    inside = signs != 0
    system = np.where(inside[:, :, None] & inside[:, None, :], a, 0.0)
    place = np.arange(signs.shape[1])
    # zero rows get a one, live ones the least ridge that keeps nearly equal hinges apart
    trace = np.trace(a, axis1=1, axis2=2)[:, None]
    system[:, place, place] += np.where(inside, 1e-14 * trace, 1.0)
    right = np.where(inside, b - penalty[:, None] * signs, 0.0)
    return np.linalg.solve(system, right[..., None])[..., 0]


def _advance(
    here: FloatArray, exact: FloatArray, signs: FloatArray
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Go from `here` towards `exact` until a sign would change, which then becomes zero.

    Returns the new point, its signs, and whether `exact` was reached.
    """
    crossing = (signs != 0) & (exact * signs < 0)
    gap = np.where(crossing, here - exact, 1.0)
    reach = np.where(crossing, here / gap, np.inf)
    first = reach.argmin(axis=1)
    rows = np.arange(here.shape[0])
    share = np.clip(reach[rows, first], 0.0, 1.0)
    whole = ~crossing.any(axis=1)
    point = here + np.where(whole, 1.0, share)[:, None] * (exact - here)
    signs = signs.copy()
    point[rows[~whole], first[~whole]] = 0.0
    signs[rows[~whole], first[~whole]] = 0.0
    return point, signs, whole
