"""Charts over time: areas on top of each other, and the fan of a forecast.

Shapes stretch with the page, so text stands beside them as HTML: a chart comes with its labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup

from drse_operator.observe.console.charts import svg
from drse_operator.observe.console.look import Series
from drse_operator.observe.console.words import amount
from drse_operator.observe.views.forecast import ForecastRow

WIDTH, HEIGHT = 960.0, 180.0


@dataclass(frozen=True, slots=True)
class Tick:
    """A label on an axis; ``at`` is its place in percent."""

    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with what is written around it."""

    drawing: Markup
    left: tuple[str, ...]
    below: Markup
    legend: tuple[tuple[str, str], ...] = ()


def day(series: Series) -> Chart | None:
    """GPUs used, held and free as areas on top of each other, and GPUs waited for as a line; None without
    history. Used is part of held, and that of all: each area hides the lower part of the one before."""
    if not series.times or "Held" not in series.lines:
        return None
    top = nice(max((v for line in series.lines.values() for v in line if not math.isnan(v)), default=1.0))
    frame = _Frame(series.times[0], series.times[-1], top)
    parts = list(frame.rules())
    for name, cls in (("All", "area-free"), ("Held", "area-held"), ("Used", "area-used")):
        if name in series.lines:
            parts.append(frame.area(series.times, series.lines[name], cls))
    for name, cls in (("All", "line-all"), ("Waiting", "line-waiting")):
        if name in series.lines:
            parts.append(frame.line(series.times, series.lines[name], cls))
    legend = (
        ("area-used", "held and used"),
        ("area-held", "held, not used"),
        ("area-free", "not held"),
        ("line-waiting", "waited for"),
    )
    label = "GPUs held, used and waited for over the last day"
    drawn = svg.drawing(WIDTH, HEIGHT, *parts, cls="chart", label=label, stretch=True)
    return Chart(drawn, frame.left(), frame.hours(), legend)


def spark(series: Series, width: float = 96.0, height: float = 16.0) -> Markup:
    """How a figure went, from its lowest to its highest. Decoration: the figure stands beside it."""
    values = next(iter(series.lines.values()), ())
    known = [value for value in values if not math.isnan(value)]
    if len(known) < 2:
        return Markup("")
    low, span = min(known), max(known) - min(known)
    step = width / (len(values) - 1)
    points = [
        None
        if math.isnan(value)
        else (i * step, height - 2 - ((value - low) / span if span else 0.0) * (height - 4))
        for i, value in enumerate(values)
    ]
    return svg.drawing(width, height, svg.path(points, "spark-line"), cls="spark")


def fan(row: ForecastRow, past: Series | None, now: float) -> Chart | None:
    """Load so far, P50 and P90 ahead, a mark at now, and the step of what the job holds and wants."""
    origin = row.as_of.timestamp() if row.as_of is not None else now
    ahead = [(origin + 60 * p.minutes, p.p50, p.p90) for p in row.points]
    line = past.lines.get("Load", ()) if past is not None else ()
    seen = [
        (t, v) for t, v in zip(past.times if past is not None else (), line, strict=True) if not math.isnan(v)
    ]
    if not ahead and len(seen) < 2:
        return None
    first = seen[0][0] if seen else now - 600
    last = max(ahead[-1][0] if ahead else now, now + 600)
    wanted = row.wanted_gpus if row.wanted_gpus is not None else row.capacity_gpus
    values = [v for _, v in seen] + [p90 for _, _, p90 in ahead] + [row.capacity_gpus, wanted]
    frame = _Frame(first, last, nice(1.05 * max([*values, 1.0])))
    parts = list(frame.rules())
    if ahead:
        start = (origin, row.load or ahead[0][1], row.load or ahead[0][1])
        parts += frame.fan([start, *ahead])
    parts.append(frame.line([t for t, _ in seen], [v for _, v in seen], "line-load"))
    parts.append(
        frame.line(
            [first, now, now, last], [row.capacity_gpus, row.capacity_gpus, wanted, wanted], "line-capacity"
        )
    )
    x = frame.x(now)
    parts.append(svg.element("line", x1=x, x2=x, y1=0.0, y2=HEIGHT, cls="line-now"))
    legend = (
        ("line-load", "load"),
        ("line-p50", "P50"),
        ("area-p90", "P90"),
        ("line-capacity", "GPUs held, then wanted"),
    )
    label = f"Load of {row.namespace}/{row.job} and its forecast, in GPU-equivalents"
    drawn = svg.drawing(WIDTH, HEIGHT, *parts, cls="chart", label=label, stretch=True)
    return Chart(drawn, frame.left(), frame.around(now), legend)


