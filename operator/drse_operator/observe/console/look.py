"""One look at the cluster and what surrounds it: immutable, shared by all requests until the next one.

A *look* is everything that was known at one moment. A *sight* is what one reader may see of it; its reports
are worked out when first asked for and kept as long as the look is. Waits and expected starts are told as
the operator has written them, not planned again: a page then shows what the operator does, also while it is
down, and costs little. The planner is asked by What-if and for suggestions only.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from drse_forecaster.contract import ForecastList
from drse_operator.admission.decisions import Eta, Plan
from drse_operator.admission.dispatch import Outcome
from drse_operator.admission.engine import Engine
from drse_operator.admission.snapshot import Snapshot
from drse_operator.cluster.usage import Usage
from drse_operator.cluster.world import World
from drse_operator.observe.accounts import Periods
from drse_operator.observe.console.colours import colours
from drse_operator.observe.journal import Decision
from drse_operator.observe.views import closed, decisions, forecast, gpus, jobs, nodes, now, queue, share
from drse_operator.observe.views.scene import EVERYWHERE, Scene, Settled, Waiting, Where, written
from drse_operator.outside.alerts import Alert

T = TypeVar("T")

#: Readers whose sights are kept for one look.
_SIGHTS = 64


class ShownScene(Scene):
    """A scene whose snapshot has been drawn already, and whose waits are those the operator has written."""

    def __init__(self, world: World, now: float, usage: Usage, snapshot: Snapshot) -> None:
        super().__init__(world, now)
        self.usage = usage
        self.snapshot = snapshot

    @cached_property
    def waits(self) -> dict[str, Waiting]:
        """Why jobs wait, by uid, as last written."""
        return {uid: wait for uid, wait in written(self.world).items() if uid in self.asking}

    @cached_property
    def plan(self) -> Plan:
        """Nothing is decided here."""
        return Plan()

    @cached_property
    def settled(self) -> Settled:
        """Who holds what until when. Those who wait are left out: their turn is not worked out here."""
        holding = tuple(job for job in self.snapshot.jobs if job.holdings)
        return Settled(Engine.of(replace(self.snapshot, jobs=holding), self.now), Outcome())

    def planned(self) -> Scene:
        """The same for questions to the planner: waits and starts are worked out, not read."""
        scene = Scene(self.world, self.now, visible=self.visible)
        scene.usage, scene.snapshot = self.usage, self.snapshot
        return scene

    def etas(self, uids: Collection[str]) -> dict[str, Eta]:
        """Expected starts, as the operator has told them."""
        return {uid: eta for uid in uids if (eta := self.told(uid)) is not None}


@dataclass(frozen=True, slots=True)
class Series:
    """A history: values at times in seconds since the epoch, ascending and evenly spaced."""

    times: tuple[float, ...] = ()
    lines: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """Something that is asked regularly. ``trouble`` is empty while it answers."""

    name: str
    address: str = ""
    answered: float | None = None
    trouble: str = ""
    configured: bool = True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside the API server's objects, each as last heard.

    ``books`` names the versions that accounts and decisions were read from; ``use`` is utilisation (0 to 1)
    by GPU UUID; ``metrics`` single figures of the operator by name, ``trends`` how some of them went, each as
    one line named as the figure; ``versions`` those that operators run in.
    """

    sources: tuple[Source, ...] = ()
    leader: str = ""
    leader_renewed: float | None = None
    books: tuple[tuple[str, str], ...] = ()
    records: tuple[Decision, ...] = ()
    periods: Periods = field(default_factory=dict)
    use: Mapping[str, float] | None = None
    history: Series = Series()
    loads: Mapping[tuple[str, str], Series] = field(default_factory=dict)
    forecasts: ForecastList | None = None
    alerts: tuple[Alert, ...] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    trends: Mapping[str, Series] = field(default_factory=dict)
    versions: tuple[str, ...] = ()

    def source(self, name: str) -> Source:
        """A source by name."""
        return next((s for s in self.sources if s.name == name), Source(name, configured=False))


