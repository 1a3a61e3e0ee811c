"""``drse version``."""

from __future__ import annotations

import asyncio
from importlib import metadata

import click

from drse_operator.cli.access import Access, with_access


@click.command()
@click.option("--client", is_flag=True, help="Do not ask the cluster.")
@with_access
def version(access: Access, client: bool) -> None:
    """Versions of this program, of the API server, and of the operator that leads."""
    click.echo(f"client: {metadata.version('drse')}")
    if not client:
        for line in asyncio.run(_server(access)):
            click.echo(line)


async def _server(access: Access) -> list[str]:
    from drse_operator.cli.connect import connect
    from drse_operator.cluster import kinds
    from drse_operator.cluster.client import ApiError

    async with connect(access) as session:
        answer = await session.api.request("GET", "/version")
        lines = [f"Kubernetes: {answer.get('gitVersion', 'unknown')}"]
        try:
            lease = await session.api.get(kinds.LEASE, "drse-operator", access.drse_namespace)
            lines.append(f"operator: led by {lease['spec'].get('holderIdentity') or 'nobody'}")
        except ApiError as error:
            why = "not there" if error.not_found else "not readable with your rights"
            lines.append(f"operator: Lease drse-operator in {access.drse_namespace} is {why}")
        return lines
