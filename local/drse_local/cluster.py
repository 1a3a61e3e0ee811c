"""The embedded cluster as one object: start it, use it, stop it.

    async with LocalCluster(fleet=load_fleet("small")) as cluster:
        await cluster.kubectl("get", "nodes")

Order of start: etcd, API server, then controller manager, scheduler and kwok side by side while the fleet's
nodes are created; Prometheus and the GPU metrics source when asked for. Stop is the reverse. Programs die
with the process that holds the object, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from kubernetes.aio import client

from drse_local import forwards
from drse_local.apiclient import KubeApi, client_configuration, connect
from drse_local.binaries import Binaries, ensure_binaries
from drse_local.concurrency import concurrently
from drse_local.controlplane import PORT_NAMES as PLANE_PORTS
from drse_local.controlplane import ControlPlane, server_url
from drse_local.errors import LocalClusterError
from drse_local.fleet import Fleet, load_fleet
from drse_local.kubeconfig import TokenCredential, write_kubeconfig
from drse_local.monitoring import PORT_NAMES as MONITORING_PORTS
from drse_local.monitoring import Monitoring, MonitoringOptions
from drse_local.pki import create_pki
from drse_local.populate import populate, wait_nodes_ready
from drse_local.ports import PortReservation
from drse_local.processes import ManagedProcess, ProcessSpec, Supervisor
from drse_local.tools import CLIENT_TOOLS, CONTROL_PLANE_TOOLS, PROMETHEUS_TOOLS

_NODES_READY_SECONDS = 60.0
_TOKEN_SECONDS = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command printed."""

    stdout: str
    stderr: str


