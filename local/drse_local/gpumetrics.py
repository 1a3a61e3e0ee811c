"""The exporters' stand-in: one HTTP process that serves the metrics of every GPU and engine of the fleet.

It follows pods and ResourceClaims in the API server, and at each scrape works out who holds what and how busy
that makes each device.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import click
import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from drse_local.apiclient import Mirror, connect
from drse_local.fleet import load_fleet
from drse_local.holdings import Holdings
from drse_local.ports import LOOPBACK
from drse_local.samples import Sample, SampleSource
from drse_local.scenario import Scenario, load_scenario

PODS = "/api/v1/pods"
CLAIMS = "/apis/resource.k8s.io/v1/resourceclaims"


class _Snapshot(Collector):
    """Presents one list of samples to prometheus_client."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = samples

    def collect(self) -> Iterable[GaugeMetricFamily]:
        families: dict[str, GaugeMetricFamily] = {}
        for sample in self._samples:
            if sample.name not in families:
                families[sample.name] = GaugeMetricFamily(
                    sample.name, "Simulated.", labels=list(sample.labels)
                )
            families[sample.name].add_metric(list(sample.labels.values()), sample.value)
        return families.values()


def exposition(samples: Iterable[Sample]) -> bytes:
    """The samples in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(samples))
    return generate_latest(registry)


def create_app(kubeconfig: Path, holdings: Holdings, source: SampleSource) -> Starlette:
    """The service: `/metrics`, and `/readyz`, which answers 200 once pods and claims are known."""
    mirrors: dict[str, Mirror] = {}

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with connect(kubeconfig) as api:
            for path in (PODS, CLAIMS):
                mirrors[path] = Mirror(api, path)
            tasks = [asyncio.create_task(mirror.run(), name=path) for path, mirror in mirrors.items()]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def unsynced() -> list[str]:
        return [path for path in (PODS, CLAIMS) if path not in mirrors or not mirrors[path].synced]

    async def metrics(request: Request) -> Response:
        if unsynced():
            # Saying that nobody holds anything would be a lie that Prometheus keeps.
            return PlainTextResponse("pods and claims are not known yet\n", status_code=503)
        holders = holdings.update(mirrors[PODS].objects.values(), mirrors[CLAIMS].objects)
        return Response(exposition(source.samples(holders, time.time())), media_type=CONTENT_TYPE_LATEST)

    async def readyz(request: Request) -> Response:
        if waiting := unsynced():
            return PlainTextResponse(f"not listed yet: {', '.join(waiting)}\n", status_code=503)
        return PlainTextResponse("ok\n")

    return Starlette(routes=[Route("/metrics", metrics), Route("/readyz", readyz)], lifespan=lifespan)


@click.command()
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path), required=True, help="Access to the API server."
)
@click.option("--fleet", required=True, help="The fleet file the cluster was started with.")
@click.option(
    "--scenario", type=click.Path(path_type=Path), help="Load of the jobs; without it all are training."
)
@click.option("--anchor", type=float, required=True, help="Start of the scenario, seconds since the epoch.")
@click.option("--port", type=int, required=True, help="Loopback port to serve on.")
def main(kubeconfig: Path, fleet: str, scenario: Path | None, anchor: float, port: int) -> None:
    """Serve the GPU and engine metrics of an embedded cluster. Started by drse-local, not by hand."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    nodes = load_fleet(fleet)
    script = load_scenario(scenario) if scenario else Scenario()
    app = create_app(kubeconfig, Holdings(nodes), SampleSource(nodes, script, anchor))
    uvicorn.run(app, host=LOOPBACK, port=port, log_level="warning")


if __name__ == "__main__":
    main()
