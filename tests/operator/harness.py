"""A real operator process on the real control plane, and the questions the tests ask of the cluster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from drse_local.threaded import ThreadedCluster
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, Kind, KubeApi, load_configuration

T = TypeVar("T")
Document = dict[str, Any]


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class OperatorProcess:
    """``drse-operator run`` as its own process, which can be killed like any other."""

    def __init__(self, kubeconfig: Path, log: Path, *arguments: str) -> None:
        self.port = free_port()
        self.log = log
        self._argv = (
            *(sys.executable, "-m", "drse_operator.controller", "run", "--log-format", "text"),
            *("--kubeconfig", str(kubeconfig), "--listen", f"127.0.0.1:{self.port}"),
            *("--bind-timeout", "8", "--backoff-base", "1", *arguments),
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; does not wait."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, stdout=log, stderr=log)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def kill(self) -> None:
        """As a crash would end it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Kill it if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def terminate(self) -> int:
        """As Kubernetes would end it; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def leads(self) -> bool:
        """True while it says that it leads."""
        try:
            text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=2, trust_env=False).text
        except httpx.HTTPError:
            return False
        return "drse_leader 1.0" in text

    def metric(self, name: str) -> float:
        """Sum over all series of one metric."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=5, trust_env=False).text
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith((f"{name} ", f"{name}{{"))
        )

    def get(self, path: str) -> int:
        """HTTP status of a path."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=2, trust_env=False).status_code


class Cluster:
    """The embedded cluster as the tests see it; blocking."""

    def __init__(self, threaded: ThreadedCluster) -> None:
        self.threaded = threaded
        self._api = threaded.run(self._connect())

    async def _connect(self) -> KubeApi:
        return KubeApi(await load_configuration(str(self.threaded.kubeconfig)), "drse-tests")

    def close(self) -> None:
        """Close the connections."""
        self.call(self._api.__aexit__(None, None, None))

    @property
    def api(self) -> KubeApi:
        """The administrator's connection; its calls go through :meth:`call`."""
        return self._api

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return self.threaded.run(work)

    def create(self, kind: Kind, document: Document) -> Document:
        return self.call(self._api.create(kind, document))

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Document | None:
        try:
            return self.call(self._api.get(kind, name, namespace))
        except ApiError as error:
            if error.not_found:
                return None
            raise

    def list(self, kind: Kind, namespace: str | None = None) -> list[Document]:
        return self.call(self._api.list(kind, namespace)).items

    def merge(self, kind: Kind, name: str, namespace: str | None, patch: Document, sub: str = "") -> None:
        self.call(self._api.merge(kind, name, namespace, patch, sub))

    def delete(self, kind: Kind, name: str, namespace: str | None = None, grace: int | None = None) -> None:
        self.call(self._api.delete(kind, name, namespace, grace=grace))

    # -- DRSE ------------------------------------------------------------------------------------------

    def queue(self, name: str, **spec: Any) -> None:
        """Create a GPUQueue."""
        self.create(kinds.GPUQUEUE, {**_typed("GPUQueue"), "metadata": {"name": name}, "spec": spec})

    def job(self, namespace: str, name: str, **spec: Any) -> None:
        """Create a DeepSeekJob; by default one that asks for one A100."""
        defaults: Document = {
            "taskType": "Batch",
            "queue": "tests",
            "resources": {"gpusPerReplica": 1, "accelerators": [A100]},
            "runtime": {"engine": "Custom", "image": "registry.example/job:1"},
        }
        metadata = {"name": name, "namespace": namespace}
        self.create(
            kinds.DEEPSEEKJOB, {**_typed("DeepSeekJob"), "metadata": metadata, "spec": defaults | spec}
        )

    def status(self, namespace: str, name: str) -> DeepSeekJobStatus:
        document = self.get(kinds.DEEPSEEKJOB, name, namespace)
        return DeepSeekJobStatus.model_validate((document or {}).get("status") or {})

    def spec(self, namespace: str, name: str) -> DeepSeekJobSpec:
        document = self.get(kinds.DEEPSEEKJOB, name, namespace)
        assert document is not None
        return DeepSeekJobSpec.model_validate(document["spec"])

    def patch_job(self, namespace: str, name: str, **spec: Any) -> None:
        self.merge(kinds.DEEPSEEKJOB, name, namespace, {"spec": spec})

    def wait_status(
        self, namespace: str, name: str, check: Callable[[DeepSeekJobStatus], object], seconds: float = 20
    ) -> DeepSeekJobStatus:
        """Wait until a job's status passes a check; the last status is in the failure."""
        return eventually(lambda: self.status(namespace, name), check, seconds)

    def wait_reason(self, namespace: str, name: str, reason: str, seconds: float = 10) -> str:
        """Wait until a job waits for a reason; returns the message."""
        status = self.wait_status(
            namespace, name, lambda s: s.queue is not None and s.queue.reason == reason, seconds
        )
        assert status.queue is not None
        return status.queue.message

    def pods(self, namespace: str) -> dict[str, Document]:
        return {pod["metadata"]["name"]: pod for pod in self.list(kinds.POD, namespace)}

    def event_reasons(self, namespace: str, job: str) -> set[str]:
        """Reasons of the events on a job."""
        return {e["reason"] for e in self.list(kinds.EVENT, namespace) if e["regarding"]["name"] == job}

    # -- exclusivity -----------------------------------------------------------------------------------

    def doubly_held(self) -> list[str]:
        """Devices in two claims, or in the assignments of two workers; must always be empty."""
        claimed: Counter[tuple[str, str, str]] = Counter()
        for claim in self.list(kinds.CLAIM):
            allocation = (claim.get("status") or {}).get("allocation") or {}
            for result in (allocation.get("devices") or {}).get("results") or ():
                claimed[result["driver"], result["pool"], result["device"]] += 1
        promised: Counter[str] = Counter()
        for job in self.list(kinds.DEEPSEEKJOB):
            for assignment in (job.get("status") or {}).get("assignments") or ():
                promised.update(device["uuid"] for device in assignment.get("devices") or ())
        return [f"{key} is in {n} claims" for key, n in claimed.items() if n > 1] + [
            f"{uuid} is promised {n} times" for uuid, n in promised.items() if n > 1
        ]

    def overbooked(self) -> list[str]:
        """Nodes on which pods count more GPUs than the device plugin has; must always be empty."""
        used: Counter[tuple[str, str]] = Counter()
        for pod in self.list(kinds.POD):
            if pod["spec"].get("nodeName") and pod["status"].get("phase") in ("Pending", "Running"):
                for container in pod["spec"]["containers"]:
                    limits = (container.get("resources") or {}).get("limits") or {}
                    for resource in ("nvidia.com/gpu", "amd.com/gpu", "habana.ai/gaudi"):
                        used[pod["spec"]["nodeName"], resource] += int(limits.get(resource, 0))
        found = []
        for node in self.list(kinds.NODE):
            for (name, resource), count in used.items():
                have = int(node["status"]["allocatable"].get(resource, 0))
                if name == node["metadata"]["name"] and count > have:
                    found.append(f"{name}: {count} of {have} {resource}")
        return found


