"""``drse simulate scaling`` from a file to its answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from drse_operator.simulator.cli import simulate
from drse_operator.simulator.scaling_contest import POLICIES

Write = Callable[[list[float]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(loads: list[float]) -> Path:
        start = datetime(2026, 1, 5, tzinfo=UTC)
        lines = [f"{(start + timedelta(minutes=5 * n)).isoformat()},{load}" for n, load in enumerate(loads)]
        path = tmp_path / "load.csv"
        path.write_text("\n".join(["ts,gpus", *lines, ""]), encoding="utf-8")
        return path

    return to_file


#: Half a day: three GPUs, then nine.
HALF_DAY = [3.0] * 72 + [9.0] * 72


def run(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(simulate, ["scaling", "--series", str(path), *arguments])


def test_all_policies_as_json(write: Write) -> None:
    result = run(write(HALF_DAY), "--output", "json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["series"] == "load:gpus" and answer["gpu_equivalents_per_unit"] == 1
    by_name = {one["policy"]: one for one in answer["policies"]}
    assert set(by_name) == set(POLICIES)
    assert all(one["demand_gpu_hours"] == pytest.approx(72.0) for one in by_name.values())
    assert by_name["foresight"]["under_capacity_share"] == 0
    assert 0 < by_name["drse"]["under_capacity_share"] < 0.02, "the rise is a surprise, for one start-up time"
    assert by_name["hpa-equal"]["gpu_hours"] == pytest.approx(by_name["drse"]["gpu_hours"], rel=0.1)


def test_one_policy_as_text_with_a_plot(write: Write, tmp_path: Path) -> None:
    plot = tmp_path / "plot.png"
    arguments = ("--policy", "hpa-0.65", "--startup", "90s", "--gpus-per-replica", "2", "--plot", str(plot))
    result = run(write(HALF_DAY), *arguments)
    assert result.exit_code == 0, result.output
    assert "hpa-0.65" in result.stdout and "drse" not in result.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_load_that_is_no_load_of_gpus_is_scaled(write: Write) -> None:
    result = run(write([one * 1e5 for one in HALF_DAY]), "--policy", "hpa-0.5", "--output", "json")
    answer = json.loads(result.stdout)
    assert answer["policies"][0]["demand_gpu_hours"] == pytest.approx(10 * 12)


@pytest.mark.parametrize(
    ("loads", "arguments", "sentence"),
    [
        pytest.param([0.0] * 20, (), "there is no load to scale on", id="always zero"),
        pytest.param(
            HALF_DAY, ("--column", "tokens"), "has no column tokens; it has ts, gpus", id="no column"
        ),
        pytest.param(HALF_DAY, ("--startup", "soon"), "write a duration such as 90s", id="no duration"),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_what_to_change(
    write: Write, loads: list[float], arguments: tuple[str, ...], sentence: str
) -> None:
    result = run(write(loads), *arguments)
    assert result.exit_code != 0
    assert sentence in " ".join(result.output.split())