class LocalCluster:
    """A real control plane with simulated nodes, on loopback ports of its own.

    folder: where its data lives; None means a temporary folder that goes with it.
    fleet: nodes to create; None means the default fleet.
    monitoring: None means neither Prometheus nor GPU metrics.
    preferred_ports: ports of an earlier run, taken again where they are free, so that kubeconfigs stay valid.
    """

    def __init__(
        self,
        folder: Path | None = None,
        fleet: Fleet | None = None,
        monitoring: MonitoringOptions | None = None,
        preferred_ports: Mapping[str, int] | None = None,
    ) -> None:
        self.fleet = fleet or load_fleet("default")
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="drse-local-"))
        self.supervisor = Supervisor(self.folder / "logs")
        self._options = monitoring
        self._monitoring: Monitoring | None = None
        self._preferred_ports = preferred_ports
        self._ports: PortReservation | None = None
        self._plane: ControlPlane | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start everything; on failure nothing is left running. Raises LocalClusterError (with log tail)."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        tools = CONTROL_PLANE_TOOLS + CLIENT_TOOLS + (PROMETHEUS_TOOLS if self._options else ())
        binaries = await asyncio.to_thread(ensure_binaries, tools)
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = PortReservation(
            (*PLANE_PORTS, *(MONITORING_PORTS if self._options else ())), self._preferred_ports
        )
        self._ports = ports
        self._plane = ControlPlane.prepare(self.folder, binaries, create_pki(self.folder / "pki"), ports)
        _link_clients(self.folder / "bin", binaries)
        if self._options is not None:
            self._monitoring = Monitoring(self.folder, self.fleet, self._options, ports)
        await concurrently(self._start_plane(self._plane), self._start_prometheus(binaries))

    async def _start_plane(self, plane: ControlPlane) -> None:
        await self.supervisor.start(plane.etcd_spec())
        await self.supervisor.start(plane.apiserver_spec())
        async with self.connect() as api:
            await forwards.install(api)
        clients = [plane.controller_manager_spec(), plane.scheduler_spec(), plane.kwok_spec()]
        if self._monitoring is not None:
            clients.append(self._monitoring.exporter_spec(self.kubeconfig))
        await concurrently(self._create_nodes(), *(self.supervisor.start(spec) for spec in clients))

    async def _start_prometheus(self, binaries: Binaries) -> None:
        if self._monitoring is not None:
            await self._monitoring.start_prometheus(self.supervisor, binaries)

    async def _create_nodes(self) -> None:
        async with self.connect() as api:
            await populate(api, self.fleet, self.plane.ports["kwok"])
            missing = await wait_nodes_ready(api, self.fleet, _NODES_READY_SECONDS)
        if missing:
            raise LocalClusterError(
                f"{len(missing)} nodes ({missing[0]}, ...) were not Ready after {_NODES_READY_SECONDS:g} s; "
                f"see {self.folder / 'logs' / 'kwok.log'}."
            )

    async def stop(self) -> None:
        """Stop everything and give the ports back; a temporary data folder is removed."""
        await self.supervisor.stop_all()
        if self._ports is not None:
            self._ports.close()
        if self._temporary:
            await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    @property
    def plane(self) -> ControlPlane:
        """The control plane; raises LocalClusterError before start."""
        if self._plane is None:
            raise LocalClusterError("The cluster has not been started.")
        return self._plane

    @property
    def has_monitoring(self) -> bool:
        """Whether it was started with Prometheus and GPU metrics."""
        return self._monitoring is not None

    @property
    def monitoring(self) -> Monitoring:
        """Prometheus and the GPU metrics; raises LocalClusterError when the cluster has none."""
        if self._monitoring is None:
            raise LocalClusterError("The cluster was started without Prometheus.")
        return self._monitoring

    @property
    def binaries(self) -> Binaries:
        """The programs the cluster runs."""
        return self.plane.binaries

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.plane.kubeconfigs.admin

    @property
    def server(self) -> str:
        """URL of the API server."""
        return server_url(self.plane.ports)

    @property
    def ports(self) -> dict[str, int]:
        """Loopback port of each component."""
        return self.plane.ports.as_dict()

    async def client_configuration(self) -> client.Configuration:
        """The administrator's client configuration, for kubernetes.aio."""
        return await client_configuration(self.kubeconfig)

    def connect(self) -> contextlib.AbstractAsyncContextManager[KubeApi]:
        """`async with cluster.connect() as api:` an administrator's client for JSON documents."""
        return connect(self.kubeconfig)

    async def kubectl(self, *args: str, stdin: str | None = None) -> CommandResult:
        """Run kubectl as administrator. Raises LocalClusterError with what it printed when it fails."""
        return await self._run([self.binaries["kubectl"], *args], stdin)

    async def helm(self, *args: str, stdin: str | None = None) -> CommandResult:
        """Run helm as administrator. Raises LocalClusterError with what it printed when it fails."""
        return await self._run([self.binaries["helm"], *args], stdin)

    async def _run(self, argv: Sequence[str], stdin: str | None) -> CommandResult:
        private = {
            "KUBECONFIG": str(self.kubeconfig),
            "HELM_CACHE_HOME": str(self.folder / "helm" / "cache"),
            "HELM_CONFIG_HOME": str(self.folder / "helm" / "config"),
            "HELM_DATA_HOME": str(self.folder / "helm" / "data"),
        }
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **private},
        )
        out, err = await process.communicate(stdin.encode() if stdin is not None else None)
        if process.returncode != 0:
            name = Path(argv[0]).name
            raise LocalClusterError(
                f"{name} {' '.join(argv[1:])} failed: {err.decode(errors='replace').strip()}"
            )
        return CommandResult(out.decode(errors="replace"), err.decode(errors="replace"))

    async def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig that acts as a service account, which must exist. Its token is good for a year."""
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": _TOKEN_SECONDS},
        }
        async with self.connect() as api:
            answer = await api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", request)
        path = self.folder / "kubeconfigs" / f"{namespace}.{name}.yaml"
        credential = TokenCredential(answer["status"]["token"])
        return write_kubeconfig(path, self.server, self.plane.pki.ca_cert, name, credential, namespace)

    async def run(self, spec: ProcessSpec) -> ManagedProcess:
        """Run a further program (the operator, say) under the cluster's supervision; it stops with the
        cluster.
        """
        return await self.supervisor.start(spec)

    async def restart_apiserver(self) -> None:
        """Stop the API server and start it again on the same port."""
        await self.supervisor.restart("kube-apiserver")

    def kill(self, component: str) -> None:
        """SIGKILL a component, as a crash would; `supervisor.restart(component)` brings it back."""
        self.supervisor.kill(component)


def _link_clients(folder: Path, binaries: Binaries) -> None:
    """Put kubectl and helm into one folder, for a person's PATH."""
    folder.mkdir(exist_ok=True)
    for name in CLIENT_TOOLS:
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(binaries[name])
