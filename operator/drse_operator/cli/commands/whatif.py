"""``drse whatif``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from drse_operator.cli import table, wording
from drse_operator.cli.access import complete_nodes
from drse_operator.cli.answer import Sheet, answer
from drse_operator.cli.changes import ChangeError, read_changes, settings
from drse_operator.cli.connect import Session
from drse_operator.cli.load import load_scene
from drse_operator.cli.output import Request, reading
from drse_operator.cli.table import Column
from drse_operator.observe.views.fork import WithoutNode
from drse_operator.observe.views.whatif import (
    Answer,
    IncompleteSceneError,
    Outcome,
    ShareShift,
    Shift,
    WhatIfReport,
)
from drse_operator.observe.views.whatif import whatif as view


@click.command()
@click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="DeepSeekJobs and GPUQueues that would be applied; - reads from stdin.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="PATH=VALUE",
    help="queue.NAME.FIELD=VALUE or job.NAME.FIELD=VALUE; may be repeated.",
)
@click.option(
    "--without",
    "nodes",
    multiple=True,
    metavar="NODE",
    shell_complete=complete_nodes,
    help="A node that is gone, with what runs there; may be repeated.",
)
@click.option("--now", "only_now", is_flag=True, help="Exit with 3 also when a job would have to wait.")
@reading(watch=False)
def whatif(
    request: Request,
    files: tuple[Path, ...],
    assignments: tuple[str, ...],
    nodes: tuple[str, ...],
    only_now: bool,
) -> None:
    """What would happen if; nothing is created or changed.

    The operator's own planner answers on a copy of the cluster as it is: would the job start, where, whom
    would it preempt, else when; and whose start would move. Exit status 3 when a job would not run.

    \b
    drse whatif -f job.yaml
    drse whatif --set queue.research.weight=2
    drse whatif -f job.yaml --without h100-3
    """
    if not (files or assignments or nodes):
        raise click.UsageError("say what is to be otherwise: -f FILE, --set PATH=VALUE or --without NODE")

    async def ask(session: Session) -> Sheet:
        scene = await load_scene(session)
        try:
            changes = [change for file in files for change in read_changes(file, session.namespace)]
            changes += settings(scene.world, assignments, session.namespace)
            known = {node.name for node in scene.world.nodes.values()} if scene.complete else {*nodes}
            changes += [_without(name in known, name) for name in nodes]
            report = view(scene, changes)
        except (ChangeError, IncompleteSceneError) as error:
            raise click.ClickException(str(error)) from error
        return Sheet(
            report,
            report.items or report.shifts,
            ANSWERS if report.items else shift_columns(report),
            names=[f"deepseekjob.drse.dev/{row.job}" for row in report.items or report.shifts],
            text=describe(report) if request.tabular and not request.columns else "",
            empty="nothing would change",
        )

    sheet = answer(request, ask)
    assert isinstance(sheet.report, WhatIfReport)
    bad = {Outcome.REFUSED, *((Outcome.WAITS, Outcome.PREEMPTS) if only_now else ())}
    if any(row.outcome in bad for row in sheet.report.items):
        raise click.exceptions.Exit(3)


def _without(known: bool, name: str) -> WithoutNode:
    if not known:
        raise ChangeError(f"there is no node {name}: drse nodes lists those with GPUs")
    return WithoutNode(name)


def describe(report: WhatIfReport) -> str:
    """A sentence for each job asked about, then tables of the queues and of the jobs that it touches."""
    parts = [sentence(row, report.as_of) for row in report.items]
    width = table.terminal_width()
    drawn = [table.draw(report.shares, _SHARES, width=width)] if report.shares else []
    drawn += [table.draw(report.shifts, shift_columns(report), width=width)] if report.shifts else []
    for one in drawn:
        parts.append(f"\n{one}" if parts else one)
    if not report.items and not report.shifts:
        parts.append("no job's start would move" if drawn else "nothing would change")
    if report.hidden_shifts:
        parts.append(f"and {report.hidden_shifts} jobs of other tenants")
    return "\n".join(parts)


def sentence(row: Answer, today: datetime) -> str:
    """What becomes of one job."""
    name = click.style(f"{row.namespace}/{row.job}", bold=True)
    match row.outcome:
        case Outcome.STARTS if row.message is None:
            return f"{name} would start now: {_places(row)}"
        case Outcome.STARTS:
            return f"{name} {row.message}" + (f": {_places(row)}" if row.places else "")
        case Outcome.PREEMPTS:
            return f"{name} would start once {', '.join(row.preempts)} gave way to it"
        case Outcome.WAITS:
            start = wording.between(row.eta_p50, row.eta_p90, today)
            when = "start not in sight" if row.eta_p50 is None else f"start {start}"
            place = f"at position {row.position} in {row.queue}"
            return f"{name} would wait {place}, {when}: {row.reason}: {row.message}"
        case _:
            return f"{name} would not run: {row.reason}: {row.message}"


def _places(row: Answer) -> str:
    parts = []
    for place in row.places:
        which = f" ({', '.join(place.uuids)})" if place.uuids else ""
        parts.append(f"{place.count} x {place.product} on {place.node}{which}")
    return "; ".join(parts)


ANSWERS: list[Column[Answer]] = [
    Column("NAMESPACE", lambda r: r.namespace),
    Column("JOB", lambda r: r.job),
    Column("OUTCOME", lambda r: r.outcome),
    Column("POS", lambda r: wording.number(r.position), right=True),
    Column("NODES", lambda r: ",".join(dict.fromkeys(p.node for p in r.places)) or "-"),
    Column("PREEMPTS", lambda r: ",".join(r.preempts) or "-"),
    Column("REASON", lambda r: r.reason or "-"),
]


_SHARES: list[Column[ShareShift]] = [
    Column("QUEUE", lambda r: r.queue),
    Column("WEIGHT(now)", lambda r: wording.number(r.weight_now), right=True),
    Column("WEIGHT(then)", lambda r: wording.number(r.weight_then), right=True),
    Column("FAIR(now)", lambda r: wording.number(r.fair_gpus_now), right=True),
    Column("FAIR(then)", lambda r: wording.number(r.fair_gpus_then), right=True),
    Column("HELD", lambda r: str(r.held_gpus), right=True),
]


def shift_columns(report: WhatIfReport) -> list[Column[Shift]]:
    """Columns of the jobs whose start moves."""
    today = report.as_of
    return [
        Column("JOB", lambda r: f"{r.namespace}/{r.job}"),
        Column(
            "START(now)",
            lambda r: "runs" if r.runs_now else _start(r.start_now, r.never_now, today),
        ),
        Column("START(then)", lambda r: _start(r.start_then, r.never_then, today)),
        Column("DELTA", lambda r: wording.signed_age(r.delta_seconds), right=True),
        Column("LOSES-GPUS", lambda r: "yes" if r.loses_gpus else "-"),
    ]


def _start(start: datetime | None, never: bool, today: datetime) -> str:
    """When, or that time alone does not bring it about, or that no end in sight does."""
    if start is None:
        return "never" if never else "not in sight"
    return wording.clock(start, today)
