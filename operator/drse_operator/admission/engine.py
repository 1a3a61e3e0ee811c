"""The admission engine: events in, plans out.

Every event changes little, and a plan looks only at what could start, so a single change is cheap however
many jobs wait. The live operator builds an engine from each snapshot and plans once; the simulator drives one
engine through a whole trace. Both ways give the same decisions (a property test holds them to it).
"""

from __future__ import annotations

from drse_operator.admission.decisions import Memory, Plan
from drse_operator.admission.dispatch import Outcome, Pass
from drse_operator.admission.durations import Durations
from drse_operator.admission.ledger import Rules
from drse_operator.admission.persistence import memory, restore, snapshot
from drse_operator.admission.preemption import preempt
from drse_operator.admission.snapshot import Snapshot
from drse_operator.admission.state import State
from drse_operator.admission.units import scale_down
from drse_operator.admission.waits import waits

DEFAULT_RULES = Rules()


class Engine:
    """Admission over one cluster. All times are seconds since the epoch and never go back."""

    def __init__(self, now: float, rules: Rules = DEFAULT_RULES) -> None:
        self.state = State(rules, now)

    @classmethod
    def of(
        cls, snapshot: Snapshot, now: float, rules: Rules = DEFAULT_RULES, durations: Durations | None = None
    ) -> Engine:
        """An engine that knows exactly what the snapshot says; and of durations what it is given."""
        began = min((j.queued_at for j in snapshot.jobs if j.mark is None), default=now)
        clock_at = snapshot.clock_at if snapshot.clock_at is not None else began
        engine = cls(now, rules)
        if durations is not None:
            engine.state.durations = durations
        restore(engine.state, snapshot, min(clock_at, now))
        return engine

    def decide(self, now: float, keep: bool = True) -> Outcome:
        """Start who may start at ``now``. What is decided counts as done from here on."""
        self.state.advance(now)
        self.state.expect_longer()
        return Pass(self.state, now, keep).run()

    def plan(self, now: float) -> Plan:
        """Decide at ``now``, and say why the others wait."""
        jobs = sorted((r.job for r in self.state.records.values() if r.job.holdings), key=lambda j: j.order)
        releases = tuple(release for job in jobs for release in scale_down(job))
        outcome = self.decide(now)
        if not releases:
            # What is given up of itself may be enough; the next plan will see.
            releases = preempt(self.state, outcome, now)
        return Plan(tuple(outcome.assigns), releases, waits(self.state, outcome, now), self.memory())

    def memory(self) -> Memory:
        """What an engine that takes over from this one has to know besides the jobs and the cluster."""
        return memory(self.state)

    def snapshot(self) -> Snapshot:
        """The state as a snapshot, from which an equal engine can be built."""
        return snapshot(self.state)
