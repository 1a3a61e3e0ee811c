"""Prometheus and the exporters' stand-in, as one part of the embedded cluster.

The anchor (the instant from which a scenario's offsets count) is stored with the instance, so the load of a
named instance goes on where the clock is when it is started again. Its recorded past is made once, at the
first start.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import BaseModel

from drse_local.binaries import Binaries
from drse_local.fleet import Fleet
from drse_local.history import GPU_SCRAPE, backfill
from drse_local.ports import LOOPBACK, PortReservation
from drse_local.probes import http_probe
from drse_local.processes import ProcessSpec, Supervisor
from drse_local.prometheus import Prometheus
from drse_local.scenario import Scenario

PORT_NAMES = ("prometheus", GPU_SCRAPE)


@dataclass(frozen=True, slots=True)
class MonitoringOptions:
    """scenario: load of the jobs. rule_files: absolute paths or patterns of Prometheus rules.
    anchor: instant from which the scenario's offsets count, seconds since the epoch; None means the first
    start."""

    scenario: Scenario = field(default_factory=Scenario)
    rule_files: tuple[str, ...] = ()
    anchor: float | None = None


class Monitoring:
    """Prepares, starts and describes the monitoring of one cluster."""

    def __init__(
        self, folder: Path, fleet: Fleet, options: MonitoringOptions, ports: PortReservation
    ) -> None:
        self._folder = folder
        self._options = options
        self._port = ports[GPU_SCRAPE]
        self.prometheus = Prometheus(folder / "prometheus", ports["prometheus"], options.rule_files)
        self.anchor = _anchor(folder / "anchor", options.anchor)
        self._fleet_file = _dump(fleet, folder / "fleet.yaml")
        self._scenario_file = _dump(options.scenario, folder / "scenario.yaml")

    async def start_prometheus(self, supervisor: Supervisor, binaries: Binaries) -> None:
        """Make the recorded past (first start only), then start Prometheus."""
        self.prometheus.prepare()
        self.prometheus.set_targets(GPU_SCRAPE, [f"{LOOPBACK}:{self._port}"])
        if not any(self.prometheus.tsdb.iterdir()):
            await backfill(
                binaries["promtool"],
                self._options.scenario,
                self.anchor,
                time.time(),
                self.prometheus.tsdb,
                self._folder,
            )
        await supervisor.start(self.prometheus.spec(binaries["prometheus"]))

    def exporter_spec(self, kubeconfig: Path) -> ProcessSpec:
        """How the exporters' stand-in is run; it needs the API server."""
        argv = (
            *(sys.executable, "-m", "drse_local.gpumetrics"),
            f"--kubeconfig={kubeconfig}",
            f"--fleet={self._fleet_file}",
            f"--scenario={self._scenario_file}",
            f"--anchor={self.anchor}",
            f"--port={self._port}",
        )
        return ProcessSpec(GPU_SCRAPE, argv, ready=http_probe(f"{self.exporter_url}/readyz"))

    @property
    def exporter_url(self) -> str:
        """Base URL of the exporters' stand-in; its metrics are at `/metrics`."""
        return f"http://{LOOPBACK}:{self._port}"

    def set_targets(self, job: str, addresses: Sequence[str]) -> None:
        """Let Prometheus scrape `host:port` addresses as `job`; none removes the job."""
        self.prometheus.set_targets(job, addresses)


def _anchor(path: Path, wanted: float | None) -> float:
    if not path.exists():
        path.write_text(repr(time.time() if wanted is None else wanted), encoding="utf-8")
    return float(path.read_text(encoding="utf-8"))


def _dump(model: BaseModel, path: Path) -> Path:
    document = model.model_dump(by_alias=True, mode="json", exclude_none=True)
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path
