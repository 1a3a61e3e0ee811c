"""The batched solver as a backend of Prophet itself.

`Prophet.stan_backend` is the object that turns prepared data into parameters. `MapBackend` does so with
`posterior.maximise` where its mathematics apply (linear trend, additive terms, MAP) and hands everything
else, and whatever it cannot prove to be a maximum, to Prophet's own Stan backend. Which one spoke is in
`solved_by`.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum
from typing import Any

import numpy as np
from prophet.models import CmdStanPyBackend, IStanBackend

from drse_forecaster import posterior
from drse_forecaster.series import FloatArray

_LINEAR = 0  # Prophet's TrendIndicator


class Solver(StrEnum):
    """Who found the parameters of a fit."""

    BATCHED = "batched"
    STAN = "stan"


class MapBackend(IStanBackend):  # type: ignore[misc]  # Prophet is not typed for us
    """Fits by `posterior.maximise`, by Stan where that does not apply."""

    def __init__(self, fallback: IStanBackend | None = None) -> None:
        super().__init__()
        self._fallback = fallback
        self.solved_by: Solver | None = None

    @staticmethod
    def get_type() -> str:
        return "DRSE_MAP"

    def load_model(self) -> None:
        """Load nothing: Stan's model is only needed by the fallback."""

    def fit(
        self, stan_init: dict[str, Any], stan_data: dict[str, Any], **kwargs: Any
    ) -> OrderedDict[str, FloatArray]:
        """Return k, m, delta, beta, sigma_obs, each of shape (1, n), as Prophet's own backend does."""
        if int(stan_data["trend_indicator"]) == _LINEAR and not np.any(np.asarray(stan_data["s_m"])):
            fit = _maximise_one(stan_data)
            if bool(fit.converged[0] & ~fit.noiseless[0]) and bool(np.isfinite(fit.log_posterior[0])):
                self.solved_by = Solver.BATCHED
                return _parameters(fit)
        self.solved_by = Solver.STAN
        found: OrderedDict[str, FloatArray] = self._stan().fit(stan_init, stan_data, **kwargs)
        return found

    def sampling(
        self, stan_init: dict[str, Any], stan_data: dict[str, Any], samples: int, **kwargs: Any
    ) -> Any:
        """Sample with Stan: full posteriors are not this solver's business."""
        self.solved_by = Solver.STAN
        return self._stan().sampling(stan_init, stan_data, samples, **kwargs)

    def cleanup(self) -> None:
        """Remove what Stan left behind."""
        if self._fallback is not None:
            self._fallback.cleanup()

    def _stan(self) -> IStanBackend:
        if self._fallback is None:
            self._fallback = CmdStanPyBackend()
        return self._fallback


def _maximise_one(data: dict[str, Any]) -> posterior.Fit:
    t, y = np.asarray(data["t"], dtype=np.float64), np.asarray(data["y"], dtype=np.float64)
    gaussian = np.column_stack([t, np.ones_like(t), np.asarray(data["X"], dtype=np.float64)])
    hinges = np.maximum(t[:, None] - np.asarray(data["t_change"], dtype=np.float64)[None, :], 0.0)
    trend = [posterior.TREND_SCALE, posterior.TREND_SCALE]
    design = posterior.Design(
        gg=(gaussian.T @ gaussian)[None],
        gd=(gaussian.T @ hinges)[None],
        dd=(hinges.T @ hinges)[None],
        scales=np.concatenate([trend, np.asarray(data["sigmas"], dtype=np.float64)]),
        laplace=float(data["tau"]),
        samples=np.array([float(t.size)]),
    )
    targets = posterior.Targets((y @ gaussian)[None], (y @ hinges)[None], np.array([y @ y]))
    return posterior.maximise(design, targets)


def _parameters(fit: posterior.Fit) -> OrderedDict[str, FloatArray]:
    return OrderedDict(
        k=fit.gaussian[:, :1],
        m=fit.gaussian[:, 1:2],
        delta=fit.deltas,
        sigma_obs=fit.sigma[:, None],
        beta=fit.gaussian[:, 2:],
    )
