"""The whole process: its command line, a real Prometheus, real HTTP, signals. Fits Prophet."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from drse_forecaster.cli import main
from drse_forecaster.contract import ForecastState, JobForecast
from tests.forecaster.forecaster import ForecasterProcess

StartPrometheus = Callable[[str], str]

DAY = 86400
JOB = 'deepseekjob="chat",deepseekjob_namespace="team"'


@contextmanager
def _serving(prometheus: str, port: int, log: Path) -> Iterator[ForecasterProcess]:
    service = ForecasterProcess(prometheus, log, port=port)
    service.start()
    try:
        yield service
    finally:
        service.kill()


def _wait_for(
    service: ForecasterProcess, condition: Callable[[JobForecast], bool], seconds: float = 60
) -> JobForecast:
    deadline = time.monotonic() + seconds
    newest: JobForecast | None = None
    while time.monotonic() < deadline:
        newest = service.answer().find("team", "chat")
        if newest is not None and condition(newest):
            return newest
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds} s; the newest answer is {newest}")


def _days_of_ramps(days: float, rise_in_seconds: int) -> str:
    """Return three GPUs' utilisation: 20 % and, from the rise on for six hours a day, 90 %."""
    now = int(time.time()) // 60 * 60
    rise = now + rise_in_seconds
    first = (now - int(days * DAY)) // 300 * 300
    times = [*range(first, now - 7 * 3600, 300), *range((now - 7 * 3600) // 300 * 300, now + 1, 60)]
    util = ["# TYPE DCGM_FI_DEV_GPU_UTIL gauge"]
    held = ["# TYPE drse_gpu_assigned gauge"]
    for gpu in ("GPU-a", "GPU-b", "GPU-c"):
        for at in times:
            busy = 90 if (at - rise) % DAY < 6 * 3600 else 20
            util.append(f'DCGM_FI_DEV_GPU_UTIL{{UUID="{gpu}",namespace="monitoring"}} {busy} {at}')
            held.append(f'drse_gpu_assigned{{UUID="{gpu}",queue="q",{JOB}}} 1 {at}')
    return "\n".join([*util, *held, "# EOF", ""])


def test_rise_is_forecast_from_recorded_metrics_and_sigterm_ends_it(
    start_prometheus: StartPrometheus, unused_port: int, tmp_path: Path
) -> None:
    prometheus = start_prometheus(_days_of_ramps(4.2, rise_in_seconds=360))
    log = tmp_path / "log"
    with _serving(prometheus, unused_port, log) as service:
        forecast = _wait_for(service, lambda one: one.skill is not None)
        assert forecast.state is ForecastState.READY
        assert forecast.load == pytest.approx(0.6, abs=0.01)
        highest = forecast.highest_p90(10)
        assert highest is not None and highest > 1.5, "2.7 GPU-equivalents come in six minutes"
        assert forecast.history_seconds == pytest.approx(4.2 * DAY, abs=900)
        metrics = httpx.get(f"{service.url}/metrics").text
        assert 'drse_forecast_actual_load{deepseekjob="chat",deepseekjob_namespace="team"} 0.6' in metrics
        assert 'drse_forecast_fit_seconds_count{model="prophet"}' in metrics
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=10) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["level"] for line in lines} == {"info"}, "neither complaints nor other programs' chatter"


def test_without_prometheus_it_serves_says_so_and_ends_on_sigterm(unused_port: int, tmp_path: Path) -> None:
    with _serving("http://127.0.0.1:9", unused_port, tmp_path / "log") as service:
        assert "does not answer" in httpx.get(f"{service.url}/readyz").json()["message"]
        assert service.answer().forecasts == ()
        assert httpx.get(f"{service.url}/v1/forecasts/team/chat").status_code == 404
        assert httpx.get(f"{service.url}/healthz").status_code == 200
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=10) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--step", "90s"], "whole number of minutes"),
        (["--history", "1h"], "3 hours or more"),
        (["--interval", "often"], "write a number and s, m, h or d"),
        (["--listen", "8090"], "write HOST:PORT"),
        (["--utilization-metric", "a b"], "is not a Prometheus name"),
        (["--utilization-metric", "util:none"], "is not a number"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_bad_option_is_refused_with_what_to_change(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(main, ["serve", "--prometheus-url", "http://127.0.0.1:9", *arguments])
    assert result.exit_code == 2
    assert sentence in " ".join(result.output.split())


def test_query_command_prints_what_serve_would_ask() -> None:
    result = CliRunner().invoke(main, ["query", "--utilization-metric", "amd_busy:1:gpu_uuid"])
    assert result.exit_code == 0
    assert (
        'label_replace(max by (gpu_uuid) (amd_busy) / 1, "UUID", "$1", "gpu_uuid", "(.+)")' in result.output
    )
    assert "DCGM" not in result.output
