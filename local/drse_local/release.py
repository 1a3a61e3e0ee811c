"""The Helm chart on an embedded cluster, with real processes in place of the pods that kwok simulates.

    async with LocalCluster() as cluster, Release(cluster, operator_replicas=2) as release:
        release.operators[0].kill()
        await release.operators[0].restart()

The release is made by helm itself. Its Deployments are then read back from the API server, and each replica
is started here as its pod would be: same command, arguments and environment, the service account's own token
if the pod would get one, and none if not. So what the chart says is what runs, and its RBAC is what is
allowed. Only addresses differ: Services and container ports become loopback ports.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from drse_local.apiclient import ApiStatusError, Manifest
from drse_local.cluster import LocalCluster
from drse_local.errors import LocalClusterError
from drse_local.pods import (
    Container,
    PodProgram,
    ServiceAddress,
    container_of,
    programs_of,
    service_addresses,
)
from drse_local.ports import LOOPBACK, PortReservation
from drse_local.probes import http_probe
from drse_local.processes import ManagedProcess, ProcessSpec

CHART = Path(__file__).resolve().parents[2] / "helm" / "drse"
#: Where the embedded cluster's Prometheus would be, had it pods: as the Prometheus Operator names it.
PROMETHEUS_SERVICE = "prometheus-operated.monitoring.svc:9090"
_CRDS = ("crd/deepseekjobs.drse.dev", "crd/gpuqueues.drse.dev")
_COLLECTIONS = ("/apis/drse.dev/v1alpha1/deepseekjobs", "/apis/drse.dev/v1alpha1/gpuqueues")
_SERVED_SECONDS = 30.0
_READY_SECONDS = 90.0
_POLL_SECONDS = 0.1

#: Values of the chart, as YAML has them.
Values = Mapping[str, Any]


@dataclass(slots=True)
class Replica:
    """One replica of a Deployment, running as a process. `port` is where it listens on loopback, and
    `container_port` where it would in its pod."""

    cluster: LocalCluster
    spec: ProcessSpec
    port: int
    container_port: int

    @property
    def url(self) -> str:
        """Its base URL, without a trailing slash."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def name(self) -> str:
        """What its pod would be called, such as `drse-operator-0`; names its log too."""
        return self.spec.name

    @property
    def metrics_url(self) -> str:
        """Where Prometheus scrapes it."""
        return f"{self.url}/metrics"

    @property
    def process(self) -> ManagedProcess:
        """The process; raises LocalClusterError when it has been stopped or was never started."""
        process = self.cluster.supervisor.processes.get(self.name)
        if process is None:
            raise LocalClusterError(f"{self.name} has been stopped; start it with restart().")
        return process

    @property
    def running(self) -> bool:
        """Whether its process runs now."""
        process = self.cluster.supervisor.processes.get(self.name)
        return process is not None and process.returncode is None

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises ProcessFailedError with the tail of its log."""
        await self.cluster.run(self.spec)

    def kill(self) -> None:
        """SIGKILL, as an out-of-memory kill would."""
        self.cluster.kill(self.name)

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after the pod's grace period; nothing to do when it does not run."""
        await self.cluster.supervisor.stop(self.name)

    async def restart(self) -> None:
        """Start it again as a kubelet would, under the same pod name; what still runs is stopped first."""
        await self.stop()
        await self.start()


