"""Keeps a picture of the cluster and makes a look of it, at most once a second and only when it changed.

Taking the picture is quick and happens on the event loop, where the watches write. What pages need of it is
worked out in a thread afterwards, and never for more than a fourth of the time, so that a big cluster that
never rests leaves the processor to the requests.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Hashable

from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, ApiUnreachable, Kind, KubeApi
from drse_operator.cluster.informer import Informer
from drse_operator.cluster.picture import Picture
from drse_operator.cluster.world import World
from drse_operator.observe.console.look import Look, ShownScene, Surroundings
from drse_operator.observe.console.outside import Addresses, Outside
from drse_operator.observe.console.stage import Stage
from drse_operator.observe.views.fork import fork
from drse_operator.observe.views.jobs import Known

log = logging.getLogger(__name__)

WATCHED = (
    *(kinds.DEEPSEEKJOB, kinds.GPUQUEUE, kinds.NODE, kinds.SLICE, kinds.POD, kinds.CLAIM),
    *(kinds.NAMESPACE, kinds.PRIORITY_CLASS),
)
#: Least seconds between two looks, and how much of the time may go into them at most.
_LEAST = 1.0
_PART = 0.25
#: A look is made this often even if nothing changed: figures that grow with time are worked out anew.
_MOST = 30.0
#: Objects made before the collector looks for cycles. A look is tens of thousands of objects that go with
#: it, by their counts; looking through them every 700, as is usual, takes as long as making them.
_COLLECTED = 50_000
#: Seconds between questions whether the API server is there.
_PING = 3.0

Clock = Callable[[], float]


class Watch:
    """Fills a stage until cancelled."""

    def __init__(self, api: KubeApi, addresses: Addresses, stage: Stage, clock: Clock = time.time) -> None:
        self.stage = stage
        self.world = World(touched=lambda uid: None, stirred=self._stir)
        self.outside = Outside(api, addresses, self._stir, clock)
        self._picture = Picture(self.world)
        self._api = api
        self._clock = clock
        self._stirred = asyncio.Event()
        self._rows: Known = {}
        self._version = 0
        self._heard = 0.0
        self._informers = [Informer(api, kind, self.world.store(kind)) for kind in WATCHED]
        self._informers.append(_optional(api, kinds.TAINT_RULE, self.world))

    def _stir(self) -> None:
        self._stirred.set()

    async def run(self) -> None:
        """Watch, ask and show."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers:
                group.create_task(informer.run(), name=f"informer-{informer.kind.plural}")
            group.create_task(self.outside.run(), name="outside")
            group.create_task(self._ping(), name="ping")
            group.create_task(self._show(), name="show")

    def not_ready(self) -> str | None:
        """What is missing before anything can be shown."""
        missing = [i.kind.plural for i in self._informers if not i.synced.is_set()]
        return f"not yet listed: {', '.join(missing)}" if missing else None

    async def _ping(self) -> None:
        """Notice within seconds that the API server is gone or back, which a quiet watch does not tell."""
        while True:
            try:
                await self._api.request("GET", "/version", limit=_PING, attempts=1)
            except (ApiError, ApiUnreachable) as error:
                log.debug("ping: %s", error)
            else:
                late = self._clock() - self._heard > 2 * _PING
                self._heard = self._clock()
                if late:
                    self._stir()
            await asyncio.sleep(_PING)

    @property
    def age(self) -> float:
        """Seconds since the API server last answered; 0 before it was first asked."""
        return max(0.0, self._clock() - self._heard) if self._heard else 0.0

    async def _show(self) -> None:
        for informer in self._informers:
            await informer.synced.wait()
        while True:
            self._stirred.clear()
            began = time.monotonic()
            try:
                await self._show_once()
            except Exception:
                # What one object can do to a page must not take the console down; the last look stays.
                log.exception("no look could be made of the cluster; the last one is kept")
            took = time.monotonic() - began
            await asyncio.sleep(max(_LEAST - took, took * (1 / _PART - 1)))
            try:
                async with asyncio.timeout(_MOST):
                    await self._stirred.wait()
            except TimeoutError:
                pass

    async def _show_once(self) -> None:
        self._version += 1
        around, now = self.outside.surroundings, self._clock()
        look, marks = draw(self.world, self._picture, around, now, self._version, self._rows)
        look.heard = self._heard or self._clock()
        await asyncio.to_thread(look.seen_by(None).warm)
        self.stage.show(look, marks)
        if self._version == 1:
            # What there is now stays for long: the collector need not look through it again and again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(_COLLECTED)


def draw(
    world: World,
    picture: Picture,
    around: Surroundings,
    now: float,
    version: int,
    rows: Known | None = None,
) -> tuple[Look, dict[str, Hashable]]:
    """A look at a world, and what tells whether its topics have changed since another one.

    ``rows`` are kept from look to look.
    """
    usage = picture.usage()
    snapshot = picture.snapshot(usage)
    still = fork(world, (), now)
    still.seal()
    look = Look(version, ShownScene(still, now, usage, snapshot), around, now, rows=rows)
    jobs = hash(tuple((job.uid, job.resource_version) for job in still.all_jobs()))
    queues = hash(tuple((queue.uid, queue.resource_version) for queue in still.queues.values()))
    answered = around.source("prometheus").answered
    forecasts = () if around.forecasts is None else around.forecasts.forecasts
    trouble = tuple((source.name, source.trouble) for source in around.sources)
    marks: dict[str, Hashable] = {
        "jobs": jobs,
        "queues": (queues, jobs),
        "gpus": (
            world.gpus_epoch,
            hash(frozenset(usage.devices.items())),
            hash(frozenset(usage.counts.items())),
        ),
        "use": answered,
        "forecast": hash(tuple((one.as_of, one.state) for one in forecasts)),
        "decisions": around.books,
        "usage": around.books,
        "health": (around.leader, trouble, around.alerts),
    }
    return look, marks


def _optional(api: KubeApi, kind: Kind, world: World) -> Informer:
    return Informer(api, kind, world.store(kind), optional=True)
