"""All checks, from the ground up. Those that wait for an answer wait at the same time."""

from __future__ import annotations

import asyncio

from drse_operator.cli.diagnosis import cluster, measured, programs
from drse_operator.cli.diagnosis.closed import closed
from drse_operator.cli.diagnosis.finding import Case, Finding


async def diagnose(case: Case) -> tuple[Finding, ...]:
    """Everything that is found. Raises ApiError and ApiUnreachable when the API server does not answer."""
    ground, led, forecast, measures = await asyncio.gather(
        cluster.api_server(case), programs.operator(case), programs.forecaster(case), measured.measured(case)
    )
    definitions = await cluster.definitions(case)
    return (
        ground,
        definitions,
        cluster.rights(case),
        *led,
        cluster.answered(case),
        cluster.queues(case),
        cluster.gpus(case),
        cluster.dra(case),
        cluster.exclusive(case),
        cluster.devices(case),
        cluster.waits(case),
        *closed(case),
        forecast,
        *measures,
    )