A100 = {"vendor": "nvidia", "product": "A100"}
H100 = {"vendor": "nvidia", "product": "H100"}
L40S = {"vendor": "nvidia", "product": "L40S"}


def running_for(seconds: float | None = None, fail_after: float | None = None) -> Document:
    """A runtime whose pods end by themselves."""
    annotations = {}
    if seconds is not None:
        annotations["local.drse.dev/run-seconds"] = str(seconds)
    if fail_after is not None:
        annotations["local.drse.dev/fail-after-seconds"] = str(fail_after)
    return {
        "engine": "Custom",
        "image": "registry.example/job:1",
        "podTemplate": {"metadata": {"annotations": annotations}},
    }


def eventually(look: Callable[[], T], check: Callable[[T], object], seconds: float = 20) -> T:
    """Look until the check passes; fails with what was seen last."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if check(seen):
            return seen
        assert time.monotonic() < deadline, f"not within {seconds} s; last seen: {seen}"
        time.sleep(0.1)


def _typed(kind: str) -> Document:
    return {"apiVersion": "drse.dev/v1alpha1", "kind": kind}


@contextmanager
def tainted(cluster: Cluster, node: str, key: str) -> Iterator[None]:
    """A node with a NoSchedule taint for a while."""
    cluster.merge(kinds.NODE, node, None, {"spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}})
    try:
        yield
    finally:
        cluster.merge(kinds.NODE, node, None, {"spec": {"taints": None}})


def alive(pid: int) -> bool:
    """True while a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
