"""Recorded load series from CSV files, on a regular grid.

A file has a header, a column of times (`ts`, ISO 8601 without a zone read as UTC, or unix seconds) and
columns of numbers; `.gz` is read as such. Rows with a column `suspect` that is not 0 count as missing. Bins
finer than the grid are averaged; a file whose own bins are coarser than the grid keeps them, since what lies
between two of its values was never measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from drse_forecaster.series import FloatArray


class SeriesError(Exception):
    """The file cannot be used; the message says what to change."""


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """One column on a grid."""

    name: str  #: file name without endings, and the column
    first: int  #: grid index (unix seconds / step) of the first value
    step_seconds: int
    values: FloatArray  #: shape (n,), NaN where missing

    @property
    def times(self) -> FloatArray:
        """Unix seconds, shape (n,)."""
        return np.asarray((self.first + np.arange(self.values.size, dtype=np.float64)) * self.step_seconds)


def read(path: Path, column: str | None, step_seconds: int) -> Recorded:
    """Read one column, the first with numbers by default. Raises SeriesError."""
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise SeriesError(f"{path} cannot be read as CSV: {error}.") from error
    times = _times(frame, path)
    chosen = _column(frame, column, path)
    values = pd.to_numeric(frame[chosen], errors="coerce").to_numpy(dtype=np.float64)
    if "suspect" in frame and chosen != "suspect":
        values = np.where(frame["suspect"].to_numpy() == 0, values, np.nan)
    values = np.where(np.isfinite(values) & (values >= 0), values, np.nan)
    if not np.isfinite(values).any():
        raise SeriesError(f"Column {chosen} of {path} holds no usable number (0 or more).")
    own = float(np.median(np.diff(times))) if times.size > 1 else float(step_seconds)
    step = max(round(own / 60) * 60, step_seconds)
    name = f"{path.name.split('.')[0]}:{chosen}"
    return _on_grid(name, times, values, int(step))


def _times(frame: pd.DataFrame, path: Path) -> FloatArray:
    if not len(frame.columns):
        raise SeriesError(f"{path} has no columns.")
    column = frame["ts"] if "ts" in frame else frame.iloc[:, 0]
    if pd.api.types.is_numeric_dtype(column):
        times = column.to_numpy(dtype=np.float64)
    else:
        parsed = pd.to_datetime(column, utc=True, errors="coerce", format="ISO8601")
        if parsed.isna().any():
            raise SeriesError(f"{column.name} of {path} is not a time; write ISO 8601 or unix seconds.")
        times = parsed.astype("datetime64[ns, UTC]").astype("int64").to_numpy(dtype=np.float64) / 1e9
    if times.size < 2 or (np.diff(times) <= 0).any():
        raise SeriesError(f"The times of {path} must rise, and there must be two or more.")
    return np.asarray(times)


def _column(frame: pd.DataFrame, column: str | None, path: Path) -> str:
    numeric = [str(one) for one in frame.columns if str(one) not in ("ts", "t_s", "suspect")]
    numeric = [one for one in numeric if pd.api.types.is_numeric_dtype(frame[one])]
    if column is not None:
        if column not in frame.columns:
            raise SeriesError(f"{path} has no column {column}; it has {', '.join(map(str, frame.columns))}.")
        return column
    if not numeric:
        raise SeriesError(f"{path} has no column of numbers beside its times.")
    return numeric[0]


def _on_grid(name: str, times: FloatArray, values: FloatArray, step: int) -> Recorded:
    index = np.floor(times / step).astype(np.int64)
    first = int(index[0])
    place = index - first
    known = np.isfinite(values)
    size = int(place[-1]) + 1
    total = np.bincount(place[known], weights=values[known], minlength=size)
    count = np.bincount(place[known], minlength=size)
    means = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    begin, end = np.flatnonzero(count > 0)[[0, -1]]
    return Recorded(name, first + int(begin), step, means[begin : end + 1])
