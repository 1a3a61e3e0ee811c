"""``assess`` by named cases: what happened, and what it makes of the status."""

from __future__ import annotations

from typing import Any

import pytest

from drse_operator.api import times
from drse_operator.api.enums import Phase
from drse_operator.api.reasons import EventReason, StateReason
from drse_operator.api.status import Assignment, DeepSeekJobStatus
from drse_operator.workloads.life import Assessment, Limits, assess
from drse_operator.workloads.observed import PodPhase
from tests.lifecycle.builders import (
    T0,
    claim_of,
    make_job,
    pod_of,
    promise,
    see,
    status_with,
)

LIMITS = Limits(bind_timeout=120, backoff_base=10, backoff_cap=360)
P = PodPhase


def replicas(result: Assessment) -> list[int]:
    return sorted({a.replica for a in result.status.assignments})


def told(result: Assessment) -> list[EventReason]:
    return [event.reason for event in result.events]


# -- binding ---------------------------------------------------------------------------------------


def test_a_job_enters_its_queue_once() -> None:
    first = assess(see(make_job()), T0, LIMITS)
    assert first.status.queued_at == times.to_wire(T0)
    later = assess(see(make_job(first.status)), T0 + 60, LIMITS)
    assert later.status.queued_at == times.to_wire(T0)


@pytest.mark.parametrize(
    ("exact", "allocated", "node", "bound"),
    [
        pytest.param(True, True, "node-0", True, id="on its node with its claim allocated"),
        pytest.param(True, False, "node-0", False, id="its claim is not allocated yet"),
        pytest.param(True, True, "node-9", False, id="on another node"),
        pytest.param(False, False, "node-0", True, id="counted GPUs need no claim"),
    ],
)
def test_bound(exact: bool, allocated: bool, node: str, bound: bool) -> None:
    a = promise(exact=exact)
    seen = see(make_job(status_with(a)), [pod_of(a, node=node)], [claim_of(a, allocated=allocated)])
    result = assess(seen, T0 + 5, LIMITS)
    assert [x.bound for x in result.status.assignments] == [bound]


def test_a_claim_on_other_devices_does_not_bind() -> None:
    a = promise()
    other = claim_of(promise(node="node-1"))
    result = assess(see(make_job(status_with(a)), [pod_of(a)], [other]), T0 + 5, LIMITS)
    assert not result.status.assignments[0].bound


def test_a_gang_that_does_not_bind_in_time_is_given_back_whole() -> None:
    first, second = promise(worker=0), promise(worker=1, node="node-1")
    waiting = pod_of(second, P.PENDING, message="0/4 nodes are available")
    seen = see(make_job(status_with(first, second)), [pod_of(first), waiting], [claim_of(first)])
    before = assess(seen, T0 + 119, LIMITS)
    assert replicas(before) == [0]
    assert before.wake_at == T0 + 120
    after = assess(seen, T0 + 120, LIMITS)
    assert after.status.assignments == ()
    assert after.status.retry_at == times.to_wire(T0 + 130)
    assert after.status.failures == 0
    assert told(after) == [EventReason.BIND_TIMEOUT]
    assert "worker 1 did not bind to node-1 within 120 s (0/4 nodes are available)" in after.events[0].message


def test_a_pod_that_was_never_created_times_out_as_well() -> None:
    result = assess(see(make_job(status_with(promise()))), T0 + 120, LIMITS)
    assert result.status.assignments == ()
    assert "never created" in result.events[0].message


def test_only_the_replica_that_did_not_bind_is_given_back() -> None:
    good, bad = promise(0), promise(1, node="node-1")
    seen = see(
        make_job(status_with(good, bad), task="Batch", replicas=2),
        [pod_of(good), pod_of(bad, P.PENDING)],
        [claim_of(good)],
    )
    assert replicas(assess(seen, T0 + 500, LIMITS)) == [0]


def test_a_service_pod_made_again_has_its_own_time_to_bind() -> None:
    a = promise(bound=True)
    again = pod_of(a, P.PENDING, created=T0 + 5000)
    seen = see(make_job(status_with(a), task="Inference"), [again], [claim_of(a)])
    assert replicas(assess(seen, T0 + 5119, LIMITS)) == [0]
    assert replicas(assess(seen, T0 + 5120, LIMITS)) == []


