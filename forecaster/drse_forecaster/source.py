"""Reading loads from Prometheus.

The problem: the client blocks, waits for ever by default, retries behind one's back, and a range query that
is too long is refused (11,000 points a series, `query.max-samples` in all). The approach: every call runs
in a thread with explicit time-outs and without hidden retries; a week is read a day at a time on a grid
that is aligned to the step, so that all reads fall on the same times; whatever goes wrong becomes one
`SourceError` with a kind to count and a sentence to show.

Neighbours: `queries` builds the expression, `runner` decides when to read and when to try again.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from pydantic import BaseModel, TypeAdapter
from urllib3.util.retry import Retry

from drse_forecaster.queries import JOB_LABEL, NAMESPACE_LABEL
from drse_forecaster.series import FINE_STEP_SECONDS, JobKey, JobSamples, SeriesShape

#: A day at a time: 288 points at 5 minutes, 1,440 at a minute.
CHUNK_SECONDS = 86400


class SourceErrorKind(StrEnum):
    """What to mend."""

    #: No connection or no answer in time: address, network, Prometheus itself.
    UNREACHABLE = "Unreachable"
    #: Prometheus answered with an error: the query, its limits, or missing rights.
    REFUSED = "Refused"
    #: The answer was not what the Prometheus API promises: a proxy or another service answered.
    MALFORMED = "Malformed"


class SourceError(Exception):
    """Prometheus could not be read. The message is a sentence for the user."""

    def __init__(self, kind: SourceErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class LoadSource(Protocol):
    """Where samples come from. Times are unix seconds; both methods raise SourceError."""

    async def history(self, end: float) -> list[JobSamples]:
        """Return all jobs' samples of the whole history up to `end`, a coarse step apart."""
        ...

    async def recent(self, start: float, end: float) -> list[JobSamples]:
        """Return all jobs' samples from `start` to `end`, a minute apart."""
        ...


class _ResultSeries(BaseModel):
    """One series of a range query's answer (Prometheus HTTP API, "matrix")."""

    metric: dict[str, str]
    values: list[tuple[float, str]]


_RESULT = TypeAdapter(list[_ResultSeries])


@dataclass(frozen=True, slots=True, kw_only=True)
class PrometheusSettings:
    """Where Prometheus is, what to ask it, how long to wait (seconds)."""

    url: str
    query: str
    connect_timeout: float = 3.0
    read_timeout: float = 30.0
    token_file: Path | None = None  #: with a bearer token; read anew for each query, for it is renewed
    ca_file: Path | None = None  #: with certificates to trust instead of the system's
    verify_tls: bool = True


class PrometheusSource:
    """Reads the load query of all jobs."""

    def __init__(self, settings: PrometheusSettings, shape: SeriesShape) -> None:
        self._settings = settings
        self._shape = shape
        session = requests.Session()
        session.verify = settings.verify_tls if settings.ca_file is None else str(settings.ca_file)
        if settings.token_file is not None:
            session.auth = _Bearer(settings.token_file)
        self._client = PrometheusConnect(
            url=settings.url.rstrip("/"),
            session=session,
            # The runner backs off; retries in here would block a thread for minutes.
            retry=Retry(total=0, read=False),
        )

    async def history(self, end: float) -> list[JobSamples]:
        step = self._shape.step_seconds
        end = math.floor(end / step) * step
        first = end - self._shape.history_seconds + step  # both ends count
        batch: list[JobSamples] = []
        while first <= end:
            # the next chunk starts a step later, or the border would be read twice
            last = min(first + CHUNK_SECONDS - step, end)
            batch += await asyncio.to_thread(self._read, first, last, step)
            first = last + step
        return batch

    async def recent(self, start: float, end: float) -> list[JobSamples]:
        return await asyncio.to_thread(self._read, start, end, FINE_STEP_SECONDS)

    def close(self) -> None:
        """Release the connections."""
        self._client.close()

    def _read(self, start: float, end: float, step: int) -> list[JobSamples]:
        start, end = math.ceil(start / step) * step, math.floor(end / step) * step
        if end < start:
            return []
        url = self._settings.url
        # The client hands this to requests, which takes (connect, read); one number would let a dead address
        # hold a thread for as long as a slow query may take.
        timeout: Any = (self._settings.connect_timeout, self._settings.read_timeout)
        try:
            result = self._client.custom_query_range(
                self._settings.query,
                start_time=datetime.fromtimestamp(start, UTC),
                end_time=datetime.fromtimestamp(end, UTC),
                step=str(step),
                timeout=timeout,
            )
            return _samples(_RESULT.validate_python(result))
        except PrometheusApiClientException as error:
            message = f"Prometheus at {url} refused the query: {error}"
            raise SourceError(SourceErrorKind.REFUSED, message) from error
        except (KeyError, TypeError, ValueError) as error:  # of json, pydantic and requests' URL parser too
            message = f"What {url} answers is not Prometheus' API; check --prometheus-url ({error})."
            raise SourceError(SourceErrorKind.MALFORMED, message) from error
        except requests.exceptions.RequestException as error:
            problem = type(error).__name__  # the error's own text repeats the whole encoded query
            message = f"Prometheus at {url} does not answer ({problem}); check its address and the network."
            raise SourceError(SourceErrorKind.UNREACHABLE, message) from error
        except OSError as error:  # not of the network: those are requests' own
            message = f"The token or the certificates for Prometheus cannot be read: {error}."
            raise SourceError(SourceErrorKind.REFUSED, message) from error


class _Bearer(requests.auth.AuthBase):
    """Adds the token that the file holds at that moment."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._file.read_text(encoding='utf-8').strip()}"
        return request


def _samples(result: list[_ResultSeries]) -> list[JobSamples]:
    """Turn an answer into samples; series without a job's labels are left out, repeated ones are joined."""
    found: defaultdict[JobKey, list[tuple[float, float]]] = defaultdict(list)
    for series in result:
        namespace, name = series.metric.get(NAMESPACE_LABEL), series.metric.get(JOB_LABEL)
        if namespace and name:
            found[JobKey(namespace, name)] += [(time, float(value)) for time, value in series.values]
    batch = []
    for key, pairs in found.items():
        times, values = np.array(sorted(pairs), dtype=np.float64).T
        batch.append(JobSamples(key, times, values))
    return batch
