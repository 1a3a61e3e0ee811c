"""Small bars for table cells, and the bar of a queue against what it is due."""

from __future__ import annotations

from markupsafe import Markup

from drse_operator.observe.console.charts import svg

_HEIGHT = 10.0


def bar(value: float, most: float, cls: str = "bar-fill", width: float = 64.0) -> Markup:
    """How much of ``most`` a value is. Decoration: the number stands beside it."""
    part = 0.0 if most <= 0 else min(1.0, value / most)
    return svg.drawing(
        width,
        _HEIGHT,
        svg.rectangle(0.0, 2.0, width, 6.0, "bar-base"),
        svg.rectangle(0.0, 2.0, max(1.5, part * width) if part else 0.0, 6.0, cls),
        cls="bar",
    )


def beside(drawn: Markup, text: str) -> Markup:
    """A bar with its number, which takes the same room in each row, so that bars begin below each other."""
    return Markup('{} <span class="fig">{}</span>').format(drawn, text)


def load(value: float | None, p90: float | None, capacity: float, width: float = 84.0) -> Markup:
    """Load within capacity, with a mark where the P90 of the forecast lies."""
    if value is None or capacity <= 0:
        return Markup("")
    most = max(capacity, p90 or 0.0, value)
    parts = [
        svg.rectangle(0.0, 2.0, capacity / most * width, 6.0, "bar-base"),
        svg.rectangle(0.0, 2.0, value / most * width, 6.0, "bar-fill"),
    ]
    if p90 is not None:
        parts.append(svg.rectangle(min(width - 2, p90 / most * width), 0.0, 2.0, _HEIGHT, "bar-mark"))
    return svg.drawing(width, _HEIGHT, *parts, cls="bar")


def stacked(
    parts: list[tuple[float, str, str]], most: float, width: float = 220.0, height: float = 12.0
) -> Markup:
    """Values one after the other: (value, class, tooltip)."""
    drawn, x = [], 0.0
    for value, cls, title in parts:
        wide = 0.0 if most <= 0 else value / most * width
        if wide > 0:
            drawn.append(svg.rectangle(x, 0.0, max(1.0, wide - 1.0), height, cls, title))
            x += wide
    return svg.drawing(width, height, *drawn, cls="stacked")
