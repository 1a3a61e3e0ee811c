"""What is asked beside the watches: accounts, decisions, the leader's Lease, forecaster, Prometheus.

Each answer stands until the next one. What does not answer is named, with the time of its last answer; the
rest of the console goes on without it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, ApiUnreachable, KubeApi
from drse_operator.observe import books
from drse_operator.observe.accounts import Periods
from drse_operator.observe.console import prometheus as questions
from drse_operator.observe.console.look import Source, Surroundings
from drse_operator.observe.journal import Decision
from drse_operator.outside import alerts
from drse_operator.outside.forecaster import AtAddress, Forecaster
from drse_operator.outside.prometheus import PrometheusError, PrometheusSettings, connect

log = logging.getLogger(__name__)


class Untold(Exception):
    """Something was not told, or not all of it. The message is the sentence to show."""


_ERRORS = (ApiError, ApiUnreachable, PrometheusError, Untold, ValueError)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where things are asked. ``namespace`` is the operator's; None means that there is nothing to ask."""

    namespace: str
    lease: str = "drse-operator"
    prometheus: PrometheusSettings | None = None
    forecaster: str | None = None


class Outside:
    """Asks until cancelled. ``changed`` is called after each answer, and after each that failed to come."""

    def __init__(
        self,
        api: KubeApi,
        addresses: Addresses,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.surroundings = Surroundings()
        self._api = api
        self._addresses = addresses
        self._changed = changed
        self._clock = clock
        self._versions: dict[str, str] = {}
        self._usage: dict[str, Periods] = {}
        self._records: tuple[Decision, ...] = ()

    async def run(self) -> None:
        """Ask everything in its own rhythm."""
        where = self._addresses
        async with asyncio.TaskGroup() as group:
            books_at = f"ConfigMaps in {where.namespace}"
            group.create_task(self._keep_asking("accounts", books_at, 10.0, self._ask_books))
            group.create_task(
                self._keep_asking("lease", f"{where.namespace}/{where.lease}", 5.0, self._ask_lease)
            )
            if where.forecaster is not None:
                ask = self._forecasts(AtAddress(where.forecaster))
                group.create_task(self._keep_asking("forecaster", where.forecaster, 15.0, ask))
            if where.prometheus is not None:
                ask = self._metrics(where.prometheus)
                group.create_task(self._keep_asking("prometheus", where.prometheus.shown, 30.0, ask))

    async def _keep_asking(
        self, name: str, address: str, seconds: float, ask: Callable[[], Awaitable[None]]
    ) -> None:
        source = Source(name, address)
        while True:
            try:
                await ask()
                source = replace(source, answered=self._clock(), trouble="")
            except _ERRORS as error:
                source = replace(source, trouble=_sentence(error))
                log.warning("%s (%s): %s", name, address, error)
            others = tuple(s for s in self.surroundings.sources if s.name != name)
            self._note(sources=(*others, source))
            self._changed()
            await asyncio.sleep(seconds)

    async def _ask_books(self) -> None:
        """Accounts and decisions; a book is read again only when it was written anew."""
        selector = {"labelSelector": books.BOOK_LABEL}
        listing = await self._api.list(kinds.CONFIG_MAP, self._addresses.namespace, selector)
        usage, before = self._usage, dict(self._versions)
        for document in listing.items:
            name, version = document["metadata"]["name"], document["metadata"]["resourceVersion"]
            if self._versions.get(name) == version:
                continue
            try:
                if name == books.DECISIONS_NAME:
                    self._records = books.read_decisions(document).decisions
                elif name.startswith(books.USAGE_NAME.format(month="")):
                    usage = {**usage, name: books.read_usage(document).tallies()}
            except books.BookUnreadable as error:
                log.warning("%s", error)
            self._versions[name] = version
        self._usage = usage
        if self._versions == before:
            return
        periods: Periods = {}
        for tallies in usage.values():
            periods |= tallies
        versions = tuple(sorted(self._versions.items()))
        self._note(books=versions, records=self._records, periods=periods)

    async def _ask_lease(self) -> None:
        """Who leads."""
        where = self._addresses
        document = await self._api.get(kinds.LEASE, where.lease, where.namespace)
        spec = document.get("spec") or {}
        renewed = spec.get("renewTime")
        self._note(
            leader=spec.get("holderIdentity") or "",
            leader_renewed=None if renewed is None else datetime.fromisoformat(renewed).timestamp(),
        )

    def _forecasts(self, forecaster: Forecaster) -> Callable[[], Awaitable[None]]:
        async def ask() -> None:
            answer = await forecaster.ask()
            found = answer.merged()
            if found is not None:
                self._note(forecasts=found)
            if answer.troubles:
                raise Untold("; ".join(answer.troubles))

        return ask

    def _metrics(self, settings: PrometheusSettings) -> Callable[[], Awaitable[None]]:
        async def ask() -> None:
            now = self._clock()
            async with connect(settings) as prometheus:
                # One by one, so that what has been answered stays when a later question is not.
                self._note(use=await prometheus.use())
                self._note(alerts=await alerts.firing(prometheus))
                self._note(metrics=await questions.figures(prometheus))
                self._note(history=await questions.history(prometheus, now))
                self._note(loads=await questions.loads(prometheus, now))
                self._note(trends=await questions.trends(prometheus, now))
                self._note(versions=await questions.versions(prometheus))

        return ask

    def _note(self, **answers: Any) -> None:
        self.surroundings = replace(self.surroundings, **answers)


def _sentence(error: Exception) -> str:
    if isinstance(error, ApiError):
        return error.message
    if isinstance(error, PrometheusError | Untold):
        return str(error)
    return f"no usable answer ({type(error).__name__})"
