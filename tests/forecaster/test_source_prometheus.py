"""The load query and the reader against a real Prometheus.

Level: integration with Prometheus; the rounds on plain data are in test_rounds.py.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from drse_forecaster.queries import build_load_query
from drse_forecaster.series import JobKey, JobSamples, SeriesShape
from drse_forecaster.source import PrometheusSettings, PrometheusSource, SourceError, SourceErrorKind
from drse_local.pki import create_pki
from tests.forecaster.guarded import guarded

StartPrometheus = Callable[[str], str]
Labels = dict[str, str]

MINUTE = 60
STEPS = 30


def _job(name: str) -> Labels:
    return {"deepseekjob": name, "deepseekjob_namespace": "team"}


def _gpu(uuid: str) -> Labels:
    # an exporter's scrape adds its own namespace, which must not be taken for the job's
    return {"UUID": uuid, "gpu": "0", "Hostname": "node-1", "namespace": "monitoring"}


class _Recording:
    """Samples of several metrics, a minute apart, as OpenMetrics text."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._by_metric: dict[str, list[str]] = {}

    def add(self, metric: str, labels: Labels, values: Iterable[float], start: int = 0) -> None:
        pairs = ",".join(f'{name}="{value}"' for name, value in labels.items())
        self._by_metric.setdefault(metric, []).extend(
            f"{metric}{{{pairs}}} {value} {self._first + MINUTE * (start + place)}"
            for place, value in enumerate(values)
        )

    def text(self) -> str:
        lines = []
        for metric, samples in self._by_metric.items():
            lines += [f"# TYPE {metric} gauge", *samples]
        return "\n".join([*lines, "# EOF", ""])


def _record(first: int) -> str:
    """Five jobs, each with one thing that a naive join gets wrong."""
    record = _Recording(first)
    always = [1.0] * STEPS
    # chat: two GPUs, one of them scraped twice; utilisation 0.5 + 1.0, requests ask for 3
    for uuid, util in (("GPU-a", 50.0), ("GPU-b", 100.0)):
        record.add("DCGM_FI_DEV_GPU_UTIL", _gpu(uuid), [util] * STEPS)
        record.add("drse_gpu_assigned", {"UUID": uuid, "queue": "q", **_job("chat")}, always)
    record.add("DCGM_FI_DEV_GPU_UTIL", {**_gpu("GPU-b"), "instance": "twice"}, [100.0] * STEPS)
    for pod, running, waiting in (("p0", 8.0, 4.0), ("p1", 8.0, 4.0)):
        record.add("vllm:num_requests_running", {**_job("chat"), "pod": pod}, [running] * STEPS)
        record.add("vllm:num_requests_waiting", {**_job("chat"), "pod": pod}, [waiting] * STEPS)
    record.add("drse_job_target_concurrency", _job("chat"), [16.0] * STEPS)
    record.add("drse_job_gpus_per_replica", _job("chat"), [2.0] * STEPS)
    # train: utilisation only, on an AMD GPU, whose exporter has its own label for the UUID
    record.add("gpu_gfx_activity", {"gpu_uuid": "GPU-c", "namespace": "monitoring"}, [75.0] * STEPS)
    record.add("drse_gpu_assigned", {"UUID": "GPU-c", "queue": "q", **_job("train")}, always)
    # new: took GPU-d over from old in minute 15; old's series ends without a stale marker
    record.add("DCGM_FI_DEV_GPU_UTIL", _gpu("GPU-d"), [40.0] * STEPS)
    record.add("drse_gpu_assigned", {"UUID": "GPU-d", "queue": "q", **_job("old")}, [1.0] * 15)
    record.add("drse_gpu_assigned", {"UUID": "GPU-d", "queue": "q", **_job("new")}, [1.0] * 15, start=15)
    # idle: nobody holds GPU-e
    record.add("DCGM_FI_DEV_GPU_UTIL", _gpu("GPU-e"), [0.0] * STEPS)
    # warm: GPU-g of a replica that loads its weights is busy and serves nobody, until minute 20
    for uuid, util in (("GPU-f", 60.0), ("GPU-g", 100.0)):
        record.add("DCGM_FI_DEV_GPU_UTIL", _gpu(uuid), [util] * STEPS)
        record.add("drse_gpu_assigned", {"UUID": uuid, "queue": "q", **_job("warm")}, always)
    record.add("drse_gpu_starting", {"UUID": "GPU-g", **_job("warm")}, [1.0] * 15)
    # two operators speak for chat for a moment
    record.add("drse_job_target_concurrency", {**_job("chat"), "instance": "other"}, [16.0] * 5)
    # zero: a target concurrency of zero is no load, not an infinite one
    record.add("vllm:num_requests_running", _job("zero"), [3.0] * STEPS)
    record.add("drse_job_target_concurrency", _job("zero"), [0.0] * STEPS)
    record.add("drse_job_gpus_per_replica", _job("zero"), [1.0] * STEPS)
    return record.text()


@pytest.fixture(scope="module")
def first() -> int:
    return int(time.time()) // 300 * 300 - STEPS * MINUTE


@pytest.fixture(scope="module")
def url(start_prometheus: StartPrometheus, first: int) -> str:
    return start_prometheus(_record(first))


