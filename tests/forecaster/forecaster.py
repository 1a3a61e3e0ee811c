"""``drse-forecaster serve`` as its own process, which can be killed like any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from drse_forecaster.contract import ForecastList


class ForecasterProcess:
    """Rounds every two seconds; settings of a forecaster that may run on this machine are left out."""

    def __init__(
        self, prometheus: str, log: Path, *arguments: str, port: int, host: str = "127.0.0.1"
    ) -> None:
        self.url = f"http://{host}:{port}"
        self.log = log
        own = ("--prometheus-url", prometheus, "--listen", f"{host}:{port}", "--interval", "2s")
        self._argv = (
            sys.executable,
            "-m",
            "drse_forecaster",
            "serve",
            "--log-format",
            "json",
            *own,
            *arguments,
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def start(self, seconds: float = 60) -> None:
        """Start it and wait until it has made a first round."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DRSE_FORECASTER_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, env=environment, stderr=log)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready; its log ends with:\n{self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """As a crash would end it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def answer(self) -> ForecastList:
        response = httpx.get(f"{self.url}/v1/forecasts", timeout=10, trust_env=False)
        return ForecastList.model_validate_json(response.content)