# -- the end of an attempt ---------------------------------------------------------------------------


def test_start_time_is_when_a_replica_is_ready_as_a_whole() -> None:
    first, second = promise(worker=0), promise(worker=1, node="node-1")
    job = make_job(status_with(first, second))
    half = see(job, [pod_of(first), pod_of(second, ready=False)])
    assert assess(half, T0 + 9, LIMITS).status.start_time is None
    whole = see(job, [pod_of(first), pod_of(second)])
    assert assess(whole, T0 + 9, LIMITS).status.start_time == times.to_wire(T0 + 9)


def test_success() -> None:
    a = promise(bound=True)
    result = assess(see(make_job(status_with(a)), [pod_of(a, P.SUCCEEDED)]), T0 + 60, LIMITS)
    status = result.status
    assert (status.phase, status.assignments, status.succeeded_replicas) == (Phase.SUCCEEDED, (), (0,))
    assert status.completion_time == times.to_wire(T0 + 60)
    assert result.ended is StateReason.WORKERS_SUCCEEDED
    assert told(result) == [EventReason.SUCCEEDED]


def test_a_gang_has_succeeded_when_all_its_workers_have() -> None:
    first, second = promise(worker=0, bound=True), promise(worker=1, node="node-1", bound=True)
    job = make_job(status_with(first, second))
    one = see(job, [pod_of(first, P.SUCCEEDED), pod_of(second)])
    assert replicas(assess(one, T0 + 60, LIMITS)) == [0]
    both = see(job, [pod_of(first, P.SUCCEEDED), pod_of(second, P.SUCCEEDED)])
    assert assess(both, T0 + 60, LIMITS).status.phase is Phase.SUCCEEDED


def test_of_several_batch_replicas_each_ends_on_its_own() -> None:
    done, runs = promise(0, bound=True), promise(1, bound=True, node="node-1")
    job = make_job(status_with(done, runs), task="Batch", replicas=3)
    result = assess(see(job, [pod_of(done, P.SUCCEEDED), pod_of(runs)]), T0 + 60, LIMITS)
    assert (result.status.succeeded_replicas, replicas(result)) == ((0,), [1])
    assert result.ended is None
    last = make_job(status_with(runs, succeeded_replicas=(0, 2)), task="Batch", replicas=3)
    ended = assess(see(last, [pod_of(runs, P.SUCCEEDED)]), T0 + 90, LIMITS)
    assert (ended.status.phase, ended.status.succeeded_replicas) == (Phase.SUCCEEDED, (0, 2, 1))


@pytest.mark.parametrize(
    ("failures", "delay"),
    [(0, 10), (1, 20), (2, 40), (5, 320), (6, 360), (60, 360)],
)
def test_failure_backs_off_longer_each_time(failures: int, delay: int) -> None:
    a = promise(bound=True)
    job = make_job(status_with(a, failures=failures), backoffLimit=100)
    failed = pod_of(a, P.FAILED, message="engine exited with 1")
    result = assess(see(job, [failed]), T0 + 60, LIMITS)
    assert result.status.assignments == ()
    assert result.status.failures == failures + 1
    assert result.status.retry_at == times.to_wire(T0 + 60 + delay)
    assert result.wake_at is not None and result.wake_at >= T0 + 60 + delay
    assert told(result) == [EventReason.WORKER_FAILED]
    assert "engine exited with 1" in result.events[0].message
    assert f"attempt {failures + 2} of 101 in {delay} s" in result.events[0].message


@pytest.mark.parametrize(("limit", "failures", "ends"), [(0, 0, True), (3, 2, False), (3, 3, True)])
def test_backoff_limit(limit: int, failures: int, ends: bool) -> None:
    a = promise(bound=True)
    job = make_job(status_with(a, failures=failures), backoffLimit=limit)
    result = assess(see(job, [pod_of(a, P.FAILED)]), T0 + 60, LIMITS)
    assert (result.ended is StateReason.BACKOFF_LIMIT_EXCEEDED) == ends
    assert (result.status.phase is Phase.FAILED) == ends
    assert result.status.assignments == ()
    if ends:
        assert f"{failures + 1} attempts failed, backoffLimit is {limit}" in result.ended_message
        assert result.status.retry_at is None


