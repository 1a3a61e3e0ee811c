"""The share waterfall: queues below each other, each bar beginning where the last one ended.

From left to right all GPUs of the cluster. A queue's bar is what it holds: solid as far as that is
guaranteed, striped where it is borrowed. What a queue is guaranteed and does not use is lent: an outline
beside its bar, which is where others' stripes come from. A tick shows the fair share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from drse_operator.observe.console.charts import svg
from drse_operator.observe.views.share import ShareRow

ROW = 28.0
_BAR = 14.0
WIDTH = 640.0


def waterfall(rows: Sequence[ShareRow], free: int, colours: Mapping[str, int]) -> Markup:
    """One line for each queue, and the ``free`` GPUs last."""
    held = sum(row.held_gpus for row in rows)
    scale = WIDTH / max(1, held + free)
    parts: list[Markup] = []
    x = 0.0
    for i, row in enumerate(rows):
        y = i * ROW + (ROW - _BAR) / 2
        parts.append(svg.element("line", x1=0.0, x2=WIDTH, y1=(i + 1) * ROW, y2=(i + 1) * ROW, cls="rule"))
        parts += _bar(row, x, y, scale, colours.get(row.queue, 0))
        end = x + row.held_gpus * scale
        if row.held_gpus and i + 1 < len(rows):
            parts.append(svg.element("line", x1=end, x2=end, y1=y + _BAR, y2=y + ROW, cls="drop"))
        x = end
    y = len(rows) * ROW + (ROW - _BAR) / 2
    parts.append(svg.rectangle(x, y, free * scale, _BAR, "free", f"{free} GPUs free"))
    label = "; ".join(f"{r.queue} holds {r.held_gpus} of {r.guaranteed_gpus} guaranteed" for r in rows)
    return svg.drawing(WIDTH, (len(rows) + 1) * ROW, *parts, cls="waterfall", label=label, stretch=True)


def _bar(row: ShareRow, x: float, y: float, scale: float, colour: int) -> list[Markup]:
    own = min(row.held_gpus, row.guaranteed_gpus)
    lent = row.guaranteed_gpus - own
    parts = []
    if own:
        parts.append(svg.rectangle(x, y, own * scale, _BAR, f"fill-{colour}", f"{own} GPUs, guaranteed"))
    if row.borrowed_gpus:
        at, wide = x + own * scale, row.borrowed_gpus * scale
        tip = f"{row.borrowed_gpus} GPUs beyond the guarantee"
        parts.append(svg.rectangle(at, y, wide, _BAR, f"tint-{colour}", tip))
        parts += _stripes(at, y, wide, f"line-{colour}")
    if lent:
        at = x + row.held_gpus * scale
        wide = min(lent * scale, WIDTH - at)
        tip = f"{lent} GPUs guaranteed and not used: lent to others"
        parts.append(svg.rectangle(at + 1, y + 1, wide - 2, _BAR - 2, f"lent line-{colour}", tip))
    if row.fair_gpus is not None:
        at = min(WIDTH - 1, x + row.fair_gpus * scale)
        parts.append(svg.element("line", x1=at, x2=at, y1=y - 4, y2=y + _BAR + 4, cls="fair"))
    return parts


def _stripes(x: float, y: float, width: float, cls: str) -> list[Markup]:
    """Upright lines every few units."""
    points: list[tuple[float, float] | None] = []
    at = x + 3
    while at < x + width:
        points += [(at, y), (at, y + _BAR), None]
        at += 6
    return [svg.path(points, cls)]
