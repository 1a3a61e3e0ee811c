"""The simulator: small traces whose outcome can be worked out by hand, and what holds for every policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from drse_operator.simulator.cli import simulate as command
from drse_operator.simulator.measure import ideal_ends
from drse_operator.simulator.policies.registry import POLICIES
from drse_operator.simulator.run import simulate
from drse_operator.simulator.trace import TraceJob, one_pool, with_estimates


def job(uid: str, submit: float, gpus: int, duration: float, flow: str = "all") -> TraceJob:
    return TraceJob(uid, submit, duration, gpus, flow, estimate=duration)


#: Four GPUs: a holds three until 10; b needs all four; c fits beside a and ends before it; d does not.
PASSING = [job("a", 0, 3, 10), job("b", 1, 4, 10), job("c", 2, 1, 5), job("d", 3, 1, 50)]
STARTS = {
    "fifo": {"a": 0, "b": 10, "c": 20, "d": 20},
    "fifo-backfill": {"a": 0, "b": 10, "c": 2, "d": 20},
    "shortest-first": {"a": 0, "b": 10, "c": 2, "d": 20},
    "best-effort": {"a": 0, "b": 57, "c": 2, "d": 7},
    "priority": {"a": 0, "b": 57, "c": 2, "d": 7},
    "drf": {"a": 0, "b": 57, "c": 2, "d": 7},
    "drse": {"a": 0, "b": 10, "c": 2, "d": 20},
}


@pytest.mark.parametrize("policy", POLICIES)
def test_who_passes_whom(policy: str) -> None:
    _, run = simulate(PASSING, one_pool(4), policy)
    assert run.started == STARTS[policy]


def test_drf_starts_the_flow_that_holds_less() -> None:
    jobs = [
        job("x1", 0, 2, 10, "x"),
        job("x2", 0, 2, 10, "x"),
        job("y1", 1, 2, 10, "y"),
        job("x3", 0.5, 2, 9, "x"),
    ]
    _, run = simulate(sorted(jobs, key=lambda j: j.submit), one_pool(4), "drf")
    assert run.started == {"x1": 0, "x2": 0, "x3": 10, "y1": 10}


def test_ideal_sharing_of_two_equal_jobs_halves_their_speed() -> None:
    jobs = [job("a", 0, 4, 10), job("b", 0, 4, 10)]
    assert ideal_ends(jobs, 4, {}) == pytest.approx({"a": 20, "b": 20})


def test_ideal_sharing_follows_weights_and_gives_on_what_is_not_used() -> None:
    jobs = [job("a", 0, 4, 9, "heavy"), job("b", 0, 4, 9, "light")]
    ends = ideal_ends(jobs, 4, {"heavy": 3.0})
    # heavy runs at 3/4 until 12, by when light has done 3; then light has everything.
    assert ends == pytest.approx({"a": 12, "b": 18})


@st.composite
def traces(draw: st.DrawFn) -> list[TraceJob]:
    at, jobs = 0.0, []
    for i in range(draw(st.integers(1, 25))):
        at += draw(st.sampled_from((0, 0, 1, 5)))
        gpus, runs = draw(st.integers(1, 4)), draw(st.sampled_from((1, 3, 10, 40)))
        jobs.append(job(f"j{i:02}", at, gpus, runs, draw(st.sampled_from("xyz"))))
    return jobs


@given(traces(), st.sampled_from(sorted(POLICIES)), st.sampled_from(("exact", "noisy", "learned")))
def test_every_policy_runs_every_job_once_and_never_more_than_the_gpus(
    jobs: list[TraceJob], policy: str, estimates: str
) -> None:
    jobs = with_estimates(jobs, estimates, seed=7)
    _, run = simulate(jobs, one_pool(4), policy)
    assert set(run.ended) == {j.uid for j in jobs}
    for one in jobs:
        begin = run.started[one.uid]
        assert begin >= one.submit and run.ended[one.uid] == begin + one.duration
        together = [j.gpus for j in jobs if run.started[j.uid] <= begin < run.ended[j.uid]]
        assert sum(together) <= 4


# -- command line ---------------------------------------------------------------------------------------

FIELDS = {
    "policy", "jobs", "finished", "makespan_s", "gpu_utilisation", "throughput_jobs_per_h", "wait_mean_s",
    "wait_p50_s", "wait_p95_s", "wait_p99_s", "bounded_slowdown_mean", "lateness_p99_s", "lateness_max_s",
    "fairness_bound_used_max", "jain_weighted_service", "preemptions", "lost_gpu_hours", "eta_p90_coverage",
    "seconds",
}  # fmt: skip


@pytest.fixture
def trace_file(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.csv"
    rows = [f"{j.uid},{j.submit},{j.duration},{j.gpus}" for j in PASSING]
    path.write_text("\n".join(["job_id,submit_s,duration_s,gpus", *rows]) + "\n")
    return path


def test_the_command_prints_every_measure(trace_file: Path) -> None:
    arguments = ["trace", "--jobs", str(trace_file), "--gpus", "4", "--policy", "fifo", "--output", "json"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert set(told) == FIELDS
    # Waits are 0, 9, 18 and 17 seconds; until the last submission only a runs.
    assert (told["wait_mean_s"], told["makespan_s"], told["finished"]) == (11, 70, 4)
    assert told["gpu_utilisation"] == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("job_id,submit_s\n", "has no column duration_s, gpus"),
        ("job_id,submit_s,duration_s,gpus\na,0,x,1\n", "line 2"),
        ("job_id,submit_s,duration_s,gpus\na,0,,1\n", "nothing to replay"),
        ("job_id,submit_s,duration_s,gpus\na,0,1,1\na,0,1,1\n", "job_id must be unique"),
    ],
)
def test_a_file_that_cannot_be_replayed_says_why(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    result = CliRunner().invoke(command, ["trace", "--jobs", str(path), "--gpus", "4"])
    assert result.exit_code == 1 and says in result.output


def test_the_cluster_is_given_once(trace_file: Path) -> None:
    result = CliRunner().invoke(command, ["trace", "--jobs", str(trace_file)])
    assert result.exit_code == 2 and "--nodes or by --gpus" in result.output


def test_plot_draws_a_picture(trace_file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "plot.png"
    arguments = ["trace", "--jobs", str(trace_file), "--gpus", "4", "--plot", str(picture)]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
