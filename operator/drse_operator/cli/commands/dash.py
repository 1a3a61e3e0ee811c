"""``drse dash``: the cluster on the whole terminal. What it shows is in ``drse_operator.cli.dash``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import click

from drse_operator.cli.access import Access, with_access
from drse_operator.cli.connect import connect
from drse_operator.cli.forecaster import forecaster_option
from drse_operator.cli.prometheus import prometheus_option
from drse_operator.outside.prometheus import PrometheusSettings


@click.command()
@click.option(
    "--interval",
    type=click.FloatRange(0.5, 3600),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@forecaster_option
@prometheus_option
@with_access
def dash(
    access: Access, interval: float, forecaster: str | None, prometheus: PrometheusSettings | None
) -> None:
    """The cluster on the whole terminal: now, who waits, GPUs, forecasts; Enter says why, ? the keys.

    Needs the extra: pip install 'drse[dash]'. drse top shows the same without it, and without keys.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("dash needs a terminal: drse top --once prints what it shows")
    try:
        from drse_operator.cli.dash.app import Ask, Dash
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise click.ClickException("dash needs textual: pip install 'drse[dash]', or use drse top") from error
    from drse_operator.cli.dash.look import Look, Sources, look

    sources = Sources(access.drse_namespace, forecaster, prometheus)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Ask]:
        async with connect(access) as session:
            yield partial(look, session, sources)

    async def first() -> Look:
        async with opened() as ask:
            return await ask()

    Dash(asyncio.run(first()), opened, interval).run()
