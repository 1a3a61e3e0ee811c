"""List, then watch, for ever: keeps a :class:`Store` true to the API server."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from typing import Any

from drse_operator.cluster.client import ApiError, ApiUnreachable, Kind, KubeApi
from drse_operator.cluster.store import Store

log = logging.getLogger(__name__)

_BACKOFF_CAP = 10.0
#: Seconds until an optional kind is asked for again.
_ABSENT = 60.0


class Informer:
    """Feeds one store from one kind.

    ``synced`` is set once the first list is in. ``last_heard`` (monotonic seconds) is when the server last
    said anything, bookmarks included; a watch that has gone quiet for long is seen by it. An ``optional``
    kind may be one that the server does not know: it is empty then, and asked for again now and then.
    """

    def __init__(
        self,
        api: KubeApi,
        kind: Kind,
        store: Store[Any],
        query: Mapping[str, str] | None = None,
        optional: bool = False,
    ) -> None:
        self.kind = kind
        self.synced = asyncio.Event()
        self.last_heard = time.monotonic()
        self._api = api
        self._store = store
        self._query = query
        self._optional = optional

    async def run(self) -> None:
        """Run until cancelled. Errors are logged and followed by a new attempt with back-off."""
        version: str | None = None
        failures = 0
        while True:
            try:
                if version is None:
                    version = await self._list()
                version = await self._watch(version)
                failures = 0
            except ApiError as error:
                if error.not_found and self._optional:
                    self.synced.set()
                    self.last_heard = time.monotonic()
                    await asyncio.sleep(_ABSENT)
                    continue
                failures += 1
                log.warning("informer %s: %s", self.kind.plural, error)
            except ApiUnreachable as error:
                failures += 1
                log.warning("informer %s: %s", self.kind.plural, error)
            if failures:
                # After an outage the server may have forgotten what came before: list again.
                version = None
                await asyncio.sleep(random.uniform(0.1, min(0.2 * 2**failures, _BACKOFF_CAP)))

    async def _list(self) -> str:
        listing = await self._api.list(self.kind, query=self._query)
        self._store.reset(listing.items, listing.resource_version)
        self.last_heard = time.monotonic()
        self.synced.set()
        return listing.resource_version

    async def _watch(self, version: str) -> str:
        async for event, document in self._api.watch(self.kind, version, self._query):
            self.last_heard = time.monotonic()
            version = document["metadata"]["resourceVersion"]
            if event == "DELETED":
                self._store.discard(document)
            elif event != "BOOKMARK":
                self._store.put(document)
        return version
