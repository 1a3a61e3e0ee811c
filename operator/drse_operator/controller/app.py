"""Wiring of the operator: constructs, connects, runs, and holds no rule.

Followers keep their caches warm, so that a new leader plans within a second of taking over. All tasks
share one fate: if one ends, the process ends, and its successor rebuilds everything from the API server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drse_operator.admission.planner import Planner
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, ApiUnreachable, Kind, KubeApi, load_configuration
from drse_operator.cluster.events import EventRecorder
from drse_operator.cluster.informer import Informer
from drse_operator.cluster.lease import Leadership, LeaseSettings
from drse_operator.cluster.picture import Picture
from drse_operator.cluster.world import World
from drse_operator.controller import handlers
from drse_operator.controller.executor import FIELD_MANAGER, Executor
from drse_operator.controller.fairness import FairnessWatch
from drse_operator.controller.fence import raise_fence
from drse_operator.controller.forecasts import Forecasts
from drse_operator.controller.keeper import Keeper
from drse_operator.controller.loop import Loop, Settings
from drse_operator.controller.queues import QueueReporter
from drse_operator.controller.starts import Starts, told_to
from drse_operator.observe.http import Server, application
from drse_operator.observe.metrics import Metrics
from drse_operator.outside.forecaster import AtAddress
from drse_operator.workloads import names

log = logging.getLogger(__name__)

#: Kinds watched by our own informers; the two custom resources are kopf's.
_INFORMED = (kinds.NODE, kinds.SLICE, kinds.POD, kinds.CLAIM, kinds.NAMESPACE, kinds.PRIORITY_CLASS)
#: The custom resources are listed anew so often, in case a watch has missed something (seconds).
_RELIST = 120.0
_FIRST_RELIST = 15.0
#: What a watch reports later than this after a list has it is taken for missed (seconds).
_HEARING = 10.0
#: The operator is not well when it has made no pass for so long (seconds); passes come every 30 s at least.
_STUCK = 120.0
#: A watch is not well when nothing has come for longer: there are bookmarks, and it is renewed after 290 s.
_SILENT = 400.0


@dataclass(frozen=True, slots=True)
class Options:
    """Command line of ``drse-operator run``. Durations are seconds."""

    kubeconfig: str | None
    identity: str
    version: str
    lease_namespace: str
    lease_name: str
    listen_host: str
    listen_port: int
    forecaster_url: str | None
    forecast_period: float
    forecast_max_age: float
    loop: Settings


class Operator:
    """One process of the operator."""

    def __init__(self, options: Options, api: KubeApi, configuration: Any) -> None:
        self._options = options
        self._api = api
        self._configuration = configuration
        self._loop: Loop | None = None
        self._keeper: Keeper | None = None
        self._listed = asyncio.Event()
        self._hearing = handlers.Hearing()
        self.metrics = Metrics(options.version)
        self.world = World(touched=self._touched, stirred=self._stirred)
        self._informers = [Informer(api, kind, self.world.store(kind)) for kind in _INFORMED]
        self._informers.append(
            Informer(api, kinds.TAINT_RULE, self.world.store(kinds.TAINT_RULE), optional=True)
        )
        self._informers.append(
            Informer(
                api,
                kinds.SERVICE,
                self.world.store(kinds.SERVICE),
                {"labelSelector": f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"},
            )
        )
        self._leadership = Leadership(
            api, LeaseSettings(options.lease_namespace, options.lease_name, options.identity)
        )

    def _touched(self, uid: str) -> None:
        if self._keeper is not None:
            self._keeper.see(uid)
        if self._loop is not None:
            self._loop.touch(uid)

    def _stirred(self) -> None:
        if self._loop is not None:
            self._loop.stir()

    def _forecasts_in(self) -> None:
        if self._loop is not None:
            self._loop.touch_scaled()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set or leadership is lost. Raises what any task raised."""
        server = Server(
            application(self._trouble, self._not_ready, self.metrics.registry),
            self._options.listen_host,
            self._options.listen_port,
        )
        tasks: dict[str, Callable[[], Any]] = {
            "server": server.serve,
            "kopf": lambda: handlers.watch(self.world, self._configuration, self._hearing),
            "relist": self._relist,
            "lead": self._lead,
            "leadership": self._leadership.run,
            "stop": stop.wait,
        }
        tasks |= {f"informer-{i.kind.plural}": i.run for i in self._informers}
        running = [asyncio.create_task(start(), name=name) for name, start in tasks.items()]
        try:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                log.info("%s has ended, the operator stops", task.get_name())
                task.result()
            if not stop.is_set():
                raise RuntimeError("a part of the operator has ended, and the rest is of no use without it")
        finally:
            await self._stop(running)

    async def _stop(self, running: list[asyncio.Task[Any]]) -> None:
        """First no more writes, then the Lease, so that the next leader finds nothing moving."""
        for task in running:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.gather(*running, return_exceptions=True)
        await self._leadership.release()

    # -- watching ----------------------------------------------------------------------------------------

    async def _relist(self) -> None:
        """The first complete picture of the custom resources, and a fresh one every now and then.

        Raises when that shows that kopf has gone deaf: its watching tasks can die and leave the rest of it
        waiting for ever. A new process is the cure.
        """
        while True:
            first = not self._listed.is_set()
            heard = self._hearing.events
            try:
                missed = 0
                for kind in (kinds.DEEPSEEKJOB, kinds.GPUQUEUE):
                    listing = await self._api.list(kind)
                    missed += self.world.store(kind).reset(listing.items, listing.resource_version)
            except (ApiError, ApiUnreachable) as error:
                log.warning("the custom resources could not be listed: %s", error)
                await asyncio.sleep(2)
                continue
            self._listed.set()
            if missed and not first:
                await asyncio.sleep(_HEARING)
                if self._hearing.events == heard:
                    raise RuntimeError(f"kopf has missed {missed} changes of jobs and queues: it is deaf")
            await asyncio.sleep(_FIRST_RELIST if first else _RELIST)

    async def _wait_synced(self) -> None:
        for informer in self._informers:
            await informer.synced.wait()
        await self._listed.wait()

    # -- leading -----------------------------------------------------------------------------------------

    async def _lead(self) -> None:
        """Plan whenever the Lease is ours and the picture is complete; stop planning when it is lost."""
        await self._wait_synced()
        while True:
            await self._leadership.held.wait()
            planning = asyncio.create_task(self._plan(), name="planning")
            lost = asyncio.create_task(self._leadership.lost.wait(), name="lost")
            try:
                await asyncio.wait((planning, lost), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (planning, lost):
                    task.cancel()
                await asyncio.gather(planning, lost, return_exceptions=True)
                self._loop = self._keeper = None
                self.world.settle_all()
                self.metrics.follow()
            if not planning.cancelled():
                planning.result()

    async def _plan(self) -> None:
        """What a leader does."""
        namespace, may_write = self._options.lease_namespace, self._leadership.may_write
        term = await raise_fence(self._api, self.world, namespace, may_write)
        await self._refresh()
        events = EventRecorder(self._api, self._options.identity)
        executor = Executor(
            self._api, self.world, events, self.metrics, self._leadership.may_write, self._touched, term
        )
        forecasts = None
        if self._options.forecaster_url:
            forecasts = Forecasts(
                AtAddress(self._options.forecaster_url),
                self._forecasts_in,
                self._options.forecast_period,
                self._options.forecast_max_age,
            )
        keeper = Keeper(
            self._api,
            self.world,
            self._leadership.may_write,
            FIELD_MANAGER,
            self._options.lease_namespace,
            lambda key: None if forecasts is None else forecasts.load(key),
        )
        await keeper.load(time.time())
        self._keeper = keeper
        picture = Picture(self.world)
        self.metrics.lead(self.world, picture, keeper.accounts)
        planner = Planner()
        statuses = {q.name: q.status for q in self.world.queues.values()}
        starts = Starts(statuses, planner, self.metrics, picture.durations, told_to(self.world.all_jobs()))
        fairness = FairnessWatch()
        queues = QueueReporter(
            self._api,
            self.world,
            self._leadership.may_write,
            FIELD_MANAGER,
            starts,
            fairness,
            planner,
            term,
        )
        self._loop = Loop(
            self.world,
            picture,
            executor,
            forecasts,
            self.metrics,
            self._options.loop,
            (starts.take, fairness.take, queues.take, keeper.take),
            keeper.journal,
            starts,
            planner,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(events.run(), name="events")
            group.create_task(executor.run(), name="executor")
            group.create_task(queues.run(), name="queues")
            group.create_task(keeper.run(), name="keeper")
            if forecasts is not None:
                group.create_task(forecasts.run(), name="forecasts")
            group.create_task(starts.run(self._loop.touch_told), name="starts")
            group.create_task(self._loop.run(), name="loop")

    async def _refresh(self) -> None:
        """What the last leader wrote just before it stopped may not have reached our watches: list anew."""
        for kind in (kinds.DEEPSEEKJOB, kinds.GPUQUEUE, kinds.POD, kinds.CLAIM):
            await self._refresh_kind(kind)

    async def _refresh_kind(self, kind: Kind) -> None:
        while True:
            try:
                listing = await self._api.list(kind)
            except (ApiError, ApiUnreachable) as error:
                log.warning("%s could not be listed: %s", kind.plural, error)
                await asyncio.sleep(1)
                continue
            self.world.store(kind).reset(listing.items, listing.resource_version)
            return

    # -- health ------------------------------------------------------------------------------------------

    def _trouble(self) -> str | None:
        """What is wrong, for ``/healthz``."""
        now = time.monotonic()
        if self._loop is not None and now - self._loop.last_pass > _STUCK:
            return f"no pass for {now - self._loop.last_pass:.0f} s"
        for informer in self._informers:
            if informer.synced.is_set() and now - informer.last_heard > _SILENT:
                return f"nothing heard of {informer.kind.plural} for {now - informer.last_heard:.0f} s"
        return None

    def _not_ready(self) -> str | None:
        """What is missing, for ``/readyz``."""
        missing = [i.kind.plural for i in self._informers if not i.synced.is_set()]
        if not self._listed.is_set():
            missing += [kinds.DEEPSEEKJOB.plural, kinds.GPUQUEUE.plural]
        return f"not yet listed: {', '.join(missing)}" if missing else None


async def run(options: Options, stop: asyncio.Event) -> None:
    """Connect and run one operator until ``stop``."""
    configuration = await load_configuration(options.kubeconfig)
    async with KubeApi(configuration, f"drse-operator/{options.version}") as api:
        await Operator(options, api, configuration).run(stop)
