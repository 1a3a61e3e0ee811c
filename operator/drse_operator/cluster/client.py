"""JSON requests to the API server, each with a time-out and retries where repeating is safe.

``kubernetes.aio`` supplies configuration, credentials and TLS; its generated models are left out, since
turning thousands of pods into model objects costs far more than the operator's own work on them.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config

Document = dict[str, Any]

#: Total seconds for one request that is not a watch.
REQUEST_TIMEOUT = 10.0
#: Attempts of a request that may be repeated.
ATTEMPTS = 5
_RETRIED = frozenset({429, 500, 502, 503, 504})
_PAGE = 500


class ApiError(Exception):
    """The API server refused: HTTP ``status``, its word ``reason``, its sentence ``message``."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @property
    def not_found(self) -> bool:
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """Somebody changed the object in between, or one of that name exists."""
        return self.status == 409


class ApiUnreachable(Exception):
    """No answer: whether a write took effect is not known."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Where a kind is served. ``prefix`` is ``/api/v1`` or ``/apis/GROUP/VERSION``."""

    prefix: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return self.prefix.removeprefix("/apis/").removeprefix("/api/")

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """URL path of a collection, an object or its subresource."""
        parts = [self.prefix]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


@dataclass(frozen=True, slots=True)
class Listing:
    """A consistent list and the resourceVersion to watch from."""

    items: list[Document]
    resource_version: str


async def load_configuration(kubeconfig: str | None, context: str | None = None) -> Any:
    """Credentials from a kubeconfig when given or found, else from the pod's service account."""
    configuration = kubernetes_client.Configuration()
    if kubeconfig is None:
        try:
            kubernetes_config.load_incluster_config(client_configuration=configuration)
        except kubernetes_config.ConfigException:
            await kubernetes_config.load_kube_config(context=context, client_configuration=configuration)
    else:
        await kubernetes_config.load_kube_config(
            config_file=kubeconfig, context=context, client_configuration=configuration
        )
    return configuration


