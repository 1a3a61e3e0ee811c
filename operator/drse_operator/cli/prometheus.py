"""What exporters measure, asked of Prometheus where the caller names one."""

from __future__ import annotations

from typing import Any

import click

from drse_operator.outside.options import prometheus_options
from drse_operator.outside.prometheus import PrometheusError, PrometheusSettings, connect


def prometheus_option(command: Any) -> Any:
    """Add ``--prometheus`` and how it is asked; the command gets them as ``prometheus``."""
    return prometheus_options(
        "--prometheus",
        "Prometheus to ask for the use of GPUs.  [env: DRSE_PROMETHEUS]",
        skip_tls_verify="--prometheus-insecure-skip-tls-verify",
        envvar="DRSE_PROMETHEUS",
    )(command)


async def utilisation(settings: PrometheusSettings | None) -> dict[str, float] | None:
    """Use (0 to 1) by UUID; None without a Prometheus. Raises ClickException when it does not answer."""
    if settings is None:
        return None
    try:
        async with connect(settings) as prometheus:
            return await prometheus.use()
    except PrometheusError as error:
        raise click.ClickException(f"{error}, or leave --prometheus out") from error
