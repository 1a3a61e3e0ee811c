"""The embedded cluster for code that is not asyncio: tests, scripts, notebooks.

The cluster's event loop runs on a thread of its own, which lives exactly as long as the cluster (the kernel
kills the programs when the thread that started them ends).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from drse_local.cluster import CommandResult, LocalCluster

_Result = TypeVar("_Result")


class ThreadedCluster:
    """A LocalCluster behind blocking calls.

    with ThreadedCluster(LocalCluster(fleet=load_fleet("small"))) as cluster:
        cluster.kubectl("get", "nodes")

    `cluster.cluster` is the LocalCluster itself; its coroutines go through `run`.
    """

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="drse-local", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.run(self.cluster.start())
        except BaseException:
            self._end_thread()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.run(self.cluster.stop())
        finally:
            self._end_thread()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run a coroutine on the cluster's loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.cluster.kubeconfig

    def kubectl(self, *args: str, stdin: str | None = None) -> CommandResult:
        """Run kubectl as administrator."""
        return self.run(self.cluster.kubectl(*args, stdin=stdin))

    def helm(self, *args: str, stdin: str | None = None) -> CommandResult:
        """Run helm as administrator."""
        return self.run(self.cluster.helm(*args, stdin=stdin))

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig that acts as a service account."""
        return self.run(self.cluster.service_account_kubeconfig(namespace, name))