def nice(value: float) -> float:
    """The next round number, for the top of an axis."""
    if value <= 1:
        return 1.0
    base = 10 ** math.floor(math.log10(value))
    return float(
        next(step * base for step in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if value <= step * base * 1.001)
    )


def axis(ticks: Iterable[Tick], cls: str = "axis many") -> Markup:
    """Labels below a drawing that stretches: placed in percent, so that the letters keep their form.

    Of ``many`` every other one is left out where there is little room.
    """
    words = [
        svg.element(
            "text",
            tick.text,
            x=f"{svg.number(tick.at)}%",
            y=12.0,
            text_anchor="start" if tick.at < 3 else "end" if tick.at > 97 else "middle",
        )
        for tick in ticks
    ]
    return svg.element("svg", *words, cls=cls, width="100%", height=16.0, aria_hidden="true")


class _Frame:
    """Turns times and values into places."""

    def __init__(self, first: float, last: float, top: float) -> None:
        self._first, self._last, self._top = first, max(last, first + 1), top

    def x(self, at: float) -> float:
        return (at - self._first) / (self._last - self._first) * WIDTH

    def y(self, value: float) -> float:
        return HEIGHT - 2 - min(1.0, max(0.0, value / self._top)) * (HEIGHT - 6)

    def line(self, times: Sequence[float], values: Sequence[float], cls: str) -> Markup:
        points = [
            None if math.isnan(v) else (self.x(t), self.y(v)) for t, v in zip(times, values, strict=True)
        ]
        return svg.path(points, cls)

    def area(self, times: Sequence[float], values: Sequence[float], cls: str) -> Markup:
        """Down to the axis; gaps stay open."""
        shapes: list[Markup] = []
        run: list[tuple[float, float]] = []
        for t, v in [*zip(times, values, strict=True), (0.0, math.nan)]:
            if not math.isnan(v):
                run.append((self.x(t), self.y(v)))
            elif run:
                base = HEIGHT - 2
                shapes.append(svg.path([(run[0][0], base), *run, (run[-1][0], base)], cls, closed=True))
                run = []
        return Markup("").join(shapes)

    def fan(self, ahead: Sequence[tuple[float, float, float]]) -> list[Markup]:
        upper = [(self.x(t), self.y(p90)) for t, _, p90 in ahead]
        lower = [(self.x(t), self.y(p50)) for t, p50, _ in ahead]
        return [svg.path([*upper, *reversed(lower)], "area-p90", closed=True), svg.path(lower, "line-p50")]

    def rules(self) -> list[Markup]:
        return [
            svg.element(
                "line", x1=0.0, x2=WIDTH, y1=self.y(self._top * part), y2=self.y(self._top * part), cls="rule"
            )
            for part in (0, 0.5, 1)
        ]

    def left(self) -> tuple[str, ...]:
        """Labels of the upright axis, top first."""
        return tuple(amount(self._top * part) for part in (1, 0.5, 0))

    def hours(self) -> Markup:
        step = 4 * 3600
        first = self._first // step * step + step
        moments = [first + step * i for i in range(int((self._last - first) // step) + 1)]
        return axis(
            Tick(f"{datetime.fromtimestamp(at, UTC):%H:%M}", self.x(at) / WIDTH * 100) for at in moments
        )

    def around(self, now: float) -> Markup:
        here = self.x(now) / WIDTH * 100
        ticks = [Tick("now", here)]
        if here > 14:
            ticks.insert(0, Tick(f"{round((now - self._first) / 60)} min ago", 0))
        if here < 90:
            ticks.append(Tick(f"+{round((self._last - now) / 60)} min", 100))
        return axis(ticks, "axis")
