"""``/gpus``: who holds which GPU, by rack, node and device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from markupsafe import Markup

from drse_operator.observe.console.address import job_path
from drse_operator.observe.console.charts import bars, grid
from drse_operator.observe.console.pages.page import (
    Page,
    Visit,
    command,
    job_link,
    queue_chip,
    reach,
    state,
)
from drse_operator.observe.console.tables import Column, Table, show
from drse_operator.observe.console.words import NOTHING, ago, at, model_of, percent
from drse_operator.observe.views.gpus import GpuRow, GpuState, count_by_state
from drse_operator.observe.views.nodes import NodeRow

_GIB = 2**30
SHADES = (("queue", "Queue"), ("state", "State"), ("use", "Use"))


def page(visit: Visit) -> Page:
    """The page."""
    sight, address = visit.sight, visit.address
    report = sight.gpus
    table = _table(visit)
    shown = show(table, report.items, address, _kept(visit), sight)
    colour = address.get("colour") if address.get("colour") in dict(SHADES) else "queue"
    shade = {"state": grid.by_state, "use": grid.by_use}.get(colour, grid.by_queue(visit.look.colours))
    squares = sight.once(("squares", colour), lambda: grid.squares(report.items, shade))
    found = {table.key(row) for row in shown.rows}
    everything = len(shown.rows) == len(report.items)
    nodes = _nodes(visit)
    return Page(
        template="gpus.html",
        title="GPUs",
        topics=("gpus", "jobs", "use"),
        document=report.model_copy(update={"items": shown.rows}),
        command=_command(visit),
        table=shown,
        values={
            "racks": grid.racks(nodes, squares, None if everything else lambda row: table.key(row) in found),
            "shades": [
                (title, address.with_(colour=key if key != "queue" else None).href, key == colour)
                for key, title in SHADES
            ],
            "colour": colour,
            "states": count_by_state(report.items),
            "GpuState": GpuState,
            "free_blocks": _blocks(nodes),
            "closed": [row for row in sight.closed if row.what == "Node"],
            "others": sum(r.count for r in report.items if r.state is GpuState.HELD and r.queue is None),
            "queues": [
                (name, f"fill-{visit.look.colours.get(name, 0)}")
                for name in sorted({row.queue for row in report.items if row.queue})
            ],
        },
    )


def _kept(visit: Visit) -> Callable[[GpuRow], bool] | None:
    idle = visit.address.get("view") == "idle"
    return _idle if idle else None


def _idle(row: GpuRow) -> bool:
    return row.state is GpuState.HELD and row.utilisation_ratio is not None and row.utilisation_ratio < 0.05


def _nodes(visit: Visit) -> tuple[NodeRow, ...]:
    product = visit.address.all("product")
    return tuple(n for n in visit.sight.nodes.items if not product or model_of(n.product) in product)


def _blocks(nodes: tuple[NodeRow, ...]) -> list[tuple[int, int, Markup]]:
    """How many nodes have so many GPUs free: what fits where at a glance."""
    counts = Counter(node.free for node in nodes if node.free and node.state == "Ready")
    most = max(counts.values(), default=1)
    return [(free, counts[free], bars.bar(counts[free], most, "bar-fill", 120.0)) for free in sorted(counts)]


def _command(visit: Visit) -> str:
    node, text = visit.address.get("node"), visit.address.get("q")
    chosen = ["--node", node] if node else []
    chosen += ["--uuid", text] if text.startswith("GPU-") else []
    chosen += ["--free"] if visit.address.get("state") == GpuState.FREE else []
    return command("drse", "gpus", *reach(visit, ""), *chosen)


def _table(visit: Visit) -> Table[GpuRow]:
    now, address = visit.now, visit.address

    def use(row: GpuRow) -> Markup:
        if row.utilisation_ratio is None:
            return Markup(NOTHING)
        drawn = bars.bar(row.utilisation_ratio, 1.0, "bar-fill", 32.0)
        return bars.beside(drawn, percent(row.utilisation_ratio))

    def node(row: GpuRow) -> Markup:
        return Markup('<a href="{}">{}</a>').format(address.plus("node", row.node).href, row.node)

    def holder(row: GpuRow) -> Markup:
        if row.state is not GpuState.HELD:
            return Markup('<span class="muted">{}</span>').format(row.detail or NOTHING)
        return job_link(row.namespace, row.job)

    def queue(row: GpuRow) -> Markup:
        return queue_chip(visit, row.queue, address.plus("queue", row.queue or "").href)

    return Table(
        name="gpus",
        noun="row",
        columns=(
            Column("node", "Node", lambda r: r.node, node, filter=True),
            Column(
                "gpu",
                "GPU",
                lambda r: r.gpu or f"{r.count} unnamed",
                note="Where a device plugin picks, GPUs are counted and have no names",
            ),
            Column(
                "uuid",
                "UUID",
                lambda r: r.uuid,
                lambda r: Markup("<code>{}</code>").format(r.uuid or NOTHING),
            ),
            Column("product", "Model", lambda r: model_of(r.product), filter=True),
            Column(
                "memory",
                "Memory",
                lambda r: r.memory_bytes,
                lambda r: f"{r.memory_bytes / _GIB:.0f}",
                number=True,
                unit="GiB",
                optional=True,
            ),
            Column("use", "Use", lambda r: r.utilisation_ratio, use, number=True),
            Column("state", "State", lambda r: r.state, lambda r: state(r.state, _broken(r)), filter=True),
            Column(
                "job",
                "Held by",
                lambda r: None if r.job is None else f"{r.namespace}/{r.job}",
                holder,
                wide=True,
            ),
            Column("queue", "Queue", lambda r: r.queue, queue, filter=True),
            Column(
                "since", "Since", lambda r: r.since, lambda r: ago(r.since, now), number=True, optional=True
            ),
            Column(
                "until",
                "Free at",
                lambda r: r.free_at,
                lambda r: at(r.free_at, now),
                number=True,
                note="Expected end of the job; services have none",
            ),
            Column("count", "Count", lambda r: r.count, number=True, optional=True),
        ),
        key=lambda r: (
            r.uuid or f"{r.node}/{r.product}/{r.state}/{r.namespace}/{r.job}/{r.replica}/{r.worker}"
        ),
        order="node",
        href=lambda r: job_path(r.namespace or "", r.job) if r.job else "",
        search=lambda r: (
            f"{r.uuid or ''} {r.node} {r.gpu} {r.product} {r.namespace or ''}/{r.job or ''} {r.queue or ''}"
        ),
        urgent=_broken,
    )


def _broken(row: GpuRow) -> bool:
    """Somebody must act: work runs on a GPU that is out of service."""
    return row.state is GpuState.HELD and bool(row.detail)
