"""``drse report``."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import click

from drse_operator.cli import wording
from drse_operator.cli.access import queue_option
from drse_operator.cli.answer import Sheet, answer
from drse_operator.cli.connect import Session
from drse_operator.cli.load import where
from drse_operator.cli.output import Request, reading
from drse_operator.cli.records import read_usage
from drse_operator.cli.spans import Span
from drse_operator.cli.table import Column
from drse_operator.observe.views import usage as view
from drse_operator.observe.views.usage import By, UsageRow


@click.group()
def report() -> None:
    """Reports over days and weeks."""


@report.command()
@click.option(
    "--by",
    default="queue",
    show_default=True,
    metavar="WORD,...",
    help=f"Group by: {', '.join(By)}; several words make finer groups.",
)
@click.option(
    "--from",
    "span",
    type=Span(),
    default="30d",
    show_default=True,
    metavar="SPAN",
    help="How far back, such as 7d or -30d: whole UTC days.",
)
@queue_option
@reading(scoped=False, watch=False)
def usage(request: Request, by: str, span: float, queue_name: str | None) -> None:
    """GPU-hours held, used, idle and not measured, with waits and preemptions.

    Used is what the known load fills of what is held. Of the whole cluster; -n keeps one namespace.
    """
    groups = _groups(by)

    async def ask(session: Session) -> Sheet:
        now = time.time()
        month = f"{datetime.fromtimestamp(now - span, UTC):%Y-%m}"
        periods = await read_usage(session, request.access.drse_namespace, month)
        shown = await where(session, request, scoped=False, queue=queue_name)
        found = view.usage(periods, groups, now - span, now, shown)
        return Sheet(
            found,
            found.items,
            columns(groups),
            names=["/".join(row.who.values()) for row in found.items],
            empty=f"no GPU-hours are known from {found.first_day} on",
            below=f"\n{wording.hours(found.total_held_gpu_hours)} GPU-hours held in all, "
            f"{found.first_day} to {found.last_day} (UTC)",
        )

    answer(request, ask)


def _groups(text: str) -> tuple[By, ...]:
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word not in set(By)]
    if unknown or not words:
        raise click.UsageError(
            f"cannot group by {', '.join(unknown) or 'nothing'}: choose from {', '.join(By)}"
        )
    return tuple(By(word) for word in words)


def columns(groups: tuple[By, ...]) -> list[Column[UsageRow]]:
    """Columns of GPU-hours: one for each group, then the figures."""
    return [
        *(_group(by) for by in groups),
        Column(
            "HELD-H", lambda r: wording.hours(r.held_gpu_hours), right=True, order=lambda r: r.held_gpu_hours
        ),
        Column(
            "USED-H", lambda r: wording.hours(r.used_gpu_hours), right=True, order=lambda r: r.used_gpu_hours
        ),
        Column(
            "IDLE-H", lambda r: wording.hours(r.idle_gpu_hours), right=True, order=lambda r: r.idle_gpu_hours
        ),
        Column(
            "UNKNOWN-H",
            lambda r: wording.hours(r.unmeasured_gpu_hours),
            right=True,
            order=lambda r: r.unmeasured_gpu_hours,
        ),
        Column("JOBS", lambda r: str(r.jobs), right=True, order=lambda r: r.jobs),
        Column("WAIT-P50", lambda r: wording.at_most(r.wait_p50_seconds), right=True),
        Column("WAIT-P90", lambda r: wording.at_most(r.wait_p90_seconds), right=True),
        Column("PREEMPTED", lambda r: str(r.preemptions), right=True, order=lambda r: r.preemptions),
    ]


def _group(by: By) -> Column[UsageRow]:
    return Column(by.upper(), lambda r: r.who[by])


def _hours(header: str, figure: Callable[[UsageRow], float]) -> Column[UsageRow]:
    return Column(header, lambda r: wording.hours(figure(r)), right=True, order=figure)
