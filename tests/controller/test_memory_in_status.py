"""P7 on the operator's own caches: who reads only the API server plans as the leader does from memory.

A leader works on a cluster in memory (tests/lifecycle/model.py). Its queues are written now and then, some of
them late. A reader builds everything from the stored documents, as a new leader and the command line do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from drse_operator.admission.decisions import Assign, Plan
from drse_operator.admission.planner import plan
from drse_operator.admission.snapshot import FlowKey, FlowState, Snapshot
from drse_operator.api.gpuqueue import GPUQueueStatus
from drse_operator.cluster.picture import Picture
from drse_operator.cluster.world import World
from drse_operator.controller.queues import statuses
from tests.admission.histories import with_memory
from tests.lifecycle.model import WATCHED, Cluster, Operator, dra_node, job

QUEUES = ("default", "other", "third")
RUNS = {"Batch": 40, "FineTuning": 90}


class Story:
    """A leader at work. ``pass_`` also lets everything that was decided happen."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        for name in ("node-0", "node-1"):
            for document in dra_node(name):
                self.cluster.create(document)
        for weight, name in enumerate(QUEUES, 1):
            spec = {"weight": weight, "taskWeights": {"Batch": 2}}
            self.cluster.create({"kind": "GPUQueue", "metadata": {"name": name}, "spec": spec})
        self.operator = Operator(self.cluster)
        self.number = 0
        self.last: tuple[Snapshot, Plan] | None = None

    def arrive(self, queue: str, task: str, gpus: int, stated: bool) -> None:
        self.number += 1
        spec = {"queue": queue} | ({"estimatedDuration": f"{RUNS[task]}s"} if stated else {})
        self.cluster.create(job(f"job-{self.number:02}", task, gpus, **spec))

    def serve(self) -> None:
        self.number += 1
        self.cluster.create(job(f"chat-{self.number:02}", "Inference", 1, replicas=1))

    def hear(self) -> None:
        for kind in WATCHED:
            while self.operator.unread(kind):
                self.operator.deliver(kind)

    def restart(self) -> None:
        """Another process begins where this one is."""
        self.operator = Operator(self.cluster)

    def pass_(self, bind: Callable[[str], bool] = lambda _: True) -> None:
        """A pass, with everything that follows; pods on nodes that do not ``bind`` wait."""
        self.hear()
        self.operator.make_pass(self.cluster.now)
        while works := list(self.operator.hands.works):
            self.operator.hands.step(works[0])
        for document in list(self.cluster.objects["Pod"].values()):
            if "deletionTimestamp" in document["metadata"]:
                self.cluster.remove("Pod", document["metadata"]["name"])
            elif "nodeName" not in document["spec"]:
                terms = document["spec"]["affinity"]["nodeAffinity"]
                (term,) = terms["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
                (node,) = term["matchFields"][0]["values"]
                if not bind(node):
                    continue
                document["spec"]["nodeName"] = node
                document["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
                self.cluster.store("Pod", document)

    def end(self, which: int) -> None:
        """One of the running jobs ends well."""
        running = [
            d
            for name, d in sorted(self.cluster.objects["Pod"].items())
            if d["status"].get("phase") == "Running" and name.startswith("job")
        ]
        if running:
            document = running[which % len(running)]
            document["status"] = {"phase": "Succeeded"}
            self.cluster.store("Pod", document)

    def report(self, queues: tuple[str, ...] = QUEUES) -> None:
        """Write what the last pass left, as the QueueReporter does."""
        assert self.operator.report is not None
        for name, status in statuses(*self.operator.report, self.operator.planner.memory()).items():
            if name in queues:
                document = copy.deepcopy(self.cluster.objects["GPUQueue"][name])
                document["status"] = GPUQueueStatus.from_wire(status.to_wire()).to_wire()
                self.cluster.store("GPUQueue", document)

    def from_memory(self) -> Snapshot:
        self.hear()
        picture = self.operator.picture
        return with_memory(picture.snapshot(picture.usage()), self.operator.planner.memory())

    def from_status(self) -> Snapshot:
        world = World(touched=lambda _: None, stirred=lambda: None)
        for kind in WATCHED:
            documents = copy.deepcopy(list(self.cluster.objects[kind.kind].values()))
            world.store(kind).reset(documents, str(self.cluster.version))
        picture = Picture(world)
        return picture.snapshot(picture.usage())


@st.composite
def stories(draw: st.DrawFn, backlogged: bool = False) -> Story:
    """Some minutes of work, with every queue written at least once; if asked, each flow has always work."""
    story = Story()
    story.serve()
    for queue in QUEUES if backlogged else ():
        for task in RUNS:
            for number in range(10):
                story.arrive(queue, task, 1 + number % 2, stated=True)
    story.pass_()
    story.report()
    for _ in range(draw(st.integers(1, 12))):
        for _ in range(draw(st.integers(0, 3))):
            queue, task = draw(st.sampled_from(QUEUES)), draw(st.sampled_from(sorted(RUNS)))
            story.arrive(queue, task, draw(st.integers(1, 4)), draw(st.booleans()))
        for which in range(draw(st.integers(0, 2))):
            story.end(which)
        story.cluster.now += draw(st.sampled_from((0.25, 1.0, 5.5, 61.0, 640.0)))
        story.pass_()
        if draw(st.booleans()):
            story.report(tuple(draw(st.sets(st.sampled_from(QUEUES)))))
    return story


@settings(deadline=None, max_examples=40, phases=[Phase.generate])
@given(stories())
def test_p7_all_written_a_reader_plans_exactly_as_the_leader(story: Story) -> None:
    story.report()
    mine, theirs = story.from_memory(), story.from_status()
    assert theirs.flows == mine.flows
    assert (theirs.virtual_time, theirs.clock_at) == (mine.virtual_time, mine.clock_at)
    assert sorted(theirs.learned, key=str) == sorted(mine.learned, key=str)
    assert {j.uid: j.mark for j in theirs.jobs} == {j.uid: j.mark for j in mine.jobs}
    now = story.cluster.now + 5
    assert _decisions(plan(theirs, now)) == _decisions(plan(mine, now))


@settings(deadline=None, max_examples=10, phases=[Phase.generate])
@given(stories(backlogged=True))
def test_p7_between_two_writes_nothing_that_flows_were_given_is_lost(story: Story) -> None:
    """Finish tags follow from what was written, however long ago, and from what the jobs say since."""
    mine, theirs = story.from_memory(), story.from_status()
    now = story.cluster.now
    read = _closed(theirs, now)
    for key, flow in _closed(mine, now).items():
        if not key.task_type.serves:
            assert flow.waiting, "else the flow may have been lifted in between"
        assert read[key].finish == pytest.approx(flow.finish, rel=1e-6, abs=1e-2)
    assert sorted(theirs.learned, key=str) == sorted(mine.learned, key=str)


def _closed(snapshot: Snapshot, now: float) -> dict[FlowKey, FlowState]:
    """Flows with everything accounted for, before anybody else starts: the cluster is taken away."""
    empty = replace(snapshot, nodes=tuple(replace(n, free_count=0, free=()) for n in snapshot.nodes))
    return dict(plan(empty, now).memory.flows)


def _decisions(made: Plan) -> tuple[tuple[Assign, ...], object, object, object]:
    return made.assign, made.wait, made.release, made.memory
