"""Who holds which GPUs: the union of promises, claims and pods, so that nothing held is ever offered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drse_operator.api import times
from drse_operator.api.enums import DeviceSelection
from drse_operator.api.keys import JobKey
from drse_operator.api.status import Assignment
from drse_operator.cluster.usage import FOREIGN, measure
from drse_operator.workloads.observed import Claim, DeviceRef, Job, Pod, PodPhase
from tests.lifecycle.builders import T0, claim_of, make_job, pod_of, promise, status_with

RESOURCE = "nvidia.com/gpu"


def counted(node: str = "node-0", replica: int = 0) -> Assignment:
    return promise(replica, node=node, exact=False)


def holder(*assignments: Assignment, name: str = "job") -> Job:
    return make_job(status_with(*assignments), name=name)


def foreign_claim(*refs: DeviceRef) -> Claim:
    return Claim("other", "theirs", "uid-theirs", "", False, refs)


def foreign_pod(node: str = "node-0", gpus: int = 3, phase: PodPhase = PodPhase.RUNNING) -> Pod:
    pod = pod_of(counted(node), phase)
    return replace(
        pod,
        name="theirs",
        uid="uid-theirs",
        owner_uid="",
        node=node,
        pinned_node="",
        gpus=((RESOURCE, gpus),),
    )


def our_pod(a: Assignment, phase: PodPhase = PodPhase.RUNNING) -> Pod:
    return replace(pod_of(a, phase), gpus=((RESOURCE, a.count),))


REF = DeviceRef("gpu.nvidia.com", "node-0", "gpu-7")
UUIDS = {REF: "GPU-7"}


def test_promised_devices_are_held_by_their_job() -> None:
    a = promise()
    usage = measure([holder(a)], [], [], {})
    assert usage.devices == {d.uuid: JobKey("team", "job") for d in a.devices}
    assert usage.by_queue == {"default": 2}
    assert usage.conflicts == []


def test_devices_of_strangers_claims_are_held() -> None:
    assert measure([], [], [foreign_claim(REF)], UUIDS).devices == {"GPU-7": FOREIGN}


def test_a_device_that_no_slice_names_any_more_is_nobodys() -> None:
    assert measure([], [], [foreign_claim(REF)], {}).devices == {}


def test_a_claim_of_ours_holds_its_devices_before_allocation_and_after_the_promise_has_gone() -> None:
    """Between giving up a promise and the end of its claim the GPUs are nobody else's."""
    a = promise()
    usage = measure([], [], [claim_of(a, allocated=False)], {})
    assert set(usage.devices) == {d.uuid for d in a.devices}


def test_a_promise_and_its_own_claim_are_no_conflict() -> None:
    a = promise()
    usage = measure([holder(a)], [], [claim_of(a)], {})
    assert set(usage.devices.values()) == {JobKey("team", "job")}
    assert usage.conflicts == []


def test_the_later_of_two_promises_of_a_device_has_to_give_way() -> None:
    early = promise(since=T0)
    late = promise(2, since=T0 + 5).model_copy(update={"devices": early.devices})
    jobs = [holder(late, name="a-late"), holder(early, name="z-early")]
    (first, second) = measure(jobs, [], [], {}).conflicts
    assert {first.uuid, second.uuid} == {d.uuid for d in early.devices}
    assert (first.first, first.second) == (JobKey("team", "z-early"), JobKey("team", "a-late"))
    assert (first.second_uid, first.second_replica) == ("uid-a-late", 2)


def test_counted_promises_and_strangers_pods_add_up() -> None:
    usage = measure([holder(counted())], [foreign_pod()], [], {})
    assert usage.counts == {("node-0", RESOURCE): 5}


def test_a_pod_that_fulfils_a_promise_counts_once() -> None:
    a = counted()
    assert measure([holder(a)], [our_pod(a)], [], {}).counts == {("node-0", RESOURCE): 2}


@pytest.mark.parametrize("phase", [PodPhase.PENDING, PodPhase.RUNNING])
def test_a_pod_of_ours_without_a_promise_still_counts(phase: PodPhase) -> None:
    """Bound or only pinned to its node: until it is gone its GPUs are held."""
    assert measure([], [our_pod(counted(), phase)], [], {}).counts == {("node-0", RESOURCE): 2}


def test_a_pod_on_another_node_than_promised_counts_as_well_as_the_promise() -> None:
    here = counted("node-0")
    there = our_pod(counted("node-1"))
    assert measure([holder(here)], [there], [], {}).counts == {
        ("node-0", RESOURCE): 2,
        ("node-1", RESOURCE): 2,
    }


@pytest.mark.parametrize("phase", [PodPhase.SUCCEEDED, PodPhase.FAILED])
def test_ended_pods_hold_nothing(phase: PodPhase) -> None:
    assert measure([], [foreign_pod(phase=phase)], [], {}).counts == {}


def test_a_strangers_pod_counts_once_it_has_a_node() -> None:
    assert measure([], [foreign_pod(node="")], [], {}).counts == {}


def test_promises_of_a_job_that_does_not_parse_still_count() -> None:
    job = replace(holder(promise()), spec=None, invalid="in words")
    usage = measure([job], [], [], {})
    assert len(usage.devices) == 2


def test_only_the_selection_decides_how_a_promise_counts() -> None:
    assert promise().device_selection is DeviceSelection.EXACT
    assert measure([holder(promise())], [], [], {}).counts == {}
    assert times.from_wire(promise().since) == T0
