"""Real processes for the pods of whatever release of DRSE somebody installs on an embedded cluster.

kwok calls pods running without running them. For DRSE's own Deployments, each replica is started as a process
instead (see `release`), when `helm install` has made them, again when `helm upgrade` has changed them, and
not any more when `helm uninstall` has removed them. A program that ends by itself is started again, as a
kubelet would, and keeps its port over all of that. The pods' ports lead to the processes, so `kubectl
port-forward` works, and the pod of `helm test` is run too (see `tasks`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from drse_local import forwards
from drse_local.apiclient import KubeApi, Manifest
from drse_local.cluster import LocalCluster
from drse_local.errors import LocalClusterError
from drse_local.release import Release, Replica
from drse_local.tasks import Tasks

_POLL_SECONDS = 1.0
_PART_OF = "app.kubernetes.io/part-of=drse"
_INSTANCE = "app.kubernetes.io/instance"


@dataclass(frozen=True, slots=True)
class _Installed:
    """A release: where it is, and which version of each of its Deployments is there."""

    namespace: str
    name: str
    generations: frozenset[tuple[str, int]]

    @property
    def deployments(self) -> dict[str, int]:
        """Generation of each of its Deployments, by namespace/name."""
        return {f"{self.namespace}/{name}": generation for name, generation in self.generations}


@dataclass(frozen=True, slots=True)
class Running:
    """What runs. urls: by program. deployments: the generation that runs, by namespace/name."""

    urls: Mapping[str, str]
    deployments: Mapping[str, int]


class Standins:
    """Runs the programs of all releases on a cluster.

    say: where to tell a person what happens. publish: is given what runs when that changes.
    """

    def __init__(
        self,
        cluster: LocalCluster,
        say: Callable[[str], None],
        publish: Callable[[Running], None],
    ) -> None:
        self._cluster = cluster
        self._say = say
        self._publish = publish
        #: None for what could not be started, until it changes.
        self._running: dict[_Installed, Release | None] = {}
        self._forwarded: dict[tuple[str, str], int] = {}
        #: Ports that programs have had, by namespace, release and program: whoever knows them goes on.
        self._ports: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)

    async def follow(self) -> NoReturn:
        """Until cancelled; all programs are stopped then."""
        try:
            async with self._cluster.connect() as api:
                tasks = Tasks(self._cluster, api)
                try:
                    while True:
                        await self._look(api, tasks)
                        await asyncio.sleep(_POLL_SECONDS)
                finally:
                    await tasks.stop()
        finally:
            for release in self._running.values():
                if release is not None:
                    await release.stop()

    async def _look(self, api: KubeApi, tasks: Tasks) -> None:
        wanted = await present(api)
        gone = self._running.keys() - wanted
        for found in gone:
            old = self._running.pop(found)
            if old is not None:
                await old.stop()
                self._say(f"The programs of release {found.name} in {found.namespace} are stopped.")
        new = wanted - self._running.keys()
        for found in new:
            self._running[found] = await self._start(found)
        revived = [await self._revive(replica) for replica in self._replicas()]
        for found, release in self._running.items():
            if release is not None:
                pods = await _pods(api, found)
                await self._forward(api, found, release, pods)
                tasks.look(release, pods)
        if gone or new or any(revived):
            self._publish(self._now())

    def _now(self) -> Running:
        urls = {replica.name: replica.url for replica in self._replicas()}
        running = (found for found, release in self._running.items() if release is not None)
        return Running(urls, {name: n for found in running for name, n in found.deployments.items()})

    def _replicas(self) -> Iterator[Replica]:
        for release in self._running.values():
            yield from () if release is None else release.replicas

    async def _start(self, found: _Installed) -> Release | None:
        """Start its programs. What does not start is told, and tried again when the release changes."""
        ports = self._ports[found.namespace, found.name]
        release = Release(
            self._cluster,
            name=found.name,
            namespace=found.namespace,
            essential=False,
            preferred_ports=ports,
        )
        try:
            await release.run()
        except BaseException as error:
            await release.stop()
            if not isinstance(error, LocalClusterError):
                raise
            self._say(f"Release {found.name} in {found.namespace} does not run: {error}")
            return None
        ports |= {replica.name: replica.port for replica in release.replicas}
        names = ", ".join(replica.name for replica in release.replicas)
        self._say(f"Release {found.name} in {found.namespace} runs: {names}.")
        return release

    async def _revive(self, replica: Replica) -> bool:
        """Start it again if it has ended; if that fails, the next look tries again."""
        if replica.running:
            return False
        self._say(f"{replica.name} has ended; it is started again.")
        with contextlib.suppress(LocalClusterError):
            await replica.restart()
        return True

    async def _forward(self, api: KubeApi, found: _Installed, release: Release, pods: list[Manifest]) -> None:
        """Let each pod's port lead to one of the processes."""
        for replica in release.replicas:
            deployment = replica.name.rpartition("-")[0]
            mine = sorted(n for pod in pods if (n := pod["metadata"]["name"]).startswith(f"{deployment}-"))
            for name in mine[int(replica.name.rpartition("-")[2]) :][:1]:
                if self._forwarded.get((found.namespace, name)) != replica.port:
                    await forwards.forward(api, found.namespace, name, replica.container_port, replica.port)
                    self._forwarded[found.namespace, name] = replica.port


async def _pods(api: KubeApi, found: _Installed) -> list[Manifest]:
    selector = f"{_PART_OF},{_INSTANCE}={found.name}"
    pods = await api.get(f"/api/v1/namespaces/{found.namespace}/pods", labelSelector=selector)
    items: list[Manifest] = pods["items"]
    return items


async def present(api: KubeApi) -> set[_Installed]:
    """The releases that are on a cluster now."""
    return installed((await api.get("/apis/apps/v1/deployments", labelSelector=_PART_OF))["items"])


def installed(deployments: list[Manifest]) -> set[_Installed]:
    """The releases that Deployments belong to."""
    generations: dict[tuple[str, str], set[tuple[str, int]]] = defaultdict(set)
    for deployment in deployments:
        metadata = deployment["metadata"]
        release = metadata["labels"].get(_INSTANCE)
        if release is not None and "deletionTimestamp" not in metadata:
            generations[metadata["namespace"], release].add((metadata["name"], metadata["generation"]))
    return {_Installed(*key, frozenset(found)) for key, found in generations.items()}
