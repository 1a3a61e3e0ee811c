"""GPUs in use, jobs waiting and service by flow over time, as observed and as drawn."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from drse_operator.simulator.trace import TraceJob

_HOUR = 3600.0
#: Flows drawn by name; the others are left out.
_DRAWN_FLOWS = 8


@dataclass(slots=True)
class Curves:
    """An observer that keeps what is drawn. Times in seconds, service in GPU-seconds."""

    times: list[float] = field(default_factory=list)
    used: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    service: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    _used: int = 0
    _waiting: int = 0
    _running: dict[str, float] = field(default_factory=dict)
    _total: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def arrived(self, job: TraceJob, now: float) -> None:
        self._waiting += 1

    def began(self, job: TraceJob, now: float, expected: float) -> None:
        self._waiting -= 1
        self._used += job.gpus
        self._running[job.uid] = now

    def ended(self, job: TraceJob, now: float) -> None:
        self._used -= job.gpus
        self._total[job.flow] += (now - self._running.pop(job.uid)) * job.gpus
        self.service[job.flow].append((now, self._total[job.flow]))

    def settled(self, now: float) -> None:
        self.times.append(now)
        self.used.append(self._used)
        self.waiting.append(self._waiting)


def draw(curves: Curves, gpus: int, title: str, path: Path) -> None:
    """Draw the curves into a PNG. Raises ImportError where matplotlib is missing."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (use, queue, flows) = pyplot.subplots(3, 1, figsize=(9, 8), sharex=True, layout="constrained")
    hours = [t / _HOUR for t in curves.times]
    use.step(hours, curves.used, where="post", linewidth=0.8)
    use.axhline(gpus, color="grey", linewidth=0.6, linestyle="--")
    use.set(ylabel="GPUs in use", title=title)
    queue.step(hours, curves.waiting, where="post", linewidth=0.8, color="tab:red")
    queue.set(ylabel="jobs waiting")
    most = sorted(curves.service.items(), key=lambda item: -item[1][-1][1])[:_DRAWN_FLOWS]
    for name, points in most:
        flows.plot([t / _HOUR for t, _ in points], [s / _HOUR for _, s in points], label=name, linewidth=1)
    flows.set(ylabel="GPU-hours finished, by flow", xlabel="hours")
    flows.legend(fontsize=7)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
