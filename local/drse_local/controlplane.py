"""The control plane: etcd, kube-apiserver, controller manager, scheduler, and kwok in the kubelets' place.

Each `*_spec` function says how one component is run. All of them listen on loopback only, with certificates
of the instance's own CA; etcd, too, asks for a client certificate.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import yaml

from drse_local.binaries import Binaries
from drse_local.kubeconfig import write_kubeconfig
from drse_local.pki import ClusterPki, KeyPair
from drse_local.ports import LOOPBACK, PortReservation
from drse_local.probes import http_probe
from drse_local.processes import ProcessSpec, ReadinessProbe

PORT_NAMES = ("etcd", "etcd-peer", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
KWOK_NODE_LABEL = "local.drse.dev/simulated"

_ISSUER = "https://kubernetes.default.svc.cluster.local"
_SERVICE_CIDR = "10.96.0.0/16"
# High enough that clients are never the bottleneck when admission is measured.
_CLIENT_QPS, _CLIENT_BURST = 1000, 2000


@dataclass(frozen=True, slots=True)
class Kubeconfigs:
    """Kubeconfig of the administrator and of each client component."""

    admin: Path
    controller_manager: Path
    scheduler: Path
    kwok: Path


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """What the components share. `folder` is the instance's data folder."""

    folder: Path
    binaries: Binaries
    pki: ClusterPki
    ports: PortReservation
    kubeconfigs: Kubeconfigs

    @classmethod
    def prepare(
        cls, folder: Path, binaries: Binaries, pki: ClusterPki, ports: PortReservation
    ) -> ControlPlane:
        """Write the kubeconfigs and the component configurations."""

        def kubeconfig(user: str, pair: KeyPair) -> Path:
            path = folder / "kubeconfigs" / f"{user}.yaml"
            return write_kubeconfig(path, server_url(ports), pki.ca_cert, user, pair)

        kubeconfigs = Kubeconfigs(
            admin=write_kubeconfig(folder / "kubeconfig", server_url(ports), pki.ca_cert, "admin", pki.admin),
            controller_manager=kubeconfig("controller-manager", pki.controller_manager),
            scheduler=kubeconfig("scheduler", pki.scheduler),
            kwok=kubeconfig("kwok", pki.kwok),
        )
        return cls(folder, binaries, pki, ports, kubeconfigs)

    def etcd_spec(self) -> ProcessSpec:
        """etcd, without fsync: a power cut may lose the instance, nothing else can."""
        client = f"https://{LOOPBACK}:{self.ports['etcd']}"
        peer = f"http://{LOOPBACK}:{self.ports['etcd-peer']}"
        argv = (
            self.binaries["etcd"],
            "--name=drse-local",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=drse-local={peer}",
            f"--cert-file={self.pki.server.cert}",
            f"--key-file={self.pki.server.key}",
            f"--trusted-ca-file={self.pki.ca_cert}",
            "--client-cert-auth=true",
            "--unsafe-no-fsync=true",
            # A lone member has nobody to wait for before it elects itself.
            "--heartbeat-interval=25",
            "--election-timeout=250",
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=10m",
            "--quota-backend-bytes=4294967296",
            "--logger=zap",
            "--log-level=warn",
        )
        return ProcessSpec("etcd", argv, ready=self._https_probe(f"{client}/readyz", self.pki.etcd_client))

    def apiserver_spec(self) -> ProcessSpec:
        """kube-apiserver with RBAC and all of the stable resource.k8s.io group."""
        argv = (
            self.binaries["kube-apiserver"],
            f"--etcd-servers=https://{LOOPBACK}:{self.ports['etcd']}",
            f"--etcd-cafile={self.pki.ca_cert}",
            f"--etcd-certfile={self.pki.etcd_client.cert}",
            f"--etcd-keyfile={self.pki.etcd_client.key}",
            *self._serving_flags("kube-apiserver"),
            f"--advertise-address={LOOPBACK}",
            # A loopback address must not be published as the endpoint of the `kubernetes` service; the server
            # refuses to start with one unless the reconciler is off.
            "--endpoint-reconciler-type=none",
            f"--client-ca-file={self.pki.ca_cert}",
            "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={_SERVICE_CIDR}",
            f"--service-account-issuer={_ISSUER}",
            f"--service-account-key-file={self.pki.service_account_public}",
            f"--service-account-signing-key-file={self.pki.service_account_key}",
            "--allow-privileged=true",
            # kwok's server on loopback stands for every kubelet; names of nodes resolve nowhere.
            "--kubelet-preferred-address-types=InternalIP",
            "--max-requests-inflight=1000",
            "--max-mutating-requests-inflight=500",
            "--profiling=false",
        )
        ready = self._https_probe(f"{server_url(self.ports)}/readyz", self.pki.admin)
        # It would wait a minute for open watches; everything it has acknowledged is in etcd, so there is no
        # need.
        return ProcessSpec("kube-apiserver", argv, ready=ready, ready_timeout=120, stop_timeout=3)

    def controller_manager_spec(self) -> ProcessSpec:
        """The controller manager. Its controllers use service accounts of their own, or no node ever loses
        its not-ready taint and nothing is scheduled.
        """
        argv = (
            self.binaries["kube-controller-manager"],
            *self._client_flags(self.kubeconfigs.controller_manager),
            *self._serving_flags("kube-controller-manager"),
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--root-ca-file={self.pki.ca_cert}",
            f"--service-account-private-key-file={self.pki.service_account_key}",
            f"--kube-api-qps={_CLIENT_QPS}",
            f"--kube-api-burst={_CLIENT_BURST}",
            "--profiling=false",
        )
        return ProcessSpec(
            "kube-controller-manager", argv, ready=self._component_probe("kube-controller-manager")
        )

    def scheduler_spec(self) -> ProcessSpec:
        """The scheduler, with its default profile."""
        config = self.folder / "scheduler.yaml"
        document = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": {"leaderElect": False},
            "clientConnection": {
                "kubeconfig": str(self.kubeconfigs.scheduler),
                "qps": _CLIENT_QPS,
                "burst": _CLIENT_BURST,
            },
        }
        config.write_text(yaml.safe_dump(document), encoding="utf-8")
        argv = (
            self.binaries["kube-scheduler"],
            f"--config={config}",
            f"--authentication-kubeconfig={self.kubeconfigs.scheduler}",
            f"--authorization-kubeconfig={self.kubeconfigs.scheduler}",
            *self._serving_flags("kube-scheduler"),
        )
        return ProcessSpec("kube-scheduler", argv, ready=self._component_probe("kube-scheduler"))

    def kwok_spec(self) -> ProcessSpec:
        """kwok, which plays the kubelet of every node that carries the fleet's label."""
        stages = Path(__file__).with_name("stages")
        address = f"{LOOPBACK}:{self.ports['kwok']}"
        argv = (
            self.binaries["kwok"],
            f"--kubeconfig={self.kubeconfigs.kwok}",
            f"--manage-nodes-with-label-selector={KWOK_NODE_LABEL}=true",
            "--node-lease-duration-seconds=40",
            "--cidr=10.128.0.1/9",
            f"--server-address={address}",
            "--enable-crds=PortForward",
            f"--config={stages / 'node.yaml'}",
            f"--config={stages / 'pod.yaml'}",
        )
        return ProcessSpec("kwok", argv, ready=http_probe(f"http://{address}/healthz"))

    def _client_flags(self, kubeconfig: Path) -> tuple[str, ...]:
        return (
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
        )

    def _serving_flags(self, name: str) -> tuple[str, ...]:
        return (
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self.ports[name]}",
            f"--tls-cert-file={self.pki.server.cert}",
            f"--tls-private-key-file={self.pki.server.key}",
        )

    def _component_probe(self, name: str) -> ReadinessProbe:
        return self._https_probe(f"https://{LOOPBACK}:{self.ports[name]}/healthz", self.pki.admin)

    def _https_probe(self, url: str, client: KeyPair) -> ReadinessProbe:
        context = ssl.create_default_context(cafile=str(self.pki.ca_cert))
        context.load_cert_chain(client.cert, client.key)
        return http_probe(url, context)


def server_url(ports: PortReservation) -> str:
    """URL of the API server."""
    return f"https://{LOOPBACK}:{ports['kube-apiserver']}"
