"""Prometheus of the embedded cluster.

Targets come from files (one a scrape job, in `targets/`), so the operator and the forecaster can be added,
moved and removed while it runs. A target's `instance` is its job's name unless several are given: ports
differ from run to run, and series should not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from drse_local.ports import LOOPBACK
from drse_local.probes import http_probe
from drse_local.processes import ProcessSpec

_SCRAPE_SECONDS = 5
_EVALUATION_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Configuration of one Prometheus. `folder` is its own; `rule_files` may hold patterns."""

    folder: Path
    port: int
    rule_files: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Base URL of its HTTP API."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def tsdb(self) -> Path:
        """Its data folder."""
        return self.folder / "data"

    def prepare(self) -> None:
        """Write the configuration."""
        (self.folder / "targets").mkdir(parents=True, exist_ok=True)
        self.tsdb.mkdir(parents=True, exist_ok=True)
        targets = str(self.folder / "targets" / "*.json")
        scrape = {
            "job_name": "drse-local",
            "file_sd_configs": [{"files": [targets], "refresh_interval": f"{_SCRAPE_SECONDS}s"}],
        }
        document = {
            "global": {
                "scrape_interval": f"{_SCRAPE_SECONDS}s",
                "scrape_timeout": f"{_SCRAPE_SECONDS}s",
                "evaluation_interval": f"{_EVALUATION_SECONDS}s",
            },
            "rule_files": list(self.rule_files),
            "scrape_configs": [scrape],
        }
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")

    def spec(self, binary: str) -> ProcessSpec:
        """How it is run; it keeps 30 days."""
        argv = (
            binary,
            f"--config.file={self.folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self.tsdb}",
            "--storage.tsdb.retention.time=30d",
            f"--web.listen-address={LOOPBACK}:{self.port}",
            "--web.enable-lifecycle",
            "--log.level=warn",
        )
        return ProcessSpec("prometheus", argv, ready=http_probe(f"{self.url}/-/ready"))

    def set_targets(self, job: str, addresses: Sequence[str]) -> None:
        """Scrape `host:port` addresses as `job` from now on (noticed within 5 s); none removes the job."""
        path = self.folder / "targets" / f"{job}.json"
        if not addresses:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        names = [job] if len(addresses) == 1 else [f"{job}-{index}" for index in range(len(addresses))]
        groups = [
            {"targets": [address], "labels": {"job": job, "instance": name}}
            for address, name in zip(addresses, names, strict=True)
        ]
        staged = path.with_suffix(".partial")
        staged.write_text(json.dumps(groups), encoding="utf-8")
        staged.replace(path)
