"""Recorded series, scenarios and how load shows on GPUs: pure parts of the metrics source."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drse_local.errors import LocalClusterError
from drse_local.fleet import load_fleet
from drse_local.history import past_grid, past_series
from drse_local.holdings import Holder
from drse_local.samples import ASSIGNED, REQUESTS_RUNNING, REQUESTS_WAITING, UTILIZATION, Sample, SampleSource
from drse_local.scenario import Scenario, load_scenario, resolve_files
from drse_local.series import FloatArray, read_series, series_path
from drse_local.serving import serve

ANCHOR = 1_800_000_000.0
FLEET = load_fleet("small")
SCENARIO = resolve_files(
    Scenario.model_validate(
        {
            "historyDays": 1,
            "jobs": {
                "team/chat": {
                    "gpusPerReplica": 4,
                    "targetConcurrency": 16,
                    "load": {
                        "file": "servegen_m_small_clients_10min.csv.gz",
                        "column": "client_31",
                        "scale": 1 / 1300,
                        "recordedAt": "2025-01-13T07:55:00",
                        "offsetSeconds": 240,
                    },
                }
            },
        }
    ),
    Path("."),
)


def write_series(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["ts,value", *rows]), encoding="utf-8")
    return path


def at(*when: str) -> FloatArray:
    return np.array([datetime.fromisoformat(each).replace(tzinfo=UTC).timestamp() for each in when])


def test_values_stand_at_the_middle_of_their_bins_and_gaps_are_bridged(tmp_path: Path) -> None:
    rows = [
        "2025-01-01T00:00:00,10",
        "2025-01-01T00:10:00,",
        "2025-01-01T00:20:00,30",
        "2025-01-01T00:30:00,0",
    ]
    series = read_series(write_series(tmp_path / "s.csv", *rows), "value")
    when = at("2025-01-01T00:05:00", "2025-01-01T00:15:00", "2025-01-01T00:25:00", "2025-01-01T00:30:00")
    assert series.at(when) == pytest.approx([10, 20, 30, 15])


@given(st.floats(-1e7, 1e7), st.integers(-3, 3))
def test_a_series_repeats_beyond_its_ends(seconds: float, turns: int) -> None:
    series = SCENARIO.jobs["team/chat"].load.recorded
    start = series.times[0] + round(seconds)
    here, there = series.at(np.array([start, start + turns * series.period]))
    assert here == pytest.approx(there)


def test_the_recorded_instant_falls_on_anchor_plus_offset() -> None:
    load = SCENARIO.jobs["team/chat"].load
    expected = load.recorded.at(at("2025-01-13T07:55:00"))[0] / 1300
    assert load.at(np.array(ANCHOR + 240), ANCHOR) == pytest.approx(expected)
    minutes = ANCHOR + 240 + 60 * np.arange(-5.0, 21.0)
    values = load.at(minutes, ANCHOR)
    assert values[0] < 3 < 8 < values[-1], "the demo's steep rise"


@given(st.floats(0, 200), st.integers(1, 16), st.integers(1, 8), st.floats(1, 128))
def test_load_is_conserved(load: float, replicas: int, per_replica: int, concurrency: float) -> None:
    gpus = replicas * per_replica
    state = serve(np.asarray(load), gpus, per_replica, concurrency)
    requests_per_gpu = concurrency / per_replica
    assert 0 <= state.utilization <= 1
    assert state.running + state.waiting == pytest.approx(load * requests_per_gpu, abs=0.5)
    assert 0 <= state.running <= gpus * requests_per_gpu
    assert state.waiting >= 0
    if load <= gpus:
        assert state.utilization * gpus == pytest.approx(load)
    else:
        assert state.utilization == 1
        assert state.waiting >= np.floor((load - gpus) * requests_per_gpu)


def holder(
    pod: str, gpus: slice, *, ready: bool = True, job: str | None = "team/chat", worker: str = "0"
) -> Holder:
    return Holder("team", pod, job, pod.split("-")[1], worker, ready, FLEET.gpus[gpus])


def total(samples: list[Sample], name: str, **labels: str) -> float:
    chosen = [each for each in samples if each.name == name and labels.items() <= each.labels.items()]
    return sum(each.value for each in chosen)


def test_load_moves_from_the_recorded_past_to_the_gpus_held_without_gap_or_double_count() -> None:
    source = SampleSource(FLEET, SCENARIO, ANCHOR)
    load = float(SCENARIO.jobs["team/chat"].load.at(np.array(ANCHOR), ANCHOR))
    for holders in ([], [holder("chat-0-0", slice(0, 4), ready=False)], [holder("chat-0-0", slice(0, 4))]):
        samples = source.samples(holders, ANCHOR)
        assert total(samples, UTILIZATION) / 100 == pytest.approx(load, abs=0.01)
        assert total(samples, REQUESTS_RUNNING) + total(samples, REQUESTS_WAITING) == round(load * 4)
    assert not [each for each in samples if each.name == ASSIGNED], (
        "the operator's business once the job runs"
    )
    gone = source.samples([], ANCHOR)
    assert total(gone, UTILIZATION) == 0, "the past does not come back when the job's pods go"


def test_more_gpus_take_up_the_queue() -> None:
    source, peak = SampleSource(FLEET, SCENARIO, ANCHOR), ANCHOR + 3600
    few = source.samples([holder("chat-0-0", slice(0, 4))], peak)
    many = source.samples([holder("chat-0-0", slice(0, 4)), holder("chat-1-0", slice(4, 16))], peak)
    assert total(few, UTILIZATION) == 400
    assert total(few, REQUESTS_WAITING) > 0
    assert total(many, UTILIZATION) > 800
    assert total(many, REQUESTS_WAITING) == 0
    assert {each.labels["pod"] for each in many if each.name == REQUESTS_RUNNING} == {"chat-0-0", "chat-1-0"}


def test_only_the_first_worker_of_a_replica_speaks_for_its_engine() -> None:
    workers = [holder("chat-0-0", slice(0, 2)), holder("chat-0-1", slice(2, 4), worker="1")]
    samples = SampleSource(FLEET, SCENARIO, ANCHOR).samples(workers, ANCHOR)
    assert [each.labels["pod"] for each in samples if each.name == REQUESTS_RUNNING] == ["chat-0-0"]


def test_jobs_without_a_series_are_nearly_busy_and_idle_gpus_are_idle() -> None:
    samples = SampleSource(FLEET, Scenario(), ANCHOR).samples(
        [holder("tune-0", slice(0, 2), job="team/tune")], ANCHOR
    )
    by_uuid = {each.labels["UUID"]: each.value for each in samples if each.name == UTILIZATION}
    held = {gpu.uuid for gpu in FLEET.gpus[:2]}
    assert all(94 < by_uuid[uuid] <= 100 for uuid in held)
    assert all(value == 0 for uuid, value in by_uuid.items() if uuid not in held)


def test_every_vendor_speaks_its_own_names() -> None:
    samples = SampleSource(FLEET, Scenario(), ANCHOR).samples([], ANCHOR)
    counts = {name: sum(each.name == name for each in samples) for name in {each.name for each in samples}}
    assert counts[UTILIZATION] == 28
    assert counts["gpu_gfx_activity"] == 8
    assert counts["habanalabs_utilization"] == 8


def test_the_recorded_past_and_the_live_source_agree() -> None:
    grid = past_grid(ANCHOR, 1)
    past = past_series(SCENARIO, ANCHOR, grid)
    assert grid[-1] == ANCHOR
    live = SampleSource(FLEET, SCENARIO, ANCHOR)
    for index in (0, len(grid) // 2, -1):
        now = live.samples([], float(grid[index]))
        for name in (UTILIZATION, REQUESTS_RUNNING, REQUESTS_WAITING, ASSIGNED):
            assert sum(each.values[index] for each in past if each.name == name) == pytest.approx(
                total(now, name)
            )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("jobs: {chat: {load: {file: x, recordedAt: 2025-01-01}}}", "pattern"),
        (
            "jobs: {a/chat: {load: {file: none.csv, recordedAt: 2025-01-01}}}",
            "There is no load series none.csv",
        ),
        ("jobs: {a/chat: {load: {file: s.csv, scale: -1, recordedAt: 2025-01-01}}}", "greater than 0"),
    ],
)
def test_a_bad_scenario_is_refused_with_a_sentence(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LocalClusterError, match=message):
        load_scenario(path)


def test_a_missing_column_is_answered_with_those_there_are() -> None:
    with pytest.raises(LocalClusterError, match="client_5, client_31"):
        read_series(series_path("servegen_m_small_clients_10min.csv.gz", Path(".")), "client_99")