def test_the_back_off_ends_with_time() -> None:
    status = status_with(retry_at=times.to_wire(T0 + 30), failures=1)
    waiting = assess(see(make_job(status)), T0 + 29, LIMITS)
    assert (waiting.status.retry_at, waiting.wake_at) == (times.to_wire(T0 + 30), T0 + 30)
    over = assess(see(make_job(status)), T0 + 30, LIMITS)
    assert (over.status.retry_at, over.status.failures) == (None, 1)


def test_a_gang_that_loses_a_worker_starts_over_as_a_whole() -> None:
    first, second = promise(worker=0, bound=True), promise(worker=1, node="node-1", bound=True)
    result = assess(see(make_job(status_with(first, second)), [pod_of(first)]), T0 + 60, LIMITS)
    assert result.status.assignments == ()
    assert told(result) == [EventReason.WORKER_DISRUPTED]
    assert "worker 1 of replica 0 on node-1: was deleted by somebody else" in result.events[0].message


def test_a_pod_not_yet_bound_may_vanish_without_being_a_failure() -> None:
    result = assess(see(make_job(status_with(promise()))), T0 + 60, LIMITS)
    assert (replicas(result), result.status.failures) == ([0], 0)


def test_a_failed_pod_of_an_earlier_place_is_no_failure_of_this_attempt() -> None:
    here = promise(node="node-0")
    old = pod_of(promise(node="node-5"), P.FAILED)
    result = assess(see(make_job(status_with(here)), [old]), T0 + 1, LIMITS)
    assert (replicas(result), result.status.failures) == ([0], 0)


@pytest.mark.parametrize("phase", [P.FAILED, None])
def test_a_service_is_restarted_in_place(phase: PodPhase | None) -> None:
    a = promise(bound=True)
    pods = [] if phase is None else [pod_of(a, phase)]
    result = assess(see(make_job(status_with(a), task="Inference"), pods), T0 + 60, LIMITS)
    assert (replicas(result), result.status.failures) == ([0], 0)


# -- taken from outside --------------------------------------------------------------------------------

EVICTED = "Eviction API: evicting"
CORDONED = {"node-0": "is cordoned"}


@pytest.mark.parametrize(
    ("pod", "closed", "says"),
    [
        pytest.param({"deleting": True, "disrupted": EVICTED}, {}, EVICTED, id="evicted, still ending"),
        pytest.param({"phase": P.FAILED, "disrupted": EVICTED}, {}, EVICTED, id="evicted and ended"),
        pytest.param({"deleting": True}, {}, "deleted by somebody else", id="deleted"),
        pytest.param(None, CORDONED, "node node-0 is cordoned", id="drained"),
        pytest.param({"phase": P.FAILED}, {"node-0": "is not ready"}, "is not ready", id="the node failed"),
    ],
)
def test_what_is_taken_from_outside_is_no_failure(
    pod: dict[str, Any] | None, closed: dict[str, str], says: str
) -> None:
    """With backoffLimit 0 a failure would end the job."""
    lost, peer = promise(bound=True), promise(worker=1, node="node-1", bound=True)
    crashed = pod_of(peer, P.FAILED, message="its peer is gone")
    pods = [crashed] if pod is None else [pod_of(lost, **pod), crashed]
    job = make_job(status_with(lost, peer), backoffLimit=0)
    result = assess(see(job, pods, closed=closed), T0 + 60, LIMITS)
    assert (result.ended, result.status.failures, result.status.retry_at) == (None, 0, None)
    assert result.status.assignments == ()
    assert told(result) == [EventReason.WORKER_DISRUPTED]
    message = result.events[0].message
    assert "on node-0" in message and says in message and "backoffLimit does not count it" in message


