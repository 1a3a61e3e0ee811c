"""The loop that keeps forecasts fresh.

The problem: reading Prometheus and fitting models take seconds or fail, and whoever asks for a forecast
must get one at once. The approach: a loop on the event loop does one round a minute and replaces the
published answer; reading, computing and fitting happen in threads; fits run beside the rounds and are
published when done. A round that cannot read still answers, so that forecasts turn Stale for all to see,
and tries again sooner.

Neighbours: `rounds.Forecaster` knows what to say, `source` reads, `service` serves what is published here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from drse_forecaster.accuracy import Ledger
from drse_forecaster.book import ReplayOutcome
from drse_forecaster.contract import ForecastList
from drse_forecaster.metrics import Metrics, Shown
from drse_forecaster.rounds import Forecaster, Outcome, Task
from drse_forecaster.series import FINE_STEP_SECONDS, JobSamples
from drse_forecaster.sharding import Shard
from drse_forecaster.source import LoadSource, SourceError

logger = logging.getLogger(__name__)

#: Reads overlap by this much, so that a minute whose scrape was late is read again.
OVERLAP_SECONDS = 120

#: Reading all history again for jobs that came later, such as one that was suspended, at most this often.
RELOAD_SECONDS = 3600

FIRST_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Published:
    """What is served: replaced as a whole, never changed."""

    forecasts: ForecastList
    problem: str | None = None  #: why the newest read failed, as a sentence


@dataclass(slots=True)
class _Progress:
    """What has been read so far; unix seconds."""

    read_until: float = -math.inf
    history_read_at: float = -math.inf
    reload_wanted: bool = False
    failures: int = 0


@dataclass(slots=True)
class Runner:
    """Runs rounds until cancelled. `published` may be read at any time from the event loop's thread."""

    forecaster: Forecaster
    source: LoadSource
    fit_executor: Executor
    interval_seconds: float = 60.0
    shard: Shard = field(default_factory=Shard)
    clock: Callable[[], float] = time.time
    published: Published | None = None
    metrics: Metrics = field(init=False)
    beat: float = field(init=False)  #: when the loop last moved, by `clock`
    _progress: _Progress = field(default_factory=_Progress)
    _ledger: Ledger = field(default_factory=Ledger)
    _busy: asyncio.Lock = field(default_factory=asyncio.Lock)  # the forecaster is not thread-safe
    _fitting: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.metrics = Metrics(self._shown)
        self.beat = self.clock()

    async def run(self) -> None:
        """Do rounds for ever. Cancelling ends it after the thread in flight has returned."""
        try:
            while True:
                await self.round()
                await asyncio.sleep(self.pause())
        finally:
            if self._fitting is not None:
                self._fitting.cancel()

    @property
    def late(self) -> bool:
        """Whether the loop stands still: no round has begun or ended for much longer than one may take."""
        return self.clock() - self.beat > max(5 * self.interval_seconds, 300.0)

    @property
    def fitting(self) -> bool:
        """Whether fits or replays are under way."""
        return self._fitting is not None and not self._fitting.done()

    async def fits_done(self) -> None:
        """Return when neither fits nor replays are under way, after what they changed has been published."""
        if self._fitting is not None:
            await asyncio.wait([self._fitting])

    async def round(self) -> None:
        """Read, answer, publish, and start the fits that are due."""
        self.beat = started = self.clock()
        with self.metrics.round_seconds.time():
            problem = await self._read(started)
            await self._publish(problem)
        self.beat = self.clock()
        if not self.fitting:
            tasks = await self._due()
            if tasks:
                self._fitting = asyncio.create_task(self._work(tasks), name="fits")

    def pause(self) -> float:
        """Return seconds until the next round: just after the next minute's scrape, or sooner after a
        failure."""
        now = self.clock()
        if self._progress.failures:
            return min(FIRST_RETRY_SECONDS * 2.0 ** (self._progress.failures - 1), self.interval_seconds)
        return self.interval_seconds - now % self.interval_seconds + min(2.0, self.interval_seconds / 10)

    async def _read(self, now: float) -> str | None:
        """Take in what is new. Returns the problem as a sentence, or None."""
        progress = self._progress
        end = math.floor(now / FINE_STEP_SECONDS) * float(FINE_STEP_SECONDS)
        recent_seconds = self.forecaster.settings.shape.recent_seconds
        try:
            batch: list[JobSamples] = []
            if self._history_due(now, recent_seconds):
                batch += await self.source.history(end)
                progress.history_read_at, progress.reload_wanted = now, False
            batch += await self.source.recent(
                max(progress.read_until - OVERLAP_SECONDS, end - recent_seconds), end
            )
            batch = [one for one in batch if self.shard.owns(one.key)]
        except SourceError as error:
            progress.failures += 1
            self.metrics.source_errors.labels(error.kind).inc()
            logger.warning("source failed", extra={"reason": error.kind.value, "problem": str(error)})
            return str(error)
        async with self._busy:
            new = await asyncio.to_thread(self.forecaster.ingest, batch, now)
            self._ledger.score(self.forecaster.store)
        if new and progress.history_read_at < now:
            progress.reload_wanted = True
        progress.read_until, progress.failures = end, 0
        self.metrics.last_round.set(now)
        return None

    def _history_due(self, now: float, recent_seconds: int) -> bool:
        progress = self._progress
        if now - progress.read_until > recent_seconds:
            return True
        return progress.reload_wanted and now - progress.history_read_at >= RELOAD_SECONDS

    async def _publish(self, problem: str | None) -> None:
        async with self._busy:
            answers = await asyncio.to_thread(self.forecaster.answer, self.clock())
            self._ledger.record(answers)
        generated = datetime.fromtimestamp(self.clock(), UTC)
        forecasts = ForecastList(
            generated_at=generated, shard=self.shard.index, shards=self.shard.count, forecasts=answers
        )
        self.published = Published(forecasts, problem)

    async def _due(self) -> list[Task]:
        async with self._busy:
            return await asyncio.to_thread(self.forecaster.due_work, self.clock())

    async def _work(self, tasks: list[Task]) -> None:
        """Run what is due until nothing is, then publish; rounds in between use what is done by then."""
        done = 0
        while tasks:
            running = [asyncio.create_task(self._run(task), name=type(task).__name__) for task in tasks]
            try:
                for each in asyncio.as_completed(running):
                    outcome = await each
                    async with self._busy:
                        await asyncio.to_thread(self.forecaster.learn, [outcome])
                    self.beat = self.clock()
            finally:
                for one in running:
                    one.cancel()
            done += len(tasks)
            tasks = await self._due()
        await self._publish(self.published.problem if self.published else None)
        logger.info("learned", extra={"tasks": done})

    async def _run(self, task: Task) -> Outcome:
        run: Callable[[], Outcome] = task.run
        outcome = await asyncio.get_running_loop().run_in_executor(self.fit_executor, run)
        if isinstance(outcome, ReplayOutcome):
            self.metrics.replay_seconds.observe(outcome.seconds)
            return outcome
        name = outcome.task.model.name
        self.metrics.fit_seconds.labels(name).observe(outcome.seconds)
        for key, error in outcome.errors:
            self.metrics.fit_errors.labels(name).inc()
            logger.warning("fit failed", extra={"job": str(key), "problem": str(error)})
        return outcome

    def _shown(self) -> Shown:
        published = self.published
        forecasts = published.forecasts.forecasts if published else ()
        return Shown(self.clock(), forecasts, tuple(self._ledger.scores()))
