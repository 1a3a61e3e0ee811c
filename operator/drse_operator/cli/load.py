"""One look at the cluster: all kinds that the planner reads, listed at once, with the caller's own rights.

What may not be listed in the whole cluster is listed in the caller's namespace if that is allowed, and else
left out. Either way the scene says so, and the views then do not pretend to know what only the whole tells.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

import click

from drse_operator.api.keys import JobKey
from drse_operator.cli.connect import Session
from drse_operator.cli.elsewhere import readable
from drse_operator.cli.output import Request
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, Kind, Listing
from drse_operator.cluster.world import World
from drse_operator.observe.views.fork import PICTURED
from drse_operator.observe.views.scene import Scene, Where

#: Kinds that a cluster may not have at all.
_OPTIONAL = (kinds.SLICE, kinds.TAINT_RULE, kinds.CLAIM)


async def load_scene(session: Session, wanted: Collection[Kind] = PICTURED) -> Scene:
    """The cluster as the caller may see it. Raises ClickException without DRSE, or without any right."""
    world = World(touched=lambda uid: None, stirred=lambda: None)
    answers = await asyncio.gather(*(_list(session, kind) for kind in wanted))
    unread = []
    for kind, (listing, whole) in zip(wanted, answers, strict=True):
        if listing is not None:
            world.store(kind).reset(listing.items, listing.resource_version)
        if not whole:
            unread.append(kind.plural)
    return Scene(world, time.time(), unread)


async def _list(session: Session, kind: Kind) -> tuple[Listing | None, bool]:
    """What may be listed of a kind, and whether that is all there is."""
    try:
        return await session.api.list(kind), True
    except ApiError as error:
        if error.not_found and kind in _OPTIONAL:
            return None, True
        if error.not_found:
            raise click.ClickException(
                f"this cluster does not know {kind.plural}.{kind.api_version.partition('/')[0]}: "
                "install DRSE there, or choose another --context"
            ) from error
        if error.status != 403:
            raise
        refused = error
    if not kind.namespaced:
        return None, False
    try:
        return await session.api.list(kind, session.namespace), False
    except ApiError as error:
        if error.status != 403:
            raise
        if kind is kinds.DEEPSEEKJOB:
            elsewhere = await readable(session)
            choose = f"give -n {' or -n '.join(elsewhere)}" if elsewhere else "choose your namespace with -n"
            raise click.ClickException(
                f"you may list DeepSeekJobs neither in the cluster nor in namespace {session.namespace}: "
                f"{choose}, or ask for the role view there"
            ) from refused
        return None, False


async def selected_keys(
    session: Session, selector: str | None, namespace: str | None
) -> frozenset[JobKey] | None:
    """Jobs that a label selector matches; None without a selector."""
    if not selector:
        return None
    listing = await session.api.list(kinds.DEEPSEEKJOB, namespace, {"labelSelector": selector})
    return frozenset(JobKey(i["metadata"]["namespace"], i["metadata"]["name"]) for i in listing.items)


async def where(session: Session, request: Request, scoped: bool, queue: str | None = None) -> Where:
    """Which jobs the caller asks about. ``scoped``: those of one namespace, unless told otherwise."""
    stated = request.access.namespace
    namespace = None if request.all_namespaces or not (scoped or stated) else session.namespace
    return Where(
        queue=queue,
        namespaces=None if namespace is None else frozenset({namespace}),
        keys=await selected_keys(session, request.selector, namespace),
    )


def shortcomings(scene: Scene) -> tuple[str, ...]:
    """What an answer had to do without, in a sentence."""
    if scene.complete:
        return ()
    return (
        f"you may not list {', '.join(scene.unread)} in the whole cluster: waits are told as the operator "
        "last wrote them, and what needs the rest is left out",
    )
