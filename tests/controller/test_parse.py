"""From API documents of pods, claims and jobs to plain data."""

from __future__ import annotations

from typing import Any

import pytest

from drse_operator.cluster import parse
from drse_operator.workloads import claims, pods
from drse_operator.workloads.observed import DeviceRef, PodPhase
from tests.lifecycle.builders import make_job, promise, status_with

Document = dict[str, Any]
MADE = {"uid": "u1", "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "7"}


def stored(document: Document, **more: Any) -> Document:
    return {**document, "metadata": {**document["metadata"], **MADE}, **more}


def foreign_pod(*containers: Document, init: tuple[Document, ...] = (), **spec: Any) -> Document:
    body = {"containers": list(containers), "initContainers": list(init), **spec}
    return {"metadata": {"name": "p", "namespace": "other", **MADE}, "spec": body}


def gpus(n: int, resource: str = "nvidia.com/gpu") -> Document:
    return {"name": f"c{n}", "resources": {"limits": {resource: str(n)}}}


# -- what DRSE made is read back as it was meant ----------------------------------------------------------


@pytest.mark.parametrize("exact", [True, False])
def test_our_own_pod(exact: bool) -> None:
    a = promise(2, 1, "node-5", exact=exact)
    job = make_job(status_with(a), name="my-job")
    pod = parse.pod(stored(pods.build_pod(job, a, None)))
    assert pod is not None
    assert (pod.name, pod.owner_uid, pod.replica, pod.worker) == ("my-job-2-1", "uid-my-job", 2, 1)
    assert (pod.node, pod.pinned_node, pod.phase, pod.ready) == ("", "node-5", PodPhase.UNKNOWN, False)
    assert pod.claims == (("my-job-2-1",) if exact else ())
    assert pod.gpus == (() if exact else (("nvidia.com/gpu", 2),))


def test_our_own_claim_pins_what_was_promised() -> None:
    a = promise()
    claim = parse.claim(stored(claims.build_claim(make_job(status_with(a)), a)))
    assert set(claim.pinned) == {d.uuid for d in a.devices}
    assert (claim.owner_uid, claim.devices, claim.deleting) == ("uid-job", (), False)


# -- and what others made -----------------------------------------------------------------------------------


def test_pods_of_no_interest() -> None:
    assert parse.pod(foreign_pod({"name": "web"})) is None


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param(foreign_pod(gpus(2), gpus(1)), 3, id="containers add up"),
        pytest.param(foreign_pod(gpus(1), init=(gpus(4), gpus(2))), 4, id="or the largest init container"),
        pytest.param(foreign_pod(gpus(4), init=(gpus(1),)), 4, id="whichever is more"),
    ],
)
def test_gpus_of_a_pod(document: Document, expected: int) -> None:
    pod = parse.pod(document)
    assert pod is not None
    assert (pod.gpus, pod.owner_uid, pod.replica) == ((("nvidia.com/gpu", expected),), "", -1)


def test_all_vendors_count() -> None:
    pod = parse.pod(foreign_pod(gpus(1), gpus(2, "amd.com/gpu"), gpus(3, "habana.ai/gaudi")))
    assert pod is not None
    assert dict(pod.gpus) == {"nvidia.com/gpu": 1, "amd.com/gpu": 2, "habana.ai/gaudi": 3}


def test_claims_named_and_made_from_templates() -> None:
    document = foreign_pod(
        {"name": "web"},
        resourceClaims=[
            {"name": "a", "resourceClaimName": "mine"},
            {"name": "b", "resourceClaimTemplateName": "t"},
        ],
    )
    document["status"] = {"resourceClaimStatuses": [{"name": "b", "resourceClaimName": "p-b-x1"}]}
    pod = parse.pod(document)
    assert pod is not None and pod.claims == ("mine", "p-b-x1")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        pytest.param(
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}]},
            "0/3 nodes",
            id="the scheduler",
        ),
        pytest.param(
            {
                "containerStatuses": [
                    {"name": "engine", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
                ]
            },
            "engine exited with 137, OOMKilled",
            id="how its container ended",
        ),
        pytest.param({"reason": "Evicted", "message": "disk pressure"}, "disk pressure", id="the kubelet"),
        pytest.param({}, "", id="nothing"),
    ],
)
def test_last_word(status: Document, message: str) -> None:
    pod = parse.pod({**foreign_pod(gpus(1)), "status": status})
    assert pod is not None and pod.message == message


def test_allocated_devices_but_not_those_of_admins() -> None:
    results = [
        {"driver": "gpu.nvidia.com", "pool": "n1", "device": "gpu-0"},
        {"driver": "gpu.nvidia.com", "pool": "n1", "device": "gpu-1", "adminAccess": True},
    ]
    claim = parse.claim(
        {
            "metadata": {"name": "c", "namespace": "other", **MADE},
            "spec": {},
            "status": {"allocation": {"devices": {"results": results}}},
        }
    )
    assert claim.devices == (DeviceRef("gpu.nvidia.com", "n1", "gpu-0"),)
    assert (claim.owner_uid, claim.pinned) == ("", ())


def test_a_selector_in_somebody_elses_claim_holds_nothing() -> None:
    a = promise()
    document = stored(claims.build_claim(make_job(status_with(a)), a))
    document["metadata"]["ownerReferences"] = []
    assert parse.claim(document).pinned == ()


def job_document(**fields: Any) -> Document:
    spec = {"taskType": "Batch", "resources": {"gpusPerReplica": 1}, "runtime": {"image": "example.com/x:1"}}
    return {"metadata": {"name": "j", "namespace": "team", **MADE}, "spec": spec, **fields}


def test_a_spec_that_does_not_parse_is_kept_with_its_reason() -> None:
    assert parse.job(job_document()).spec is not None
    job = parse.job(job_document(spec={"taskType": "Batch", "replicas": "many"}))
    assert job.spec is None
    assert "replicas" in job.invalid


def test_a_status_that_does_not_parse_makes_the_job_untouchable() -> None:
    """What was promised cannot be guessed, so nothing more is promised."""
    job = parse.job(job_document(status={"assignments": [{"replica": "x"}]}))
    assert job.spec is None
    assert "status does not parse" in job.invalid


def test_fields_of_a_newer_operator_are_ignored() -> None:
    job = parse.job(job_document(status={"phase": "Queued", "somethingNew": 1}))
    assert job.spec is not None and job.status.phase == "Queued"
