"""What is wrong with the nodes and devices under a job."""

from __future__ import annotations

from drse_operator.api.reasons import StateReason
from drse_operator.api.status import Assignment
from drse_operator.cluster.fleet import Fleet
from drse_operator.cluster.world import World
from drse_operator.workloads import names
from drse_operator.workloads.observed import Claim, Job
from drse_operator.workloads.seen import Problem


def closed_nodes(world: World, job: Job) -> dict[str, str]:
    """Nodes of a job on which no pod can start now, and why."""
    closed = {}
    for name in dict.fromkeys(a.node for a in job.status.assignments):
        node = world.nodes.get("", name)
        if node is None or node.unready:
            closed[name] = "is gone" if node is None else node.unready
    return closed


def problems(world: World, fleet: Fleet, job: Job) -> tuple[Problem, ...]:
    """What is wrong with the GPUs that a job holds."""
    found: list[Problem] = []
    for node_name in dict.fromkeys(a.node for a in job.status.assignments):
        node = world.nodes.get("", node_name)
        if node is None:
            found.append(Problem(StateReason.NODE_VANISHED, node_name, "", f"node {node_name} has vanished"))
        elif node.broken:
            found.append(Problem(StateReason.NODE_NOT_READY, node_name, "", f"node {node_name} is not ready"))
    claims = world.claims_of(job.uid)
    for a in job.status.assignments:
        for device in a.devices:
            problem = _device_problem(fleet, a.node, device.uuid)
            if problem is not None:
                found.append(problem)
        claim = claims.get(names.claim_name(job.key.name, a.replica, a.worker))
        if claim is not None and (mismatch := _mismatch(fleet, a, claim)) is not None:
            found.append(mismatch)
    return tuple(found)


def _mismatch(fleet: Fleet, assignment: Assignment, claim: Claim) -> Problem | None:
    """The scheduler has allocated other devices than were promised: cannot happen, and is looked for."""
    allocated = {fleet.uuids.get(ref, ref.name) for ref in claim.devices}
    promised = {device.uuid for device in assignment.devices}
    if not allocated or not promised or allocated == promised or claim.deleting:
        return None
    message = (
        f"claim {claim.name} was allocated {', '.join(sorted(allocated - promised)) or 'fewer GPUs'}, "
        f"promised were {', '.join(sorted(promised))}"
    )
    return Problem(StateReason.DEVICE_MISMATCH, assignment.node, "", message)


def _device_problem(fleet: Fleet, node: str, uuid: str) -> Problem | None:
    found = fleet.by_uuid.get(uuid)
    if found is None:
        message = f"GPU {uuid} on {node} is no longer published"
        return Problem(StateReason.DEVICE_VANISHED, node, uuid, message)
    if found[1].taint:
        message = f"GPU {uuid} on {node} {found[1].taint}"
        return Problem(StateReason.DEVICE_TAINTED, node, uuid, message)
    return None
