"""A real Prometheus on a folder of its own, filled with recorded samples, scraping what it is told to."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import yaml

from drse_local.binaries import ensure_binaries
from drse_local.ports import LOOPBACK


class PrometheusProcess:
    """One Prometheus; ``start`` and ``stop`` as often as a test wants, its data stay."""

    def __init__(self, folder: Path, port: int, targets: Sequence[str] = ()) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self._folder = folder
        self._binaries = ensure_binaries(["prometheus", "promtool"])
        self._process: subprocess.Popen[bytes] | None = None
        scrapes = [{"job_name": "test", "scrape_interval": "1s", "static_configs": [{"targets": [*targets]}]}]
        config = yaml.safe_dump({"scrape_configs": scrapes if targets else []})
        (folder / "prometheus.yml").write_text(config, encoding="utf-8")

    def backfill(self, openmetrics: str) -> None:
        """Store samples, before the first start."""
        text = self._folder / "samples.om"
        text.write_text(openmetrics, encoding="utf-8")
        create = ["tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=162h"]
        command = [self._binaries["promtool"], *create, str(text), str(self._folder / "data")]
        subprocess.run(command, check=True, capture_output=True)

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            self._binaries["prometheus"],
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            "--storage.tsdb.retention.time=30d",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        log = self._folder / "prometheus.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/-/ready", timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"Prometheus did not start; its log ends with:\n{log.read_text()[-2000:]}")

    def stop(self) -> None:
        """End it as a node that goes down would: at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
