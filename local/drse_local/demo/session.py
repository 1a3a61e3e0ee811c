"""The demo from start to stop.

Order: control plane with a week of recorded load; the chart, with the real operator and forecaster; the
examples. From then on collections are followed and Prometheus is asked, until the verdict stands, time is up,
a program fails or somebody presses Ctrl-C. Stop is the reverse, whatever happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from drse_local.apiclient import KubeApi
from drse_local.binaries import ensure_binaries
from drse_local.cluster import LocalCluster
from drse_local.demo import verdict
from drse_local.demo.chart import PAST_SECONDS
from drse_local.demo.ledger import Ledger
from drse_local.demo.load import LoadReader, Loads, crossed_at
from drse_local.demo.progress import Progress
from drse_local.demo.scene import Scene, Service
from drse_local.demo.screen import Screen, save_picture
from drse_local.demo.verdict import Failure, FirstScaleUp, Result
from drse_local.demo.watching import Objects, states
from drse_local.errors import LocalClusterError
from drse_local.fleet import EXTENDED_RESOURCE, Binding, load_fleet
from drse_local.monitoring import MonitoringOptions
from drse_local.processes import ProcessFailedError, tail
from drse_local.release import Release
from drse_local.scenario import load_scenario
from drse_local.tools import CLIENT_TOOLS, CONTROL_PLANE_TOOLS, PROMETHEUS_TOOLS
from drse_operator.api.keys import JobKey

EXAMPLES = Path(__file__).resolve().parents[3] / "manifests" / "examples"
SCENARIO = Path(__file__).resolve().parents[1] / "scenarios" / "demo.yaml"
#: Applied before the rest: jobs need their namespaces, and queues are what they wait in.
_FIRST = ("namespaces.yaml", "queues.yaml")
_TICK_SECONDS = 1.0
_MEASURE_SECONDS = 2.0
_LOG_LINES = 20
_WATCHED = {
    "jobs": "/apis/drse.dev/v1alpha1/deepseekjobs",
    "queues": "/apis/drse.dev/v1alpha1/gpuqueues",
    "claims": "/apis/resource.k8s.io/v1/resourceclaims",
    "pods": "/api/v1/pods",
    "events": "/apis/events.k8s.io/v1/events",
}


@dataclass(frozen=True, slots=True)
class Options:
    """once: stop when the verdict stands, or after `timeout` seconds. keep: stay up after that, until Ctrl-C.
    picture: where to write the view as SVG at the end."""

    once: bool = False
    keep: bool = False
    timeout: float = 345.0
    picture: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """result: the numbers. failures: conditions that do not hold. logs: the end of a log, by its name.
    stopped: a person ended it before the verdict stood."""

    result: Result
    failures: tuple[Failure, ...]
    logs: dict[str, str]
    stopped: bool


class Demo:
    """One run. screen: where the live view goes; None means lines of progress only."""

    def __init__(self, options: Options, progress: Progress, screen: Screen | None) -> None:
        self._options = options
        self._progress = progress
        self._screen = screen
        self._fleet = load_fleet("default")
        self._ledger = Ledger(
            {
                (node.name, EXTENDED_RESOURCE[node.group.vendor]): node.group.gpus
                for node in self._fleet.nodes
                if node.group.binding is Binding.DEVICE_PLUGIN
            }
        )
        self._applied = example_jobs()
        self._service: Service | None = None
        self._outcome: Outcome | None = None
        self._asked_to_stop = False

    async def run(self) -> Outcome:
        """Run it; on SIGINT and SIGTERM everything stops in order. Raises LocalClusterError when it cannot be
        started or a program ends by itself."""
        work = asyncio.create_task(self._run(), name="demo")
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if not self._asked_to_stop:  # once: a second signal must not cut the orderly stop short
                self._asked_to_stop = True
                work.cancel()

        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, stop)
        try:
            await work
        except asyncio.CancelledError:
            if not self._asked_to_stop:
                raise
        return self._final()

    def _final(self) -> Outcome:
        """The verdict as it stood when watching ended, with the time that stopping took."""
        seconds = self._progress.elapsed
        if self._outcome is None:
            first = self._service.first if self._service else None
            result = verdict.result(self._ledger, self._applied, first, seconds)
            return Outcome(result, (), {}, self._asked_to_stop)
        if self._options.keep:
            return self._outcome
        updated = self._outcome.result.model_copy(update={"seconds_total": round(seconds, 1)})
        return replace(self._outcome, result=updated)

    async def _run(self) -> None:
        tools = CONTROL_PLANE_TOOLS + CLIENT_TOOLS + PROMETHEUS_TOOLS
        with self._progress.step("Finding the cluster's programs (the first time they are built: minutes)"):
            await asyncio.to_thread(ensure_binaries, tools)
        deadline = time.monotonic() + self._options.timeout
        cluster = LocalCluster(fleet=self._fleet, monitoring=MonitoringOptions(load_scenario(SCENARIO)))
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._progress.say, "Stopped.")
            fleet = f"{len(self._fleet.nodes)} nodes and {len(self._fleet.gpus)} GPUs"
            with self._progress.step(
                f"Starting a control plane with {fleet}, and Prometheus with a week of recorded load"
            ):
                await stack.enter_async_context(cluster)
            with self._progress.step("Installing the chart with helm; starting operator and forecaster"):
                release = await stack.enter_async_context(Release(cluster))
            stack.callback(self._progress.say, "Stopping everything ...")
            self._say_how_to_look(cluster)
            api = await stack.enter_async_context(cluster.connect())
            reader = await stack.enter_async_context(
                LoadReader(cluster.monitoring.prometheus.url, release.forecasters[0].url)
            )
            await self._watch(cluster, api, reader, deadline)

    def _say_how_to_look(self, cluster: LocalCluster) -> None:
        self._progress.say("From another terminal:")
        self._progress.say(f"  export KUBECONFIG={cluster.kubeconfig} PATH={cluster.folder / 'bin'}:$PATH")
        self._progress.say("  kubectl get dsj -A    # and: kubectl describe dsj -n serving chat")
        self._progress.say(f"  Prometheus: {cluster.monitoring.prometheus.url}")

    # -- watching ------------------------------------------------------------------------------------------

    async def _watch(self, cluster: LocalCluster, api: KubeApi, reader: LoadReader, deadline: float) -> None:
        take: dict[str, Callable[[Objects], None]] = {
            "jobs": lambda objects: self._ledger.take_jobs(objects, time.time()),
            "queues": self._ledger.take_queues,
            "claims": self._ledger.take_claims,
            "pods": self._ledger.take_pods,
            "events": self._ledger.take_events,
        }
        background = [_follow(api, path, take[name]) for name, path in _WATCHED.items()]
        background += [self._measure(reader), _fail_with(cluster)]
        async with _together(background):
            with self._progress.step(f"Applying {len(self._applied)} jobs from manifests/examples"):
                await apply_examples(cluster)
            await self._until_done(cluster, deadline)

    async def _until_done(self, cluster: LocalCluster, deadline: float) -> None:
        with self._screen or contextlib.nullcontext():
            while True:
                scene = self._scene(cluster)
                if self._screen is not None:
                    self._screen.show(scene)
                else:
                    self._progress.follow(scene)
                if self._options.once and self._outcome is None and self._is_over(scene, deadline):
                    self._conclude(cluster, scene)
                    if not self._options.keep:
                        return
                    self._progress.say("All numbers are taken; it runs on until Ctrl-C.")
                await asyncio.sleep(_TICK_SECONDS)

    def _is_over(self, scene: Scene, deadline: float) -> bool:
        """Nothing more can be learnt: all is seen, or time is up, or what must never happen has happened."""
        return scene.shows_everything or time.monotonic() > deadline or bool(self._ledger.doubly_held)

    def _conclude(self, cluster: LocalCluster, scene: Scene) -> None:
        first = scene.service.first if scene.service else None
        found = tuple(verdict.failures(self._ledger, self._applied, first))
        logs = {
            failure.source.value: tail(cluster.folder / "logs" / f"{failure.source.value}.log", _LOG_LINES)
            for failure in found
        }
        result = verdict.result(self._ledger, self._applied, first, self._progress.elapsed)
        self._outcome = Outcome(result, found, logs, stopped=False)
        if self._options.picture is not None:
            save_picture(scene, self._options.picture)

    def _scene(self, cluster: LocalCluster) -> Scene:
        first = self._service.first if self._service else None
        return Scene(
            now=time.time(),
            elapsed=self._progress.elapsed,
            nodes=len(self._fleet.nodes),
            gpus=len(self._fleet.gpus),
            kubeconfig=str(cluster.kubeconfig),
            jobs=tuple(self._ledger.jobs.values()),
            queues=self._ledger.queues,
            events=self._ledger.events,
            doubly_held=len(self._ledger.doubly_held),
            service=self._service,
            shows_everything=not verdict.failures(self._ledger, self._applied, first),
        )

    # -- measuring -----------------------------------------------------------------------------------------

    async def _measure(self, reader: LoadReader) -> None:
        """Keep the service's picture fresh: load, forecast, and what became of its first growth."""
        while True:
            job = next((job for job in self._ledger.jobs.values() if job.scales), None)
            if job is not None:
                before = self._service or Service(job)
                now = time.time()
                loads = await reader.between(job.key, now - PAST_SECONDS, now) or before.loads
                first = await self._first(job.key, before.first, reader, loads)
                self._service = Service(
                    job=self._ledger.jobs.get(job.key, job),
                    loads=loads,
                    forecast=await reader.forecast(job.key),
                    capacity=tuple(self._ledger.capacity[job.key]),
                    first=first,
                )
            await asyncio.sleep(_MEASURE_SECONDS)

    async def _first(
        self, job: JobKey, known: FirstScaleUp | None, reader: LoadReader, loads: Loads
    ) -> FirstScaleUp | None:
        decision = next((each for each in self._ledger.scale_ups if each.job == job), None)
        if decision is None:
            return None
        first = known or FirstScaleUp(decision)
        if first.load is None:
            first = replace(first, load=await reader.at(job, decision.at))
        if first.crossed_at is None:
            first = replace(first, crossed_at=crossed_at(loads, decision.threshold, decision.at))
        return first


