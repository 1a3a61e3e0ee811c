"""Names for completion, asked of the cluster: quickly, or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from drse_operator.cli.access import find_access
from drse_operator.cli.connect import connect
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, ApiUnreachable

#: Nobody waits longer for a suggestion (seconds).
_PATIENCE = 2.0
_KINDS = {kind.plural: kind for kind in (kinds.DEEPSEEKJOB, kinds.GPUQUEUE, kinds.NODE, kinds.NAMESPACE)}


def names(what: str, context: click.Context, incomplete: str) -> list[str]:
    """Names of objects of a kind (by its plural) that begin so; none when the cluster does not answer."""
    try:
        found = asyncio.run(asyncio.wait_for(_names(what, context.params), _PATIENCE))
    except (TimeoutError, ApiError, ApiUnreachable, click.ClickException):
        return []
    return [name for name in found if name.startswith(incomplete)]


async def _names(what: str, stated: dict[str, Any]) -> list[str]:
    kind = _KINDS[what]
    async with connect(find_access(click.get_current_context(), stated)) as session:
        listing = await session.api.list(kind, session.namespace if kind.namespaced else None)
        return sorted(item["metadata"]["name"] for item in listing.items)
