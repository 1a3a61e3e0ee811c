"""The command line: parses and wires, decides nothing."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import uvicorn

from drse_forecaster import logs
from drse_forecaster.queries import DEFAULT_REQUESTS, DEFAULT_UTILIZATION, Utilization, build_load_query
from drse_forecaster.rounds import Forecaster, ForecasterSettings
from drse_forecaster.runner import Runner
from drse_forecaster.series import SeriesShape
from drse_forecaster.service import build_app
from drse_forecaster.sharding import Shard
from drse_forecaster.source import PrometheusSettings, PrometheusSource

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[int]):
    """Seconds, written as `90s`, `5m`, `12h`, `7d`."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([1-9]\d*)([smhd])", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a duration; write a number and s, m, h or d: 5m.", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


class Listen(click.ParamType[tuple[str, int]]):
    """`HOST:PORT`."""

    name = "host:port"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            self.fail(f"{value!r} is not an address; write HOST:PORT, such as 127.0.0.1:8090.", param, ctx)
        return host.strip("[]"), int(port)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ServeOptions:
    prometheus: PrometheusSettings
    settings: ForecasterSettings
    listen: tuple[str, int]
    interval_seconds: int
    fit_workers: int
    shard: Shard


@click.group(context_settings={"max_content_width": 110})
@click.version_option(package_name="drse")
def main() -> None:
    """Forecasts the GPU load of DeepSeekJobs from what Prometheus has recorded."""


