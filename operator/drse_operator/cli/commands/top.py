"""``drse top``: the cluster, live."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Mapping, Sequence

import click

from drse_operator.api.words import count
from drse_operator.cli import table, wording
from drse_operator.cli.access import Access, with_access
from drse_operator.cli.card import card
from drse_operator.cli.commands.gpus import model
from drse_operator.cli.commands.queue import columns as queue_columns
from drse_operator.cli.commands.share import columns as share_columns
from drse_operator.cli.connect import Session, connect
from drse_operator.cli.load import load_scene, shortcomings
from drse_operator.cli.prometheus import prometheus_option, utilisation
from drse_operator.cli.table import Column, R
from drse_operator.cluster.client import ApiError, ApiUnreachable
from drse_operator.observe.views.jobs import JobReport, JobRow, jobs
from drse_operator.observe.views.nodes import nodes
from drse_operator.observe.views.now import NowReport, now
from drse_operator.observe.views.queue import queue
from drse_operator.observe.views.scene import Scene
from drse_operator.observe.views.share import share
from drse_operator.outside.prometheus import PrometheusSettings

#: Lines that are not rows: the summary, headings, headers and the gaps between.
_FRAME = 14


@click.command()
@click.option(
    "--interval", type=click.FloatRange(0.5, 3600), default=2.0, show_default=True, metavar="SECONDS"
)
@click.option(
    "--once", is_flag=True, help="Print once and end; so it does anyway where there is no terminal."
)
@prometheus_option
@with_access
def top(access: Access, interval: float, once: bool, prometheus: PrometheusSettings | None) -> None:
    """The cluster, live: GPUs by state, shares, who waits, who runs. Ends with Ctrl-C."""
    try:
        asyncio.run(_top(access, interval, once or not sys.stdout.isatty(), prometheus))
    except KeyboardInterrupt:
        raise click.exceptions.Exit(0) from None


async def _top(access: Access, interval: float, once: bool, prometheus: PrometheusSettings | None) -> None:
    async with connect(access) as session:
        if once:
            scene, use = await _look(session, prometheus)
            for note in shortcomings(scene):
                click.echo(f"note: {note}", err=True)
            click.echo(page(scene, use, None, None))
            return
        from rich.live import Live
        from rich.text import Text

        last = await _look(session, prometheus)
        with Live(Text.from_ansi(_screen(last)), screen=True, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(interval)
                trouble = ""
                try:
                    last = await _look(session, prometheus)
                except (ApiError, ApiUnreachable, click.ClickException) as error:
                    # What was seen last stays, and says that it is old.
                    trouble = click.style(f"no answer since then: {error}", fg="red")
                live.update(Text.from_ansi(_screen(last, trouble)), refresh=True)


async def _look(
    session: Session, prometheus: PrometheusSettings | None
) -> tuple[Scene, dict[str, float] | None]:
    return await load_scene(session), await utilisation(prometheus)


def _screen(seen: tuple[Scene, dict[str, float] | None], trouble: str = "") -> str:
    size = shutil.get_terminal_size()
    text = page(*seen, size.columns, size.lines - bool(trouble))
    return f"{trouble}\n{text}" if trouble else text


def page(scene: Scene, use: Mapping[str, float] | None, width: int | None, height: int | None) -> str:
    """All of it as text; ``height`` lines at most, None for as many as there are."""
    shares, waiting = share(scene), queue(scene)
    running = jobs(scene, holding_only=True)
    room = None if height is None else max(6, height - _FRAME - len(shares.items))
    first = room and max(3, room // 2)
    parts = [
        summary(now(scene, use), free_by_model(scene)),
        _section("queues", shares.items, share_columns(shares), width, None),
        _section("waiting", waiting.items, queue_columns(waiting, True), width, first),
        _section("running", running.items, running_columns(running), width, first),
    ]
    return "\n\n".join(part for part in parts if part)


def _section(
    title: str, rows: Sequence[R], columns: Sequence[Column[R]], width: int | None, most: int | None
) -> str:
    if not rows:
        return ""
    shown = rows if most is None else rows[:most]
    drawn = table.draw(shown, [c for c in columns if not c.wide], width=width)
    more = len(rows) - len(shown)
    return f"{click.style(title, bold=True)}\n{drawn}" + (f"\nand {more} more" if more else "")


def summary(report: NowReport, models: str, width: int | None = None) -> str:
    """The numbers of the moment in a few lines of at most ``width``, the terminal's when left out."""
    idle = "" if report.held_idle_gpus is None else f" ({report.held_idle_gpus} idle)"
    gpus = (
        f"{report.gpus} GPUs: {report.held_gpus} held{idle}, {report.free_gpus} free, "
        f"{report.foreign_gpus} foreign, {report.out_of_service_gpus} out of service"
    )
    oldest = ""
    if report.oldest_wait_seconds is not None:
        oldest = f", oldest {wording.age(report.oldest_wait_seconds)}"
    act = ""
    if report.must_act_jobs:
        need = "needs" if report.must_act_jobs == 1 else "need"
        act = click.style(f"; {report.must_act_jobs} {need} somebody to act", fg="red")
    holding = "holds" if report.running_jobs == 1 else "hold"
    jobs_ = f"{count(report.running_jobs, 'job')} {holding} GPUs"
    waiting = f"{report.waiting_jobs} waiting for {count(report.waiting_gpus, 'GPU')}{oldest}{act}"
    lines = [gpus, f"{jobs_}, {waiting}", *([models] if models else [])]
    return card([(f"{report.as_of.astimezone():%H:%M:%S}", line) for line in lines], width)


def free_by_model(scene: Scene) -> str:
    """Free GPUs by model."""
    free: dict[str, list[int]] = {}
    for row in nodes(scene).items:
        counts = free.setdefault(model(row.product), [0, 0])
        counts[0] += row.free
        counts[1] += row.gpus
    return "free: " + ", ".join(f"{name} {a}/{b}" for name, (a, b) in sorted(free.items())) if free else ""


def running_columns(report: JobReport) -> list[Column[JobRow]]:
    """Columns of the jobs that hold GPUs."""
    today = report.as_of
    return [
        Column("NAMESPACE", lambda r: r.namespace),
        Column("JOB", lambda r: r.job),
        Column("QUEUE", lambda r: r.queue),
        Column("TYPE", lambda r: r.task_type),
        Column("STATE", lambda r: r.state),
        Column("GPUS", lambda r: str(r.gpus), right=True),
        Column("READY", lambda r: r.ready),
        Column("LOAD", lambda r: wording.number(r.load), right=True),
        Column("STARTED", lambda r: wording.clock(r.started_at, today)),
        Column("FREE-AT", lambda r: wording.clock(r.free_at, today)),
        Column("NODES", lambda r: ",".join(r.nodes)),
    ]