def _source(url: str, query: str | None = None) -> PrometheusSource:
    settings = PrometheusSettings(url=url, query=query or build_load_query())
    return PrometheusSource(settings, SeriesShape())


def _by_name(batch: list[JobSamples]) -> dict[str, JobSamples]:
    assert all(one.key.namespace == "team" for one in batch)
    return {one.key.name: one for one in batch}


async def test_load_of_each_job_is_joined_by_gpu(url: str, first: int) -> None:
    found = _by_name(await _source(url).recent(first, first + (STEPS - 1) * MINUTE))
    assert set(found) == {"chat", "train", "old", "new", "warm"}
    # requests: (8 + 4 + 8 + 4) / 16 * 2 = 3 GPU-equivalents, more than 1.5 from utilisation
    assert found["chat"].times.tolist() == [first + MINUTE * step for step in range(STEPS)]
    assert np.allclose(found["chat"].values, 3.0)
    assert np.allclose(found["train"].values, 0.75)


async def test_gpus_of_a_starting_replica_are_no_load(url: str, first: int) -> None:
    warm = _by_name(await _source(url).recent(first, first + (STEPS - 1) * MINUTE))["warm"]
    assert np.allclose(warm.values[:15], 0.6)
    assert np.allclose(warm.values[-5:], 1.6)


async def test_gpu_handed_over_counts_for_one_job_at_a_time(url: str, first: int) -> None:
    found = _by_name(await _source(url).recent(first, first + (STEPS - 1) * MINUTE))
    change = first + 15 * MINUTE
    assert np.allclose(found["old"].values, 0.4)
    assert np.allclose(found["new"].values, 0.4)
    assert found["old"].times.max() == change - MINUTE
    assert found["new"].times.min() == change


async def test_history_is_on_the_coarse_grid_and_reads_no_time_twice(url: str, first: int) -> None:
    found = _by_name(await _source(url).history(first + STEPS * MINUTE - 1))
    times = found["train"].times
    assert times.tolist() == sorted(set(times.tolist()))
    assert (times % 300 == 0).all()
    assert times.min() == first and times.size == STEPS // 5


async def test_nothing_recorded_is_no_job(url: str, first: int) -> None:
    assert await _source(url).recent(first - 7200, first - 3600) == []


async def test_series_without_job_labels_are_left_out(url: str, first: int) -> None:
    assert await _source(url, "DCGM_FI_DEV_GPU_UTIL").recent(first, first + MINUTE) == []


async def test_bad_query_is_refused(url: str, first: int) -> None:
    with pytest.raises(SourceError, match="refused the query") as caught:
        await _source(url, "sum(").recent(first, first + MINUTE)
    assert caught.value.kind is SourceErrorKind.REFUSED


async def test_nobody_there_is_unreachable(unused_port: int, first: int) -> None:
    with pytest.raises(SourceError, match="does not answer") as caught:
        await _source(f"http://127.0.0.1:{unused_port}").recent(first, first + MINUTE)
    assert caught.value.kind is SourceErrorKind.UNREACHABLE


async def test_a_token_that_is_renewed_and_a_certificate_of_ones_own(
    url: str, first: int, tmp_path: Path
) -> None:
    token, pki = tmp_path / "token", create_pki(tmp_path / "pki")

    def source(address: str, ca: Path | None) -> PrometheusSource:
        settings = PrometheusSettings(url=address, query=build_load_query(), token_file=token, ca_file=ca)
        return PrometheusSource(settings, SeriesShape())

    with guarded(url, pki, "right") as address:
        trusting = source(address, pki.ca_cert)
        token.write_text("wrong\n")
        with pytest.raises(SourceError, match="403"):
            await trusting.recent(first, first + MINUTE)
        token.write_text("right\n")
        assert "train" in _by_name(await trusting.recent(first, first + MINUTE))
        with pytest.raises(SourceError, match="SSLError"):
            await source(address, None).recent(first, first + MINUTE)
        token.unlink()
        with pytest.raises(SourceError, match="cannot be read"):
            await trusting.recent(first, first + MINUTE)


async def test_nan_arrives_as_nan(url: str, first: int) -> None:
    query = f"({build_load_query()}) * NaN"
    found = _by_name(await _source(url, query).recent(first, first + MINUTE))
    assert found["train"].key == JobKey("team", "train")
    assert np.isnan(found["train"].values).all()


class _Greeter(BaseHTTPRequestHandler):
    """Some other service."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"Hello!")

    def log_message(self, format: str, *args: object) -> None: ...


async def test_another_service_is_told_apart_from_prometheus(first: int) -> None:
    with HTTPServer(("127.0.0.1", 0), _Greeter) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(SourceError, match="not Prometheus' API") as caught:
            await _source(f"http://127.0.0.1:{server.server_port}").recent(first, first + MINUTE)
        server.shutdown()
    assert caught.value.kind is SourceErrorKind.MALFORMED


async def test_silence_ends_at_the_time_out(first: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = PrometheusSettings(url=url, query="up", read_timeout=0.3)
        began = time.monotonic()
        with pytest.raises(SourceError, match="ReadTimeout") as caught:
            await PrometheusSource(settings, SeriesShape()).recent(first, first + MINUTE)
    assert caught.value.kind is SourceErrorKind.UNREACHABLE
    assert time.monotonic() - began < 5, "no hidden retries"
