"""``plan``: one pass over everybody who asks, against what is free. ``dispatch`` decides."""

from __future__ import annotations

from dataclasses import replace

from drse_operator.admission.decisions import Memory, Plan, Tell, Wait
from drse_operator.admission.durations import Durations
from drse_operator.admission.engine import DEFAULT_RULES, Engine
from drse_operator.admission.ledger import Rules
from drse_operator.admission.persistence import durations as learned
from drse_operator.admission.snapshot import Learned, Snapshot
from drse_operator.api.keys import JobKey

#: Seconds that the clock may be set back before an engine is made anew; for less, time stands still.
_STEP_BACK = 1.0


def plan(
    snapshot: Snapshot, now: float, rules: Rules = DEFAULT_RULES, durations: Durations | None = None
) -> Plan:
    """Decide who gets which GPUs at ``now`` (seconds since the epoch), and why the others wait.

    The same snapshot and time always give the same plan. GPUs of released replicas count as held until
    a later snapshot shows them free. What the next plan has to know of this one is in ``Plan.memory``.
    ``durations`` are those of ``snapshot.learned``, where they have been made before.
    """
    return Engine.of(snapshot, now, rules, durations).plan(now)


class Planner:
    """Plans with one engine that is kept from pass to pass, so that a pass costs what has changed.

    A kept engine plans as one made anew from the same snapshot would: a property test holds them to it, and
    so does a look at runtime. Every ``audit_every`` seconds both plan; if they differ the kept one has
    drifted, which ``drifts`` counts, and the new one takes its place. So a fault in what is kept is seen, and
    lasts at most that long.

    Each snapshot has to tell of the work that has ended since the last plan. The memory in it counts only
    when an engine is made: for the first plan, and after a plan that failed.
    """

    def __init__(self, rules: Rules = DEFAULT_RULES, audit_every: float = 600.0) -> None:
        self.audits = 0
        self.drifts = 0
        self._rules = rules
        self._audit_every = audit_every
        self._audited = 0.0
        self._engine: Engine | None = None
        self._learned: tuple[Learned, ...] = ()

    def plan(
        self,
        snapshot: Snapshot,
        now: float,
        tell: Tell | None = None,
        durations: Durations | None = None,
    ) -> Plan:
        """As :func:`plan`; with ``tell`` the plan explains only the waits of those and of those who were
        decided upon, and the memory in it is without ghosts."""
        engine, self._engine = self._engine, None
        if engine is None:
            engine = Engine.of(snapshot, now, self._rules, durations)
            made = engine.plan(now, tell)
            self._audited = now
        elif engine.state.now - now > _STEP_BACK:
            # An engine's time never goes back, but the cluster's clock was set back.
            engine = self._anew(engine, snapshot, now, durations)
            made = engine.plan(now, tell)
        elif abs(now - self._audited) >= self._audit_every:
            engine, made = self._audit(engine, snapshot, now, tell, durations)
        else:
            made = self._go_on(engine, snapshot, now, tell, durations)
        self._engine, self._learned = engine, snapshot.learned
        return made

    def _go_on(
        self, engine: Engine, snapshot: Snapshot, now: float, tell: Tell | None, durations: Durations | None
    ) -> Plan:
        if durations is None and snapshot.learned is not self._learned:
            durations = learned(snapshot.learned)
        engine.sync(snapshot, now, None if durations is engine.state.durations else durations)
        return engine.plan(now, tell)

    def forget(self) -> None:
        """The next plan is made with a new engine."""
        self._engine = None

    def first(self, count: int) -> tuple[Wait, ...]:
        """The first so many of each queue after the last plan whom time alone helps."""
        return () if self._engine is None else self._engine.first(count)

    def memory(self) -> Memory:
        """What whoever plans next has to know, as of the last plan."""
        return Memory() if self._engine is None else self._engine.memory()

    def _anew(self, engine: Engine, snapshot: Snapshot, now: float, durations: Durations | None) -> Engine:
        """An engine made from the snapshot and from what another remembers."""
        past = engine.memory(exact=True)
        seen = replace(snapshot, flows=past.flows, virtual_time=past.virtual_time, clock_at=past.clock_at)
        return Engine.of(seen, now, self._rules, durations)

    def _audit(
        self, kept: Engine, snapshot: Snapshot, now: float, tell: Tell | None, durations: Durations | None
    ) -> tuple[Engine, Plan]:
        self._audited = now
        self.audits += 1
        anew = self._anew(kept, snapshot, now, durations)
        wanted = anew.plan(now, tell)
        made = self._go_on(kept, snapshot, now, tell, durations)
        if (made.assign, made.release) == (wanted.assign, wanted.release):
            return kept, made
        self.drifts += 1
        return anew, wanted


def waiting_by_job(plan_: Plan) -> dict[JobKey, Wait]:
    """The waits of a plan by job."""
    return {wait.key: wait for wait in plan_.wait}
