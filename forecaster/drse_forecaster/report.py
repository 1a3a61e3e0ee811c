"""A backtest as JSON and as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from drse_forecaster.backtest import Rolled, Scores
from drse_forecaster.recorded import Recorded


class BacktestReport(BaseModel):
    """What `drse-forecaster backtest` prints. Ratios are to the last value; null where it makes no error."""

    model_config = ConfigDict(frozen=True)

    series: str
    points: int
    origins: int
    step_seconds: int
    horizon_seconds: int
    mae: float
    mae_last_value: float
    mae_ratio: float | None
    p90_coverage: float
    p90_coverage_by_week: tuple[float, ...]
    pinball_p90_ratio: float | None
    under_capacity_share: float
    model_share: dict[str, float]
    seconds: float

    @classmethod
    def of(cls, recorded: Recorded, horizon_seconds: int, scores: Scores, seconds: float) -> BacktestReport:
        return cls(
            series=recorded.name,
            points=int(np.isfinite(recorded.values).sum()),
            origins=scores.origins,
            step_seconds=recorded.step_seconds,
            horizon_seconds=horizon_seconds,
            mae=scores.mae,
            mae_last_value=scores.mae_last_value,
            mae_ratio=scores.mae_ratio,
            p90_coverage=scores.p90_coverage,
            p90_coverage_by_week=scores.p90_coverage_by_week,
            pinball_p90_ratio=scores.pinball_p90_ratio,
            under_capacity_share=scores.under_capacity_share,
            model_share=scores.model_share,
            seconds=seconds,
        )

    def sentences(self) -> str:
        """Return the report for people."""
        ratio = "unknown" if self.mae_ratio is None else f"{self.mae_ratio:.3f}"
        pinball = "unknown" if self.pinball_p90_ratio is None else f"{self.pinball_p90_ratio:.3f}"
        shares = ", ".join(f"{name} {share:.0%}" for name, share in self.model_share.items())
        return "\n".join(
            [
                f"{self.series}: {self.points} points, "
                f"{self.origins} forecasts {self.horizon_seconds} s ahead",
                f"  error relative to the last value     {ratio}",
                f"  P90 loss relative to the last value  {pinball}",
                f"  loads within the P90                 {self.p90_coverage:.1%}",
                f"  loads above P90 / 0.8                {self.under_capacity_share:.1%}",
                f"  who spoke                            {shares}",
            ]
        )


def plot(path: Path, recorded: Recorded, rolled: Rolled, steps: int, days: float = 3.0) -> None:
    """Draw the newest days: forecast band, made `steps` grid steps before, against what came."""
    import matplotlib

    matplotlib.use("Agg")  # no display needed
    import matplotlib.pyplot as plt

    newest = round(days * 86400 / recorded.step_seconds)
    times = recorded.times[-newest:].astype("datetime64[s]")
    unknown = np.full(steps, np.nan)
    ahead = [np.append(unknown, one[0][:-steps])[-newest:] for one in (rolled.p50, rolled.p90)]
    figure, axes = plt.subplots(figsize=(12, 4.5), layout="constrained")
    axes.fill_between(times, ahead[0], ahead[1], color="tab:orange", alpha=0.25, label="P50 to P90, before")
    axes.plot(times, ahead[0], color="tab:orange", linewidth=1, label="P50, before")
    axes.plot(times, recorded.values[-newest:], color="black", linewidth=1, label="load")
    axes.set_title(f"{recorded.name}, {steps * recorded.step_seconds // 60} minutes ahead")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=110)
    plt.close(figure)
