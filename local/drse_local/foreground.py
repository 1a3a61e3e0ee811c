"""Runs a cluster until it is told to stop, or until one of its programs ends by itself."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from drse_local.cluster import LocalCluster
from drse_local.processes import ProcessFailedError


async def run_until_stopped(cluster: LocalCluster, on_up: Callable[[], None]) -> None:
    """Start the cluster, call `on_up`, wait for SIGINT or SIGTERM, stop everything in order.

    A signal during the start ends the start. Raises ProcessFailedError, with the tail of its log, when a
    program ends without having been asked to.
    """
    work = asyncio.create_task(_run(cluster, on_up), name="cluster")
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def stop() -> None:
        asked.set()
        work.cancel()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop)
    try:
        await work
    except asyncio.CancelledError:
        if not asked.is_set():
            raise


async def _run(cluster: LocalCluster, on_up: Callable[[], None]) -> None:
    async with cluster:
        on_up()
        process = await cluster.supervisor.wait_for_failure()
        raise ProcessFailedError(cluster.supervisor.describe_failure(process))
