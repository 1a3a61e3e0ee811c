"""A leader that was deposed may still write: a request of its may be under way for any length of time.

The precondition on resourceVersions does not stop it, since it guards one job, while two jobs may be
promised one GPU. So each time that somebody leads is a numbered term, every status carries the term it was
written in, and a ValidatingAdmissionPolicy (part of the chart) has the API server refuse to change
assignments in any term but the present one.

The number stands in an annotation on the operator's namespace, and is raised against the resourceVersion
that was read while the Lease was still ours: a raise that comes late fails. (It does not stand in the Lease
itself: an API server whose last policy with a Lease as parameter was removed once goes on with an old Lease
for ever, kubernetes/kubernetes#130887. Namespaces it watches for itself.)

The API server learns of the new number a moment after it was written. A new leader therefore asks, without
writing anything, until a status of its own term is accepted. From then on none of an earlier term is, for the
server's view never goes back; and what the last leader did before that is in the lists that the new one reads
next. (With several API servers each has a view of its own, behind by at most the delay of its watch. Two
claims for one device are never allocated all the same: KEP-4381.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from drse_operator.api.base import API_VERSION
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, ApiUnreachable, Document, Kind, KubeApi
from drse_operator.cluster.world import World

log = logging.getLogger(__name__)

TERM_ANNOTATION = "drse.dev/leader-term"
_MANAGER = "drse-fence"
#: Seconds between two tries, and after how many of them it is said that something is wrong.
_PAUSE = 0.1
_PATIENCE = 50


async def raise_fence(api: KubeApi, world: World, namespace: str, may_write: Callable[[], bool]) -> int:
    """Begin a term and return its number, once the API server refuses what is of earlier ones.

    Where the policy is not installed, nothing is refused and this returns at once.
    """
    term = await _next_term(api, namespace, may_write)
    tries = 0
    while (found := _any_object(world)) is not None:
        kind, metadata = found
        document = {"apiVersion": API_VERSION, "kind": kind.kind, "metadata": metadata}
        try:
            await api.apply(kind, document | {"status": {"term": term}}, _MANAGER, "status", dry_run=True)
            break
        except ApiError as error:
            if error.not_found:
                world.store(kind).forget(metadata.get("namespace", ""), metadata["name"], "")
            reason = str(error)
        except ApiUnreachable as error:
            reason = str(error)
        tries += 1
        if tries % _PATIENCE == 0:
            log.warning("the API server does not take us for the leader yet: %s", reason)
        await asyncio.sleep(_PAUSE)
    log.info("this is term %d", term)
    return term


async def _next_term(api: KubeApi, namespace: str, may_write: Callable[[], bool]) -> int:
    """Raise the number by one."""
    tries = 0
    while True:
        try:
            found = (await api.get(kinds.NAMESPACE, namespace))["metadata"]
            text = (found.get("annotations") or {}).get(TERM_ANNOTATION, "0")
            term = int(text) + 1 if text.isdigit() else 1
            if may_write():
                # Looked at after reading: whoever reads the number of the next leader leads no more.
                annotations = {TERM_ANNOTATION: str(term)}
                metadata = {"resourceVersion": found["resourceVersion"], "annotations": annotations}
                await api.merge(kinds.NAMESPACE, namespace, None, {"metadata": metadata})
                return term
        except ApiError as error:
            if error.status == 403:
                log.warning("no term can be begun, what a deposed leader writes is not refused: %s", error)
                return 0
            if not error.conflict and tries % _PATIENCE == 0:
                log.warning("no term could be begun yet: %s", error)
        except ApiUnreachable as error:
            log.warning("no term could be begun yet: %s", error)
        tries += 1
        await asyncio.sleep(_PAUSE)


def _any_object(world: World) -> tuple[Kind, Document] | None:
    """Something to ask about: what has no status that is ours needs no fence."""
    for job in world.all_jobs():
        return kinds.DEEPSEEKJOB, {"name": job.key.name, "namespace": job.key.namespace}
    for queue in world.queues.values():
        return kinds.GPUQUEUE, {"name": queue.name}
    return None
