"""``drse cordon`` and ``drse uncordon``: stop a queue from starting jobs, and let it go on."""

from __future__ import annotations

import asyncio

import click

from drse_operator.cli.access import Access, complete_queues, with_access
from drse_operator.cli.connect import Session, connect
from drse_operator.cli.signature import Write, confirm, sign, write_options
from drse_operator.cluster import kinds, parse
from drse_operator.cluster.client import ApiError


@click.command()
@click.argument("queue", shell_complete=complete_queues)
@write_options
@with_access
def cordon(access: Access, queue: str, write: Write) -> None:
    """Let no waiting job of QUEUE start; those that hold GPUs keep them."""
    asyncio.run(_run(access, queue, write, True))


@click.command()
@click.argument("queue", shell_complete=complete_queues)
@write_options
@with_access
def uncordon(access: Access, queue: str, write: Write) -> None:
    """Let waiting jobs of QUEUE start again."""
    asyncio.run(_run(access, queue, write, False))


async def _run(access: Access, name: str, write: Write, cordoned: bool) -> None:
    async with connect(access) as session:
        queue = await _get(session, name)
        if queue.spec is not None and queue.spec.cordoned == cordoned:
            state = "cordoned already" if cordoned else "not cordoned"
            raise click.ClickException(f"GPUQueue {name} is {state}")
        click.echo(f"{name}: {_effect(queue, cordoned)}")
        confirm(write)
        signature = await sign(session, "cordon" if cordoned else "uncordon", write.why)
        patch = {"metadata": {"annotations": signature.annotation}, "spec": {"cordoned": cordoned}}
        await write.patch(session, kinds.GPUQUEUE, None, name, patch)
        click.echo(f"gpuqueue.drse.dev/{name} {'cordoned' if cordoned else 'uncordoned'}{write.suffix}")


def _effect(queue: parse.QueueObject, cordoned: bool) -> str:
    waiting = queue.status.pending_jobs
    if cordoned:
        return f"spec.cordoned becomes true; {waiting} waiting jobs stay, those that hold GPUs keep them"
    return f"spec.cordoned becomes false; {waiting} waiting jobs may start"


async def _get(session: Session, name: str) -> parse.QueueObject:
    try:
        return parse.queue(await session.api.get(kinds.GPUQUEUE, name))
    except ApiError as error:
        if error.not_found:
            raise click.ClickException(
                f"there is no GPUQueue {name}: drse share lists those there are"
            ) from error
        raise