class KubeApi:
    """Requests to one API server. Use as an asynchronous context manager."""

    def __init__(self, configuration: Any, user_agent: str = "drse") -> None:
        configuration.connection_pool_maxsize = 128
        self._api = kubernetes_client.ApiClient(configuration)
        self._api.user_agent = user_agent
        self._host = configuration.host.rstrip("/")

    async def __aenter__(self) -> KubeApi:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()

    # -- reading ----------------------------------------------------------------------------------------

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Document:
        """One object. Raises ApiError (404 when it does not exist) or ApiUnreachable."""
        return await self.request("GET", kind.path(namespace, name))

    async def list(
        self, kind: Kind, namespace: str | None = None, query: Mapping[str, str] | None = None
    ) -> Listing:
        """All objects, in pages, with the resourceVersion of the whole."""
        items: list[Document] = []
        page: dict[str, str] = {"limit": str(_PAGE), **(query or {})}
        while True:
            body = await self.request("GET", kind.path(namespace), query=page, limit=60)
            for item in body.get("items") or ():
                # Half of a document, and nobody here asks who set which field.
                item["metadata"].pop("managedFields", None)
                items.append(item)
            metadata = body.get("metadata", {})
            token = metadata.get("continue")
            if not token:
                return Listing(items, metadata.get("resourceVersion", "0"))
            page["continue"] = token

    async def watch(
        self,
        kind: Kind,
        resource_version: str,
        query: Mapping[str, str] | None = None,
        seconds: int = 290,
    ) -> AsyncIterator[tuple[str, Document]]:
        """Events (type, object) after ``resource_version``, bookmarks included, until the server ends it.

        Raises ApiError (410 when the version has expired) and ApiUnreachable when the stream breaks or is
        silent for longer than ``seconds`` plus a margin.
        """
        parameters = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
            **(query or {}),
        }
        response = await self._send("GET", kind.path(), parameters, None, "application/json", seconds + 30)
        try:
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ApiError(
                        status.get("code", 500), status.get("reason", "Unknown"), status.get("message", "")
                    )
                yield event["type"], event["object"]
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            raise ApiUnreachable(f"watch of {kind.plural} broke: {error!r}") from error
        finally:
            response.close()

    # -- writing ----------------------------------------------------------------------------------------

    async def create(self, kind: Kind, document: Document) -> Document:
        """Create an object. Raises ApiError (409 when the name is taken). Safe to repeat: names are fixed."""
        namespace = document["metadata"].get("namespace")
        return await self.request("POST", kind.path(namespace), body=document)

    async def apply(
        self,
        kind: Kind,
        document: Document,
        manager: str,
        subresource: str = "",
        force: bool = True,
        dry_run: bool = False,
    ) -> Document:
        """Server-side apply. With a resourceVersion in the document, a changed object is a 409."""
        metadata = document["metadata"]
        query = {"fieldManager": manager, "force": str(force).lower()}
        return await self.request(
            "PATCH",
            kind.path(metadata.get("namespace"), metadata["name"], subresource),
            query=query | ({"dryRun": "All"} if dry_run else {}),
            body=document,
            content_type="application/apply-patch+yaml",
        )

    async def merge(
        self, kind: Kind, name: str, namespace: str | None, patch: Document, subresource: str = ""
    ) -> Document:
        """JSON merge patch."""
        return await self.request(
            "PATCH",
            kind.path(namespace, name, subresource),
            body=patch,
            content_type="application/merge-patch+json",
        )

    async def replace(self, kind: Kind, document: Document) -> Document:
        """Replace an object; with a resourceVersion in it, a changed object is a 409. Not repeated."""
        metadata = document["metadata"]
        path = kind.path(metadata.get("namespace"), metadata["name"])
        return await self.request("PUT", path, body=document, attempts=1)

    async def delete(
        self, kind: Kind, name: str, namespace: str | None, uid: str | None = None, grace: int | None = None
    ) -> None:
        """Delete exactly the object with ``uid``; one that is gone or another by now is no error."""
        options: Document = {"propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            await self.request("DELETE", kind.path(namespace, name), body=options)
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Document | None = None,
        content_type: str = "application/json",
        limit: float = REQUEST_TIMEOUT,
        attempts: int = ATTEMPTS,
    ) -> Document:
        """One request and its answer within ``limit`` seconds an attempt.

        Overload, server errors and lost connections are tried again.

        Raises ApiError for a refusal and ApiUnreachable when no attempt was answered.
        """
        for attempt in range(1, attempts + 1):
            try:
                return await self._once(method, path, query, body, content_type, limit)
            except ApiError as error:
                if error.status not in _RETRIED or attempt == attempts:
                    raise
                delay = error.retry_after or _delay(attempt)
            except ApiUnreachable:
                if attempt == attempts:
                    raise
                delay = _delay(attempt)
            await asyncio.sleep(delay)
        raise AssertionError("unreachable")

    async def text(self, path: str, limit: float = REQUEST_TIMEOUT) -> str:
        """What is behind a proxy's path, as it is. Raises ApiError and ApiUnreachable."""
        try:
            async with asyncio.timeout(limit):
                response = await self._send("GET", path, None, None, "application/json", limit)
                return (await response.read()).decode(errors="replace")
        except (TimeoutError, aiohttp.ClientError) as error:
            raise ApiUnreachable(f"GET {path}: {error!r}") from error

    async def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Document | None,
        content_type: str,
        limit: float,
    ) -> Document:
        response = await self._send(method, path, query, body, content_type, limit)
        try:
            text = await response.read()
        except (TimeoutError, aiohttp.ClientError) as error:
            raise ApiUnreachable(f"{method} {path}: {error!r}") from error
        try:
            document: Document = json.loads(text) if text else {}
        except ValueError as error:
            raise ApiUnreachable(f"{method} {path}: the answer is no JSON ({error})") from error
        return document

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Document | None,
        content_type: str,
        limit: float,
    ) -> aiohttp.ClientResponse:
        """Send and return the open response of a success; turn everything else into our two errors."""
        headers = {"Content-Type": content_type, "Accept": "application/json", **await self._identity()}
        url = f"{self._host}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            answer = await self._api.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=limit
            )
            response: aiohttp.ClientResponse = answer.response
            if response.status < 300:
                return response
            text = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ApiUnreachable(f"{method} {path}: {error!r}") from error
        raise _refusal(response, text)

    async def _identity(self) -> dict[str, str]:
        """Headers that say who asks."""
        token = await self._api.configuration.get_api_key_with_prefix("BearerToken", "authorization")
        return {"User-Agent": self._api.user_agent} | ({"Authorization": token} if token else {})

    async def open_websocket(
        self, path: str, query: Mapping[str, str], protocol: str
    ) -> aiohttp.ClientWebSocketResponse:
        """An open WebSocket, which the caller closes. Raises ApiError for a refusal, else ApiUnreachable."""
        rest, settings = self._api.rest_client, self._api.configuration
        if rest.pool_manager is None:  # else made by the first request
            await self.request("GET", "/version")
        try:
            socket: aiohttp.ClientWebSocketResponse = await rest.pool_manager.ws_connect(
                f"{self._host}{path}?{urlencode(query)}",
                protocols=(protocol,),
                headers=await self._identity(),
                proxy=settings.proxy,
                proxy_headers=settings.proxy_headers,
            )
            return socket
        except aiohttp.WSServerHandshakeError as error:
            raise ApiError(
                error.status, "WebSocket", f"{path} is refused with status {error.status}"
            ) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ApiUnreachable(f"{path}: {error!r}") from error


def _refusal(response: aiohttp.ClientResponse, text: bytes) -> ApiError:
    try:
        status = json.loads(text)
    except ValueError:
        status = {}
    if not isinstance(status, dict):
        status = {}
    after = response.headers.get("Retry-After")
    return ApiError(
        response.status,
        status.get("reason") or response.reason or "Unknown",
        status.get("message") or text[:500].decode(errors="replace"),
        float(after) if after and after.isdigit() else None,
    )


def _delay(attempt: int) -> float:
    """Exponential back-off with full jitter, seconds."""
    return random.uniform(0.05, min(0.1 * 2**attempt, 3.0))
