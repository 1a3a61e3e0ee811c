"""``drse hold``, ``release`` and ``requeue``: small changes of a job, asked for, shown, and signed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import click

from drse_operator.api.enums import Phase
from drse_operator.api.keys import JobKey
from drse_operator.api.words import count
from drse_operator.cli.access import Access, complete_jobs, with_access
from drse_operator.cli.connect import Session, connect
from drse_operator.cli.signature import Signature, Write, confirm, sign, write_options
from drse_operator.cluster import kinds, parse
from drse_operator.cluster.client import ApiError
from drse_operator.workloads.observed import Job

#: Seconds until a job that is taken off its GPUs has to have let go of them.
_LET_GO = 120.0


def _command(name: str, help_text: str, act: Any) -> click.Command:
    @click.command(name, help=help_text)
    @click.argument("jobs", nargs=-1, required=True, metavar="JOB...", shell_complete=complete_jobs)
    @write_options
    @with_access
    def run(access: Access, jobs: tuple[str, ...], write: Write) -> None:
        asyncio.run(_run(access, jobs, write, name, act))

    return run


async def _run(access: Access, names: Sequence[str], write: Write, command: str, act: Any) -> None:
    async with connect(access) as session:
        jobs = [await find_job(session, name) for name in names]
        for job in jobs:
            click.echo(f"{job.key}: {act.effect(job)}")
        confirm(write)
        signature = await sign(session, command, write.why)
        for job in jobs:
            await act.carry_out(session, job, write, signature)
            click.echo(f"deepseekjob.drse.dev/{job.key.name} {act.done}{write.suffix}")


async def find_job(session: Session, name: str) -> Job:
    """A job of the session's namespace. Raises ClickException when there is none of that name."""
    try:
        return parse.job(await session.api.get(kinds.DEEPSEEKJOB, name, session.namespace))
    except ApiError as error:
        if error.not_found:
            raise click.ClickException(
                f"there is no DeepSeekJob {name} in namespace {session.namespace}: see kubectl get dsj -A"
            ) from error
        raise


async def patch_spec(
    session: Session, key: JobKey, write: Write, signature: Signature, spec: dict[str, Any]
) -> None:
    """Change fields of a job's spec, signed."""
    patch = {"metadata": {"annotations": signature.annotation}, "spec": spec}
    await write.patch(session, kinds.DEEPSEEKJOB, key.namespace, key.name, patch)


class Hold:
    """Free the GPUs, keep the job."""

    done = "held"

    def effect(self, job: Job) -> str:
        """What will happen, in a sentence. Raises ClickException where it makes no sense."""
        refuse_finished(job)
        if job.spec is not None and job.spec.suspend:
            raise click.ClickException(f"{job.key} is held already")
        held = sum(a.count for a in job.status.assignments)
        if held:
            return f"spec.suspend becomes true; {_loss(held)}"
        return "spec.suspend becomes true; it leaves the queue and loses its place"

    async def carry_out(self, session: Session, job: Job, write: Write, signature: Signature) -> None:
        """Do it."""
        await patch_spec(session, job.key, write, signature, {"suspend": True})
        await signature.tell(session, job, "Held", write.dry_run)


class Release:
    """Let a held job queue again."""

    done = "released"

    def effect(self, job: Job) -> str:
        """What will happen, in a sentence. Raises ClickException where it makes no sense."""
        refuse_finished(job)
        if job.spec is not None and not job.spec.suspend:
            raise click.ClickException(f"{job.key} is not held: its spec.suspend is false")
        queue = job.spec.queue if job.spec is not None else "its queue"
        return f"spec.suspend becomes false; it enters {queue} as if it came now"

    async def carry_out(self, session: Session, job: Job, write: Write, signature: Signature) -> None:
        """Do it."""
        await patch_spec(session, job.key, write, signature, {"suspend": False})
        await signature.tell(session, job, "Unheld", write.dry_run)


class Requeue:
    """Hold, and release when the GPUs are given back."""

    done = "requeued"

    def effect(self, job: Job) -> str:
        """What will happen, in a sentence. Raises ClickException where it makes no sense."""
        refuse_finished(job)
        if job.spec is not None and job.spec.suspend:
            raise click.ClickException(f"{job.key} is held: drse release lets it queue again")
        held = sum(a.count for a in job.status.assignments)
        loss = f"{_loss(held)}; " if held else ""
        return f"{loss}it enters its queue again as if it came now"

    async def carry_out(self, session: Session, job: Job, write: Write, signature: Signature) -> None:
        """Do it. If this is interrupted in between, the job stays held, which release mends."""
        await patch_spec(session, job.key, write, signature, {"suspend": True})
        if write.dry_run:
            return
        deadline = time.monotonic() + _LET_GO
        while True:
            status = (await find_job(session, job.key.name)).status
            if status.phase is Phase.SUSPENDED and not status.assignments:
                break
            if time.monotonic() > deadline:
                raise click.ClickException(
                    f"{job.key} has not let go of its GPUs within {_LET_GO:.0f} s and stays held: look at "
                    f"drse why {job.key.name}, then drse release {job.key.name}"
                )
            await asyncio.sleep(0.3)
        await patch_spec(session, job.key, write, signature, {"suspend": False})
        await signature.tell(session, job, "Requeued", False)


def _loss(held: int) -> str:
    return f"its pods end, which frees {count(held, 'GPU')}, and what they have not saved is lost"


def refuse_finished(job: Job) -> None:
    """Raises ClickException for a job that has ended."""
    if job.status.phase is not None and job.status.phase.finished:
        raise click.ClickException(f"{job.key} has finished ({job.status.phase}): nothing to change")


hold = _command(
    "hold",
    "Free the GPUs of JOBs and keep them from queueing (spec.suspend). drse release lets them queue again.",
    Hold(),
)
release = _command("release", "Let held JOBs queue again.", Release())
requeue = _command(
    "requeue",
    "Take JOBs off their GPUs, if they hold any, and send them to the end of their queue.",
    Requeue(),
)
