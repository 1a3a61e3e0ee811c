"""Recorded load series, as a function of time.

A series is a CSV file (gzip or plain) with a column `ts` (start of the bin, ISO 8601, UTC when no zone is
given) and value columns. A count over a bin says what happened on average at the bin's middle, so values are
placed there and joined by straight lines; empty bins are bridged. Beyond its ends the series repeats.
"""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drse_local.errors import LocalClusterError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RecordedSeries:
    """times: seconds since the epoch, ascending, middle of each bin; values: same shape, finite; period:
    seconds.
    """

    times: FloatArray
    values: FloatArray
    period: float

    def at(self, when: FloatArray) -> FloatArray:
        """Values at recorded instants (seconds since the epoch), any shape; periodic."""
        return np.interp(when, self.times, self.values, period=self.period)

    @cached_property
    def peak(self) -> float:
        """The largest value."""
        return float(self.values.max())


def read_series(path: Path, column: str) -> RecordedSeries:
    """Read one column of a series file. Raises LocalClusterError when file or column is not usable."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LocalClusterError(f"The load series {path} cannot be read: {error}.") from error
    rows = list(csv.DictReader(io.StringIO(text)))
    if len(rows) < 2 or "ts" not in rows[0] or column not in rows[0]:
        columns = ", ".join(rows[0]) if rows else "none"
        raise LocalClusterError(
            f"The load series {path} needs two rows and columns ts and {column}; its columns: {columns}."
        )
    starts = np.array([_epoch(row["ts"]) for row in rows])
    values = np.array([float(row[column]) if row[column] else np.nan for row in rows])
    if not np.isfinite(values).any():
        raise LocalClusterError(f"Column {column} of {path} has no values.")
    step = float(np.median(np.diff(starts)))
    known = np.isfinite(values)
    return RecordedSeries(starts[known] + step / 2, values[known], float(starts[-1] - starts[0]) + step)


def _epoch(text: str) -> float:
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def series_path(file: str, beside: Path) -> Path:
    """A series file by path (relative to `beside`), or one that ships with DRSE by its name."""
    path = beside / file
    if path.is_file():
        return path.resolve()
    shipped = Path(str(resources.files("drse_local"))) / "series" / file
    if shipped.is_file():
        return shipped
    names = ", ".join(sorted(each.name for each in shipped.parent.glob("*.csv.gz")))
    raise LocalClusterError(f"There is no load series {file}; give a path, or one of: {names}.")
