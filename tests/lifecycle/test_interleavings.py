"""The operator against everything that can happen around it, in any order, with crashes at any write.

What must hold (P3 of the design, checked by the model at each write): no GPU is in two promises or promised
while a claim holds it, no pod is made without a promise, and leftovers of an attempt prevent the next. And at
the end, when nothing disturbs any more, every job has what it wants or a reason why not.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from drse_operator.api.enums import DeviceSelection
from drse_operator.api.reasons import WaitReason
from drse_operator.api.status import DeepSeekJobStatus
from drse_operator.cluster import parse
from tests.lifecycle.model import GPUS, WATCHED, Cluster, Operator, dra_node, job, plugin_node

DONE = ("Succeeded", "Failed")
DRA_NODES = ("node-0", "node-1")


class Interleavings(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster()
        self.strangers = 0
        self.deposed: Operator | None = None

    @initialize()
    def start(self) -> None:
        create = self.cluster.create
        for name in DRA_NODES:
            node, piece = dra_node(name)
            create(node)
            create(piece)
        create(plugin_node("node-2"))
        create({"kind": "GPUQueue", "metadata": {"name": "default"}, "spec": {}})
        create(job("chat", "Inference", 2, replicas=2))
        create(job("train", "PreTraining", 4, resources={"workersPerReplica": 2}, backoffLimit=2))
        create(job("batch", "Batch", 1, replicas=3, backoffLimit=5))
        self.operator = Operator(self.cluster)

    # -- the operator ------------------------------------------------------------------------------------

    @rule()
    def makes_a_pass(self) -> None:
        self.operator.make_pass(self.cluster.now)

    @precondition(lambda self: self.operator.hands.works)
    @rule(data=st.data())
    def writes(self, data: st.DataObject) -> None:
        self.operator.hands.step(data.draw(st.sampled_from(sorted(self.operator.hands.works))))

    @rule()
    def writes_all(self) -> None:
        while works := list(self.operator.hands.works):
            self.operator.hands.step(works[0])

    @precondition(lambda self: any(self.operator.unread(kind) for kind in WATCHED))
    @rule(data=st.data())
    def hears(self, data: st.DataObject) -> None:
        self.operator.deliver(data.draw(st.sampled_from([k for k in WATCHED if self.operator.unread(k)])))

    @rule()
    def hears_all(self) -> None:
        for kind in WATCHED:
            while self.operator.unread(kind):
                self.operator.deliver(kind)

    @rule()
    def crashes(self) -> None:
        """All memory is lost, and every write that was not made yet."""
        self.operator = Operator(self.cluster)

    @rule()
    def is_deposed(self) -> None:
        """Another process leads, and this one does not know: what it has decided it still carries out."""
        self.deposed = self.operator
        self.operator = Operator(self.cluster)

    @precondition(lambda self: self.deposed is not None)
    @rule(passes=st.booleans())
    def the_deposed_goes_on(self, passes: bool) -> None:
        assert self.deposed is not None
        if passes:
            self.deposed.make_pass(self.cluster.now)
        while works := list(self.deposed.hands.works):
            self.deposed.hands.step(works[0])

    @precondition(lambda self: self.deposed is not None and self.deposed.hands.works)
    @rule(data=st.data())
    def the_deposed_writes(self, data: st.DataObject) -> None:
        assert self.deposed is not None
        self.deposed.hands.step(data.draw(st.sampled_from(sorted(self.deposed.hands.works))))

    @rule(seconds=st.sampled_from((1, 15, 130)))
    def time_passes(self, seconds: int) -> None:
        self.cluster.now += seconds

    # -- the cluster -------------------------------------------------------------------------------------

    def pods(self, *, bound: bool) -> list[str]:
        return sorted(
            name for name, pod in self.cluster.objects["Pod"].items() if ("nodeName" in pod["spec"]) == bound
        )

    @precondition(lambda self: self.pods(bound=False))
    @rule(data=st.data())
    def scheduler_binds(self, data: st.DataObject) -> None:
        self.bind(data.draw(st.sampled_from(self.pods(bound=False))))

    def bind(self, name: str) -> None:
        """As the real one: only where the affinity says, only devices that nobody has."""
        document = self.cluster.objects["Pod"][name]
        pod = parse.pod(document)
        assert pod is not None
        node = self.cluster.objects["Node"].get(pod.pinned_node)
        if node is None or node["spec"].get("unschedulable"):
            return
        if pod.gpus and self.cluster.counted(pod.pinned_node) + pod.gpus[0][1] > GPUS:
            return
        for claim_name in pod.claims:
            if not self.allocate(claim_name, pod.pinned_node):
                return
        document["spec"]["nodeName"] = pod.pinned_node
        document["status"] = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        self.cluster.store("Pod", document)

    def allocate(self, name: str, node: str) -> bool:
        document = self.cluster.objects["ResourceClaim"].get(name)
        if document is None or "deletionTimestamp" in document["metadata"]:
            return False
        if document.get("status"):
            return True
        taken = self.cluster.allocated()
        pinned = parse.claim(document).pinned
        devices = [f"gpu-{uuid.rpartition('-')[2]}" for uuid in pinned if uuid.startswith(f"GPU-{node}-")]
        if len(devices) != len(pinned) or any((node, d) in taken for d in devices):
            return False
        results = [{"driver": "gpu.nvidia.com", "pool": node, "device": d} for d in devices]
        document["status"] = {"allocation": {"devices": {"results": results}}}
        self.cluster.store("ResourceClaim", document)
        return True

    def running(self) -> list[str]:
        return [
            name
            for name in self.pods(bound=True)
            if self.cluster.objects["Pod"][name]["status"]["phase"] == "Running"
        ]

    @precondition(lambda self: self.running())
    @rule(data=st.data(), phase=st.sampled_from(DONE))
    def pod_ends(self, data: st.DataObject, phase: str) -> None:
        name = data.draw(st.sampled_from(self.running()))
        if name.startswith("chat") and phase == "Succeeded":
            return  # services are restarted in place by the kubelet
        document = self.cluster.objects["Pod"][name]
        document["status"] = {"phase": phase}
        self.cluster.store("Pod", document)

    @precondition(lambda self: self.cluster.objects["Pod"])
    @rule(data=st.data())
    def pod_vanishes(self, data: st.DataObject) -> None:
        self.cluster.remove("Pod", data.draw(st.sampled_from(sorted(self.cluster.objects["Pod"]))))

    @rule()
    def kubelet_lets_go(self) -> None:
        """Everything that was asked to stop has stopped."""
        for name, pod in list(self.cluster.objects["Pod"].items()):
            if "deletionTimestamp" in pod["metadata"]:
                self.cluster.remove("Pod", name)

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def pod_is_evicted(self, data: st.DataObject) -> None:
        document = self.cluster.objects["Pod"][data.draw(st.sampled_from(self.running()))]
        document["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
        self.cluster.store("Pod", document)
        self.cluster.delete("Pod", document["metadata"]["name"], document["metadata"]["uid"])

    @rule(node=st.sampled_from(DRA_NODES), cordoned=st.booleans())
    def node_is_cordoned_or_uncordoned(self, node: str, cordoned: bool) -> None:
        document = self.cluster.objects["Node"].get(node)
        if document is not None:
            document["spec"]["unschedulable"] = cordoned
            self.cluster.store("Node", document)

    @rule(node=st.sampled_from(DRA_NODES))
    def node_goes_or_comes_back(self, node: str) -> None:
        if node in self.cluster.objects["Node"]:
            self.cluster.remove("Node", node)
            return
        self.cluster.create(dra_node(node)[0])

    @rule(node=st.sampled_from(DRA_NODES), index=st.integers(0, GPUS - 1))
    def a_stranger_takes_a_gpu(self, node: str, index: int) -> None:
        if (node, f"gpu-{index}") in self.cluster.allocated() or self.strangers >= 2:
            return
        self.strangers += 1
        result = {"driver": "gpu.nvidia.com", "pool": node, "device": f"gpu-{index}"}
        self.cluster.create(
            {
                "kind": "ResourceClaim",
                "metadata": {"name": f"stranger-{self.strangers}"},
                "spec": {},
                "status": {"allocation": {"devices": {"results": [result]}}},
            }
        )

    # -- users -------------------------------------------------------------------------------------------

    def edit(self, name: str, **changes: Any) -> None:
        document = self.cluster.objects["DeepSeekJob"].get(name)
        if document is not None:
            document["spec"] |= changes
            document["metadata"]["generation"] += 1
            self.cluster.store("DeepSeekJob", document)

    @rule(name=st.sampled_from(("chat", "train", "batch")), suspend=st.booleans())
    def user_suspends_or_resumes(self, name: str, suspend: bool) -> None:
        self.edit(name, suspend=suspend)

    @rule(replicas=st.integers(0, 4))
    def user_scales(self, replicas: int) -> None:
        self.edit("chat", replicas=replicas)

    @precondition(lambda self: "batch" in self.cluster.objects["DeepSeekJob"])
    @rule()
    def user_deletes(self) -> None:
        self.cluster.remove("DeepSeekJob", "batch")

    # -- at any time, and at the end -----------------------------------------------------------------------

    @invariant()
    def no_device_serves_two_running_pods(self) -> None:
        users: dict[tuple[str, str], str] = {}
        for device, claim in self.cluster.allocated().items():
            for pod in self.cluster.users(claim):
                assert users.setdefault(device, pod) == pod

    def teardown(self) -> None:
        """Nothing disturbs any more: what is promised comes true, and what is not has a reason."""
        if not hasattr(self, "operator"):
            return
        for _ in range(20):
            self.hears_all()
            self.makes_a_pass()
            self.writes_all()
            for name in self.pods(bound=False):
                self.bind(name)
            self.kubelet_lets_go()
            self.cluster.collect_garbage()
            self.cluster.now += 65
        self.hears_all()
        for name, document in self.cluster.objects["DeepSeekJob"].items():
            self.job_is_settled(name, document)
        self.nothing_is_left_over()

    def job_is_settled(self, name: str, document: dict[str, Any]) -> None:
        status = DeepSeekJobStatus.from_wire(document.get("status") or {})
        assert status.phase is not None
        for a in status.assignments:
            pod = self.cluster.objects["Pod"].get(f"{name}-{a.replica}-{a.worker}")
            assert pod is not None, f"{name}: {a} was promised and never made"
            assert pod["spec"].get("nodeName") == a.node
        if status.phase.finished or document["spec"].get("suspend"):
            assert status.assignments == ()
            return
        wanted = document["spec"].get("replicas", 1) - len(status.succeeded_replicas)
        held = len({a.replica for a in status.assignments})
        assert held <= max(wanted, 0)
        if held < wanted:
            assert status.queue is not None, f"{name} holds {held} of {wanted} and does not say why"
            assert WaitReason(status.queue.reason)
            assert status.queue.message

    def nothing_is_left_over(self) -> None:
        promised = {f"{name}-{a.replica}-{a.worker}": a for name, a in self.cluster.all_promises()}
        for name, pod in self.cluster.objects["Pod"].items():
            assert name in promised or pod["status"]["phase"] in DONE, f"{name} runs without a promise"
        ours = [c for c in self.cluster.objects["ResourceClaim"] if not c.startswith("stranger")]
        assert set(ours) <= {name for name, a in promised.items() if a.devices}


def test_undisturbed_all_that_fits_runs() -> None:
    """Also the proof that the model lets jobs run at all, so that the machine below looks at something."""
    machine = Interleavings()
    machine.start()
    machine.teardown()
    held = {name: len(machine.cluster.promises(name)) for name in machine.cluster.objects["DeepSeekJob"]}
    assert held == {"chat": 2, "train": 2, "batch": 3}
    assert len(machine.running()) == 7
    # Both ways of giving GPUs are at work: named devices and a device plugin that counts.
    assert {a.device_selection for _, a in machine.cluster.all_promises()} == set(DeviceSelection)


def two_leaders(fenced: bool) -> Cluster:
    """One promises a node's GPUs to a job, but is deposed before that is written; the next one promises them
    to a job that has come since. Then the write of the first arrives, about a job that nobody has changed."""
    cluster = Cluster()
    cluster.fenced = fenced
    for document in dra_node("node-0"):
        cluster.create(document)
    cluster.create({"kind": "GPUQueue", "metadata": {"name": "default"}, "spec": {}})
    early = cluster.create(job("early", "Batch", GPUS))["metadata"]["uid"]
    old = Operator(cluster)
    old.make_pass(cluster.now)
    late = cluster.create(job("late", "Batch", GPUS, estimatedDuration="1m"))["metadata"]["uid"]
    new = Operator(cluster)
    new.make_pass(cluster.now)
    new.hands.step(late)
    old.hands.step(early)
    return cluster


def test_what_a_deposed_leader_still_writes_is_refused() -> None:
    cluster = two_leaders(fenced=True)
    assert cluster.promises("late") and not cluster.promises("early")


def test_without_the_fence_one_gpu_is_promised_twice() -> None:
    with pytest.raises(AssertionError, match="promised twice"):
        two_leaders(fenced=False)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(stateful_step_count=40)
