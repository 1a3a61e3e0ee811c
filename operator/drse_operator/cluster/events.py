"""Kubernetes events on jobs: each posted on purpose, never twice in a while, never in masses.

Events tell the story; conditions hold the state. So under load ordinary events are dropped, warnings wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from datetime import UTC, datetime
from typing import Any

from drse_operator.api.base import API_VERSION
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, ApiUnreachable, KubeApi
from drse_operator.workloads.observed import Job
from drse_operator.workloads.outcome import Event

log = logging.getLogger(__name__)

_REPEAT_AFTER = 600.0
_REMEMBERED = 5_000
_BACKLOG = 1_000


class EventRecorder:
    """Posts events in the background at no more than ``rate`` a second, with bursts of ``burst``."""

    def __init__(self, api: KubeApi, instance: str, rate: float = 5.0, burst: int = 25) -> None:
        self._api = api
        self._instance = instance
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._filled = time.monotonic()
        self._queue: deque[dict[str, Any]] = deque(maxlen=_BACKLOG)
        self._waiting = asyncio.Event()
        self._posted: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    def record(self, job: Job, event: Event) -> None:
        """Post an event soon, unless the same was posted lately or an ordinary one finds no room."""
        key = (job.uid, event.reason, event.message)
        now = time.monotonic()
        if now - self._posted.get(key, -_REPEAT_AFTER) < _REPEAT_AFTER:
            return
        self._refill(now)
        if not event.warning and self._tokens - len(self._queue) < 1:
            return
        self._posted[key] = now
        if len(self._posted) > _REMEMBERED:
            self._posted.popitem(last=False)
        self._queue.append(self._document(job, event))
        self._waiting.set()

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            await self._waiting.wait()
            while self._queue:
                self._refill(time.monotonic())
                if self._tokens < 1:
                    await asyncio.sleep(1 / self._rate)
                    continue
                self._tokens -= 1
                await self._post(self._queue.popleft())
            self._waiting.clear()

    async def _post(self, document: dict[str, Any]) -> None:
        try:
            await self._api.create(kinds.EVENT, document)
        except (ApiError, ApiUnreachable) as error:
            log.warning("event not posted: %s", error)

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now

    def _document(self, job: Job, event: Event) -> dict[str, Any]:
        return {
            "apiVersion": kinds.EVENT.api_version,
            "kind": "Event",
            "metadata": {"namespace": job.key.namespace, "generateName": f"{job.key.name}-"},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "drse.dev/operator",
            "reportingInstance": self._instance[:128],
            "action": "Reconcile",
            "reason": event.reason,
            "note": event.message[:1024],
            "type": "Warning" if event.warning else "Normal",
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": "DeepSeekJob",
                "namespace": job.key.namespace,
                "name": job.key.name,
                "uid": job.uid,
                "resourceVersion": job.resource_version,
            },
        }