def test_marked_for_eviction_is_not_evicted_yet() -> None:
    a = promise(bound=True)
    marked = pod_of(a, disrupted=EVICTED)
    result = assess(see(make_job(status_with(a)), [marked], closed=CORDONED), T0 + 60, LIMITS)
    assert replicas(result) == [0] and told(result) == []


def test_a_worker_that_has_ended_well_is_not_missed_when_its_node_is_drained() -> None:
    a = promise(bound=True)
    done = pod_of(a, P.SUCCEEDED, deleting=True, disrupted=EVICTED)
    result = assess(see(make_job(status_with(a)), [done], closed=CORDONED), T0 + 60, LIMITS)
    assert result.ended is StateReason.WORKERS_SUCCEEDED


@pytest.mark.parametrize("bound", [True, False])
def test_a_promise_on_a_closed_node_is_given_back_at_once(bound: bool) -> None:
    """Its pod, were it made again, would wait there in vain."""
    lost, kept = promise(0, bound=bound), promise(1, node="node-1", bound=True)
    job = make_job(status_with(lost, kept), task="Inference", replicas=2)
    result = assess(see(job, [pod_of(kept)], [claim_of(kept)], closed=CORDONED), T0 + 60, LIMITS)
    assert replicas(result) == [1]
    assert told(result) == [EventReason.WORKER_DISRUPTED]


def test_while_the_pod_is_still_there_its_place_is_kept() -> None:
    a = promise(bound=True)
    job = make_job(status_with(a), task="Inference")
    result = assess(see(job, [pod_of(a)], closed={"node-0": "is gone"}), T0 + 60, LIMITS)
    assert replicas(result) == [0]


# -- the whole job ------------------------------------------------------------------------------------------


def test_suspend_frees_everything_and_forgets_failures() -> None:
    a = promise(bound=True)
    status = status_with(a, failures=2, gpus=2, start_time=times.to_wire(T0), succeeded_replicas=(1,))
    result = assess(see(make_job(status, suspend=True), [pod_of(a)]), T0 + 60, LIMITS)
    after = result.status
    assert (after.assignments, after.failures, after.start_time, after.retry_at) == ((), 0, None, None)
    assert after.succeeded_replicas == (1,)
    assert told(result) == [EventReason.RELEASED]
    assert told(assess(see(make_job(after, suspend=True)), T0 + 90, LIMITS)) == []


def test_deadline() -> None:
    a = promise(bound=True)
    status = status_with(a, start_time=times.to_wire(T0))
    job = make_job(status, activeDeadlineSeconds=100)
    before = assess(see(job, [pod_of(a)], [claim_of(a)]), T0 + 99, LIMITS)
    assert (before.ended, before.wake_at) == (None, T0 + 100)
    after = assess(see(job, [pod_of(a)], [claim_of(a)]), T0 + 100, LIMITS)
    assert (after.status.phase, after.ended) == (Phase.FAILED, StateReason.DEADLINE_EXCEEDED)
    assert after.status.assignments == ()
    assert "activeDeadlineSeconds (100)" in after.ended_message


def test_waiting_does_not_count_towards_the_deadline() -> None:
    result = assess(see(make_job(status_with(), activeDeadlineSeconds=100)), T0 + 9999, LIMITS)
    assert result.ended is None


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED])
def test_a_finished_job_is_left_alone(phase: Phase) -> None:
    status = DeepSeekJobStatus(phase=phase, succeeded_replicas=(0,))
    result = assess(see(make_job(status, suspend=True)), T0 + 60, LIMITS)
    assert (result.status, result.events, result.wake_at) == (status, [], None)


def test_a_job_without_replicas_does_not_end() -> None:
    assert assess(see(make_job(status_with(), replicas=0)), T0, LIMITS).ended is None


def test_two_failures_at_once_count_as_two() -> None:
    a: list[Assignment] = [promise(i, bound=True, node=f"node-{i}") for i in range(2)]
    job = make_job(status_with(*a), task="Batch", replicas=2)
    result = assess(see(job, [pod_of(x, P.FAILED) for x in a]), T0 + 60, LIMITS)
    assert (result.status.failures, replicas(result)) == (2, [])