def example_jobs() -> frozenset[JobKey]:
    """The DeepSeekJobs in manifests/examples. Raises LocalClusterError when there is no such folder."""
    if not EXAMPLES.is_dir():
        raise LocalClusterError(f"The demo needs a source checkout: there is no {EXAMPLES}.")
    documents = [
        document
        for path in sorted(EXAMPLES.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]
    return frozenset(
        JobKey(document["metadata"]["namespace"], document["metadata"]["name"])
        for document in documents
        if document and document["kind"] == "DeepSeekJob"
    )


async def apply_examples(cluster: LocalCluster) -> None:
    """`kubectl apply` as the examples' README says. Raises LocalClusterError with kubectl's words."""
    first = [argument for name in _FIRST for argument in ("-f", str(EXAMPLES / name))]
    await cluster.kubectl("apply", *first)
    await cluster.kubectl("apply", "-f", str(EXAMPLES))


async def _follow(api: KubeApi, path: str, take: Callable[[Objects], None]) -> None:
    async for objects in states(api, path):
        take(objects)


async def _fail_with(cluster: LocalCluster) -> None:
    process = await cluster.supervisor.wait_for_failure()
    raise ProcessFailedError(cluster.supervisor.describe_failure(process))


@contextlib.asynccontextmanager
async def _together(work: list[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run endless work beside the block; what ends it with an error ends the block with that error."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
            yield
            for task in tasks:
                task.cancel()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
