"""Spans of time below each other, placed in percent of the drawing's width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from markupsafe import Markup

from drse_operator.observe.console.charts import svg
from drse_operator.observe.console.charts.lines import Tick, axis
from drse_operator.observe.console.words import clock

ROW = 26.0
_STEPS = (60, 300, 600, 1800, 3600, 2 * 3600, 4 * 3600, 6 * 3600, 12 * 3600, 86_400, 2 * 86_400, 7 * 86_400)


class Slot(Enum):
    """Where in its lane a bar lies: top and height."""

    WHOLE = (6.0, 14.0)
    UPPER = (5.0, 7.0)
    LOWER = (14.0, 7.0)


@dataclass(frozen=True, slots=True)
class Bar:
    """A span in seconds since the epoch; without an end it goes on beyond the drawing."""

    start: float
    end: float | None
    cls: str
    title: str
    slot: Slot = Slot.WHOLE


@dataclass(frozen=True, slots=True)
class Lane:
    """One line of the drawing."""

    name: str
    bars: tuple[Bar, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Gantt:
    """Lanes with their drawings, and the axis below them."""

    lanes: tuple[tuple[Lane, Markup], ...]
    axis: Markup


def gantt(lanes: Sequence[Lane], now: float, first: float | None = None, last: float | None = None) -> Gantt:
    """The drawing from the first start to the last end, with a mark at ``now``."""
    starts = [bar.start for lane in lanes for bar in lane.bars]
    ends = [bar.end for lane in lanes for bar in lane.bars if bar.end is not None]
    begin = min([*starts, now]) if first is None else first
    finish = max([*ends, *starts, now]) if last is None else last
    finish += (finish - begin) * 0.04 + 1
    drawn = tuple((lane, _lane(lane, begin, finish, now)) for lane in lanes)
    return Gantt(drawn, axis(_ticks(begin, finish)))


def _lane(lane: Lane, begin: float, finish: float, now: float) -> Markup:
    parts = [svg.element("line", x1="0", x2="100%", y1=ROW - 0.5, y2=ROW - 0.5, cls="rule")]
    for bar in lane.bars:
        x = _percent(bar.start, begin, finish)
        wide = max(0.4, _percent(finish if bar.end is None else bar.end, begin, finish) - x)
        tip = svg.element("title", bar.title)
        parts.append(
            svg.element(
                "rect",
                tip,
                x=f"{svg.number(x)}%",
                width=f"{svg.number(wide)}%",
                y=bar.slot.value[0],
                height=bar.slot.value[1],
                cls=bar.cls,
            )
        )
    here = f"{svg.number(_percent(now, begin, finish))}%"
    parts.append(svg.element("line", x1=here, x2=here, y1=0.0, y2=ROW, cls="line-now"))
    label = f"{lane.name}: " + ", ".join(bar.title for bar in lane.bars)
    return svg.element(
        "svg", *parts, cls="lane", width="100%", height=ROW, role="img", aria_label=label, focusable="false"
    )


def _percent(at: float, begin: float, finish: float) -> float:
    return min(100.0, max(0.0, (at - begin) / (finish - begin) * 100))


def _ticks(begin: float, finish: float) -> list[Tick]:
    length = finish - begin
    step = next((s for s in _STEPS if length / s <= 7), _STEPS[-1])
    first = begin // step * step + step
    today = datetime.fromtimestamp(begin, UTC)
    moments = [first + step * i for i in range(int((finish - first) // step) + 1)]
    return [
        Tick(clock(datetime.fromtimestamp(at, UTC), today), _percent(at, begin, finish)) for at in moments
    ]
