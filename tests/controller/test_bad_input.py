"""Clocks that step, events that come twice, statuses of an older version, nodes that vanish in mid-plan.

Nothing is assigned twice (the model checks that at each write), no share becomes negative, no pass fails.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from drse_operator.admission.planner import plan
from drse_operator.admission.snapshot import Learned
from drse_operator.api.status import DeepSeekJobStatus
from tests.controller.test_memory_in_status import QUEUES, RUNS, Story
from tests.lifecycle.model import WATCHED


def statuses(story: Story) -> dict[str, DeepSeekJobStatus]:
    return {
        name: DeepSeekJobStatus.from_wire(document.get("status") or {})
        for name, document in story.cluster.objects["DeepSeekJob"].items()
    }


def devices(story: Story) -> dict[str, list[str]]:
    """GPUs of each job that holds any."""
    held = {name: [d.uuid for a in s.assignments for d in a.devices] for name, s in statuses(story).items()}
    return {name: mine for name, mine in held.items() if mine}


def crowded() -> Story:
    """More is asked for than there is, by jobs of all flows and a service."""
    story = Story()
    story.serve()
    for queue in QUEUES:
        for task in RUNS:
            story.arrive(queue, task, 2, stated=task == "Batch")
    story.pass_()
    return story


@settings(deadline=None, max_examples=15, phases=[Phase.generate])
@given(
    st.lists(st.tuples(st.sampled_from((-7200.0, -3.0, -0.5, 1.0, 30.0, 86400.0)), st.booleans()), max_size=5)
)
def test_the_clock_steps_to_and_fro(steps: list[tuple[float, bool]]) -> None:
    story = crowded()
    for step, crash in steps:
        story.cluster.now += step
        story.end(0)
        story.pass_()
        story.report()
        if crash:
            story.restart()
            story.pass_()
    for status in statuses(story).values():
        if status.ran is not None:
            assert status.ran.seconds >= 0 and status.ran.used >= 0
    for like in story.from_status().learned:
        assert all(seconds > 0 for seconds, _ in like.runs)
    story.cluster.now += 200
    for _ in range(12):
        story.end(0)
        story.cluster.now += 200
        story.pass_()
    late = {n: s for n, s in statuses(story).items() if n.startswith("job") and s.phase != "Succeeded"}
    assert not late, "time goes on after all"


def test_every_event_comes_twice_and_late() -> None:
    story = crowded()
    for _ in range(4):
        story.cluster.now += 1
        story.pass_()
    before = copy.deepcopy(story.cluster.objects)
    for kind in WATCHED:
        for _, document in story.cluster.log[kind.kind]:
            story.operator.world.store(kind).put(copy.deepcopy(document))
    story.hear()
    story.operator.make_pass(story.cluster.now)
    assert not any(work for work in story.operator.hands.works)
    assert story.cluster.objects == before


def test_statuses_of_a_version_that_kept_no_accounts() -> None:
    """An update finds jobs that run and a queue that remembers nothing: it goes on with them."""
    story = crowded()
    story.report()
    for document in story.cluster.objects["GPUQueue"].values():
        document["status"] = {"assignedGPUs": 3}
        story.cluster.store("GPUQueue", document)
    for document in story.cluster.objects["DeepSeekJob"].values():
        status: dict[str, Any] = document["status"]
        for key in ("mark", "ran", "term"):
            status.pop(key, None)
        for assignment in status.get("assignments", ()):
            del assignment["share"], assignment["charged"]
            assignment["since"] = "2023-11-14T22:13:20Z"
        story.cluster.store("DeepSeekJob", document)
    held = devices(story)
    assert held
    seen = story.from_status()
    assert seen.clock_at is None and not seen.flows
    assert all(flow.finish >= 0 for flow in plan(seen, story.cluster.now).memory.flows.values())
    story.restart()
    story.cluster.now += 5
    story.pass_()
    assert held.items() <= devices(story).items()
    for _ in range(20):
        story.end(0)
        story.cluster.now += 60
        story.pass_()
    assert all(s.phase == "Succeeded" for name, s in statuses(story).items() if name.startswith("job"))


def test_a_node_vanishes_between_the_plan_and_the_write() -> None:
    story = Story()
    story.arrive("default", "Batch", 4, stated=False)
    story.hear()
    story.operator.make_pass(story.cluster.now)
    (work,) = story.operator.hands.works
    planned = next(iter(story.operator.report[1].assign)).placements[0].node  # type: ignore[index]
    story.cluster.remove("Node", planned)
    story.operator.hands.step(work)
    (status,) = statuses(story).values()
    assert status.assignments[0].node == planned
    for _ in range(6):
        story.cluster.now += 70
        story.pass_(bind=lambda node: node in story.cluster.objects["Node"])
        story.cluster.collect_garbage()
    (status,) = statuses(story).values()
    assert [a.node for a in status.assignments] == [{"node-0": "node-1", "node-1": "node-0"}[planned]]
    assert status.phase == "Running" and status.failures == 0


@pytest.mark.parametrize("runs", [(), ((0.1, None),), ((3.0, 1e-9), (5.0, 1e9))])
def test_whatever_was_learned_a_job_gets_an_estimate(runs: tuple[tuple[float, float | None], ...]) -> None:
    story = crowded()
    seen = story.from_status()
    job = next(j for j in seen.jobs if not j.task_type.serves)
    learned = tuple(Learned(job.queue, job.task_type, "", gpus, runs) for gpus in (1, 2, 4))
    made = plan(type(seen)(seen.nodes, seen.queues, seen.jobs, learned=learned), story.cluster.now)
    assert all(0 < assign.charged < float("inf") for assign in made.assign)


def finish(story: Story, queue: str, task: str) -> float:
    """Finish tag of a flow after the last pass."""
    assert story.operator.report is not None
    return next(
        flow.finish
        for key, flow in story.operator.planner.memory().flows.items()
        if (key.queue, key.task_type) == (queue, task)
    )


def test_a_job_that_is_deleted_while_it_runs_is_charged_what_it_took() -> None:
    story = Story()
    story.serve()
    story.arrive("default", "FineTuning", 4, stated=False)
    story.pass_()
    assert finish(story, "default", "FineTuning") == 3600 * 4 / 8, "an hour of half the cluster, as thought"
    story.cluster.now += 120
    story.serve()
    story.pass_()
    (name,) = [name for name in story.cluster.objects["DeepSeekJob"] if name.startswith("job")]
    story.cluster.remove("DeepSeekJob", name)
    story.cluster.now += 1
    story.pass_()
    assert finish(story, "default", "FineTuning") == pytest.approx(120 * 4 / 8, abs=2)
    story.pass_()
    assert finish(story, "default", "FineTuning") == pytest.approx(120 * 4 / 8, abs=2), "once"


def test_a_promise_that_is_never_written_costs_nothing() -> None:
    """The job has changed meanwhile, so the write is refused; the next pass promises it anew."""
    story = Story()
    story.arrive("default", "FineTuning", 4, stated=False)
    story.hear()
    for _ in range(3):
        story.operator.make_pass(story.cluster.now)
        (document,) = story.cluster.objects["DeepSeekJob"].values()
        document["metadata"]["labels"] = {"at": str(story.cluster.now)}
        story.cluster.store("DeepSeekJob", document)
        (uid,) = story.operator.hands.works
        story.operator.hands.step(uid)
        story.hear()
        story.cluster.now += 1
    assert not any(status.assignments for status in statuses(story).values())
    story.pass_()
    story.cluster.now += 1
    story.pass_()
    assert finish(story, "default", "FineTuning") == 3600 * 4 / 8, "charged once for the one that stands"


def test_an_end_that_has_to_be_written_twice_is_accounted_for_once() -> None:
    story = Story()
    story.arrive("default", "Batch", 8 // 2, stated=True)
    story.pass_()
    story.cluster.now += 40
    story.pass_()
    story.end(0)
    story.hear()
    for _ in range(3):
        story.operator.make_pass(story.cluster.now)
        (document,) = story.cluster.objects["DeepSeekJob"].values()
        document["metadata"]["labels"] = {"at": str(story.cluster.now)}
        story.cluster.store("DeepSeekJob", document)
        while works := list(story.operator.hands.works):
            story.operator.hands.step(works[0])
        story.hear()
        story.cluster.now += 5
    assert all(status.phase != "Succeeded" for status in statuses(story).values())
    story.pass_()
    story.cluster.now += 5
    story.pass_()
    assert [len(like.runs) for like in story.from_memory().learned] == [1]
    assert finish(story, "default", "Batch") * 2 == pytest.approx(40 * 4 / 8, abs=1)
