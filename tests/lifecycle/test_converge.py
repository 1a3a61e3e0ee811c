"""``converge``: objects follow the status, in any state that a crash may leave them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drse_operator.api.enums import Phase
from drse_operator.api.status import Assignment, DeepSeekJobStatus
from drse_operator.cluster import parse
from drse_operator.workloads.converge import converge
from drse_operator.workloads.engines import EngineImages
from drse_operator.workloads.observed import Pod, PodPhase
from drse_operator.workloads.outcome import Action, Create, Delete, Document
from drse_operator.workloads.seen import Seen
from tests.lifecycle.builders import claim_of, make_job, pod_of, promise, see, status_with

IMAGES = EngineImages()
P = PodPhase


def orders(seen: Seen, status: DeepSeekJobStatus | None = None) -> list[str]:
    """What is ordered, in words."""
    return [_word(action) for action in converge(seen, status or seen.job.status, IMAGES)]


def _word(action: Action) -> str:
    if isinstance(action, Create):
        return f"create {action.document['kind']} {action.document['metadata']['name']}"
    return f"delete {action.kind} {action.name}"


GANG = (promise(worker=0), promise(worker=1, node="node-1"))


@pytest.mark.parametrize(
    ("assignments", "task", "expected"),
    [
        pytest.param(
            [promise()],
            "FineTuning",
            ["create ResourceClaim job-0-0", "create Pod job-0-0"],
            id="the claim before its pod",
        ),
        pytest.param(
            [promise(exact=False)], "FineTuning", ["create Pod job-0-0"], id="counted GPUs: no claim"
        ),
        pytest.param(
            [promise()],
            "Inference",
            ["create Service job", "create ResourceClaim job-0-0", "create Pod job-0-0"],
            id="a service has its Service first",
        ),
        pytest.param(
            GANG,
            "PreTraining",
            [
                "create Service job-workers",
                "create ResourceClaim job-0-0",
                "create Pod job-0-0",
                "create ResourceClaim job-0-1",
                "create Pod job-0-1",
            ],
            id="a gang meets under a headless Service",
        ),
        pytest.param([], "FineTuning", [], id="nothing promised, nothing made"),
    ],
)
def test_creates_what_is_promised(assignments: Sequence[Assignment], task: str, expected: list[str]) -> None:
    status = status_with(*assignments, phase=Phase.STARTING if assignments else Phase.QUEUED)
    assert orders(see(make_job(status, task=task))) == expected


def test_after_a_crash_between_claim_and_pod_only_the_pod_is_made() -> None:
    a = promise()
    seen = see(make_job(status_with(a)), claims=[claim_of(a, allocated=False)])
    assert orders(seen) == ["create Pod job-0-0"]


@pytest.mark.parametrize(
    "leftover",
    [
        pytest.param(
            see(make_job(), [replace(pod_of(promise()), deleting=True)]), id="the pod is going away"
        ),
        pytest.param(
            see(make_job(), claims=[claim_of(promise(), deleting=True)]), id="the claim is going away"
        ),
    ],
)
def test_nothing_is_made_while_something_of_that_name_remains(leftover: Seen) -> None:
    assert orders(leftover, status_with(promise())) == []


def test_an_old_claim_on_other_devices_goes_first() -> None:
    seen = see(make_job(), claims=[claim_of(promise(node="node-7"))])
    assert orders(seen, status_with(promise())) == ["delete ResourceClaim job-0-0"]


def test_a_pod_on_a_claim_of_other_devices_goes_as_well() -> None:
    old = promise()
    new = replace_devices(old, "GPU-other")
    seen = see(make_job(status_with(new)), [pod_of(new)], [claim_of(old)])
    assert orders(seen) == ["delete Pod job-0-0", "delete ResourceClaim job-0-0"]


def replace_devices(assignment: Assignment, uuid: str) -> Assignment:
    devices = tuple(d.model_copy(update={"uuid": f"{uuid}-{i}"}) for i, d in enumerate(assignment.devices))
    return assignment.model_copy(update={"devices": devices})


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(pod_of(promise(3)), id="no longer promised"),
        pytest.param(pod_of(promise(), node="node-9"), id="bound elsewhere"),
        pytest.param(replace(pod_of(promise(), P.PENDING), pinned_node="node-9"), id="pinned elsewhere"),
        pytest.param(replace(pod_of(promise()), replica=-1, worker=-1), id="labels that say nothing"),
    ],
)
def test_strays_are_deleted_by_uid(pod: Pod) -> None:
    (delete, *rest) = converge(see(make_job(), [pod]), status_with(promise(exact=False)), IMAGES)
    assert isinstance(delete, Delete)
    assert (delete.kind, delete.uid) == ("Pod", pod.uid)
    assert all(isinstance(action, Create) for action in rest)


def test_deletes_come_before_creates() -> None:
    """GPUs are given back before others are asked for."""
    seen = see(make_job(), [pod_of(promise(3))], [claim_of(promise(3))])
    words = [word.partition(" ")[0] for word in orders(seen, status_with(promise()))]
    assert words == sorted(words, reverse=True) == ["delete", "delete", "create", "create"]


def test_what_is_going_away_is_not_deleted_again() -> None:
    gone = promise(3)
    seen = see(make_job(), [pod_of(gone, deleting=True)], [claim_of(gone, deleting=True)])
    assert orders(seen, status_with()) == []


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED])
def test_ended_pods_of_an_ended_job_stay_for_their_logs(phase: Phase) -> None:
    a, b, c = promise(0), promise(1), promise(2)
    seen = see(make_job(), [pod_of(a, P.SUCCEEDED), pod_of(b, P.FAILED), pod_of(c)], [claim_of(c)])
    ended = status_with(phase=phase)
    assert orders(seen, ended) == ["delete Pod job-2-0", "delete ResourceClaim job-2-0"]


def test_pods_of_ended_replicas_stay_while_others_run() -> None:
    done, runs = promise(0), promise(1, exact=False)
    seen = see(make_job(), [pod_of(done, P.SUCCEEDED), pod_of(runs)], [claim_of(done)])
    # Its claim goes: what has ended holds no GPUs.
    assert orders(seen, status_with(runs, succeeded_replicas=(0,))) == ["delete ResourceClaim job-0-0"]


def test_a_failed_pod_of_a_service_makes_room_for_the_next() -> None:
    a = promise(exact=False)
    seen = see(make_job(status_with(a), task="Inference"), [pod_of(a, P.FAILED)], services=["job"])
    assert orders(seen) == ["delete Pod job-0-0"]


def test_a_worker_that_has_ended_well_waits_for_the_rest_of_its_gang() -> None:
    first, second = promise(worker=0, exact=False), promise(worker=1, exact=False)
    pods = [pod_of(first, P.SUCCEEDED), pod_of(second)]
    seen = see(make_job(status_with(first, second)), pods, services=["job-workers"])
    assert orders(seen) == []


def test_a_job_that_does_not_parse_is_left_alone() -> None:
    job = replace(make_job(status_with(promise())), spec=None, invalid="spec.replicas: must be a number")
    assert orders(see(job, [pod_of(promise(5))])) == []


def test_a_job_that_is_going_takes_everything_with_it() -> None:
    a, going = promise(), promise(1)
    job = replace(make_job(status_with(a)), deleting=True)
    seen = see(job, [pod_of(a), pod_of(going, deleting=True)], [claim_of(a), claim_of(going, deleting=True)])
    assert orders(seen) == ["delete Pod job-0-0", "delete ResourceClaim job-0-0"]


# -- carrying its own orders out ---------------------------------------------------------------------


def stored(document: Document, uid: str) -> Document:
    """The document as the API server gives it back."""
    added = {"uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {**document, "metadata": {**document["metadata"], **added}}


def carry_out(seen: Seen, actions: Sequence[Action]) -> Seen:
    """The picture when the API server has done what was ordered and everything deleted is gone."""
    pods, claims, services = dict(seen.pods), dict(seen.claims), set(seen.services)
    for action in actions:
        if isinstance(action, Delete):
            pods = {place: pod for place, pod in pods.items() if pod.uid != action.uid}
            claims = {name: claim for name, claim in claims.items() if claim.uid != action.uid}
            continue
        document = stored(action.document, f"made-{len(pods)}-{len(claims)}")
        if document["kind"] == "Pod":
            pod = parse.pod(document)
            assert pod is not None
            # A second pod of the same worker would be a promise kept twice.
            assert (pod.replica, pod.worker) not in pods
            pods[pod.replica, pod.worker] = pod
        elif document["kind"] == "ResourceClaim":
            claim = parse.claim(document)
            assert claim.name not in claims
            claims[claim.name] = claim
        else:
            services.add(document["metadata"]["name"])
    return replace(seen, pods=pods, claims=claims, services=frozenset(services))


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Seen, DeepSeekJobStatus]:
    """Any mix of promises, pods, claims and Services that interrupted work of the past may have left."""
    places = [(replica, worker) for replica in range(3) for worker in range(2)]

    def places_of() -> list[tuple[int, int]]:
        return draw(st.lists(st.sampled_from(places), unique=True))

    def some_promise(place: tuple[int, int]) -> Assignment:
        return promise(*place, node=draw(st.sampled_from(("node-0", "node-1"))), exact=draw(st.booleans()))

    promised = tuple(some_promise(place) for place in sorted(places_of()))
    now = {(a.replica, a.worker): a for a in promised}
    pods = []
    for place in places_of():
        a = now[place] if place in now and draw(st.booleans()) else some_promise(place)
        pods.append(pod_of(a, draw(st.sampled_from(list(P))), deleting=draw(st.integers(0, 3)) == 0))
    claims = []
    for place in places_of():
        a = now[place] if place in now and draw(st.booleans()) else promise(*place, node="node-0")
        claims.append(claim_of(a, allocated=draw(st.booleans()), deleting=draw(st.integers(0, 3)) == 0))
    done = draw(st.lists(st.sampled_from((0, 1, 2)), unique=True))
    phase = draw(st.sampled_from((Phase.STARTING, Phase.RUNNING, Phase.SUCCEEDED, Phase.FAILED)))
    status = status_with(
        *(() if phase.finished else promised),
        phase=phase,
        succeeded_replicas=tuple(r for r in done if all(a.replica != r for a in promised)),
    )
    task = draw(st.sampled_from(("Inference", "PreTraining")))
    services = draw(st.sets(st.sampled_from(("job", "job-workers"))))
    return see(make_job(status, task=task), pods, claims, services), status


@given(pictures())
def test_pods_are_made_for_promises_alone_and_on_their_nodes(picture: tuple[Seen, DeepSeekJobStatus]) -> None:
    seen, status = picture
    promised = {(a.replica, a.worker): a for a in status.assignments}
    for action in converge(seen, status, IMAGES):
        if isinstance(action, Create) and action.document["kind"] == "Pod":
            pod = parse.pod(stored(action.document, "x"))
            assert pod is not None
            assert pod.pinned_node == promised[pod.replica, pod.worker].node
            assert (pod.replica, pod.worker) not in seen.pods


@given(pictures())
def test_own_orders_lead_to_rest(picture: tuple[Seen, DeepSeekJobStatus]) -> None:
    """Orders repeat until nothing is left to order, whatever was there, and then all is as promised."""
    seen, status = picture
    for _ in range(3):
        # What is being deleted is gone by the next look.
        seen = replace(
            seen,
            pods={place: pod for place, pod in seen.pods.items() if not pod.deleting},
            claims={name: claim for name, claim in seen.claims.items() if not claim.deleting},
        )
        seen = carry_out(seen, converge(seen, status, IMAGES))
    assert converge(seen, status, IMAGES) == ()
    promised = {(a.replica, a.worker): a for a in status.assignments}
    working = {place: pod for place, pod in seen.pods.items() if not pod.finished}
    assert set(working) <= set(promised)
    assert all((pod.node or pod.pinned_node) == promised[place].node for place, pod in working.items())
    assert set(promised) <= set(seen.pods)
