"""``drse bump``: give a job a higher PriorityClass, after saying whom that delays."""

from __future__ import annotations

import asyncio

import click

from drse_operator.api.words import count
from drse_operator.cli import wording
from drse_operator.cli.access import Access, complete_jobs, with_access
from drse_operator.cli.card import card
from drse_operator.cli.commands.change import find_job, patch_spec, refuse_finished
from drse_operator.cli.commands.whatif import sentence
from drse_operator.cli.connect import connect
from drse_operator.cli.load import load_scene
from drse_operator.cli.signature import Write, confirm, sign, write_options
from drse_operator.observe.views import bump as view
from drse_operator.observe.views.base import instant
from drse_operator.observe.views.bump import Bump, NoPriorityError, Priority
from drse_operator.observe.views.scene import Scene, UnknownJobError
from drse_operator.observe.views.whatif import Shift

#: Jobs named in one line.
_NAMED = 8


@click.command()
@click.argument("job", shell_complete=complete_jobs)
@click.option("--priority", metavar="CLASS", help="PriorityClass to give it; the next higher one by default.")
@write_options
@with_access
def bump(access: Access, job: str, priority: str | None, write: Write) -> None:
    """Raise JOB in its queue, by the next higher PriorityClass.

    Priority orders the jobs of a queue. In a queue that allows preemption (LowerPriority) it also takes GPUs
    from running jobs below it. The planner tells first whom that puts behind JOB, and by how much they start
    later. Which classes you may use is for your administrator to say.

    \b
    drse bump gang-2 -n research --dry-run=server
    drse bump gang-2 -n research --priority urgent --why "paper deadline" --yes
    """
    asyncio.run(_bump(access, job, priority, write))


async def _bump(access: Access, name: str, wanted: str | None, write: Write) -> None:
    async with connect(access) as session:
        refuse_finished(await find_job(session, name))
        scene = await load_scene(session)
        job = await find_job(session, name)
        try:
            found = view.bump(scene, job.key, wanted)
        except (NoPriorityError, UnknownJobError) as error:
            raise click.ClickException(str(error)) from error
        if job.spec is not None and found.after.name == job.spec.priority_class_name:
            raise click.ClickException(f"{job.key} has the priority {found.after.name} already")
        click.echo(describe(str(job.key), found, scene))
        confirm(write)
        signature = await sign(session, "bump", write.why)
        await patch_spec(session, job.key, write, signature, {"priorityClassName": found.after.name})
        await signature.tell(session, job, "Bumped", write.dry_run)
        click.echo(f"deepseekjob.drse.dev/{name} bumped{write.suffix}")


def describe(name: str, found: Bump, scene: Scene) -> str:
    """What changes, as a card."""
    lines = [("job", f"{name}: priority {_priority(found.before)} becomes {_priority(found.after)}")]
    if found.answer is None:
        lines.append(("then", "not known: only who may list the whole cluster is answered by the planner"))
        return card(lines)
    if found.position is not None:
        lines.append(("now", f"position {found.position} in {found.answer.queue}"))
    lines.append(("then", sentence(found.answer, instant(scene.now))))
    if found.overtaken or found.hidden_overtaken:
        names = [str(key) for key in found.overtaken]
        lines.append(("ahead of", _some(names, found.hidden_overtaken)))
    if found.delayed or found.hidden_delayed:
        lines.append(("delays", _some([_delay(shift) for shift in found.delayed], found.hidden_delayed)))
    else:
        lines.append(("delays", "nobody"))
    return card(lines)


def _priority(one: Priority) -> str:
    name = one.name or ("none" if one.value is not None else "the default")
    return name if one.value is None else f"{name} ({one.value})"


def _some(named: list[str], hidden: int) -> str:
    """The first of them, and how many more; another tenant's jobs are only counted."""
    more = len(named) - _NAMED
    parts = [*named[:_NAMED], *([f"{more} more"] if more > 0 else [])]
    return ", ".join([*parts, *([f"{count(hidden, 'job')} of other tenants"] if hidden else [])])


def _delay(shift: Shift) -> str:
    name = f"{shift.namespace}/{shift.job}"
    if shift.loses_gpus:
        return f"{name} loses the GPUs that it holds"
    return f"{name} by {wording.signed_age(shift.delta_seconds)}"
