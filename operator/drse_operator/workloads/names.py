"""Names and labels of everything DRSE makes for a job.

They follow from job, replica and worker alone, so that after a crash the same objects are found or made
again. A pod's name always ends in exactly two numbers, which is why ``a-0`` replica 1 and ``a`` replica 0
cannot collide.
"""

from __future__ import annotations

from typing import Any

from drse_operator.api.base import API_VERSION
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.workloads.observed import Job

#: A Kubernetes object ready to be applied.
Document = dict[str, Any]

KIND = "DeepSeekJob"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "drse"
JOB_LABEL = "drse.dev/job"
REPLICA_LABEL = "drse.dev/replica"
WORKER_LABEL = "drse.dev/worker"

#: Who submitted a job: stamped, and kept from changing, by the chart's admission policy.
SUBMITTER_ANNOTATION = "drse.dev/submitted-by"

#: Name of the request in every ResourceClaim, and of the claim inside the pod.
CLAIM_REQUEST = "gpus"
#: Name of the container that gets the GPUs.
ENGINE_CONTAINER = "engine"


def pod_name(job: str, replica: int, worker: int) -> str:
    """Name of a worker's pod, such as ``chat-0-1``."""
    return f"{job}-{replica}-{worker}"


def replica_and_worker(name: str) -> tuple[int, int]:
    """Replica and worker in the name of a pod or claim that DRSE made; (-1, -1) for any other."""
    parts = name.rsplit("-", 2)
    if len(parts) != 3 or not (parts[1].isdigit() and parts[2].isdigit()):
        return -1, -1
    return int(parts[1]), int(parts[2])


def claim_name(job: str, replica: int, worker: int) -> str:
    """Name of a worker's ResourceClaim: that of its pod."""
    return pod_name(job, replica, worker)


def service_name(job: str) -> str:
    """Name of the Service that clients talk to."""
    return job


def workers_service_name(job: str) -> str:
    """Name of the headless Service under which the workers of a gang find each other."""
    return f"{job}-workers"


def worker_address(job: str, namespace: str, replica: int, worker: int) -> str:
    """DNS name of a worker, relative to the cluster's domain."""
    return f"{pod_name(job, replica, worker)}.{workers_service_name(job)}.{namespace}.svc"


def job_labels(job: str) -> dict[str, str]:
    """Labels of everything made for a job."""
    return {MANAGED_BY_LABEL: MANAGED_BY, JOB_LABEL: job}


def labels(job: str, replica: int, worker: int) -> dict[str, str]:
    """Labels of what is made for one worker."""
    return {**job_labels(job), REPLICA_LABEL: str(replica), WORKER_LABEL: str(worker)}


def selected(job: str, worker: int | None = None) -> dict[str, str]:
    """Labels that select a job's pods, all of them or one worker of each replica."""
    chosen = job_labels(job)
    return chosen if worker is None else {**chosen, WORKER_LABEL: str(worker)}


def selector(job: str) -> str:
    """The label selector that ``status.selector`` gives to autoscalers: one pod for each replica."""
    return ",".join(f"{key}={value}" for key, value in selected(job, worker=0).items())


def owner_reference(job: Job) -> Document:
    """Makes the job the controller of an object: it goes when the job goes."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": job.key.name,
        "uid": job.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def metadata(job: Job, name: str, own: dict[str, str]) -> Document:
    """Metadata of an object made for a job."""
    return {
        "name": name,
        "namespace": job.key.namespace,
        "labels": own,
        "ownerReferences": [owner_reference(job)],
    }


def spec_of(job: Job) -> DeepSeekJobSpec:
    """The job's spec; ValueError for a job whose spec does not parse, of which nothing can be built."""
    if job.spec is None:
        raise ValueError(f"DeepSeekJob {job.key} does not parse, so nothing is made for it: {job.invalid}")
    return job.spec
