"""One answer of all replicas of the forecaster.

The forecaster may be several replicas that share the jobs (``--shard``); each answers for its own. Its name
then resolves to several addresses, as a headless Service's does, and each is asked. While their number
changes, a job may be answered for twice, or by nobody for a moment: the better answer counts. Each replica
says which of how many it is, so that a missing one is noticed even where its address is gone.

Neighbours: ``proxied`` asks through the API server instead.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import httpx
from pydantic import ValidationError

from drse_forecaster.contract import ForecastList, JobForecast, Problem

#: Seconds that one replica has for its whole answer, and the name service for its own.
TIMEOUT = 5.0
PATH = "/v1/forecasts"

#: From host and port to the addresses behind them; raises OSError.
Resolve = Callable[[str, int], Awaitable[tuple[str, ...]]]


async def resolve(host: str, port: int) -> tuple[str, ...]:
    """All addresses of a host in the family that it is reached by first, in order."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # Where each replica has an address of both families, it must not be asked twice.
    return tuple(sorted({str(address[0]) for family, *_, address in found if family == found[0][0]}))


@dataclass(frozen=True, slots=True)
class Reply:
    """What one replica said, or in ``trouble`` why it said nothing."""

    replica: str
    said: ForecastList | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What all replicas said. ``note`` tells what is wrong with the way they were asked, if anything is."""

    replies: tuple[Reply, ...] = ()
    note: str = ""

    @property
    def documents(self) -> tuple[ForecastList, ...]:
        """The usable replies."""
        return tuple(reply.said for reply in self.replies if reply.said is not None)

    @property
    def missing(self) -> tuple[int, ...]:
        """Shards that have not answered. While their number changes nobody knows, and none is named."""
        counts = {one.shards for one in self.documents}
        if len(counts) != 1:
            return ()
        return tuple(sorted(set(range(counts.pop())) - {one.shard for one in self.documents}))

    @property
    def troubles(self) -> tuple[str, ...]:
        """Everything that is wrong, in sentences; nothing when the answer is whole."""
        found = [text for text in (self.note, *(reply.trouble for reply in self.replies)) if text]
        if self.missing and not found:
            shards = ", ".join(str(index) for index in self.missing)
            count = self.documents[0].shards
            found.append(
                f"of the forecaster's {count} shards, {shards} did not answer: see that its pods run"
            )
        return tuple(found)

    def merged(self) -> ForecastList | None:
        """The best forecast of each job, as old as the oldest round among them; None without a reply."""
        documents = self.documents
        if not documents:
            return None
        best: dict[tuple[str, str], JobForecast] = {}
        for forecast in (one for document in documents for one in document.forecasts):
            known = best.get((forecast.namespace, forecast.name))
            if known is None or rank(forecast) > rank(known):
                best[forecast.namespace, forecast.name] = forecast
        oldest = min(documents, key=lambda one: one.generated_at)
        return oldest.model_copy(update={"forecasts": tuple(best.values()), "shard": 0, "shards": 1})


class Forecaster(Protocol):
    """Some way to ask all replicas."""

    async def ask(self) -> Answer:
        """Ask once; never raises for what is wrong outside."""
        ...


def rank(forecast: JobForecast) -> tuple[float, bool, int]:
    """Which of two forecasts of one job is better: the fresher, the sounder, the better founded."""
    as_of = forecast.as_of
    return (as_of.timestamp() if as_of else 0.0, forecast.ready, forecast.samples)


def usable(replica: str, body: bytes) -> Reply:
    """A reply from what a replica sent."""
    try:
        return Reply(replica, ForecastList.model_validate_json(body))
    except ValidationError:
        return Reply(
            replica, trouble=f"what {replica} answers is no list of forecasts; is that the forecaster?"
        )


class AtAddress:
    """Asks every address that the host of ``url`` resolves to.

    Over TLS the name alone: certificates speak of names.
    """

    def __init__(self, url: str, resolve: Resolve = resolve) -> None:
        self._url = httpx.URL(url.rstrip("/"))
        self._resolve = resolve

    async def ask(self) -> Answer:
        """Ask all replicas at once."""
        try:
            replicas = await self._replicas()
        except TimeoutError:
            return Answer(
                note=f"the forecaster's name {self._url.host} does not resolve within {TIMEOUT:g} s"
            )
        except OSError as error:
            why = error.strerror or type(error).__name__
            return Answer(note=f"the forecaster's name {self._url.host} does not resolve ({why})")
        # Reading the system's certificates takes longer than all the rest, and is of use over TLS alone.
        async with httpx.AsyncClient(trust_env=False, verify=self._url.scheme == "https") as client:
            return Answer(tuple(await asyncio.gather(*(self._ask(client, one) for one in replicas))))

    async def _replicas(self) -> Iterable[httpx.URL]:
        if self._url.scheme != "http":
            return (self._url,)
        async with asyncio.timeout(TIMEOUT):
            addresses = await self._resolve(self._url.host, self._url.port or 80)
        return tuple(self._url.copy_with(host=address) for address in addresses)

    async def _ask(self, client: httpx.AsyncClient, replica: httpx.URL) -> Reply:
        headers = {"Host": self._url.netloc.decode()}
        try:
            async with asyncio.timeout(TIMEOUT):
                response = await client.get(f"{replica}{PATH}", headers=headers, timeout=TIMEOUT)
        except (httpx.HTTPError, TimeoutError) as error:
            why = type(error).__name__
            return Reply(
                str(replica), trouble=f"the forecaster at {replica} does not answer ({why}); see that it runs"
            )
        if response.status_code != 200:
            says = f"the forecaster at {replica} answers {response.status_code} {_problem(response.content)}"
            return Reply(str(replica), trouble=says.rstrip())
        return usable(str(replica), response.content)


def _problem(body: bytes) -> str:
    try:
        return Problem.model_validate_json(body).message
    except ValidationError:
        return ""
