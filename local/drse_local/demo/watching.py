"""A collection of the API server as a stream of its states, one for each change.

Where only the present matters `apiclient.Mirror` does; here no state may be skipped, because a device that
two claims held for an instant must be found. Within one collection the API server tells changes in their
order, so every state yielded is one that really was. (States between a failed watch and the next list are not
seen.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import aiohttp

from drse_local.apiclient import ApiStatusError, KubeApi, Manifest

_RETRY_SECONDS = 0.5

#: Objects by (namespace, name); the namespace of cluster-scoped objects is empty.
Objects = Mapping[tuple[str, str], Manifest]


async def states(api: KubeApi, path: str) -> AsyncIterator[Objects]:
    """Yield the collection at `path` as first listed and after every change, until cancelled.

    Lists again after any failure. The mapping is the same object each time: read it before going on.
    """
    while True:
        try:
            answer = await api.get(path)
            objects = {_key(each): each for each in answer["items"]}
            version: str = answer["metadata"]["resourceVersion"]
            yield objects
            while True:
                async for event in api.watch(path, version):
                    version = event["object"]["metadata"]["resourceVersion"]
                    if _take(objects, event):
                        yield objects
        except (ApiStatusError, aiohttp.ClientError, OSError, TimeoutError):
            await asyncio.sleep(_RETRY_SECONDS)


def _take(objects: dict[tuple[str, str], Manifest], event: Manifest) -> bool:
    """Apply one event of a watch; False when it changes nothing."""
    changed = event["object"]
    if event["type"] == "DELETED":
        return objects.pop(_key(changed), None) is not None
    if event["type"] in ("ADDED", "MODIFIED"):
        objects[_key(changed)] = changed
        return True
    return False


def _key(manifest: Manifest) -> tuple[str, str]:
    metadata = manifest["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
