"""What the leader exports of a constructed cluster: values, names and labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, Metric

from drse_operator.admission.decisions import Memory, Pending, Plan, Release, ReleaseReason, Reserved, Wait
from drse_operator.admission.persistence import kind_name
from drse_operator.admission.planner import plan
from drse_operator.admission.snapshot import FlowKey, FlowState, Holding, Queue
from drse_operator.api.enums import TaskType
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import EventReason, ScalingReason, WaitReason
from drse_operator.cluster.picture import Picture
from drse_operator.cluster.usage import Usage
from drse_operator.observe.metrics import Metrics
from drse_operator.observe.metrics.catalogue import SHOWN_WAITING, Family, Kind, families
from drse_operator.observe.metrics.gpus import unexplained_idle
from drse_operator.observe.shares import Claimant, fair_shares
from drse_operator.workloads.outcome import Event
from tests.admission.builders import NodePlan, kind_of, make_job, make_nodes, make_queue, shape, snapshot
from tests.observe.clusters import (
    H100,
    NOW,
    Scene,
    accounts_of,
    foreign_pod,
    holds,
    look,
    running,
    scaled,
    waits,
)

CHAT = {"deepseekjob": "chat", "deepseekjob_namespace": "serving"}
AUTO = {"mode": "Auto", "minReplicas": 1, "maxReplicas": 4}


COUNTED = "NVIDIA-H100-80GB-HBM3"


def busy() -> Scene:
    """Two queues on three nodes: a frozen service, a gang, one that waits behind it, and a lost one."""
    scene = Scene().dra("n1", "n2").plugin("n3")
    scene.queue("serving", weight=3, limit=8).queue("research", waitTarget="30m")
    told = {"judged": 20, "kept": 18}
    scene.queues[0]["status"] = {"told": told, "fairnessBoundUsed": 0.25}
    status = running(holds("n1", 0, 1), **scaled(2, 1.5, ScalingReason.LOAD_STALE))
    scene.job("chat", "Inference", 2, status, "serving", queue="serving", scaling=AUTO)
    scene.job("tune", "FineTuning", 4, running(holds("n2", 0, 1, 2, 3)), queue="research")
    scene.job("count", "Batch", 3, running(holds("n3", count=3)), queue="research")
    scene.job("big", "FineTuning", 4, waits(1, 60, 300), age=500, queue="research")
    scene.job("lost", "Batch", 1, namespace="other", queue="nowhere")
    scene.pods.append(foreign_pod("n3", 1))
    return scene


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_queues_say_what_they_hold_ask_for_and_deserve() -> None:
    metrics = busy().metrics()

    def of(name: str, queue: str, **labels: str) -> float | None:
        return sample(metrics, f"drse_queue_{name}", queue=queue, **labels)

    assert (of("weight", "serving"), of("limit_gpus", "serving")) == (3, 8)
    assert (of("limit_gpus", "research"), of("assigned_gpus", "research")) == (None, 7)
    # chat asks for 2 more by its scaling, big for 4; lost is in no queue that could start it.
    assert (of("requested_gpus", "serving"), of("requested_gpus", "research")) == (4, 11)
    assert (of("fair_share_gpus", "serving"), of("fair_share_gpus", "research")) == (4, 8)
    assert of("jobs", "research", phase="Running") == 2
    assert of("pending_jobs", "nowhere", reason="QueueNotFound") == 1
    assert of("oldest_wait_seconds", "research") == 500
    assert of("oldest_wait_seconds", "serving") == 0
    lost = {"deepseekjob_namespace": "other", "queue": "nowhere", "reason": "QueueNotFound"}
    assert sample(metrics, "drse_unschedulable_jobs", **lost) == 1


def test_queues_say_how_fair_and_how_right_they_were() -> None:
    metrics = busy().metrics()
    assert sample(metrics, "drse_fairness_bound_used_ratio", queue="serving") == 0.25
    assert sample(metrics, "drse_eta_coverage_ratio", queue="serving") == 0.9
    assert sample(metrics, "drse_eta_judged_jobs", queue="research") is None, "nobody was told anything"


def test_jobs_say_what_they_hold_want_and_expect() -> None:
    metrics = busy().metrics()
    assert sample(metrics, "drse_gpu_assigned", UUID="GPU-n1-0", queue="serving", **CHAT) == 1
    assert sample(metrics, "drse_job_phase", phase="Running", queue="serving", **CHAT) == 1
    assert sample(metrics, "drse_job_gpus", **CHAT) == 2
    assert sample(metrics, "drse_job_wanted_replicas", **CHAT) == 2
    assert sample(metrics, "drse_scaling_wanted_gpus", mode="Auto", **CHAT) == 4
    assert sample(metrics, "drse_scaling_granted_gpus", **CHAT) == 2
    assert sample(metrics, "drse_load", **CHAT) == 1.5
    assert sample(metrics, "drse_scaling_frozen", reason="LoadStale", **CHAT) == 1
    big = {"deepseekjob": "big", "deepseekjob_namespace": "team", "queue": "research"}
    assert sample(metrics, "drse_job_eta_seconds", quantile="0.9", **big) == 295
    tune = {"deepseekjob": "tune", "deepseekjob_namespace": "team"}
    assert sample(metrics, "drse_job_target_concurrency", **tune) is None, "a fine-tune has no requests"


def test_queues_say_what_wait_is_meant_and_flows_what_they_were_given() -> None:
    metrics = busy().metrics()
    assert sample(metrics, "drse_queue_wait_target_seconds", queue="research") == 1800
    assert sample(metrics, "drse_queue_wait_target_seconds", queue="serving") is None, "it has none"
    flows = {"a": FlowState(finish=70.0, waiting=True), "b": FlowState(100.0, True), "c": FlowState(900.0)}
    memory = Memory(flows={FlowKey(name, TaskType.BATCH): state for name, state in flows.items()})
    metrics.take_plan(snapshot([], []), Plan(memory=memory), Usage(), NOW)
    by_queue = [sample(metrics, "drse_flow_service_seconds", queue=q, type="Batch") for q in flows]
    assert by_queue == [70, 100, 900]
    lags = [sample(metrics, "drse_flow_lag_seconds", queue=q, type="Batch") for q in flows]
    assert lags == [30, 0, None], "who does not wait is behind nobody"


def test_what_is_kept_for_a_job_is_compared_with_the_first_promise() -> None:
    nodes = make_nodes([NodePlan("H100", 8, held=8)])
    held = Holding(0, 0, "node-0", 8, True, NOW - 600)
    holder = replace(
        make_job("holder", [shape(kind_of(nodes), 8)], holdings=[held]), expected_duration=1200.0
    )
    head = make_job("head", [shape(kind_of(nodes), 8)], at=NOW - 60)
    seen = snapshot(nodes, [holder, head], make_queue(held=8))
    metrics, world = Metrics("1"), Scene().world()
    metrics.lead(world, Picture(world), accounts_of(world))
    labels = {"deepseekjob": "head", "deepseekjob_namespace": "team", "queue": "default"}

    def kept(now: float) -> tuple[float | None, float | None]:
        metrics.take_plan(seen, plan(seen, now), Usage(), now)
        start = sample(metrics, "drse_reservation_start_timestamp_seconds", **labels)
        return start and start - NOW, sample(metrics, "drse_reservation_delay_seconds", **labels)

    assert kept(NOW) == (600, 0)
    assert kept(NOW + 700) == (1800, 1200), "the holder is overdue, and taken to need twice as long"
    seen = snapshot(make_nodes([NodePlan("H100", 8)]), [head])
    assert kept(NOW + 800) == (None, None), "it starts"
    metrics.take_plan(seen, Plan(reserved=(Reserved(head.key, head.uid, NOW + 900),)), Usage(), NOW + 850)
    assert sample(metrics, "drse_reservation_delay_seconds", **labels) == 0, "a new promise"


def test_each_gpu_is_in_one_state() -> None:
    metrics = busy().unready("n4").cordoned("n2").dra("n5").cordoned("n5").metrics()

    def in_state(state: str, model: str = H100) -> float | None:
        return sample(metrics, "drse_gpu_state", model=model, state=state)

    assert (in_state("Free"), in_state("Held"), in_state("Unhealthy")) == (2, 6, 4)
    assert in_state("Closed") == 4, "what is held on a cordoned node counts as held"
    assert (in_state("Held", COUNTED), in_state("Foreign", COUNTED)) == (3, 1)
    assert sample(metrics, "drse_gpu_unhealthy", UUID="GPU-n4-0", node="n4", model=H100) == 1
    assert sample(metrics, "drse_largest_free_block_gpus", model=H100) == 2
    assert sample(metrics, "drse_fragmentation_ratio", model=H100) == 1.0


def test_gpu_seconds_of_accounts_add_up_to_those_of_devices() -> None:
    scene, clock = busy(), [NOW]
    metrics, world = Metrics("1", clock=lambda: clock[0]), scene.world()
    picture = Picture(world)
    metrics.lead(world, picture, accounts_of(world))
    look(metrics, picture)
    held = "drse_gpu_held_seconds_total"
    before = values(metrics.registry, held)
    clock[0] += 30
    after = values(metrics.registry, held)
    assert before["serving", "serving", H100, "Inference"] == 2 * 100
    assert after["serving", "serving", H100, "Inference"] == 2 * 130
    assert sum(after.values()) - sum(before.values()) == (2 + 4 + 3) * 30
    metrics.follow()
    assert values(metrics.registry, held) == {}, "another one counts"


def values(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    found = [s for metric in registry.collect() for s in metric.samples if s.name == name]
    order = ("queue", "deepseekjob_namespace", "model", "type")
    return {tuple(s.labels[label] for label in order): s.value for s in found}


def test_decisions_are_counted_once_and_by_reason() -> None:
    scene = busy().job("small", "Batch", 1, queue="serving", age=30)
    metrics, world = Metrics("1"), scene.world()
    picture = Picture(world)
    metrics.lead(world, picture, accounts_of(world))
    for _ in range(2):  # the first pass's assignment was never written, so the second decides the same
        look(metrics, picture)
    assert sample(metrics, "drse_decisions_total", kind="Assign", reason="Admit") == 2
    assert sample(metrics, "drse_job_wait_seconds_count", queue="serving") == 1
    assert sample(metrics, "drse_job_wait_seconds_sum", queue="serving") == 30
    assert sample(metrics, "drse_decisions_total", kind="Wait", reason="QueueNotFound") == 1


def test_what_preemption_took_and_cost() -> None:
    nodes = make_nodes([NodePlan("H100", 8)])
    held = [Holding(r, 0, "node-0", 2, True, NOW - 50) for r in range(3)]
    victim = make_job("victim", [shape(kind_of(nodes), 2)], holdings=held, wanted=3)
    release = Release(
        JobKey("team", "victim"), victim.uid, (0, 2), ReleaseReason.PREEMPTED, "for a better one"
    )
    metrics = Metrics("1")
    metrics.take_plan(snapshot(nodes, [victim]), Plan(release=(release,)), Usage(), NOW)
    assert sample(metrics, "drse_preemptions_total", queue="default", reason="HigherPriority") == 2
    reclaimed = {"queue": "default", "reason": "GuaranteeReclaimed"}
    assert sample(metrics, "drse_preemptions_total", **reclaimed) == 0
    assert sample(metrics, "drse_lost_gpu_seconds_total", queue="default") == 2 * 2 * 50
    assert sample(metrics, "drse_decisions_total", kind="Release", reason="Preempted") == 1
    taker = make_job("taker", [shape(kind_of(nodes), 2)], queue="other")
    release = replace(release, taker=taker.key)
    metrics.take_plan(snapshot(nodes, [victim, taker]), Plan(release=(release,)), Usage(), NOW)
    assert sample(metrics, "drse_preemptions_total", **reclaimed) == 2


def test_decisions_about_jobs_that_are_gone_do_no_harm() -> None:
    nodes = make_nodes([NodePlan("H100", 8)])
    gone = make_job("gone", [shape(kind_of(nodes), 2)])
    release = Release(gone.key, gone.uid, (0,), ReleaseReason.PREEMPTED, "taken")
    lacking = Wait(gone.key, gone.uid, WaitReason.INSUFFICIENT_FREE_GPUS, "", 1, 2)
    metrics, world = Metrics("1"), Scene().world()
    metrics.lead(world, Picture(world), accounts_of(world))
    metrics.take_plan(snapshot(nodes, []), Plan(release=(release,), wait=(lacking,)), Usage(), NOW)
    assert sample(metrics, "drse_unexplained_idle_gpus") == 0
    assert sample(metrics, "drse_preemptions_total", queue="default", reason="HigherPriority") == 0


def test_failures_that_events_tell_of_are_counted() -> None:
    metrics = Metrics("1")
    metrics.take_events([Event(EventReason.BIND_TIMEOUT, "x"), Event(EventReason.ASSIGNED, "y")])
    assert sample(metrics, "drse_gang_timeouts_total") == 1
    assert sample(metrics, "drse_worker_failures_total") == 0


@pytest.mark.parametrize(("free", "idle"), [(2, 2), (1, 0)])
def test_room_that_nobody_uses_is_noticed(free: int, idle: int) -> None:
    """The planner leaves no such room, so the plan is made up: it lets a job wait for lack of room."""
    nodes = make_nodes([NodePlan("H100", 8, held=8 - free)])
    waiting = make_job("waiting", [shape(kind_of(nodes), 2)])
    head = make_job("head", [shape(kind_of(nodes), 8)])
    kinds = frozenset({kind_name(kind_of(nodes))})
    lacking = Pending(waiting.flow, WaitReason.INSUFFICIENT_FREE_GPUS, kinds, 1, 2)
    reserved = Pending(head.flow, WaitReason.RESERVED, kinds, 1, 8)

    def unexplained(*pending: Pending, queue: Queue) -> int:
        return unexplained_idle(snapshot(nodes, [waiting, head], queue), Plan(pending=pending), NOW)

    assert unexplained(lacking, queue=make_queue()) == idle
    assert unexplained(lacking, reserved, queue=make_queue()) == 0, "the reservation explains it"
    assert unexplained(lacking, queue=make_queue(limit=4, held=3)) == 0, "the limit explains it"


def test_shares_fill_up_by_weight() -> None:
    ask = {"a": Claimant(1, 2), "b": Claimant(1, 100), "c": Claimant(3, 100)}
    assert fair_shares(18, ask) == {"a": 2, "b": 4, "c": 12}
    assert fair_shares(0, ask) == {"a": 0, "b": 0, "c": 0}
    assert fair_shares(1000, ask) == {"a": 2, "b": 100, "c": 100}


# -- names -------------------------------------------------------------------------------------------------


def everything() -> CollectorRegistry:
    """The registry of a leader about which everything has been told."""
    metrics = busy().unready("n4").metrics()
    metrics.api_errors.labels(reason="Conflict").inc()
    metrics.scaling_actions.labels(driver="LoadAboveThreshold").inc()
    return metrics.registry


def test_exactly_the_catalogue_is_exported() -> None:
    known = {family.name: family for family in families()}
    found: dict[str, Metric] = {m.name: m for m in everything().collect() if m.name.startswith("drse_")}
    assert found.keys() - known.keys() == set()
    for name, family in known.items():
        made = found[name]
        assert (made.type, made.documentation) == (family.kind, family.text), name
        labels = {frozenset(s.labels) - {"le"} for s in made.samples}
        assert labels <= {frozenset(family.labels)}, name
        assert labels or family.kind is not Kind.GAUGE, f"{name} was never exported"


def test_names_carry_their_units() -> None:
    units = ("seconds", "gpus", "ratio", "jobs", "replicas")
    plain = {"build_info", "leader", "queue_weight", "double_assignments"}
    plain |= {"gpu_assigned", "gpu_info", "gpu_unhealthy", "gpu_state", "gpu_starting"}
    plain |= {"job_phase", "load", "scaling_frozen", "job_target_concurrency", "job_gpus_per_replica"}
    plain |= {"job_failures", "job_preemptions"}
    measured = [family for family in families() if family.kind is not Kind.COUNTER]
    assert not [f.name for f in measured if not f.name.endswith(units) and f.name[5:] not in plain]
    assert len({family.exported for family in families()}) == len(families())


def test_series_do_not_grow_with_the_jobs_that_wait() -> None:
    few, many = (_waiting(SHOWN_WAITING * times_) for times_ in (1, 4))
    assert few == many


def _waiting(number: int) -> dict[str, int]:
    scene = Scene().dra("n1").queue("research")
    for i in range(number):
        scene.job(f"job-{i}", "Batch", 4, waits(i + 1, 60, 300), queue="research", age=1000 - i)
    collected = scene.metrics().registry.collect()
    return {m.name: len(m.samples) for m in collected if m.name.startswith("drse_")}


def test_a_follower_exports_nothing_of_the_cluster() -> None:
    metrics = busy().metrics()
    metrics.follow()
    leaders: list[Family] = [f for f in families() if f.scope == "the leader"]
    exported = {m.name for m in metrics.registry.collect() if m.samples}
    assert not [family.name for family in leaders if family.name in exported]
    assert sample(metrics, "drse_leader") == 0
