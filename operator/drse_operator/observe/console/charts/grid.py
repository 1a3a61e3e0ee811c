"""All GPUs by rack, node and device: one small square each.

The colour says what is asked: who holds it (by queue), in which state it is, or how busy it is. Squares link
to the job, for the mouse; the table below the grid says the same for everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup, escape

from drse_operator.observe.console.address import job_path
from drse_operator.observe.console.charts import svg
from drse_operator.observe.console.words import model_of, percent
from drse_operator.observe.views.gpus import GpuRow, GpuState
from drse_operator.observe.views.nodes import NodeRow

CELL, GAP = 15.0, 2.0
STEP = CELL + GAP


@dataclass(frozen=True, slots=True)
class Square:
    """A GPU's square; between the two halves stands what a request says of it."""

    gpu: GpuRow
    head: str
    tail: str


@dataclass(frozen=True, slots=True)
class NodeStrip:
    """The squares of one node."""

    node: NodeRow
    drawing: Markup


@dataclass(frozen=True, slots=True)
class Rack:
    """Nodes of one rack."""

    zone: str
    name: str
    nodes: tuple[NodeStrip, ...]


Squares = Mapping[tuple[str, str], Sequence[Square]]


def squares(gpus: Iterable[GpuRow], shade: Callable[[GpuRow], str]) -> Squares:
    """The squares of all GPUs by node and product. ``shade`` gives a GPU's class."""
    found: dict[tuple[str, str], list[Square]] = {}
    for gpu in gpus:
        strip = found.setdefault((gpu.node, gpu.product), [])
        for _ in range(gpu.count):
            strip.append(_square(gpu, len(strip) * STEP, shade(gpu)))
    return found


def racks(nodes: Sequence[NodeRow], drawn: Squares, lit: Callable[[GpuRow], bool] | None) -> tuple[Rack, ...]:
    """The grid. GPUs that are not ``lit`` step back; None lights all."""
    ordered = sorted(nodes, key=lambda n: (n.zone or "", n.rack or ""))
    found = []
    for (zone, rack), members in groupby(ordered, key=lambda n: (n.zone or "", n.rack or "")):
        strips = [NodeStrip(node, _strip(drawn.get((node.node, node.product), ()), lit)) for node in members]
        found.append(Rack(zone, rack, tuple(strips)))
    return tuple(found)


def _strip(strip: Sequence[Square], lit: Callable[[GpuRow], bool] | None) -> Markup:
    parts = [
        square.head + ("" if lit is None or lit(square.gpu) else " dim") + square.tail for square in strip
    ]
    width = max(STEP, len(strip) * STEP) - GAP
    return svg.drawing(width, CELL, Markup("".join(parts)), cls="squares")


def _square(gpu: GpuRow, x: float, cls: str) -> Square:
    """Written out in one go: there are thousands on a page."""
    side = CELL - 1
    head = f'<rect x="{x + 0.5:g}" y="0.5" width="{side:g}" height="{side:g}" class="gpu {cls}'
    tail = f'"><title>{escape(_tip(gpu))}</title></rect>'
    if gpu.state is GpuState.OUT_OF_SERVICE:
        left, right, far = f"{x + 3:g}", f"{x + CELL - 3:g}", f"{CELL - 3:g}"
        tail += f'<path d="M{left} 3L{right} {far}M{right} 3L{left} {far}" class="cross"/>'
    if gpu.job is None:
        return Square(gpu, head, tail)
    link = escape(job_path(gpu.namespace or "", gpu.job))
    return Square(gpu, f'<a href="{link}" tabindex="-1">{head}', f"{tail}</a>")


def _tip(gpu: GpuRow) -> str:
    name = f"{gpu.node} {gpu.gpu}".strip() + f", {model_of(gpu.product)}"
    parts = [name, gpu.uuid or "", str(gpu.state) if not gpu.job else f"{gpu.namespace}/{gpu.job}"]
    if gpu.utilisation_ratio is not None:
        parts.append(f"{percent(gpu.utilisation_ratio)} busy")
    return "\n".join([*filter(None, parts), *([gpu.detail] if gpu.detail else [])])


def by_queue(colours: Mapping[str, int]) -> Callable[[GpuRow], str]:
    """Colour of the queue that holds it; none where the holder may not be named."""

    def shade(gpu: GpuRow) -> str:
        if gpu.state is not GpuState.HELD:
            return by_state(gpu)
        return "gpu-others" if gpu.queue is None else f"fill-{colours.get(gpu.queue, 0)}"

    return shade


def by_state(gpu: GpuRow) -> str:
    """What it is doing, as far as admission is concerned."""
    return f"gpu-{gpu.state.lower()}"


def by_use(gpu: GpuRow) -> str:
    """How busy it is, in five steps; unmeasured ones are told apart from idle ones."""
    if gpu.state is not GpuState.HELD:
        return by_state(gpu)
    if gpu.utilisation_ratio is None:
        return "use-unknown"
    if gpu.utilisation_ratio < 0.05:
        return "use-idle"
    return f"use-{min(4, 1 + int(gpu.utilisation_ratio * 4))}"
