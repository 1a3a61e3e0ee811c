"""The last step of the API server's proxy, which an embedded cluster lacks: its pods have no network.

A server before the real API server that passes everything on with the caller's own credentials, but for the
proxy of pods and Services. There it asks the API server whether the caller may, as the API server would ask
itself, and then leads to where a process of the test stands in for the pod.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.fronts import Front

_PROXIED = re.compile(
    r"/api/v1/namespaces/(?P<namespace>[^/]+)/(?P<resource>pods|services)/http:(?P<name>[^/:]+):[^/]+"
    r"/proxy/(?P<path>.*)"
)
_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_DROPPED = frozenset({"host", "content-length", "transfer-encoding", "accept-encoding"})


class PodNetwork(Front):
    """``leads`` tells where a pod or a Service is: (resource, name) to the base URL of a process."""

    def __init__(self, server: str, ca: Path) -> None:
        super().__init__()
        self.leads: dict[tuple[str, str], str] = {}
        self._server = server
        self._trust = ssl.create_default_context(cafile=ca)

    def kubeconfig(self, path: Path, token: str) -> Path:
        """A kubeconfig of whom the token belongs to."""
        return self.write_kubeconfig(path, {"token": token})

    async def handle(self, request: web.Request) -> web.Response:
        found = _PROXIED.fullmatch(request.path)
        if found is None:
            return await self._pass_on(request)
        namespace, resource, name = found["namespace"], found["resource"], found["name"]
        if not await self._allowed(request, namespace, resource, name):
            return _status(403, "Forbidden", f'{resource} "{name}" is forbidden')
        base = self.leads.get((resource, name))
        if base is None:
            return _status(404, "NotFound", f'{resource} "{name}" not found')
        try:
            async with self.session.get(f"{base}/{found['path']}") as answer:
                return web.Response(body=await answer.read(), status=answer.status)
        except aiohttp.ClientError as error:
            return _status(503, "ServiceUnavailable", f"error trying to reach service: {error}")

    async def _allowed(self, request: web.Request, namespace: str, resource: str, name: str) -> bool:
        asked = {
            "namespace": namespace,
            "verb": "get",
            "resource": resource,
            "subresource": "proxy",
            "name": name,
        }
        review = {"kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": asked}}
        headers = {"Authorization": request.headers.get("Authorization", "")}
        url = f"{self._server}{_REVIEW}"
        async with self.session.post(url, json=review, headers=headers, ssl=self._trust) as answer:
            document: dict[str, Any] = await answer.json()
        return bool(document["status"]["allowed"])

    async def _pass_on(self, request: web.Request) -> web.Response:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _DROPPED}
        url, body = f"{self._server}{request.path_qs}", await request.read() or None
        async with self.session.request(
            request.method, url, headers=headers, data=body, ssl=self._trust
        ) as answer:
            return web.Response(
                body=await answer.read(), status=answer.status, content_type=answer.content_type
            )


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code}
    return web.json_response(body, status=code)
