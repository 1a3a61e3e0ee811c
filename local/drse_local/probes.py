"""Readiness over HTTP."""

from __future__ import annotations

import ssl

import httpx

from drse_local.processes import ReadinessProbe

_TIMEOUT_SECONDS = 2.0


def http_probe(url: str, context: ssl.SSLContext | None = None) -> ReadinessProbe:
    """Ready when a GET answers 200. `context` is for https; proxies of the environment are not asked."""

    async def probe() -> bool:
        try:
            async with httpx.AsyncClient(
                verify=context or False, trust_env=False, timeout=_TIMEOUT_SECONDS
            ) as client:
                return (await client.get(url)).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    return probe
