"""Random workloads for the engine, and an engine that keeps a record of what it promised."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st

from drse_operator.admission.dispatch import Outcome
from drse_operator.admission.engine import Engine
from drse_operator.admission.ledger import Rules
from drse_operator.admission.snapshot import Job, Node, Queue
from drse_operator.api.enums import TaskType
from drse_operator.api.keys import JobKey
from drse_operator.sizing.shapes import Shape
from tests.admission.builders import NodePlan, make_nodes

#: For promises that are cheap to try: four times the examples of the profile, 2,000 in CI, 10,000 in a bench.
THOROUGH = settings(max_examples=4 * settings().max_examples)
FLOWS = ("a", "b", "c")
TYPES = (TaskType.BATCH, TaskType.FINE_TUNING)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job with the time at which it arrives and how long it really runs."""

    at: float
    runs: float
    job: Job


@dataclass(frozen=True, slots=True)
class Workload:
    """A cluster, its queues and who arrives, by time."""

    nodes: tuple[Node, ...]
    queues: tuple[Queue, ...]
    arrivals: tuple[Arrival, ...]
    cap: float


@st.composite
def workloads(draw: st.DrawFn, exact: bool = True, limits: bool = False) -> Workload:
    """Up to thirty jobs of up to three queues on a few nodes of one or two kinds."""
    plans = draw(st.lists(st.sampled_from((("H100", 2), ("H100", 4), ("L40S", 4))), min_size=1, max_size=4))
    nodes = make_nodes(NodePlan(product, gpus, exact=draw(st.booleans())) for product, gpus in plans)
    kinds = sorted({n.kind for n in nodes}, key=lambda k: k.product)
    bound = st.one_of(st.none(), st.integers(1, 6)) if limits else st.none()
    queues = tuple(Queue(name, draw(st.sampled_from((1, 1, 3))), 0, draw(bound), 0) for name in FLOWS)
    arrivals = []
    at = 0.0
    for i in range(draw(st.integers(1, 24))):
        at += draw(st.sampled_from((0.0, 0.0, 1.0, 7.0)))
        runs = float(draw(st.sampled_from((1, 2, 5, 20, 60))))
        stated = runs if exact else float(draw(st.sampled_from((1, 5, 60))))
        chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=2, unique=True))
        shapes = []
        for kind in chosen:
            each = draw(st.integers(1, kind.max_per_node))
            workers = draw(st.integers(1, min(2, kind.total // each)))
            shapes.append(Shape(kind, workers, each, each, workers, 0))
        queue, priority = draw(st.sampled_from(FLOWS)), draw(st.sampled_from((0, 0, 0, 1)))
        job = _job(i, at, queue, shapes, stated, priority, draw(st.sampled_from(TYPES)))
        arrivals.append(Arrival(at, runs, job))
    return Workload(nodes, queues, tuple(arrivals), draw(st.sampled_from((10.0, 1000.0))))


def _job(
    number: int, at: float, queue: str, shapes: Iterable[Shape], stated: float, priority: int, task: TaskType
) -> Job:
    name = f"job-{number:02}"
    return Job(
        key=JobKey("team", name),
        uid=name,
        queue=queue,
        task_type=task,
        priority=priority,
        queued_at=at,
        wanted=1,
        first_unit=1,
        shapes=tuple(shapes),
        expected_duration=stated,
    )


@dataclass(slots=True)
class Replay:
    """An engine driven through a workload, one event after the other."""

    workload: Workload
    engine: Engine = field(init=False)
    now: float = 0.0
    _at: int = 0
    _ends: list[tuple[float, str]] = field(default_factory=list)
    runs: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine = Engine(0.0, Rules(lead_cap=self.workload.cap))
        for queue in self.workload.queues:
            self.engine.state.put_queue(queue)
        for node in self.workload.nodes:
            self.engine.state.put_node(node)
        self.runs = {a.job.uid: a.runs for a in self.workload.arrivals}

    @property
    def over(self) -> bool:
        return self._at >= len(self.workload.arrivals) and not self._ends

    def next_events(self) -> None:
        """Let time pass to the next end or arrival, and tell the engine."""
        arrivals = self.workload.arrivals
        times = [self._ends[0][0]] if self._ends else []
        if self._at < len(arrivals):
            times.append(arrivals[self._at].at)
        self.now = min(times)
        self.engine.state.advance(self.now)
        while self._ends and self._ends[0][0] <= self.now:
            self.engine.state.drop_job(heapq.heappop(self._ends)[1], ended=True)
        while self._at < len(arrivals) and arrivals[self._at].at <= self.now:
            self.engine.state.put_job(arrivals[self._at].job)
            self._at += 1

    def decide(self) -> Outcome:
        """One pass; who starts will end in time."""
        outcome = self.engine.decide(self.now)
        self.started(a.uid for a in outcome.assigns)
        return outcome

    def stop(self, uid: str) -> None:
        """A running job gives way; it will end another time."""
        self._ends = [entry for entry in self._ends if entry[1] != uid]
        heapq.heapify(self._ends)

    def started(self, uids: Iterable[str]) -> None:
        for uid in uids:
            heapq.heappush(self._ends, (self.now + self.runs[uid], uid))


def run_all(workload: Workload) -> Iterator[tuple[Replay, Outcome]]:
    """Every state after a pass, one at a time: the engine is the same and moves on."""
    replay = Replay(workload)
    while not replay.over:
        replay.next_events()
        yield replay, replay.decide()