class Release:
    """The chart, installed, and the processes of its Deployments.

    operator_replicas: processes of the operator, of which one leads.
    values: chart values that go over those that an embedded cluster needs.
    code: folders of another version's packages, which its processes then run. Their names tell the two apart,
        as the pods of two ReplicaSets are told apart.
    essential: whether the cluster ends with a program that ends by itself.
    preferred_ports: ports by replica name, of an earlier run, taken again where they are free.
    """

    def __init__(
        self,
        cluster: LocalCluster,
        operator_replicas: int = 1,
        values: Values | None = None,
        *,
        name: str = "drse",
        namespace: str = "drse-system",
        chart: Path = CHART,
        code: Sequence[Path] = (),
        essential: bool = True,
        preferred_ports: Mapping[str, int] | None = None,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self._cluster = cluster
        self._chart = chart
        self._code = tuple(code)
        self._operator_replicas = operator_replicas
        self._values = values or {}
        self._essential = essential
        self._preferred_ports = preferred_ports
        self._addresses: Mapping[str, str] = {}
        self._replicas: dict[str, tuple[Replica, ...]] = {}
        self._ports: PortReservation | None = None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def operators(self) -> tuple[Replica, ...]:
        """The operator's replicas; empty before `start`."""
        return self._replicas.get("operator", ())

    @property
    def forecasters(self) -> tuple[Replica, ...]:
        """The forecaster's one replica, or nothing when the cluster has no Prometheus."""
        return self._replicas.get("forecaster", ())

    @property
    def consoles(self) -> tuple[Replica, ...]:
        """The console's one replica, or nothing unless the values ask for it."""
        return self._replicas.get("console", ())

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """All of them."""
        return tuple(replica for replicas in self._replicas.values() for replica in replicas)

    # -- the release itself ------------------------------------------------------------------------------

    async def install(self) -> None:
        """`helm upgrade --install`, and wait until the API is served. Raises LocalClusterError with helm's
        words. Objects that were applied by hand before become the release's.
        """
        if not self._chart.is_dir():
            raise LocalClusterError(f"There is no chart in {self._chart}; run from a checkout of DRSE.")
        # Not before: the address of Prometheus is known once the cluster has started.
        values = merged(local_values(self._cluster, self._operator_replicas), self._values)
        await self._cluster.helm(
            *("upgrade", "--install", self.name, str(self._chart)),
            *("--namespace", self.namespace, "--create-namespace"),
            *("--take-ownership", "--force-conflicts", "--values", "-"),
            stdin=yaml.safe_dump(values),
        )
        await self._wait_served()

    async def _wait_served(self) -> None:
        """Wait until the new kinds can be listed: for a moment after they are Established they cannot be."""
        await self._cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *_CRDS)
        deadline = time.monotonic() + _SERVED_SECONDS
        async with self._cluster.connect() as api:
            for collection in _COLLECTIONS:
                while True:
                    try:
                        await api.get(collection)
                        break
                    except ApiStatusError:
                        if time.monotonic() > deadline:
                            raise
                        await asyncio.sleep(_POLL_SECONDS)

    async def uninstall(self) -> None:
        """`helm uninstall`. Jobs and queues stay, unless the values say otherwise."""
        await self._cluster.helm("uninstall", self.name, "--namespace", self.namespace, "--ignore-not-found")

    # -- its processes -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Install the chart and start its programs."""
        await self.install()
        await self.run()

    async def run(self) -> None:
        """Start a process for each replica of what is installed, each ready before the next is started."""
        programs = await self._programs()
        names = [name for program in programs for name in program.replica_names]
        ports = PortReservation(names, self._preferred_ports)
        self._ports = ports
        self._addresses = await self._resolve(programs, ports)
        # The operator asks the forecaster at once, and again only after a while.
        for program in sorted(programs, key=lambda each: each.component == "operator"):
            kubeconfig = await self._kubeconfig(program)
            self._replicas[program.component] = tuple(
                self._replica(program, name, ports[name], kubeconfig) for name in program.replica_names
            )
            for replica in self._replicas[program.component]:
                await replica.start()
            self._scrape(program.component, self._replicas[program.component])

    async def stop(self) -> None:
        """Stop the processes, operators first, and give their ports back. The release stays installed."""
        for job, replicas in reversed(list(self._replicas.items())):
            for replica in replicas:
                await replica.stop()
            self._scrape(job, ())
        if self._ports is not None:
            self._ports.close()

    async def task(self, pod: Manifest) -> ProcessSpec:
        """What a pod of the release that ends by itself would run, with its service account's rights.

        Raises LocalClusterError for what cannot be run as a process.
        """
        name = pod["metadata"]["name"]
        container = container_of(name, pod["spec"], f"Pod {name}")
        environment = container.environment(name, self.namespace, self._addresses)
        argv = container.argv(environment, self._addresses)
        return self._process(name, argv, environment, await self._kubeconfig(container))

    async def _programs(self) -> tuple[PodProgram, ...]:
        async with self._cluster.connect() as api:
            deployments = await api.get(
                f"/apis/apps/v1/namespaces/{self.namespace}/deployments", labelSelector=self._selector
            )
        programs = programs_of(deployments["items"])
        return tuple(replace(p, name=f"{p.name}-other") if self._code else p for p in programs)

    async def _resolve(self, programs: Iterable[PodProgram], ports: PortReservation) -> dict[str, str]:
        """Loopback address by the address that pods would use."""
        async with self._cluster.connect() as api:
            services = await api.get(
                f"/api/v1/namespaces/{self.namespace}/services", labelSelector=self._selector
            )
        known: list[ServiceAddress] = list(service_addresses(services["items"]))
        return {
            service.address: f"{LOOPBACK}:{ports[program.replica_names[0]]}"
            for program in programs
            for service in known
            if service.selects(program) and program.replicas
        } | self._prometheus()

    def _prometheus(self) -> dict[str, str]:
        if not self._cluster.has_monitoring:
            return {}
        return {PROMETHEUS_SERVICE: self._cluster.monitoring.prometheus.url.removeprefix("http://")}

    async def _kubeconfig(self, program: Container) -> Path | None:
        if program.service_account is None:
            return None
        return await self._cluster.service_account_kubeconfig(self.namespace, program.service_account)

    def _replica(
        self,
        program: PodProgram,
        name: str,
        port: int,
        kubeconfig: Path | None,
    ) -> Replica:
        moved = {f"0.0.0.0:{program.port}": f"{LOOPBACK}:{port}", **self._addresses}
        environment = program.environment(name, self.namespace, moved)
        url = f"http://{LOOPBACK}:{port}"
        spec = replace(
            self._process(name, program.argv(environment, moved), environment, kubeconfig),
            ready=http_probe(url + program.ready_path),
            ready_timeout=_READY_SECONDS,
            stop_timeout=program.grace_seconds,
            essential=self._essential,
        )
        return Replica(self._cluster, spec, port, program.port)

    def _process(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str], kubeconfig: Path | None
    ) -> ProcessSpec:
        # As outside of a pod, should this machine be one.
        outside = {"KUBERNETES_SERVICE_HOST": "", "KUBECONFIG": str(kubeconfig or "")}
        code = {"PYTHONPATH": os.pathsep.join(map(str, self._code))} if self._code else {}
        command = (_executable(argv[0]), *argv[1:])
        return ProcessSpec(name, command, {**environment, **code, **outside}, essential=False)

    def _scrape(self, component: str, replicas: Iterable[Replica]) -> None:
        if self._cluster.has_monitoring:
            addresses = [replica.url.removeprefix("http://") for replica in replicas]
            self._cluster.monitoring.set_targets(f"{self.name}-{component}", addresses)

    @property
    def _selector(self) -> str:
        return f"app.kubernetes.io/instance={self.name},app.kubernetes.io/part-of=drse"


def local_values(cluster: LocalCluster, operator_replicas: int) -> dict[str, Any]:
    """Chart values of an embedded cluster: its Prometheus, and its node without GPUs for the pods."""
    bare = next((node.group.name for node in cluster.fleet.nodes if not node.gpus), None)
    where = {"nodeSelector": {"local.drse.dev/group": bare}} if bare else {}
    values: dict[str, Any] = {
        "operator": {"replicas": operator_replicas, **where},
        "forecaster": {"enabled": cluster.has_monitoring, **where},
    }
    if cluster.has_monitoring:
        values["prometheus"] = {"url": cluster.monitoring.prometheus.url}
    return values


def merged(base: Values, over: Values) -> dict[str, Any]:
    """Two sets of values as helm merges them: mappings by key, everything else as a whole."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            result[key] = merged(below, value)
        else:
            result[key] = value
    return result


def _executable(command: str) -> str:
    """The program of that name beside this interpreter, as it lies in the image's PATH."""
    folder = str(Path(sys.executable).parent)
    found = shutil.which(command, path=folder)
    if found is None:
        raise LocalClusterError(f"{command} is not in {folder}; install the project there (uv sync).")
    return found