class Sight:
    """What one reader sees of a look: jobs of the ``visible`` namespaces by name, all when that is None.

    ``everything`` is the sight of who sees all, ``rows`` those that are known from an earlier look.
    """

    def __init__(
        self,
        whole: ShownScene,
        around: Surroundings,
        visible: frozenset[str] | None,
        everything: Sight | None = None,
        rows: jobs.Known | None = None,
    ) -> None:
        self.visible = visible
        self._everything = everything
        self._rows = rows
        self.around = around
        self.scene = whole if visible is None else whole.as_seen_by(visible)
        # No way back to the look: a look that was replaced is gone at once, not when the collector comes.
        self._whole = whole
        self._kept: dict[tuple[str, ...], Any] = {}

    def planned(self) -> Scene:
        """The scene for questions to the planner."""
        scene = self._whole.planned()
        scene.visible = self.visible
        return scene

    @property
    def everything(self) -> bool:
        """Whether the reader may name all jobs."""
        return self.visible is None

    @cached_property
    def now(self) -> now.NowReport:
        # Who may not name a holder still counts what it holds: the figures are those of the whole cluster.
        return now.now(self._whole, self.around.use, self.gpus)

    @cached_property
    def jobs(self) -> jobs.JobReport:
        if self._everything is not None and self.visible is not None:
            return jobs.seen_by(self._everything.jobs, self.visible)
        return jobs.jobs(self.scene, known=self._rows)

    def queue(self, name: str) -> queue.QueueReport:
        """Who waits in one queue."""
        return self.once(("queue", name), lambda: queue.queue(self.scene, Where(queue=name)))

    @cached_property
    def share(self) -> share.ShareReport:
        return share.share(self._whole)

    @cached_property
    def gpus(self) -> gpus.GpuReport:
        return gpus.gpus(self.scene, use=self.around.use)

    @cached_property
    def closed(self) -> tuple[closed.ClosedRow, ...]:
        """What is closed while jobs wait for it: counts, which name no job."""
        return (
            self._everything.closed if self._everything is not None else closed.closed(self.scene, self.gpus)
        )

    @cached_property
    def nodes(self) -> nodes.NodeReport:
        return nodes.nodes(self.scene, self.around.use, self.gpus)

    @cached_property
    def forecast(self) -> forecast.ForecastReport:
        source = self.around.source("forecaster")
        trouble = source.trouble if source.configured else "no forecaster is configured (--forecaster-url)"
        return forecast.forecast(self.scene, self.around.forecasts, EVERYWHERE, trouble)

    @cached_property
    def decisions(self) -> decisions.DecisionReport:
        return decisions.decisions(self.around.records, self.scene.now, visible=self.visible)

    def once(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        """What a page works out of the reports alone, kept as long as the look is. Two readers who come at
        the same moment may both work it out: it comes to the same."""
        if key not in self._kept:
            self._kept[key] = make()
        found: T = self._kept[key]
        return found

    def warm(self) -> None:
        """Work out what pages ask for most."""
        _ = self.now, self.jobs, self.share, self.gpus


class Look:
    """Everything that was known at ``scene.now``. ``heard`` is when the API server last answered.

    ``version`` grows with each look; ``rows`` are those of jobs that are known from an earlier one.
    """

    def __init__(
        self,
        version: int,
        scene: ShownScene,
        around: Surroundings,
        heard: float,
        rows: jobs.Known | None = None,
    ) -> None:
        self.version = version
        self.scene = scene
        self.around = around
        self.heard = heard
        self._whole = Sight(scene, around, None, rows=rows)
        self._sights: OrderedDict[frozenset[str], Sight] = OrderedDict()
        self._lock = threading.Lock()

    def seen_by(self, visible: frozenset[str] | None) -> Sight:
        """What a reader sees of it."""
        if visible is None:
            return self._whole
        with self._lock:
            sight = self._sights.get(visible)
            if sight is None:
                sight = self._sights[visible] = Sight(self.scene, self.around, visible, self._whole)
                if len(self._sights) > _SIGHTS:
                    self._sights.popitem(last=False)
            return sight

    @cached_property
    def colours(self) -> Mapping[str, int]:
        """Number of each queue's colour."""
        return colours(queue.name for queue in self.scene.world.queues.values())

    @property
    def namespaces(self) -> frozenset[str]:
        """Namespaces that have jobs."""
        return frozenset(job.key.namespace for job in self.scene.world.all_jobs())
