"""Asking Prometheus, for console and command line; the forecaster reads on its own, with the same options.

A bearer token is read from its file at each question: whoever mounts it renews it. Questions are GET
requests, which is all that a proxy before Prometheus lets a reader do.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from drse_operator.outside.use import DEFAULT_UTILIZATION, Exporters, busy

_CONNECT_TIMEOUT = 3.0


class PrometheusError(Exception):
    """No usable answer. The message is one sentence: what is wrong and what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrometheusSettings:
    """Where Prometheus is and how it is asked.

    ``ca_file`` stands in for the system's certificates; ``timeout`` is that of a whole answer in seconds;
    ``exporters`` measure the use of GPUs.
    """

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    verify_tls: bool = True
    timeout: float = 20.0
    exporters: Exporters = DEFAULT_UTILIZATION

    @property
    def shown(self) -> str:
        """The address as it may be told: without a user's name and password."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Result(_Model):
    """One series of an answer: a value at one time, or ``values`` at many (seconds since the epoch, text)."""

    metric: dict[str, str] = {}
    value: tuple[float, str] | None = None
    values: tuple[tuple[float, str], ...] = ()

    @property
    def number(self) -> float | None:
        """The one value, where it is finite."""
        number = float(self.value[1]) if self.value is not None else math.nan
        return number if math.isfinite(number) else None


class Rule(_Model):
    """An alerting or recording rule that Prometheus has loaded."""

    name: str = ""


class _Group(_Model):
    rules: tuple[Rule, ...] = ()


class _Data(_Model):
    result: tuple[Result, ...] = ()
    groups: tuple[_Group, ...] = ()


class _Answer(_Model):
    status: str
    data: _Data = _Data()
    error: str = ""


class Prometheus:
    """One server. All questions raise PrometheusError."""

    def __init__(self, settings: PrometheusSettings, client: httpx.AsyncClient) -> None:
        self.settings = settings
        self._client = client

    async def instant(self, query: str) -> tuple[Result, ...]:
        """The series of an expression now."""
        return (await self._ask("query", {"query": query})).result

    async def range(self, query: str, start: float, end: float, step: float) -> tuple[Result, ...]:
        """The series of an expression over a time; seconds since the epoch."""
        parameters = {"query": query, "start": f"{start}", "end": f"{end}", "step": f"{step}"}
        return (await self._ask("query_range", parameters)).result

    async def rules(self) -> frozenset[str]:
        """Names of the rules that are loaded."""
        groups = (await self._ask("rules", {})).groups
        return frozenset(rule.name for group in groups for rule in group.rules)

    async def use(self) -> dict[str, float]:
        """Busy share (0 to 1) by GPU UUID."""
        return {
            result.metric["UUID"]: min(1.0, max(0.0, value))
            for result in await self.instant(busy(self.settings.exporters))
            if "UUID" in result.metric and (value := result.number) is not None
        }

    async def _ask(self, what: str, parameters: Mapping[str, str]) -> _Data:
        url = self.settings.shown
        path = f"{self.settings.url.rstrip('/')}/api/v1/{what}"
        try:
            async with asyncio.timeout(self.settings.timeout):
                response = await self._client.get(path, params=dict(parameters), headers=self._headers())
        except TimeoutError as error:
            raise PrometheusError(
                f"Prometheus at {url} does not answer within {self.settings.timeout:g} s: check its address"
            ) from error
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise PrometheusError(
                f"Prometheus at {url} does not answer ({why}): check its address"
            ) from error
        if response.status_code in (401, 403):
            raise PrometheusError(
                f"Prometheus at {url} refuses ({response.status_code}): check the token for it"
            )
        try:
            answer = _Answer.model_validate_json(response.content)
        except ValidationError as error:
            raise PrometheusError(f"what {url} answers is not Prometheus' API: check its address") from error
        if answer.status != "success":
            raise PrometheusError(f"Prometheus at {url} refuses a query: {answer.error}")
        return answer.data

    def _headers(self) -> dict[str, str]:
        file = self.settings.token_file
        if file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {file.read_text(encoding='utf-8').strip()}"}
        except OSError as error:
            raise PrometheusError(
                f"the token for Prometheus, {file}, cannot be read ({error.strerror})"
            ) from error


@asynccontextmanager
async def connect(settings: PrometheusSettings) -> AsyncIterator[Prometheus]:
    """A connection; as with the forecaster's, proxies of the environment count. Raises PrometheusError."""
    timeout = httpx.Timeout(settings.timeout, connect=_CONNECT_TIMEOUT)
    async with httpx.AsyncClient(timeout=timeout, verify=_trust(settings)) as client:
        yield Prometheus(settings, client)


def _trust(settings: PrometheusSettings) -> ssl.SSLContext | bool:
    if not settings.verify_tls:
        return False
    if settings.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:  # of a file that is no certificate, too
        file = settings.ca_file
        raise PrometheusError(f"{file} holds no certificates that could be read ({error})") from error
