"""The backtest command: files in, numbers out, sentences for what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from drse_forecaster.cli import main
from drse_forecaster.recorded import SeriesError, read

PROMISED = {
    "series", "points", "origins", "mae", "mae_last_value", "mae_ratio", "p90_coverage", "pinball_p90_ratio",
    "under_capacity_share", "model_share", "seconds",
}  # fmt: skip


def _write(path: Path, values: np.ndarray, step: str = "10min", **columns: np.ndarray) -> Path:
    times = pd.date_range("2025-01-06", periods=values.size, freq=step)
    pd.DataFrame({"ts": times, "load": values, **columns}).to_csv(path, index=False)
    return path


def _run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["backtest", *arguments])
    return result.exit_code, result.output


def test_json_has_what_is_promised_and_draws_a_picture(tmp_path: Path) -> None:
    clock = 3 + 9.0 * (np.arange(3 * 144) % 6 == 0)
    series = _write(tmp_path / "clock.csv.gz", clock)
    picture = tmp_path / "band.png"
    code, output = _run("--series", str(series), "--output", "json", "--plot", str(picture))
    assert code == 0, output
    report = json.loads(output)
    assert set(report) >= PROMISED
    assert report["series"] == "clock:load" and report["points"] == 432
    assert report["mae_ratio"] < 0.3
    assert sum(report["model_share"].values()) == pytest.approx(1.0)
    assert report["mae_ratio"] == pytest.approx(report["mae"] / report["mae_last_value"])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_constant_series_has_no_ratio_and_no_error(tmp_path: Path) -> None:
    code, output = _run("--series", str(_write(tmp_path / "c.csv", np.full(200, 2.0))), "--output", "json")
    report = json.loads(output)
    assert code == 0
    assert report["mae"] == 0 and report["mae_ratio"] is None and report["p90_coverage"] == 1.0


def test_minutes_are_averaged_and_coarse_bins_kept(tmp_path: Path) -> None:
    fine = read(_write(tmp_path / "fine.csv", np.arange(100.0), "1min"), None, 300)
    assert fine.step_seconds == 300 and fine.values[:2].tolist() == [2.0, 7.0]
    coarse = read(_write(tmp_path / "coarse.csv", np.arange(20.0), "10min"), "load", 300)
    assert coarse.step_seconds == 600 and coarse.values[:3].tolist() == [0.0, 1.0, 2.0]


def test_suspect_rows_and_impossible_values_are_missing(tmp_path: Path) -> None:
    values = np.array([1.0, 2.0, -3.0, 4.0, 5.0, np.inf, 7.0, 8.0])
    marked = np.array([0, 0, 0, 0, 1, 0, 0, 0])
    recorded = read(_write(tmp_path / "s.csv", values, suspect=marked), "load", 600)
    assert np.flatnonzero(np.isnan(recorded.values)).tolist() == [2, 4, 5]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ts,load\n2025-01-01,1\n", "two or more"),
        ("ts,load\nsoon,1\nlater,2\n", "not a time"),
        ("ts,load\n2025-01-02,1\n2025-01-01,2\n", "must rise"),
        ("ts,load\n2025-01-01,a\n2025-01-02,b\n", "no column of numbers"),
        ("ts,load\n2025-01-01,-1\n2025-01-02,-2\n", "no usable number"),
        ("", "cannot be read"),
    ],
    ids=["one row", "no times", "falling", "no numbers", "negative", "empty"],
)
def test_unusable_file_is_refused_with_what_to_change(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SeriesError, match=sentence):
        read(path, None, 300)
    code, output = _run("--series", str(path))
    assert code == 1 and sentence in " ".join(output.split())


def test_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    code, output = _run("--series", str(_write(tmp_path / "s.csv", np.arange(50.0))), "--column", "gpus")
    assert code == 1 and "has no column gpus; it has ts, load" in " ".join(output.split())
