"""The ResourceClaim that pins a worker's devices (dynamic resource allocation, ``resource.k8s.io/v1``).

The scheduler stays the one that allocates; the claim only leaves it no other choice: the count, and a CEL
selector that takes exactly the promised UUIDs. Two claims that name one device cannot both be allocated,
which makes the scheduler the last guard against double assignment (KEP-4381).
"""

from __future__ import annotations

import json

from drse_operator.api.status import Assignment
from drse_operator.workloads import names
from drse_operator.workloads.names import Document
from drse_operator.workloads.observed import Job


def build_claim(job: Job, assignment: Assignment) -> Document:
    """The claim of one worker with Exact devices.

    Raises ValueError when the assignment names no devices, fewer than it counts, or those of two drivers:
    such a claim could never be allocated as promised.
    """
    drivers = {device.driver for device in assignment.devices}
    if len(drivers) != 1 or len(assignment.devices) != assignment.count:
        raise ValueError(
            f"assignment of {names.pod_name(job.key.name, assignment.replica, assignment.worker)} promises "
            f"{assignment.count} GPUs but names {len(assignment.devices)} of drivers {sorted(drivers)}"
        )
    driver = drivers.pop()
    name = names.claim_name(job.key.name, assignment.replica, assignment.worker)
    own = names.labels(job.key.name, assignment.replica, assignment.worker)
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": names.metadata(job, name, own),
        "spec": {
            "devices": {
                "requests": [
                    {
                        "name": names.CLAIM_REQUEST,
                        "exactly": {
                            # Drivers publish a DeviceClass of their own name for whole GPUs.
                            "deviceClassName": driver,
                            "allocationMode": "ExactCount",
                            "count": assignment.count,
                            "selectors": [{"cel": {"expression": _pinned(driver, assignment)}}],
                        },
                    }
                ]
            }
        },
    }


def _pinned(driver: str, assignment: Assignment) -> str:
    """CEL that is true for the promised devices alone, and false, not an error, for devices without UUID."""
    attributes = f"device.attributes[{json.dumps(driver)}]"
    uuids = json.dumps(sorted(device.uuid for device in assignment.devices))
    return f'device.driver == {json.dumps(driver)} && "uuid" in {attributes} && {attributes}.uuid in {uuids}'
