"""``converge``: what to create and delete so that a job's objects follow its status.

The status says what is promised; this only compares it with what exists. Every order is idempotent: names
follow from job, replica and worker, deletes name a uid, and nothing is created while something of the
same name is still going away. So the operator may die between any two orders and simply ask again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from drse_operator.api.enums import DeviceSelection, Phase
from drse_operator.api.status import Assignment, DeepSeekJobStatus
from drse_operator.sizing import accelerators
from drse_operator.sizing.shapes import AcceleratorKind, Shape
from drse_operator.workloads import claims, names, pods, services
from drse_operator.workloads.engines import EngineImages
from drse_operator.workloads.observed import Claim, Job, Pod, PodPhase
from drse_operator.workloads.outcome import Action, Create, Delete
from drse_operator.workloads.seen import Seen, by_replica, misplaced, pins


def converge(seen: Seen, status: DeepSeekJobStatus, images: EngineImages) -> tuple[Action, ...]:
    """Orders that bring pods, claims and Services of one job to what ``status`` promises."""
    job = seen.job
    if job.deleting:
        return orphans(seen.pods.values(), seen.claims.values())
    if job.spec is None:
        return ()
    return (
        *_unwanted_pods(seen, status),
        *_unwanted_claims(seen, status),
        *_missing_services(seen, status),
        *_missing_workers(seen, status, images),
    )


def orphans(left_pods: Iterable[Pod], left_claims: Iterable[Claim]) -> tuple[Delete, ...]:
    """Orders that clear away what a deleted job left behind."""
    return (
        *(Delete("Pod", p.namespace, p.name, p.uid) for p in left_pods if not p.deleting),
        *(Delete("ResourceClaim", c.namespace, c.name, c.uid) for c in left_claims if not c.deleting),
    )


def _unwanted_pods(seen: Seen, status: DeepSeekJobStatus) -> Iterator[Delete]:
    promised = {(a.replica, a.worker): a for a in status.assignments}
    over = status.phase is not None and status.phase.finished
    for place, pod in sorted(seen.pods.items()):
        if pod.deleting or _keeps_log(pod, place[0], status, over):
            continue
        assignment = promised.get(place)
        if assignment is None or pod.phase is PodPhase.FAILED or not _as_promised(seen, assignment, pod):
            yield Delete("Pod", pod.namespace, pod.name, pod.uid)


def _as_promised(seen: Seen, assignment: Assignment, pod: Pod) -> bool:
    """Whether a pod is on its node, and with DRA holds a claim on its devices and no others."""
    if misplaced(assignment, pod):
        return False
    claim = seen.claims.get(_claim_name(seen.job, assignment))
    return claim is None or not _needs_claim(assignment) or pins(claim, assignment)


def _keeps_log(pod: Pod, replica: int, status: DeepSeekJobStatus, over: bool) -> bool:
    """Ended pods hold no GPU; those of ended replicas and jobs stay for their logs."""
    if over:
        return pod.finished
    return pod.phase is PodPhase.SUCCEEDED and replica in status.succeeded_replicas


def _unwanted_claims(seen: Seen, status: DeepSeekJobStatus) -> Iterator[Delete]:
    wanted = {_claim_name(seen.job, a): a for a in status.assignments if _needs_claim(a)}
    for name, claim in sorted(seen.claims.items()):
        if claim.deleting or (name in wanted and pins(claim, wanted[name])):
            continue
        yield Delete("ResourceClaim", claim.namespace, claim.name, claim.uid)


def _missing_services(seen: Seen, status: DeepSeekJobStatus) -> Iterator[Create]:
    if status.phase is Phase.QUEUED or not status.assignments:
        return
    gang = any(a.worker > 0 for a in status.assignments)
    for document in services.build_services(seen.job, gang):
        if document["metadata"]["name"] not in seen.services:
            yield Create(document)


def _missing_workers(seen: Seen, status: DeepSeekJobStatus, images: EngineImages) -> Iterator[Create]:
    for workers in by_replica(status.assignments).values():
        shape = _shape(workers)
        for assignment in workers:
            if seen.pod(assignment) is not None:
                continue
            if _needs_claim(assignment):
                claim = seen.claims.get(_claim_name(seen.job, assignment))
                if claim is None:
                    yield Create(claims.build_claim(seen.job, assignment))
                elif claim.deleting or not pins(claim, assignment):
                    continue
            yield Create(pods.build_pod(seen.job, assignment, shape, images))


def _needs_claim(assignment: Assignment) -> bool:
    return assignment.device_selection is DeviceSelection.EXACT


def _claim_name(job: Job, assignment: Assignment) -> str:
    return names.pod_name(job.key.name, assignment.replica, assignment.worker)


def _shape(workers: tuple[Assignment, ...]) -> Shape:
    """How a replica is split, read back from what was promised."""
    first = workers[0]
    facts = accelerators.lookup(first.product)
    kind = AcceleratorKind(
        vendor=accelerators.vendor_of(first.product, first.resource),
        product=first.product,
        memory=0 if facts is None else facts.memory,
        tflops=0 if facts is None else facts.tflops,
        max_per_node=first.count,
        total=sum(a.count for a in workers),
    )
    return Shape(
        kind=kind,
        workers=len(workers),
        gpus_per_worker=first.count,
        tensor_parallel=first.count,
        pipeline_parallel=len(workers),
        memory_needed=0,
    )
