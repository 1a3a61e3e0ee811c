"""What exporters measure, asked of Prometheus where the caller names one."""

from __future__ import annotations

from typing import Any

import click

from drse_operator.cluster.client import Document

#: Use of each GPU by UUID, 0 to 1. Each vendor's exporter has its own metric, AMD's its own label too.
_UTILISATION = (
    "max by (UUID) (DCGM_FI_DEV_GPU_UTIL or habanalabs_utilization "
    "or label_replace(gpu_gfx_activity, 'UUID', '$1', 'gpu_uuid', '(.+)')) / 100"
)
_TIMEOUT = 10.0


def prometheus_option(command: Any) -> Any:
    """Add ``--prometheus``."""
    return click.option(
        "--prometheus",
        metavar="URL",
        envvar="DRSE_PROMETHEUS",
        help="Prometheus to ask for the use of GPUs.  [env: DRSE_PROMETHEUS]",
    )(command)


async def utilisation(url: str | None) -> dict[str, float] | None:
    """Use (0 to 1) by UUID; None without a Prometheus. Raises ClickException when it does not answer."""
    if url is None:
        return None
    return {
        item["metric"]["UUID"]: float(item["value"][1])
        for item in await query(url, _UTILISATION)
        if item["metric"].get("UUID")
    }


async def query(url: str, expression: str) -> list[Document]:
    """An instant query. Raises ClickException when it is not answered."""
    import httpx

    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT) as client:
            response = await client.get(f"{url.rstrip('/')}/api/v1/query", params={"query": expression})
            response.raise_for_status()
            result: list[Document] = response.json()["data"]["result"]
            return result
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise click.ClickException(
            f"Prometheus at {url} gives no usable answer ({type(error).__name__}: {error}): "
            "check --prometheus, or leave it out"
        ) from error
