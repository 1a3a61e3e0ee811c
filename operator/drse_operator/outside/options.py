"""Options of command lines that ask the outside world; programs differ in the names alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

Command = Callable[..., Any]
_NAMES = (
    "prometheus_url",
    "prometheus_token_file",
    "prometheus_ca_file",
    "insecure_skip_tls_verify",
    "utilization_metric",
)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class Url(click.ParamType[str]):
    """``http://HOST[:PORT]`` or ``https://...``."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The URL, or wrong usage with a sentence."""
        try:
            parts = urlsplit(str(value))
            name = (parts.hostname or "").encode("idna")  # as the name service is asked for it
            usable = parts.scheme in ("http", "https") and bool(name) and parts.port != 0
        except ValueError:  # of a port, a label or an IPv6 address
            usable = False
        if not usable:
            self.fail(f"{value!r} is no address; write http://HOST:PORT or https://HOST.", param, ctx)
        return str(value)


def prometheus_options(
    address: str, help: str, *, skip_tls_verify: str = "--insecure-skip-tls-verify", envvar: str | None = None
) -> Callable[[Command], Command]:
    """Add what is needed to ask Prometheus; the command gets it as ``prometheus``, None without an address.

    ``address`` and ``skip_tls_verify`` are names of options. With ``envvar`` each can also be set as that
    variable or as one that begins so.
    """

    def variable(end: str) -> str | None:
        return None if envvar is None else f"{envvar}{end}"

    options = (
        click.option(address, "prometheus_url", metavar="URL", type=Url(), envvar=variable(""), help=help),
        click.option(
            "--prometheus-token-file",
            type=_FILE,
            envvar=variable("_TOKEN_FILE"),
            help="File with a bearer token for Prometheus; it is read again for each question.",
        ),
        click.option(
            "--prometheus-ca-file",
            type=_FILE,
            envvar=variable("_CA_FILE"),
            help="File with the certificates that Prometheus is trusted by, in place of the system's.",
        ),
        click.option(
            skip_tls_verify,
            "insecure_skip_tls_verify",
            is_flag=True,
            help="Accept any certificate of Prometheus.",
        ),
        click.option(
            "--utilization-metric",
            multiple=True,
            metavar="NAME[:FULL[:UUID_LABEL]]",
            envvar=variable("_UTILIZATION_METRIC"),
            help="Exporter metric of how busy a GPU is, its value at full load, its UUID label, as the "
            "forecaster has it. Repeatable; default: NVIDIA's, AMD's and Intel Gaudi's exporters.",
        ),
    )

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(**kwargs: Any) -> Any:
            settings = _settings(**{name: kwargs.pop(name) for name in _NAMES})
            return command(prometheus=settings, **kwargs)

        wrapped: Command = run
        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def _settings(
    prometheus_url: str | None,
    prometheus_token_file: Path | None,
    prometheus_ca_file: Path | None,
    insecure_skip_tls_verify: bool,
    utilization_metric: tuple[str, ...],
) -> Any:
    # Only now: whoever asks for help need not wait for the client's import.
    from drse_operator.outside.prometheus import PrometheusSettings
    from drse_operator.outside.use import DEFAULT_UTILIZATION, Utilization

    try:
        exporters = tuple(map(Utilization.parse, utilization_metric)) or DEFAULT_UTILIZATION
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--utilization-metric") from error
    if prometheus_url is None:
        return None
    return PrometheusSettings(
        url=prometheus_url,
        token_file=prometheus_token_file,
        ca_file=prometheus_ca_file,
        verify_tls=not insecure_skip_tls_verify,
        exporters=exporters,
    )
