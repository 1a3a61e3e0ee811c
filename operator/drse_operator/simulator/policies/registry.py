"""Policies by the name that the command line gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drse_operator.admission.snapshot import Node
from drse_operator.simulator.loop import Policy
from drse_operator.simulator.policies.drse import Drse
from drse_operator.simulator.policies.listed import Listed, Passing
from drse_operator.simulator.policies.shares import DominantShare

POLICIES: dict[str, Callable[[Sequence[Node]], Policy]] = {
    "drse": Drse,
    # Slurm's builtin scheduler, Kueue's StrictFIFO: in order of arrival, nobody passes.
    "fifo": lambda nodes: Listed(nodes, lambda job, _: (job.submit,), Passing.STRICT),
    # Slurm's backfill scheduler with one reservation: in order of arrival with EASY backfilling.
    "fifo-backfill": lambda nodes: Listed(nodes, lambda job, _: (job.submit,), Passing.RESERVE),
    # Shortest expected job first, EASY backfilling around the shortest that has no room.
    "shortest-first": lambda nodes: Listed(nodes, lambda job, length: (length, job.submit), Passing.RESERVE),
    # kube-scheduler: by priority, then age; a pod that does not fit is set aside and others go on.
    "priority": lambda nodes: Listed(nodes, lambda job, _: (-job.priority, job.submit), Passing.SKIP),
    "drf": DominantShare,
    # Kueue's BestEffortFIFO: in order of arrival, whoever fits.
    "best-effort": lambda nodes: Listed(nodes, lambda job, _: (job.submit,), Passing.SKIP),
}
