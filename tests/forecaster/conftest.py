"""A real Prometheus for the tests that need one, filled with recorded samples.

Everything else under this folder runs on plain data.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from drse_local.binaries import ensure_binaries

StartPrometheus = Callable[[str], str]


@pytest.fixture(scope="module")
def start_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartPrometheus]:
    """Return a function from OpenMetrics text to the URL of a Prometheus that holds those samples."""
    binaries = ensure_binaries(["prometheus", "promtool"])
    with ExitStack() as stack:

        def start(openmetrics: str) -> str:
            folder = tmp_path_factory.mktemp("prometheus")
            _backfill(binaries["promtool"], openmetrics, folder)
            return stack.enter_context(_prometheus(binaries["prometheus"], folder))

        yield start


def _backfill(promtool: str, openmetrics: str, folder: Path) -> None:
    text = folder / "samples.om"
    text.write_text(openmetrics, encoding="utf-8")
    create = [promtool, "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=162h"]
    subprocess.run([*create, str(text), str(folder / "data")], check=True, capture_output=True)


@contextmanager
def _prometheus(binary: str, folder: Path) -> Iterator[str]:
    (folder / "prometheus.yml").write_text("scrape_configs: []\n", encoding="utf-8")
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        binary,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=30d",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]
    log = folder / "prometheus.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            _wait_until_ready(url, process, log)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/-/ready", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"Prometheus did not start; its log ends with:\n{log.read_text()[-2000:]}")


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def unused_port() -> int:
    return free_port()


@pytest.fixture
def clean_environment() -> dict[str, str]:
    """The environment without settings of a forecaster that may run on this machine."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DRSE_FORECASTER_")}
