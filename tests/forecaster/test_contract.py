"""What readers of forecasts may rely on."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from drse_forecaster.contract import ForecastList, ForecastPoint, ForecastState, JobForecast

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def _forecast(
    state: ForecastState = ForecastState.READY, p90: tuple[float, ...] = (3.0, 9.0, 4.0)
) -> JobForecast:
    points = tuple(
        ForecastPoint(minutes=minutes, p50=1.0, p90=high)
        for minutes, high in zip((1, 5, 10), p90, strict=True)
    )
    return JobForecast(
        namespace="team", name="chat", state=state, reason="ok", as_of=NOON, load=1.0, points=points
    )


def test_wire_format_is_camel_case_with_nulls() -> None:
    document = json.loads(
        ForecastList(generated_at=NOON, forecasts=(_forecast(),)).model_dump_json(by_alias=True)
    )
    assert document["generatedAt"] == "2026-01-05T12:00:00Z"
    assert document["horizonMinutes"] == 10
    job = document["forecasts"][0]
    assert job["asOf"] == "2026-01-05T12:00:00Z"
    assert job["skill"] is None and job["coverage"] is None and job["model"] is None
    assert job["historySeconds"] == 0
    assert job["points"][0] == {"minutes": 1, "p50": 1.0, "p90": 3.0}


def test_reader_accepts_what_was_written_and_fields_it_does_not_know() -> None:
    original = ForecastList(generated_at=NOON, forecasts=(_forecast(),))
    document = json.loads(original.model_dump_json(by_alias=True))
    document["forecasts"][0]["fromTheFuture"] = 1
    assert ForecastList.model_validate(document) == original


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_no_load_that_is_none(value: float) -> None:
    with pytest.raises(ValidationError):
        ForecastPoint(minutes=1, p50=value, p90=1.0)
    with pytest.raises(ValidationError):
        ForecastPoint(minutes=1, p50=0.0, p90=value)
    with pytest.raises(ValidationError):
        JobForecast(namespace="a", name="b", state=ForecastState.STALE, reason="r", load=value)


def test_p90_below_p50_is_refused() -> None:
    with pytest.raises(ValidationError, match="p90"):
        ForecastPoint(minutes=1, p50=2.0, p90=1.0)


def test_ready_without_points_is_refused() -> None:
    with pytest.raises(ValidationError, match="Ready"):
        JobForecast(namespace="a", name="b", state=ForecastState.READY, reason="r")


@pytest.mark.parametrize(
    ("minutes", "highest"), [(1, 3.0), (2, 9.0), (5, 9.0), (10, 9.0)], ids=["first", "between", "on", "end"]
)
def test_highest_p90_covers_the_lead_time(minutes: float, highest: float) -> None:
    assert _forecast().highest_p90(minutes) == highest


def test_highest_p90_is_unknown_beyond_the_last_point_or_when_not_ready() -> None:
    assert _forecast().highest_p90(11) is None
    assert _forecast(ForecastState.STALE).highest_p90(5) is None


def test_find_names_one_job() -> None:
    answer = ForecastList(generated_at=NOON, forecasts=(_forecast(),))
    assert answer.find("team", "chat") is answer.forecasts[0]
    assert answer.find("chat", "team") is None


def test_reader_of_forecasts_needs_no_forecasting_library() -> None:
    heavy = "{'numpy', 'pandas', 'prophet'}"
    code = f"import sys, drse_forecaster.contract; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
