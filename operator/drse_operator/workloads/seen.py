"""One job together with everything of it that the cluster shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from drse_operator.api.reasons import StateReason
from drse_operator.api.status import Assignment
from drse_operator.workloads.observed import Claim, Job, Pod


@dataclass(frozen=True, slots=True)
class Problem:
    """Something is wrong with GPUs that the job holds. ``uuid`` is empty when the whole node is meant."""

    reason: StateReason
    node: str
    uuid: str
    message: str


@dataclass(frozen=True, slots=True)
class Seen:
    """``pods`` by (replica, worker) and ``claims`` by name are those the job owns; ``services`` are names.

    ``closed`` says of nodes of the job on which no pod can start now why so, e.g. ``is cordoned``.
    """

    job: Job
    pods: Mapping[tuple[int, int], Pod]
    claims: Mapping[str, Claim]
    services: frozenset[str]
    problems: tuple[Problem, ...] = ()
    closed: Mapping[str, str] = field(default_factory=dict)

    def pod(self, assignment: Assignment) -> Pod | None:
        """The pod of a worker, if there is one."""
        return self.pods.get((assignment.replica, assignment.worker))

    @property
    def leftovers(self) -> frozenset[int]:
        """Replicas without an assignment that still have pods: these must go before a new attempt."""
        assigned = {a.replica for a in self.job.status.assignments}
        kept = set(self.job.status.succeeded_replicas)
        return frozenset(r for r, _ in self.pods if r not in assigned and r not in kept)


def by_replica(assignments: Iterable[Assignment]) -> dict[int, tuple[Assignment, ...]]:
    """Assignments grouped by replica, workers in order."""
    groups: dict[int, list[Assignment]] = {}
    for assignment in assignments:
        groups.setdefault(assignment.replica, []).append(assignment)
    return {r: tuple(sorted(group, key=lambda a: a.worker)) for r, group in sorted(groups.items())}


def pins(claim: Claim, assignment: Assignment) -> bool:
    """True for a claim that takes exactly the promised devices."""
    return set(claim.pinned) == {d.uuid for d in assignment.devices}


def misplaced(assignment: Assignment, pod: Pod) -> bool:
    """True for a pod that is not the one promised: bound or pinned elsewhere."""
    node = pod.node or pod.pinned_node
    return bool(node) and node != assignment.node