@main.command(context_settings={"show_default": True, "auto_envvar_prefix": "DRSE_FORECASTER"})
@click.option(
    "--prometheus-url", required=True, help="Where Prometheus answers, such as http://prometheus:9090."
)
@click.option(
    "--prometheus-token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with a bearer token for Prometheus; it is read again for each query.",
)
@click.option(
    "--prometheus-ca-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the certificates that Prometheus is trusted by, in place of the system's.",
)
@click.option("--prometheus-timeout", type=Duration(), default="30s", help="Longest wait for one answer.")
@click.option("--insecure-skip-tls-verify", is_flag=True, help="Accept any certificate of Prometheus.")
@click.option("--listen", type=Listen(), default="127.0.0.1:8090", help="Where to serve.")
@click.option("--history", type=Duration(), default="7d", help="How far back models learn from.")
@click.option("--step", type=Duration(), default="5m", help="Spacing of that history, whole minutes.")
@click.option("--interval", type=Duration(), default="60s", help="Time between two rounds.")
@click.option(
    "--refit-every", type=Duration(), default="12h", help="Time between two fits, at fixed times of UTC."
)
@click.option("--stale-after", type=Duration(), default="5m", help="Oldest newest sample that may be used.")
@click.option("--fit-workers", type=click.IntRange(1, 64), default=1, help="Fits that run at once.")
@click.option(
    "--utilization-metric",
    "utilization",
    multiple=True,
    metavar="NAME[:FULL[:UUID_LABEL]]",
    help="Exporter metric of how busy a GPU is, its value at full load, its UUID label. Repeatable; "
    f"default: {', '.join(one.metric for one in DEFAULT_UTILIZATION)}.",
)
@click.option(
    "--request-metric",
    "requests",
    multiple=True,
    metavar="NAME",
    help=f"Engine metric of running or waiting requests. Repeatable; default: {', '.join(DEFAULT_REQUESTS)}.",
)
@click.option("--query", help="PromQL to use instead; one series a job, in GPU-equivalents. See `query`.")
@click.option(
    "--shard",
    default="0/1",
    metavar="INDEX/COUNT",
    help="Which of how many replicas this is; each job is served by one. A pod's name may stand for INDEX.",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
def serve(
    prometheus_url: str,
    prometheus_token_file: Path | None,
    prometheus_ca_file: Path | None,
    prometheus_timeout: int,
    insecure_skip_tls_verify: bool,
    listen: tuple[str, int],
    history: int,
    step: int,
    interval: int,
    refit_every: int,
    stale_after: int,
    fit_workers: int,
    utilization: tuple[str, ...],
    requests: tuple[str, ...],
    query: str | None,
    shard: str,
    log_format: str,
    log_level: str,
) -> None:
    """Read loads once a minute, forecast them, and serve the forecasts over HTTP.

    Every option can also be set in the environment: DRSE_FORECASTER_PROMETHEUS_URL is --prometheus-url.

    \b
    Try it:
      drse-forecaster serve --prometheus-url http://127.0.0.1:9090 &
      curl -s 127.0.0.1:8090/readyz
      curl -s 127.0.0.1:8090/v1/forecasts

    A job is TooShort for its first 90 minutes, is forecast as its last value with a measured P90 after
    that, and from two days of history on daily patterns are learned. They speak only where a backtest shows
    that they do better.
    """
    logs.configure(log_format, log_level)
    try:
        shape = SeriesShape(history_seconds=history, step_seconds=step)
        text = query or _query(utilization, requests)
        replica = Shard.parse(shard)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    options = _ServeOptions(
        prometheus=PrometheusSettings(
            url=prometheus_url,
            query=text,
            read_timeout=prometheus_timeout,
            token_file=prometheus_token_file,
            ca_file=prometheus_ca_file,
            verify_tls=not insecure_skip_tls_verify,
        ),
        settings=ForecasterSettings(shape=shape, refit_seconds=refit_every, stale_after_seconds=stale_after),
        listen=listen,
        interval_seconds=interval,
        fit_workers=fit_workers,
        shard=replica,
    )
    asyncio.run(_serve(options))


@main.command(context_settings={"show_default": True})
@click.option(
    "--series",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV file (.gz too) with a column of times and columns of loads.",
)
@click.option("--column", help="Column to forecast; by default the first with numbers.")
@click.option("--horizon", type=Duration(), default="10m", help="How far ahead the judged forecasts look.")
@click.option("--step", type=Duration(), default="5m", help="Spacing of forecasts; finer bins are averaged.")
@click.option("--refit-every", type=Duration(), default="12h", help="Time between two fits, as for `serve`.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the newest days to a PNG."
)
def backtest(
    series: Path,
    column: str | None,
    horizon: int,
    step: int,
    refit_every: int,
    output: str,
    plot: Path | None,
) -> None:
    """Tell what forecasts would have been worth on a recorded load.

    Every step of the file is forecast from what came before it, by the code that `serve` runs, refitted as
    there, and compared with what came and with the last value. A file with bins coarser than --step is
    forecast on its own bins.
    """
    from drse_forecaster.backtesting import run_backtest  # pandas takes a second to import
    from drse_forecaster.recorded import SeriesError

    try:
        report = run_backtest(series, column, horizon, step, refit_every, plot)
    except SeriesError as error:
        raise click.ClickException(str(error)) from error
    click.echo(report.model_dump_json() if output == "json" else report.sentences())


@main.command(name="query", context_settings={"auto_envvar_prefix": "DRSE_FORECASTER"})
@click.option("--utilization-metric", "utilization", multiple=True, metavar="NAME[:FULL[:UUID_LABEL]]")
@click.option("--request-metric", "requests", multiple=True, metavar="NAME")
def show_query(utilization: tuple[str, ...], requests: tuple[str, ...]) -> None:
    """Print the PromQL that `serve` would ask, to try it in Prometheus or to change it."""
    try:
        click.echo(_query(utilization, requests))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _query(utilization: tuple[str, ...], requests: tuple[str, ...]) -> str:
    metrics = tuple(Utilization.parse(text) for text in utilization) or DEFAULT_UTILIZATION
    return build_load_query(metrics, requests or DEFAULT_REQUESTS)


async def _serve(options: _ServeOptions) -> None:
    source = PrometheusSource(options.prometheus, options.settings.shape)
    executor = ThreadPoolExecutor(options.fit_workers, thread_name_prefix="fit")
    runner = Runner(
        forecaster=Forecaster(options.settings),
        source=source,
        fit_executor=executor,
        interval_seconds=options.interval_seconds,
        shard=options.shard,
    )
    host, port = options.listen
    server = uvicorn.Server(
        uvicorn.Config(build_app(runner), host=host, port=port, log_config=None, access_log=False)
    )
    _outlive_signals()
    logging.getLogger(__name__).info("serving", extra={"address": f"{host}:{port}"})
    try:
        async with asyncio.TaskGroup() as group:  # neither the loop nor the server outlives the other
            loop = group.create_task(runner.run(), name="rounds")
            await server.serve()
            loop.cancel()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        source.close()


def _outlive_signals() -> None:
    """Uvicorn stops on SIGTERM and SIGINT and then raises them again: by then the exit is under way."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
