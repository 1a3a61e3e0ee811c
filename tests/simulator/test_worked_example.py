"""The example of docs/fairness.md is what the engine does: its table is read, replayed and compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from drse_operator.admission.snapshot import Job
from drse_operator.simulator.loop import replay
from drse_operator.simulator.policies.drse import Drse
from drse_operator.simulator.trace import TraceJob, one_pool

PAGE = Path(__file__).parents[2] / "docs" / "fairness.md"
HOUR = 3600.0
GPUS = 4


@dataclass(frozen=True)
class Line:
    """A row of the table: times in hours."""

    job: TraceJob
    cost: float
    end: float
    turn: float
    starts: float


def hours(clock: str) -> float:
    whole, minutes = clock.split(":")
    return int(whole) + int(minutes) / 60


def lines() -> list[Line]:
    text = PAGE.read_text().split("## A worked example")[1].split("\n## ")[0]
    rows = [
        [c.strip() for c in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("|")
    ]
    found = []
    for name, flow, arrives, gpus, lasts, cost, end, turn, starts in rows[2:]:
        seconds = float(lasts) * HOUR
        job = TraceJob(name, hours(arrives) * HOUR, seconds, int(gpus), flow, estimate=seconds)
        found.append(Line(job, float(cost), float(end), float(turn), hours(starts)))
    return found


class Places(Drse):
    """Remembers the place that each job was given when it came."""

    def __init__(self) -> None:
        super().__init__(one_pool(GPUS))
        #: By name: the job, its imagined end and its turn, on its flow's clock.
        self.seen: dict[str, tuple[Job, float, float]] = {}

    def arrive(self, job: TraceJob, now: float) -> None:
        super().arrive(job, now)
        record = self.engine.state.records[job.uid]
        self.seen[job.uid] = record.job, record.member.key, record.member.turn


def test_the_worked_example_happens_as_told() -> None:
    table = lines()
    policy = Places()
    run = replay([line.job for line in table], policy)
    assert len(table) == 5
    for line in table:
        job, key, turn = policy.seen[line.job.uid]
        assert key / HOUR == pytest.approx(line.end), line
        assert turn / HOUR == pytest.approx(line.turn), line
        assert policy.engine.state.share(job.shapes[0]) * line.job.duration / HOUR == pytest.approx(line.cost)
        assert run.started[line.job.uid] / HOUR == pytest.approx(line.starts), line
    tags = {key.queue: flow.finish / HOUR for key, flow in policy.engine.state.flows.items()}
    assert tags == pytest.approx({"a": 3.125, "b": 2.25})
