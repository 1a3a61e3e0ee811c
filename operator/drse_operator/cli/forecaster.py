"""The forecaster's answer, through the API server's proxy or by its own address."""

from __future__ import annotations

from typing import Any

import click

from drse_forecaster.contract import ForecastList
from drse_operator.cli.connect import Session
from drse_operator.outside.forecaster import Answer, AtAddress, Forecaster
from drse_operator.outside.options import Url
from drse_operator.outside.proxied import ThroughApi


def forecaster_option(command: Any) -> Any:
    """Add ``--forecaster``."""
    return click.option(
        "--forecaster",
        metavar="URL",
        type=Url(),
        envvar="DRSE_FORECASTER",
        help="Address of the forecaster, all replicas behind which are asked; by default its pods, through "
        "the API server.",
    )(command)


async def ask_replicas(session: Session, namespace: str, url: str | None) -> Answer:
    """What each replica says; ``namespace`` is DRSE's."""
    forecaster: Forecaster = AtAddress(url) if url else ThroughApi(session.api, namespace)
    return await forecaster.ask()


async def ask_forecaster(
    session: Session, namespace: str, url: str | None
) -> tuple[ForecastList | None, str]:
    """All forecasts, or None, and what is wrong or missing in a sentence."""
    answer = await ask_replicas(session, namespace, url)
    return answer.merged(), "; ".join(answer.troubles)
