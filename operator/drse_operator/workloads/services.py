"""The Services of a job: one for clients of an inference job, one under which the workers of a gang meet."""

from __future__ import annotations

from drse_operator.workloads import names
from drse_operator.workloads.names import Document
from drse_operator.workloads.observed import Job

#: Port of the Service, whatever the engine listens on.
SERVICE_PORT = 80
#: Name of the engine's port in pods and Services; PodMonitors and ServiceMonitors refer to it.
HTTP_PORT_NAME = "http"
#: Where the workers of a gang meet (torch.distributed's usual port).
RENDEZVOUS_PORT = 29500


def build_services(job: Job, gang: bool) -> list[Document]:
    """All Services that the job needs; ``gang`` says that a replica has more than one worker."""
    services = []
    if names.spec_of(job).task_type.serves:
        services.append(build_service(job))
    if gang:
        services.append(build_workers_service(job))
    return services


def build_service(job: Job) -> Document:
    """What clients of an inference job talk to: worker 0 of each replica, which alone serves HTTP."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": names.metadata(job, names.service_name(job.key.name), names.job_labels(job.key.name)),
        "spec": {
            "type": "ClusterIP",
            "selector": names.selected(job.key.name, worker=0),
            "ports": [
                {
                    "name": HTTP_PORT_NAME,
                    "port": SERVICE_PORT,
                    "targetPort": HTTP_PORT_NAME,
                    "protocol": "TCP",
                    "appProtocol": "http",
                }
            ],
        },
    }


def build_workers_service(job: Job) -> Document:
    """Headless, with addresses before readiness: workers must find each other to become ready."""
    name = names.workers_service_name(job.key.name)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": names.metadata(job, name, names.job_labels(job.key.name)),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": names.selected(job.key.name),
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT, "protocol": "TCP"}],
        },
    }
