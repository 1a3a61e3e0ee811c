"""P6 in the pure core: a what-if answer is the plan that is made once what was asked about has come true."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.gpuqueue import GPUQueueSpec
from drse_operator.api.keys import JobKey
from drse_operator.cluster import kinds
from drse_operator.observe.views.fork import PutJob, PutQueue, WithoutNode, fork
from drse_operator.observe.views.scene import Scene
from drse_operator.observe.views.whatif import Outcome, whatif
from tests.cli.worlds import NOW, Documents, job_spec

_PRODUCTS = {"h100": "NVIDIA H100 80GB HBM3", "l40s": "NVIDIA L40S"}
_TASKS = ("Batch", "FineTuning", "PreTraining", "Inference")


@st.composite
def clusters(draw: st.DrawFn) -> Documents:
    """A few nodes of two kinds, queues, jobs that run where there was room, and jobs that wait."""
    made = Documents()
    room: dict[str, tuple[str, int]] = {}
    for i in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(("h100", "l40s")))
        gpus = draw(st.sampled_from((4, 8)))
        made.node(f"{kind}-{i}", gpus, _PRODUCTS[kind])
        room[f"{kind}-{i}"] = (kind, gpus)
    for name in ("research", "product"):
        made.queue(name, **draw(queue_specs()))
    made.priority("urgent", 100)
    for i in range(draw(st.integers(0, 8))):
        spec = draw(job_specs())
        kind, gpus = spec.pop("kind"), spec.pop("gpus")
        age = draw(st.integers(1, 7200))
        fitting = [name for name, (of, free) in room.items() if of == kind and free >= gpus]
        if fitting and draw(st.booleans()):
            node = fitting[0]
            free = room[node][1]
            made.job(
                f"runs-{i}", on=[(node, range(free - gpus, free))], age=age, gpus=gpus, product=kind, **spec
            )
            room[node] = (kind, free - gpus)
        else:
            made.job(f"waits-{i}", age=age, gpus=gpus, product=kind, **spec)
    return made


@st.composite
def queue_specs(draw: st.DrawFn) -> dict[str, Any]:
    spec: dict[str, Any] = {"weight": draw(st.integers(1, 4))}
    if draw(st.booleans()):
        spec["limit"] = draw(st.integers(4, 24))
    if draw(st.booleans()):
        spec["guaranteed"] = draw(st.integers(0, 4))
    return spec


@st.composite
def job_specs(draw: st.DrawFn) -> dict[str, Any]:
    """What ``job_spec`` takes, with the kind of GPU and their number apart."""
    spec: dict[str, Any] = {
        "kind": draw(st.sampled_from(("h100", "l40s"))),
        "gpus": draw(st.sampled_from((1, 2, 4, 8))),
        "queue": draw(st.sampled_from(("research", "product"))),
        "taskType": draw(st.sampled_from(_TASKS)),
        "resources": {"workersPerReplica": 1},
    }
    if draw(st.booleans()):
        spec["estimatedDuration"] = draw(st.sampled_from(("10m", "1h", "9h")))
    if draw(st.integers(0, 3)) == 0:
        spec["priorityClassName"] = "urgent"
    return spec


def _plan(scene: Scene) -> object:
    """The decisions without uids, which a job that is only asked about does not have yet."""
    plan = scene.plan
    return (
        sorted((str(a.key), a.placements) for a in plan.assign),
        sorted((str(r.key), r.replicas) for r in plan.release),
        sorted((str(w.key), w.reason, w.message, w.position or 0) for w in plan.wait),
    )


@given(clusters(), job_specs())
def test_a_job_asked_about_is_planned_as_one_that_was_created(made: Documents, spec: dict[str, Any]) -> None:
    kind, gpus = spec.pop("kind"), spec.pop("gpus")
    asked = DeepSeekJobSpec.from_wire(job_spec(gpus, kind, **spec))
    before = Scene(made.world(), NOW)
    (answer,) = whatif(before, [PutJob(JobKey("team-a", "asked"), asked)]).items

    made.job("asked", age=0, gpus=gpus, product=kind, **spec)
    after = Scene(made.world(), NOW)
    found = after.job(JobKey("team-a", "asked"))
    assigned = [p for a in after.plan.assign if a.key == found.key for p in a.placements]
    assert (answer.outcome is Outcome.STARTS) == bool(assigned)
    assert {(p.node, p.uuids) for p in answer.places} == {
        (p.node, tuple(sorted(d.uuid for d in p.devices))) for p in assigned
    }
    wait = after.waits.get(found.uid)
    assert (answer.reason, answer.message, answer.position) == (
        (wait.reason, wait.message, wait.position) if wait is not None else (None, None, None)
    )


@given(clusters(), job_specs())
def test_a_fork_is_the_world_that_holds_the_change(made: Documents, spec: dict[str, Any]) -> None:
    kind, gpus = spec.pop("kind"), spec.pop("gpus")
    asked = DeepSeekJobSpec.from_wire(job_spec(gpus, kind, **spec))
    forked = fork(made.world(), [PutJob(JobKey("team-a", "asked"), asked)], NOW)
    made.job("asked", age=0, gpus=gpus, product=kind, **spec)
    assert _plan(Scene(forked, NOW)) == _plan(Scene(made.world(), NOW))


@given(clusters(), queue_specs())
def test_a_queue_changed_in_a_fork_is_one_changed_in_the_cluster(
    made: Documents, spec: dict[str, Any]
) -> None:
    forked = fork(made.world(), [PutQueue("research", GPUQueueSpec.from_wire(spec))], NOW)
    changed = next(q for q in made.listed[kinds.GPUQUEUE] if q["metadata"]["name"] == "research")
    changed["spec"] = spec
    assert _plan(Scene(forked, NOW)) == _plan(Scene(made.world(), NOW))


@given(clusters())
def test_without_a_node_nobody_holds_or_gets_anything_there(made: Documents) -> None:
    world = made.world()
    before = Scene(world, NOW)
    names = [node.name for node in before.snapshot.nodes]
    then = Scene(fork(world, [WithoutNode(names[0])], NOW), NOW)
    assert [node.name for node in then.snapshot.nodes] == names[1:]
    assert not [h for job in then.snapshot.jobs for h in job.holdings if h.node == names[0]]
    assert not [p for a in then.plan.assign for p in a.placements if p.node == names[0]]
    kept = {h for job in before.snapshot.jobs for h in job.holdings if h.node != names[0]}
    assert {h for job in then.snapshot.jobs for h in job.holdings} == kept
    # The cluster that was asked about is as it was.
    assert Scene(world, NOW).snapshot == before.snapshot
