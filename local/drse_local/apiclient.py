"""A small client of the embedded API server that speaks plain JSON documents.

The fleet, the metrics source and the tests handle manifests as data, of many kinds and a few verbs. The
generated models of the `kubernetes` package would only be converted to and fro, so its transport and its
reading of kubeconfigs are used without them.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client, config

from drse_local.errors import LocalClusterError

Manifest = dict[str, Any]

FIELD_MANAGER = "drse-local"
_GONE = 410
_REQUEST_SECONDS = 30
# The server ends watches of its own accord after a time; asking for one below that keeps the end orderly.
_WATCH_SECONDS = 240
_RETRY_SECONDS = 1.0

_log = logging.getLogger(__name__)


class ApiStatusError(LocalClusterError):
    """The API server refused a request; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def client_configuration(kubeconfig: Path) -> client.Configuration:
    """Read a kubeconfig. Proxies of the environment are not used: the server is on loopback."""
    configuration = client.Configuration()
    await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    configuration.client_session_kwargs = {"trust_env": False}
    return configuration


@asynccontextmanager
async def connect(kubeconfig: Path) -> AsyncIterator[KubeApi]:
    """A client that is closed at the end of the block."""
    async with client.ApiClient(await client_configuration(kubeconfig)) as api:
        yield KubeApi(api)


class KubeApi:
    """Requests by path, e.g. `/api/v1/nodes/h100-0`. All methods raise ApiStatusError when the server
    refuses.
    """

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    async def get(self, path: str, **query: str) -> Manifest:
        """GET one object or a list."""
        return await self._request("GET", path, query)

    async def create(self, path: str, manifest: Manifest) -> Manifest:
        """POST to a collection, or to a subresource such as `token`."""
        return await self._request("POST", path, {}, manifest, "application/json")

    async def apply(self, path: str, manifest: Manifest) -> Manifest:
        """Server-side apply: create the object or make it have these fields."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._request("PATCH", path, query, manifest, "application/apply-patch+yaml")

    async def _request(
        self, method: str, path: str, query: dict[str, str], body: Manifest | None = None, content: str = ""
    ) -> Manifest:
        response = await self._send(method, path, query, body, content)
        document: Manifest = json.loads(await response.read())
        return document

    async def _send(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: Manifest | None = None,
        content: str = "",
        seconds: float = _REQUEST_SECONDS,
    ) -> aiohttp.ClientResponse:
        configuration = self._api.configuration
        headers = {"Accept": "application/json"} | ({"Content-Type": content} if content else {})
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        answer = await self._api.call_api(method, url, headers, body, _request_timeout=seconds)
        response: aiohttp.ClientResponse = answer.response
        if response.status >= 400:
            raise ApiStatusError(response.status, _message(await response.read(), method, path))
        return response

    async def watch(self, path: str, resource_version: str) -> AsyncIterator[Manifest]:
        """Yield events from a version on, until the server ends the watch. 410: version too old."""
        query = {"watch": "true", "resourceVersion": resource_version, "timeoutSeconds": str(_WATCH_SECONDS)}
        response = await self._send("GET", path, query, seconds=_WATCH_SECONDS + 30)
        async with response:
            async for line in response.content:
                event: Manifest = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ApiStatusError(status.get("code", 500), status.get("message", "watch failed"))
                yield event


class Mirror:
    """Keeps a copy of a collection up to date: list, watch, and again after any failure.

    objects: by `namespace/name`. synced: whether the first list is in.
    """

    def __init__(self, api: KubeApi, path: str) -> None:
        self.objects: dict[str, Manifest] = {}
        self.synced = False
        self._api = api
        self._path = path

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                version = await self._list()
                while True:
                    version = await self._follow(version)
            except ApiStatusError as error:
                if error.status != _GONE:
                    _log.warning("Watching %s failed: %s", self._path, error)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                _log.warning("Watching %s failed: %s", self._path, error or type(error).__name__)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _list(self) -> str:
        answer = await self._api.get(self._path)
        self.objects = {_key(each): each for each in answer["items"]}
        self.synced = True
        version: str = answer["metadata"]["resourceVersion"]
        return version

    async def _follow(self, version: str) -> str:
        async for event in self._api.watch(self._path, version):
            changed = event["object"]
            version = changed["metadata"]["resourceVersion"]
            if event["type"] == "DELETED":
                self.objects.pop(_key(changed), None)
            elif event["type"] in ("ADDED", "MODIFIED"):
                self.objects[_key(changed)] = changed
        return version


def _key(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"


def _message(body: bytes, method: str, path: str) -> str:
    try:
        reason = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        reason = body.decode(errors="replace")[:500]
    return f"{method} {path}: {reason}"
