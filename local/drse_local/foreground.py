"""Runs a cluster until it is told to stop, or until one of its programs ends by itself."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from drse_local.cluster import LocalCluster
from drse_local.processes import ProcessFailedError

Endless = Callable[[], Coroutine[Any, Any, NoReturn]]


async def run_until_stopped(cluster: LocalCluster, on_up: Callable[[], None], beside: Endless) -> None:
    """Start the cluster, call `on_up`, run what is to run `beside` it, wait for SIGINT or SIGTERM, stop
    everything in order.

    A signal during the start ends the start. Raises ProcessFailedError, with the tail of its log, when a
    program ends without having been asked to.
    """
    work = asyncio.create_task(_run(cluster, on_up, beside), name="cluster")
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


async def _run(cluster: LocalCluster, on_up: Callable[[], None], beside: Endless) -> None:
    async with cluster:
        on_up()
        failure = asyncio.create_task(cluster.supervisor.wait_for_failure(), name="failure")
        programs = asyncio.create_task(beside(), name="programs")
        try:
            await asyncio.wait((failure, programs), return_when=asyncio.FIRST_COMPLETED)
        finally:
            programs.cancel()
            failure.cancel()
            ended = (await asyncio.gather(programs, failure, return_exceptions=True))[0]
        if not failure.cancelled():
            raise ProcessFailedError(cluster.supervisor.describe_failure(failure.result()))
        raise ended
