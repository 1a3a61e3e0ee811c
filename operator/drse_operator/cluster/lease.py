"""Leadership by a Lease, with a deadline that the leader itself keeps.

Own code rather than the client library's, for two things it lacks: the leader knows until when it may
write (:attr:`Leadership.valid_until`, on the monotonic clock, counted from before the renewal was sent),
and a leader that stops gives the Lease back, so that the next one starts at once.
Others take over only when a Lease has not changed for its whole duration by their own clock, so clocks
need not agree, only run at about the same speed (as in client-go's leaderelection).
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, ApiUnreachable, KubeApi

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Durations in seconds. ``duration`` must exceed ``deadline`` by more than a request may take to land."""

    namespace: str
    name: str
    identity: str
    duration: float = 15.0
    deadline: float = 9.0
    retry: float = 2.0


class Leadership:
    """One candidate. ``held`` is set while it leads, ``lost`` from losing the Lease to holding it again."""

    def __init__(self, api: KubeApi, settings: LeaseSettings) -> None:
        self.held = asyncio.Event()
        self.lost = asyncio.Event()
        self.valid_until = 0.0
        self._api = api
        self._settings = settings
        self._seen: tuple[str, float] = ("", 0.0)
        self._lease: dict[str, Any] | None = None

    def may_write(self) -> bool:
        """True while nobody else can have taken over."""
        return time.monotonic() < self.valid_until

    async def run(self) -> None:
        """Acquire, renew, and acquire again when it was lost. Cancel to stop, then :meth:`release`."""
        while True:
            sent = time.monotonic()
            if await self._try(sent):
                self.valid_until = sent + self._settings.deadline
                if not self.held.is_set():
                    log.info("leading as %s", self._settings.identity)
                    self.lost.clear()
                    self.held.set()
            elif self.held.is_set() and not self.may_write():
                log.error("leadership lost: the Lease could not be renewed in time")
                self.held.clear()
                self.lost.set()
            await asyncio.sleep(self._settings.retry)

    async def release(self) -> None:
        """Give the Lease back, if it is ours."""
        self.valid_until = 0.0
        if not self.held.is_set() or self._lease is None:
            return
        spec = {**self._lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await asyncio.wait_for(self._api.replace(kinds.LEASE, {**self._lease, "spec": spec}), timeout=3)
        except (ApiError, ApiUnreachable, TimeoutError) as error:
            log.warning("the Lease could not be given back: %s", error)

    async def _try(self, now: float) -> bool:
        """Acquire or renew once."""
        settings = self._settings
        try:
            async with asyncio.timeout(settings.deadline / 2):
                lease = await self._read()
                if lease is None:
                    self._lease = await self._api.create(kinds.LEASE, self._fresh())
                    return True
                if not self._free(lease, now):
                    return False
                self._lease = await self._api.replace(kinds.LEASE, self._renewed(lease))
                return True
        except (ApiError, ApiUnreachable, TimeoutError) as error:
            log.warning("lease: %r", error)
            return False

    async def _read(self) -> dict[str, Any] | None:
        try:
            return await self._api.get(kinds.LEASE, self._settings.name, self._settings.namespace)
        except ApiError as error:
            if error.not_found:
                return None
            raise

    def _free(self, lease: dict[str, Any], now: float) -> bool:
        """Ours already, given back, or silent for longer than it was granted for."""
        spec = lease.get("spec") or {}
        version = lease["metadata"]["resourceVersion"]
        if self._seen[0] != version:
            self._seen = (version, now)
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self._settings.identity):
            return True
        granted = float(spec.get("leaseDurationSeconds") or self._settings.duration)
        return now - self._seen[1] > granted

    def _fresh(self) -> dict[str, Any]:
        return {
            "apiVersion": kinds.LEASE.api_version,
            "kind": "Lease",
            "metadata": {"name": self._settings.name, "namespace": self._settings.namespace},
            "spec": self._spec({}),
        }

    def _renewed(self, lease: dict[str, Any]) -> dict[str, Any]:
        return {**lease, "spec": self._spec(lease.get("spec") or {})}

    def _spec(self, before: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        kept = before.get("holderIdentity") == self._settings.identity
        transitions = int(before.get("leaseTransitions") or 0)
        return {
            **before,
            "holderIdentity": self._settings.identity,
            "leaseDurationSeconds": int(self._settings.duration),
            "acquireTime": before.get("acquireTime", now) if kept else now,
            "renewTime": now,
            "leaseTransitions": transitions if kept else transitions + 1,
        }
