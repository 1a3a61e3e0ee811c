"""``plan``: one pass over everybody who asks, against what is free. ``dispatch`` decides."""

from __future__ import annotations

from drse_operator.admission.decisions import Plan, Wait
from drse_operator.admission.engine import DEFAULT_RULES, Engine
from drse_operator.admission.ledger import Rules
from drse_operator.admission.snapshot import Snapshot
from drse_operator.api.keys import JobKey


def plan(snapshot: Snapshot, now: float, rules: Rules = DEFAULT_RULES) -> Plan:
    """Decide who gets which GPUs at ``now`` (seconds since the epoch), and why the others wait.

    The same snapshot and time always give the same plan. GPUs of released replicas count as held until
    a later snapshot shows them free. What the next plan has to know of this one is in ``Plan.memory``.
    """
    return Engine.of(snapshot, now, rules).plan(now)


def waiting_by_job(plan_: Plan) -> dict[JobKey, Wait]:
    """The waits of a plan by job."""
    return {wait.key: wait for wait in plan_.wait}
