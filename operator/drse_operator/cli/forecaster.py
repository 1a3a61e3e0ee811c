"""The forecaster's answer, through the API server's proxy or by its own address."""

from __future__ import annotations

from typing import Any

import click
from pydantic import ValidationError

from drse_forecaster.contract import ForecastList
from drse_operator.cli.connect import Session
from drse_operator.cluster.client import ApiError, ApiUnreachable

_SERVICE = "http:drse-forecaster:http"
_TIMEOUT = 5.0


def forecaster_option(command: Any) -> Any:
    """Add ``--forecaster``."""
    return click.option(
        "--forecaster",
        metavar="URL",
        envvar="DRSE_FORECASTER",
        help="Address of the forecaster; its Service by default, through the API server.",
    )(command)


async def ask_forecaster(
    session: Session, namespace: str, url: str | None
) -> tuple[ForecastList | None, str]:
    """All forecasts, or None and why there are none."""
    try:
        body = await _by_url(url) if url else await _by_proxy(session, namespace)
        return ForecastList.model_validate(body), ""
    except (ApiError, ApiUnreachable, OSError, ValueError, ValidationError) as error:
        where = f"at {url}" if url else f"Service drse-forecaster in {namespace}"
        said = error.message if isinstance(error, ApiError) else type(error).__name__
        return (
            None,
            f"the forecaster ({where}) could not be asked: {said.splitlines()[0] if said else 'no answer'}",
        )


async def _by_proxy(session: Session, namespace: str) -> Any:
    path = f"/api/v1/namespaces/{namespace}/services/{_SERVICE}/proxy/v1/forecasts"
    return await session.api.request("GET", path, limit=_TIMEOUT, attempts=1)


async def _by_url(url: str) -> Any:
    import httpx

    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT) as client:
            response = await client.get(f"{url.rstrip('/')}/v1/forecasts")
            response.raise_for_status()
            return response.json()
    except httpx.HTTPError as error:
        raise OSError(str(error)) from error
