"""Elements of SVG: attributes are escaped, numbers short, and nothing is styled but by classes."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape


def number(value: float) -> str:
    """A coordinate with at most two digits after the point."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def element(name: str, *children: Markup | str, **attributes: object) -> Markup:
    """An element. Underscores in attribute names are hyphens; ``cls`` is ``class``; None leaves one out."""
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None:
            continue
        text = number(value) if isinstance(value, float) else str(value)
        parts.append(f' {"class" if key == "cls" else key.replace("_", "-")}="{escape(text)}"')
    inside = "".join(str(escape(child)) for child in children)
    parts.append(f">{inside}</{name}>" if inside else "/>")
    return Markup("".join(parts))


def drawing(
    width: float, height: float, *children: Markup, cls: str, label: str = "", stretch: bool = False
) -> Markup:
    """A whole drawing. Without a label it is decoration, and what it says stands beside it.

    A ``stretch``-ed one takes the width that there is; lines keep their strength, text would be distorted.
    """
    named: dict[str, object] = {"role": "img", "aria_label": label} if label else {"aria_hidden": "true"}
    box = f"0 0 {number(width)} {number(height)}"
    size: dict[str, object] = {"width": width, "height": height}
    if stretch:
        size |= {"width": "100%", "preserveAspectRatio": "none"}
    return element("svg", *children, viewBox=box, cls=cls, focusable="false", **size, **named)


def rectangle(x: float, y: float, width: float, height: float, cls: str, title: str = "") -> Markup:
    """A rectangle, with a tooltip."""
    tip = (element("title", title),) if title else ()
    return element("rect", *tip, x=x, y=y, width=max(0.0, width), height=height, cls=cls)


def path(points: Iterable[tuple[float, float] | None], cls: str, closed: bool = False) -> Markup:
    """A line through points; None breaks it."""
    drawn, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        drawn.append(f"{pen}{number(point[0])} {number(point[1])}")
        pen = "L"
    return element("path", d="".join(drawn) + ("Z" if closed and drawn else ""), cls=cls)
