"""Keeps the accounts of GPU-hours and the journal of decisions, and writes both down for whoever comes next.

They live in ConfigMaps of the operator's namespace. Nothing is decided by them, so a write that fails is
made again a little later with newer numbers. A leader that is killed loses no GPU-hours: stays that were open
are written down too, and the next leader counts them on from where they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from drse_operator.admission.decisions import Plan
from drse_operator.admission.snapshot import Snapshot
from drse_operator.api.keys import JobKey
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, ApiUnreachable, KubeApi
from drse_operator.cluster.world import World
from drse_operator.observe import books
from drse_operator.observe.accounts import Accounts
from drse_operator.observe.journal import Journal

log = logging.getLogger(__name__)

#: Seconds between settlements of the accounts, which is how often loads are looked at.
_SETTLE = 15.0
#: Seconds between two writes of the accounts, and of the journal when there is news.
_WRITE_USAGE = 60.0
_WRITE_DECISIONS = 10.0
#: Seconds for the last writes of a leader that stops.
_LAST_WRITES = 2.0
#: Hours that are kept singly; older ones only as days.
_HOURS_KEPT = 72 * 3600.0


class Keeper:
    """Accounts and journal of one leader. ``load(key)`` is a job's load in GPU-equivalents, if known."""

    def __init__(
        self,
        api: KubeApi,
        world: World,
        may_write: Callable[[], bool],
        manager: str,
        namespace: str,
        load: Callable[[JobKey], float | None],
    ) -> None:
        self.accounts = Accounts(load)
        self.journal = Journal()
        self._api = api
        self._world = world
        self._may_write = may_write
        self._manager = manager
        self._namespace = namespace
        self._written = 0

    async def load(self, now: float) -> None:
        """Go on where the last leader stopped. A book that cannot be read is left as it is and begun anew."""
        selector = {"labelSelector": books.BOOK_LABEL}
        try:
            documents = (await self._api.list(kinds.CONFIG_MAP, self._namespace, selector)).items
        except (ApiError, ApiUnreachable) as error:
            log.warning("GPU-hours and decisions so far could not be read: %s", error)
            documents = []
        by_name = {document["metadata"]["name"]: document for document in documents}
        months = sorted(name for name in by_name if name.startswith(books.USAGE_NAME.format(month="")))[-2:]
        for name in months:
            try:
                book = books.read_usage(by_name[name])
            except books.BookUnreadable as error:
                log.warning("%s", error)
                continue
            self.accounts.open.clear()
            books.reopen(self.accounts, book)
        if books.DECISIONS_NAME in by_name:
            try:
                kept = books.read_decisions(by_name[books.DECISIONS_NAME]).decisions
            except books.BookUnreadable as error:
                log.warning("%s", error)
            else:
                self.journal = Journal(kept)
        for uid in {*self.accounts.open, *(job.uid for job in self._world.all_jobs())}:
            self.accounts.see(uid, self._world.job(uid), now)

    def see(self, uid: str) -> None:
        """A job has changed."""
        self.accounts.see(uid, self._world.job(uid), time.time())

    def take(self, snapshot: Snapshot, plan: Plan) -> None:
        """A pass has been made."""
        self.journal.take(snapshot, plan, time.time())

    async def run(self) -> None:
        """Settle and write until cancelled, and then once more."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_usage())
                group.create_task(self._keep_decisions())
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WRITES):
                    now = time.time()
                    self.accounts.settle(now)
                    await self.write_usage(now)
                    await self.write_decisions()

    async def _keep_usage(self) -> None:
        written = time.monotonic()
        while True:
            await asyncio.sleep(_SETTLE)
            now = time.time()
            self.accounts.settle(now)
            if time.monotonic() - written >= _WRITE_USAGE:
                written = time.monotonic()
                self.accounts.forget(now - _HOURS_KEPT)
                await self.write_usage(now)

    async def _keep_decisions(self) -> None:
        while True:
            await asyncio.sleep(_WRITE_DECISIONS)
            await self.write_decisions()

    async def write_usage(self, now: float) -> None:
        """Write this month's book."""
        month = f"{datetime.fromtimestamp(now, UTC):%Y-%m}"
        book = books.usage_book(self.accounts, month, now)
        await self._write(books.USAGE_NAME.format(month=month), book)

    async def write_decisions(self) -> None:
        """Write the journal if anything has been decided since."""
        if self.journal.made == self._written:
            return
        made = self.journal.made
        book = books.DecisionBook(decisions=self.journal.latest)
        if await self._write(books.DECISIONS_NAME, book):
            self._written = made

    async def _write(self, name: str, book: books.UsageBook | books.DecisionBook) -> bool:
        if not self._may_write():
            return False
        document = books.config_map(name, self._namespace, book)
        try:
            await self._api.apply(kinds.CONFIG_MAP, document, self._manager)
        except (ApiError, ApiUnreachable) as error:
            log.warning("ConfigMap %s: %s", name, error)
            return False
        return True
