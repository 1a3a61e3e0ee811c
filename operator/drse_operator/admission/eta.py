"""When waiting jobs will start: a forward run of the engine, corrected by how such forecasts turned out.

The forward run assumes that holders end as expected and that nobody else arrives. Both are wrong in ways
that only experience tells, so what users are told is the forward wait times quantiles of (real / forecast)
over the latest jobs: split conformal prediction (Vovk et al., 2005) on a sliding window.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Collection, Iterable

from drse_operator.admission.decisions import Eta
from drse_operator.admission.durations import Durations
from drse_operator.admission.engine import DEFAULT_RULES, Engine
from drse_operator.admission.ledger import Rules
from drse_operator.admission.outlook import STEPS, starts
from drse_operator.admission.snapshot import Snapshot

#: Waits shorter than this count as this much when ratios are formed (seconds).
_FLOOR = 60.0
_KEPT = 300
_ENOUGH = 20


def forward(
    snapshot: Snapshot,
    now: float,
    asked: Collection[str],
    rules: Rules = DEFAULT_RULES,
    durations: Durations | None = None,
    steps: int = STEPS,
) -> dict[str, float]:
    """Expected starts (seconds since the epoch) of the jobs ``asked``, as far as ``steps`` events reach."""
    found: dict[str, float] = {}
    wanted = frozenset(asked)
    for start, assign in starts(Engine.of(snapshot, now, rules, durations), now, wanted, steps):
        if assign.uid in wanted:
            found.setdefault(assign.uid, start)
    return found


class Calibration:
    """Turns forward waits into a median and a bound that nine of ten jobs keep; measures whether they do."""

    def __init__(self) -> None:
        self.told = 0
        self.kept = 0
        self._latest: deque[float] = deque()
        self._ratios: list[float] = []

    @classmethod
    def resume(cls, told: int, kept: int, ratios: Iterable[float]) -> Calibration:
        """One that goes on where another stopped; ``ratios`` are its latest, the last of all last."""
        resumed = cls()
        resumed.told, resumed.kept = told, kept
        resumed._latest = deque(ratios)
        resumed._ratios = sorted(resumed._latest)
        return resumed

    @property
    def latest(self) -> tuple[float, ...]:
        """Real wait / forecast wait of the latest jobs, the last of all last."""
        return tuple(self._latest)

    @property
    def coverage(self) -> float | None:
        """Share of jobs that started by their p90; None before there was any."""
        return self.kept / self.told if self.told else None

    @property
    def correction(self) -> float:
        """What factor turns a forward wait into a median."""
        return self._quantile(0.5, 1.0)

    def eta(self, start: float, now: float) -> Eta:
        """What to tell of a job whose forward start is ``start``."""
        wait = max(_FLOOR, start - now)
        return Eta(now + wait * self.correction, now + wait * self._quantile(0.9, 3.0))

    def learn(self, told_at: float, forecast: float, eta: Eta, started: float) -> None:
        """A job started of which at ``told_at`` the forward start ``forecast`` and ``eta`` were told."""
        self.told += 1
        self.kept += started <= eta.p90
        ratio = max(_FLOOR, started - told_at) / max(_FLOOR, forecast - told_at)
        self._latest.append(ratio)
        insort(self._ratios, ratio)
        if len(self._latest) > _KEPT:
            del self._ratios[bisect_left(self._ratios, self._latest.popleft())]

    def _quantile(self, q: float, otherwise: float) -> float:
        n = len(self._ratios)
        if n < _ENOUGH:
            return otherwise
        return self._ratios[min(n - 1, int(q * (n + 1)))]
