"""Checks of what is closed, perhaps on purpose and forgotten, while jobs wait for it."""

from __future__ import annotations

from drse_operator.cli.diagnosis.finding import Case, Finding, State, finding
from drse_operator.observe.views.closed import ClosedRow
from drse_operator.observe.views.closed import closed as view
from drse_operator.observe.views.gpus import gpus

_NAMED = 3


def closed(case: Case) -> tuple[Finding, ...]:
    """Nodes out of service and cordoned queues that waiting jobs could use."""
    scene = case.scene
    rows = view(scene, gpus(scene))
    nodes = [row for row in rows if row.what == "Node"]
    queues = [row for row in rows if row.what == "Queue"]
    return (
        _finding("closed-nodes", nodes, "GPUs out of service", scene.complete),
        _finding("closed-queues", queues, "a cordoned queue", "gpuqueues" not in scene.unread),
    )


def _finding(check: str, rows: list[ClosedRow], what: str, known: bool) -> Finding:
    if not rows:
        says = f"no job waits for {what}" if known else f"you may not see whether jobs wait for {what}"
        return finding(check, State.OK if known else State.SKIP, says)
    more = f"; and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    do = "; ".join(row.remedy for row in rows[:_NAMED] if row.remedy)
    return finding(check, State.WARN, "; ".join(row.says for row in rows[:_NAMED]) + more, do)
