"""Command line of the operator process, ``drse-operator``."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from dataclasses import fields
from importlib.metadata import version

import click

from drse_operator.controller.app import Options, run
from drse_operator.controller.logs import configure
from drse_operator.controller.loop import Settings
from drse_operator.outside.options import Url
from drse_operator.workloads.engines import EngineImages
from drse_operator.workloads.life import Limits

_IMAGE_NAMES = tuple(field.name for field in fields(EngineImages))
_IMAGE_HELP = f"Image of an engine instead of the built-in one; NAME is one of {', '.join(_IMAGE_NAMES)}."


@click.group(context_settings={"auto_envvar_prefix": "DRSE_OPERATOR", "show_default": True})
@click.version_option(package_name="drse")
def main() -> None:
    """Reconciles DeepSeekJobs: admits them fairly, assigns exclusive GPUs, runs and scales them.

    Every option can also be set in the environment, e.g. --bind-timeout as DRSE_OPERATOR_RUN_BIND_TIMEOUT.
    """


@main.command("run")
@click.option(
    "--kubeconfig", type=click.Path(dir_okay=False), help="Outside of a cluster: the kubeconfig to use."
)
@click.option("--namespace", default="drse-system", help="Namespace of the leader Lease.")
@click.option("--lease", default="drse-operator", help="Name of the leader Lease.")
@click.option("--identity", default=None, help="Name in the Lease. [default: host name and process id]")
@click.option("--listen", default="0.0.0.0:8080", help="Address of /healthz, /readyz and /metrics.")
@click.option(
    "--forecaster-url",
    type=Url(),
    default=None,
    help="Base URL of the forecaster; all replicas behind it are asked. Without it nothing is scaled.",
)
@click.option("--forecast-period", type=float, default=15.0, help="Seconds between polls of the forecaster.")
@click.option(
    "--forecast-max-age",
    type=float,
    default=120.0,
    help="Seconds after which its last answer no longer counts.",
)
@click.option(
    "--bind-timeout", type=float, default=120.0, help="Seconds that the workers of a replica have to bind."
)
@click.option(
    "--backoff-base", type=float, default=10.0, help="Seconds before the first retry; doubles each time."
)
@click.option("--image", "images", multiple=True, metavar="NAME=IMAGE", help=_IMAGE_HELP)
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="json", help="Format of log lines."
)
@click.option("--log-level", default="INFO", help="Lowest level that is logged.")
def run_operator(
    kubeconfig: str | None,
    namespace: str,
    lease: str,
    identity: str | None,
    listen: str,
    forecaster_url: str | None,
    forecast_period: float,
    forecast_max_age: float,
    bind_timeout: float,
    backoff_base: float,
    images: tuple[str, ...],
    log_format: str,
    log_level: str,
) -> None:
    """Run the operator until it is told to stop (SIGTERM or SIGINT), then give leadership back."""
    configure(log_format, log_level)
    host, _, port = listen.rpartition(":")
    if not port.isdigit():
        raise click.BadParameter("give host and port, such as 0.0.0.0:8080", param_hint="--listen")
    options = Options(
        kubeconfig=kubeconfig,
        identity=identity or f"{socket.gethostname()}-{os.getpid()}",
        version=version("drse"),
        lease_namespace=namespace,
        lease_name=lease,
        listen_host=host,
        listen_port=int(port),
        forecaster_url=forecaster_url,
        forecast_period=forecast_period,
        forecast_max_age=forecast_max_age,
        loop=Settings(
            limits=Limits(bind_timeout=bind_timeout, backoff_base=backoff_base),
            images=_images(images),
        ),
    )
    asyncio.run(_run(options))


async def _run(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(options, stop)
    logging.getLogger(__name__).info("stopped")


def _images(texts: tuple[str, ...]) -> EngineImages:
    chosen = dict(text.partition("=")[::2] for text in texts)
    if unknown := chosen.keys() - set(_IMAGE_NAMES):
        raise click.BadParameter(
            f"{', '.join(unknown)}: choose from {', '.join(_IMAGE_NAMES)}", param_hint="--image"
        )
    return EngineImages(**chosen)
