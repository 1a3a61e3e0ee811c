"""Load, forecast and GPUs held of one service over time, in character cells.

Left of the middle lies the past (measured load), right of it the future (P50 and P90). The marks differ in
shape and not only in colour, so the chart reads the same without colours.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from drse_local.demo.scene import Service

PAST_SECONDS: Final = 600.0
FUTURE_SECONDS: Final = 600.0
_LABEL_WIDTH = 5
_HEADROOM = 1.08
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_LOAD, _P50, _P90, _HELD, _GROW = "cyan", "blue", "bright_blue", "green", "yellow"


@dataclass(frozen=True, slots=True)
class _Column:
    """What one column shows, GPU-equivalents; None: nothing known for its time."""

    load: float | None
    p50: float | None
    p90: float | None
    held: float
    grow: float

    @property
    def top(self) -> float:
        return max(value or 0.0 for value in (self.load, self.p90, self.held))


def chart(service: Service, now: float, width: int, rows: int) -> Text:
    """Draw it `width` cells wide: `rows` rows, a time axis and a legend. `now`: seconds since the epoch."""
    columns = _columns(service, now, max(20, width - _LABEL_WIDTH - 1))
    # Whole or half GPUs a row, so that the labels are round numbers.
    per_row = math.ceil(2 * _HEADROOM * max([1.0, *(column.top for column in columns)]) / rows) / 2
    drawn = Text(no_wrap=True, overflow="crop")
    for row in reversed(range(rows)):
        label = f"{per_row * row:.0f}" if row % 2 == 0 else ""
        drawn.append(f"{label:>{_LABEL_WIDTH}} ", "dim")
        for column in columns:
            drawn.append(*_cell(column, row, 1 / per_row))
        drawn.append("\n")
    drawn.append_text(_axis(len(columns)))
    drawn.append("\n")
    drawn.append_text(_legend())
    return drawn


def _columns(service: Service, now: float, count: int) -> list[_Column]:
    step = (PAST_SECONDS + FUTURE_SECONDS) / count
    load_times = [sample.at for sample in service.loads]
    load_values = [sample.load for sample in service.loads]
    times, p50s, p90s = _forecast_path(service)
    up_at = service.job.spec.scaling.scale_up_at
    columns = []
    for index in range(count):
        at = now - PAST_SECONDS + (index + 0.5) * step
        held = _held(service, at)
        past = at <= now
        columns.append(
            _Column(
                _between(load_times, load_values, at) if past else None,
                None if past else _between(times, p50s, at),
                None if past else _between(times, p90s, at),
                held,
                up_at * held,
            )
        )
    return columns


def _forecast_path(service: Service) -> tuple[list[float], list[float], list[float]]:
    forecast = service.forecast
    if forecast is None or not forecast.ready or forecast.as_of is None or forecast.load is None:
        return [], [], []
    start = forecast.as_of.timestamp()
    return (
        [start, *(start + 60 * point.minutes for point in forecast.points)],
        [forecast.load, *(point.p50 for point in forecast.points)],
        [forecast.load, *(point.p90 for point in forecast.points)],
    )


def _held(service: Service, at: float) -> float:
    held = 0
    for step in service.capacity:
        if step.at > at:
            break
        held = step.gpus
    return float(held)


def _between(times: Sequence[float], values: Sequence[float], at: float) -> float | None:
    """Linear between known points; nothing before the first, the last value for a minute after the last."""
    place = bisect_right(times, at)
    if place == 0 or (place == len(times) and at > times[-1] + 60):
        return None
    if place == len(times):
        return values[-1]
    before, after = times[place - 1], times[place]
    return values[place - 1] + (values[place] - values[place - 1]) * (at - before) / (after - before)


def _cell(column: _Column, row: int, scale: float) -> tuple[str, str]:
    """The mark and colour of one cell; `scale`: rows per GPU."""
    if column.held > 0:
        if int(column.held * scale) == row:
            return "━", _HELD
        if int(column.grow * scale) == row:
            return "┄", _GROW
    if column.load is not None:
        return _EIGHTHS[max(0, min(8, round(8 * (column.load * scale - row))))], _LOAD
    if column.p50 is not None and column.p50 * scale > row + 0.5:
        return "▒", _P50
    if column.p90 is not None and column.p90 * scale > row + 0.5:
        return "░", _P90
    return " ", ""


def _axis(width: int) -> Text:
    middle = int(width * PAST_SECONDS / (PAST_SECONDS + FUTURE_SECONDS))
    left, right = "10 min ago", "in 10 min"
    text = left.ljust(middle - 1) + "now"
    return Text(" " * (_LABEL_WIDTH + 1) + text + right.rjust(width - len(text)), "dim")


def _legend() -> Text:
    legend = Text(" " * (_LABEL_WIDTH + 1))
    marks = (
        ("█", _LOAD, "load"),
        ("▒", _P50, "forecast P50"),
        ("░", _P90, "P90"),
        ("━", _HELD, "GPUs held"),
        ("┄", _GROW, "grows above"),
    )
    for mark, colour, meaning in marks:
        legend.append(f"{mark} ", colour).append(f"{meaning}   ", "dim")
    return legend
