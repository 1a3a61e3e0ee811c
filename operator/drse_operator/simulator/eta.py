"""Measures how often ETAs hold: for every so many waiting jobs one is told, and compared with the start."""

from __future__ import annotations

from drse_operator.admission.decisions import Eta
from drse_operator.admission.engine import Engine
from drse_operator.admission.eta import Calibration, forward
from drse_operator.simulator.trace import TraceJob


class EtaWatch:
    """An observer that tells an ETA to one in ``every`` jobs that do not start at once."""

    def __init__(self, engine: Engine, every: int) -> None:
        self.calibration = Calibration()
        self._engine = engine
        self._every = every
        self._seen = 0
        self._asking: list[str] = []
        self._told: dict[str, tuple[float, float, Eta]] = {}

    def arrived(self, job: TraceJob, now: float) -> None:
        self._asking.append(job.uid)

    def began(self, job: TraceJob, now: float, expected: float) -> None:
        if job.uid in self._told:
            told_at, start, eta = self._told.pop(job.uid)
            self.calibration.learn(told_at, start, eta, now)

    def ended(self, job: TraceJob, now: float) -> None:
        pass

    def settled(self, now: float) -> None:
        state = self._engine.state
        waiting = [uid for uid in self._asking if state.records[uid].group is not None]
        self._asking.clear()
        asked = set()
        for uid in waiting:
            self._seen += 1
            if self._seen % self._every == 0:
                asked.add(uid)
        if asked:
            starts = forward(self._engine.snapshot(), now, asked, state.rules, state.durations)
            for uid, start in starts.items():
                self._told[uid] = (now, start, self.calibration.eta(start, now))
