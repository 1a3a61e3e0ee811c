"""Command line of the console process, ``drse-console``."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
from importlib.metadata import version
from pathlib import Path

import click

from drse_operator.observe.console.outside import Addresses
from drse_operator.observe.console.process import Auth, Options, run
from drse_operator.outside.options import Url, prometheus_options
from drse_operator.outside.prometheus import PrometheusSettings


@click.command(context_settings={"auto_envvar_prefix": "DRSE_CONSOLE", "show_default": True})
@click.version_option(package_name="drse")
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False),
    help="Outside of a cluster: the kubeconfig to use. In a pod its service account is used without.",
)
@click.option("--listen", default="127.0.0.1:8080", help="Address to serve on.")
@click.option(
    "--auth",
    type=click.Choice([mode.value for mode in Auth]),
    default=Auth.TOKEN.value,
    help="token: bearer tokens and a login page. proxy: a proxy in front says who asks. none-on-loopback: "
    "everybody on this machine sees everything.",
)
@click.option(
    "--proxy-secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --auth proxy: file with the secret that the proxy sends as X-DRSE-Proxy-Secret.",
)
@click.option("--secure-cookie", is_flag=True, help="Send the session's cookie over HTTPS only.")
@click.option(
    "--operator-namespace", default="drse-system", help="Where the operator keeps Lease, accounts, decisions."
)
@click.option("--lease", default="drse-operator", help="Name of the operator's Lease.")
@prometheus_options("--prometheus-url", "For use of GPUs, history and alerts; without it none are shown.")
@click.option(
    "--forecaster-url",
    type=Url(),
    default=None,
    help="For forecasts, of all replicas behind it; without it none are shown.",
)
@click.option("--cluster-name", default="", help="What the pages call the cluster.")
@click.option("--log-level", default="INFO", help="Lowest level that is logged.")
def main(
    kubeconfig: str | None,
    listen: str,
    auth: str,
    proxy_secret_file: Path | None,
    secure_cookie: bool,
    operator_namespace: str,
    lease: str,
    prometheus: PrometheusSettings | None,
    forecaster_url: str | None,
    cluster_name: str,
    log_level: str,
) -> None:
    """The administrator's console: read-only pages over the cluster's queues, jobs and GPUs.

    Every option can also be set in the environment, e.g. --listen as DRSE_CONSOLE_LISTEN.
    """
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    host, _, port = listen.rpartition(":")
    if not port.isdigit() or not host:
        raise click.BadParameter("give host and port, such as 127.0.0.1:8080", param_hint="--listen")
    options = Options(
        kubeconfig=kubeconfig,
        listen_host=host.strip("[]"),
        listen_port=int(port),
        auth=Auth(auth),
        addresses=Addresses(operator_namespace, lease, prometheus, forecaster_url),
        version=version("drse"),
        cluster=cluster_name,
        proxy_secret=_secret(Auth(auth), proxy_secret_file),
        secure_cookie=secure_cookie,
    )
    if options.auth is Auth.NONE_ON_LOOPBACK and not _loopback(options.listen_host):
        raise click.UsageError(
            f"--auth none-on-loopback shows everything to everybody, and {host} can be reached from outside: "
            "listen on 127.0.0.1, or choose --auth token"
        )
    asyncio.run(_run(options))


def _secret(auth: Auth, file: Path | None) -> str:
    if auth is not Auth.PROXY:
        return ""
    secret = "" if file is None else file.read_text(encoding="utf-8").strip()
    if len(secret) < 16:
        raise click.UsageError(
            "--auth proxy needs --proxy-secret-file with a secret of 16 characters or more: without one "
            "anybody could say that they are somebody else"
        )
    return secret


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _run(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(options, stop)
