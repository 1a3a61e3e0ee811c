"""``drse why``."""

from __future__ import annotations

import click

from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import WaitReason
from drse_operator.api.words import count
from drse_operator.cli import wording
from drse_operator.cli.access import complete_jobs
from drse_operator.cli.answer import Sheet, answer
from drse_operator.cli.card import card
from drse_operator.cli.connect import Session
from drse_operator.cli.load import load_scene, shortcomings
from drse_operator.cli.output import Request, reading
from drse_operator.observe.views.queue import EtaMove
from drse_operator.observe.views.scene import UnknownJobError
from drse_operator.observe.views.suggestions import Suggestion, uncordon_queue
from drse_operator.observe.views.why import Ahead, Holder, WhyReport
from drse_operator.observe.views.why import why as view


@click.command()
@click.argument("job", shell_complete=complete_jobs)
@click.option("--no-suggestions", is_flag=True, help="Do not look for what would let it start (faster).")
@reading(table=False)
def why(request: Request, job: str, no_suggestions: bool) -> None:
    """Why JOB waits: the numbers, what is in its way, until when, and what would let it start now.

    The largest block is how many GPUs one worker could be given on one node: free, and not reserved for
    another job. Suggestions are tried through the planner before they are named. Exit status 3 when JOB would
    not run until somebody acts.
    """

    async def ask(session: Session) -> Sheet:
        scene = await load_scene(session)
        try:
            report = view(scene, JobKey(session.namespace, job), suggest=not no_suggestions)
        except UnknownJobError as error:
            raise click.ClickException(f"{error}: see drse queue -A for those that wait") from error
        name = f"deepseekjob.drse.dev/{job}"
        return Sheet(report, names=[name], text=describe(report), notes=shortcomings(scene))

    sheet = answer(request, ask)
    assert isinstance(sheet.report, WhyReport)
    if sheet.report.must_act:
        raise click.exceptions.Exit(3)


def describe(report: WhyReport, width: int | None = None) -> str:
    """The report as a card: one line a fact, the sentence first. ``width`` in columns, the terminal's when
    left out."""
    today = report.as_of
    lines: list[tuple[str, str]] = [("job", _title(report))]
    if report.reason is None:
        return card([*lines, ("", report.says)], width)
    colour = "red" if report.must_act else "yellow"
    lines.append(("reason", f"{click.style(report.reason, fg=colour, bold=True)}: {report.says}"))
    for room in report.room:
        block = f", largest block {room.largest_block_gpus}" if room.free_gpus else ""
        if room.free_gpus and not room.largest_block_gpus:
            block = ", all reserved for others"
        where = f" ({room.largest_block_node})" if room.largest_block_node else ""
        lines.append(
            (
                "room",
                f"{room.product}: needs {room.needed_gpus}, {room.free_gpus} of {room.capacity_gpus} free"
                f"{block}{where}",
            )
        )
    if report.reservation is not None:
        nodes = ", ".join(f"{n} on {node}" for node, n in sorted(report.reservation.nodes.items()))
        start = report.reservation.start
        lines.append(("reserved", f"{nodes}" + (f", from {wording.clock(start, today)}" if start else "")))
    lines += [("held by", _holder(holder, report)) for holder in report.holders]
    if report.ahead_jobs:
        shown = ", ".join(_ahead(other) for other in report.ahead)
        more = report.ahead_jobs - len(report.ahead)
        total = f"{count(report.ahead_jobs, 'job')}, {count(report.ahead_gpus, 'GPU')}"
        lines.append(("ahead", f"{total}: {shown}" + (f" and {more} more" if more else "")))
    if report.preempts:
        lines.append(("preempts", f"{', '.join(report.preempts)} will give way to it"))
    lines.append(("start", _eta(report)))
    if report.moved is not None:
        lines.append(("moved", _moved(report.moved, report)))
    lines += [("do", text) for text in _to_do(report)]
    return card(lines, width)


def _title(report: WhyReport) -> str:
    name = click.style(f"{report.namespace}/{report.job}", bold=True)
    place = f", position {report.position}" if report.position is not None else ""
    held = f", holds {count(report.held_gpus, 'GPU')}" if report.held_gpus else ""
    waits = ""
    if report.reason is not None:
        waited = wording.age(report.waited_seconds)
        waits = f", waits for {count(report.lacking_gpus, 'GPU')} ({waited} so far)"
    return f"{name} in queue {report.queue}{place}: {report.state}{held}{waits}"


def _eta(report: WhyReport) -> str:
    if report.must_act:
        return "never, until somebody acts"
    if _cordoned(report):
        return f"not while queue {report.queue} is cordoned"
    if report.eta_p50 is None:
        return "not in sight: nobody who holds such GPUs is expected to end"
    right = ""
    if report.eta_kept_ratio is not None:
        right = f" (right for {wording.percent(report.eta_kept_ratio)} of {report.eta_judged} jobs)"
    return wording.between(report.eta_p50, report.eta_p90, report.as_of) + right


def _moved(moved: EtaMove, report: WhyReport) -> str:
    was = wording.clock(moved.was_p50, report.as_of)
    until = wording.clock(moved.at, report.as_of)
    return f"{wording.signed_age(moved.seconds)}: was {was} until {until}; {moved.reason}: {moved.says}"


def _holder(holder: Holder, report: WhyReport) -> str:
    name = f"{holder.namespace}/{holder.job}" if holder.job is not None else "another tenant's job"
    until = "runs until it is deleted"
    if holder.free_at is not None:
        until = f"until {wording.clock(holder.free_at, report.as_of)}"
    return f"{name}: {holder.gpus} on {', '.join(holder.nodes)}, {until}"


def _ahead(other: Ahead) -> str:
    name = f"{other.namespace}/{other.job}" if other.job is not None else "another tenant's"
    return f"{name} ({other.gpus})"


def _cordoned(report: WhyReport) -> bool:
    return report.reason == WaitReason.QUEUE_CORDONED


def _to_do(report: WhyReport) -> list[str]:
    """What to do, and what becomes of the job then."""
    found = [_suggestion(one) for one in report.suggestions]
    command = uncordon_queue(report.queue)
    if _cordoned(report) and all(one.change != command for one in report.suggestions):
        return [f"{command}: it takes its turn then", *found]
    return found


def _suggestion(one: Suggestion) -> str:
    if one.preempts:
        return f"{one.change}: {', '.join(one.preempts)} would give way"
    nodes = ", ".join(dict.fromkeys(place.node for place in one.places))
    return f"{one.change}: would start now on {nodes}"
