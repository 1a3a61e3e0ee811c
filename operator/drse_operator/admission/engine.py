"""The admission engine: events in, plans out.

Every event changes little, and a plan looks only at what could start, so a single change is cheap however
many jobs wait. The live operator builds an engine from each snapshot and plans once; the simulator drives one
engine through a whole trace. Both ways give the same decisions (a property test holds them to it).
"""

from __future__ import annotations

from drse_operator.admission.decisions import Memory, Plan, Reserved, Tell, Wait
from drse_operator.admission.dispatch import Outcome, Pass
from drse_operator.admission.durations import Durations
from drse_operator.admission.ledger import Rules
from drse_operator.admission.persistence import durations as learned
from drse_operator.admission.persistence import memory, restore, snapshot
from drse_operator.admission.pools import FAR
from drse_operator.admission.preemption import preempt
from drse_operator.admission.snapshot import Snapshot
from drse_operator.admission.state import State
from drse_operator.admission.sync import sync
from drse_operator.admission.units import scale_down
from drse_operator.admission.waits import Waiting

DEFAULT_RULES = Rules()


class Engine:
    """Admission over one cluster. All times are seconds since the epoch and never go back."""

    def __init__(self, now: float, rules: Rules = DEFAULT_RULES) -> None:
        self.state = State(rules, now)
        self._waiting: Waiting | None = None

    @classmethod
    def of(
        cls, snapshot: Snapshot, now: float, rules: Rules = DEFAULT_RULES, durations: Durations | None = None
    ) -> Engine:
        """An engine that knows exactly what the snapshot says; ``durations`` saves making them anew."""
        began = min((j.queued_at for j in snapshot.jobs if j.mark is None), default=now)
        clock_at = snapshot.clock_at if snapshot.clock_at is not None else began
        engine = cls(now, rules)
        engine.state.durations = learned(snapshot.learned) if durations is None else durations
        restore(engine.state, snapshot, min(clock_at, now))
        return engine

    def decide(self, now: float, keep: bool = True) -> Outcome:
        """Start who may start at ``now``. What is decided counts as done from here on."""
        self.state.advance(now)
        self.state.expect_longer()
        return Pass(self.state, now, keep).run()

    def sync(self, snapshot: Snapshot, now: float, durations: Durations | None = None) -> None:
        """Take over what has changed since the last snapshot; ``durations`` if they are others."""
        self.state.now = max(self.state.now, now)
        waiting = [key for key, flow in self.state.flows.items() if flow.groups]
        sync(self.state, snapshot, waiting, durations)

    def plan(self, now: float, tell: Tell | None = None) -> Plan:
        """Decide at ``now``, and say why the others wait: all of them, or those in ``tell`` and those who
        were decided upon. In the latter case the memory in the plan is without ghosts.
        """
        state = self.state
        jobs = sorted((record.job for record in state.surplus.values()), key=lambda j: j.order)
        releases = tuple(release for job in jobs for release in scale_down(job))
        outcome = self.decide(now)
        if not releases:
            # What is given up of itself may be enough; the next plan will see.
            releases = preempt(state, outcome, now)
        self._waiting = waiting = Waiting(state, outcome, now)
        if tell is not None:
            decided = {*(a.uid for a in outcome.assigns), *(r.uid for r in releases), *outcome.reservations}
            tell = Tell({*tell.uids, *decided}, tell.queues)
        return Plan(
            tuple(outcome.assigns),
            releases,
            waiting.tell(tell),
            waiting.pending(),
            self._reserved(outcome),
            memory(state, exact=False, ghosts=tell is None),
        )

    def _reserved(self, outcome: Outcome) -> tuple[Reserved, ...]:
        records = self.state.records
        return tuple(
            Reserved(records[uid].job.key, uid, found.start)
            for uid, found in outcome.reservations.items()
            if uid in records and records[uid].group is not None and found.start < FAR
        )

    def first(self, count: int) -> tuple[Wait, ...]:
        """The first so many of each queue after the last plan, in the order of their turns."""
        return () if self._waiting is None else self._waiting.first(count)

    def memory(self, exact: bool = False) -> Memory:
        """What an engine that takes over from this one has to know besides the jobs and the cluster.

        Few enough to be written down, unless it has to be ``exact``.
        """
        return memory(self.state, exact)

    def snapshot(self) -> Snapshot:
        """The state as a snapshot, from which an equal engine can be built."""
        return snapshot(self.state)
