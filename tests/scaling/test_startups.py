"""How long replicas take to start is learned from each start, and from nothing else."""

from __future__ import annotations

from dataclasses import replace

from drse_operator.api.status import Assignment, DeepSeekJobStatus
from drse_operator.workloads.life import Limits, assess
from drse_operator.workloads.observed import Pod, PodPhase
from drse_operator.workloads.startups import KEPT
from tests.lifecycle.builders import T0, claim_of, make_job, pod_of, promise, see, status_with

LIMITS = Limits(bind_timeout=1200)


def ready_pod(assignment: Assignment, after: float, created: float = T0) -> Pod:
    return replace(pod_of(assignment, created=created), ready_at=created + after)


def starting_pod(assignment: Assignment) -> Pod:
    return pod_of(assignment, ready=False)


def judge(status: DeepSeekJobStatus, *pods: Pod) -> DeepSeekJobStatus:
    claims = [claim_of(a) for a in status.assignments]
    return assess(see(make_job(status, task="Inference"), pods, claims), T0 + 300, LIMITS).status


def test_a_replica_has_started_when_it_is_first_ready() -> None:
    a = promise()
    starting = judge(status_with(a), starting_pod(a))
    assert (starting.assignments[0].started, starting.startups) == (False, ())
    started = judge(starting, ready_pod(a, after=150))
    assert (started.assignments[0].started, started.startups) == (True, (150,))
    assert judge(started, ready_pod(a, after=150)).startups == (150,), "it is told once"


def test_a_gang_has_started_with_its_last_worker() -> None:
    first, last = promise(worker=0), promise(worker=1)
    half = judge(status_with(first, last), ready_pod(first, 60), starting_pod(last))
    assert [a.started for a in half.assignments] == [True, False]
    assert half.startups == ()
    whole = judge(half, ready_pod(first, 60), ready_pod(last, 240))
    assert whole.startups == (240,)


def test_a_failing_probe_is_no_new_start() -> None:
    a = promise()
    started = judge(status_with(a), ready_pod(a, 100))
    shaky = judge(started, starting_pod(a))
    assert shaky.assignments[0].started
    assert judge(shaky, ready_pod(a, 5000)).startups == (100,)


def test_a_pod_made_anew_starts_anew_from_its_own_beginning() -> None:
    first, last = promise(worker=0), promise(worker=1)
    running = judge(status_with(first, last), ready_pod(first, 100), ready_pod(last, 100))
    without = judge(running, ready_pod(first, 100))
    assert [a.started for a in without.assignments] == [True, False]
    pending = judge(without, ready_pod(first, 100), pod_of(last, PodPhase.PENDING))
    again = judge(pending, ready_pod(first, 100), ready_pod(last, 80, created=T0 + 50_000))
    assert again.startups == (100, 80), "not from when the worker that stayed was made"


def test_the_latest_are_kept() -> None:
    a = promise()
    status = status_with(a, startups=tuple(range(1, KEPT + 1)))
    assert judge(status, ready_pod(a, 99)).startups == (*range(2, KEPT + 1), 99)


def test_replicas_promised_together_are_told_apart() -> None:
    a, b = promise(replica=0), promise(replica=1)
    status = judge(status_with(a, b), ready_pod(a, 30), ready_pod(b, 50))
    assert status.startups == (30, 50)
