"""Scenarios of the planner, by name. What holds of every plan is in ``test_plan_properties.py``."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from drse_operator.admission.decisions import ReleaseReason
from drse_operator.admission.planner import plan, waiting_by_job
from drse_operator.admission.snapshot import Holding, Job, Queue, Snapshot
from drse_operator.api.enums import DeviceSelection, TaskType, TopologyMode, TopologyScope
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import WaitReason
from drse_operator.sizing.shapes import Refusal
from tests.admission.builders import (
    NodePlan,
    kind_of,
    make_job,
    make_nodes,
    make_queue,
    placed,
    shape,
    snapshot,
)

NOW = 100.0
W = WaitReason

TWO_NODES = make_nodes([NodePlan("H100", 8), NodePlan("H100", 8)])
H100 = kind_of(TWO_NODES)
MIXED = make_nodes([NodePlan("H100", 8), NodePlan("L40S", 8)])
MIXED_H100, MIXED_L40S = kind_of(MIXED), kind_of(MIXED, "L40S")
RACKS = make_nodes(
    [
        NodePlan("H100", 8, rack="a"),
        NodePlan("H100", 8, rack="b"),
        NodePlan("H100", 8, held=4, rack="b"),
    ]
)
RACK_H100 = kind_of(RACKS)


@dataclass(frozen=True)
class Scenario:
    """``nodes_of`` are the nodes that each job's workers land on, ``waits`` the reasons of the others."""

    name: str
    snapshot: Snapshot
    nodes_of: dict[str, list[str]] = field(default_factory=dict)
    waits: dict[str, WaitReason] = field(default_factory=dict)
    #: Words that the sentence of the wait has to contain.
    says: dict[str, tuple[str, ...]] = field(default_factory=dict)


def holding(replica: int, count: int, *, ready: bool = True, worker: int = 0) -> Holding:
    return Holding(replica, worker, "node-0", count, ready)


SCENARIOS = [
    # -- order -----------------------------------------------------------------------------------------
    Scenario(
        "higher priority goes first, although it came later",
        snapshot(
            TWO_NODES[:1],
            [
                make_job("early", [shape(H100, 8)], at=1),
                make_job("urgent", [shape(H100, 8)], at=2, priority=5),
            ],
        ),
        {"urgent": ["node-0"]},
        {"early": W.RESERVED},
        {"early": ("needs 8 x H100 on one node", "0 of 8 are free", "on node-0 are reserved", "01:01 UTC")},
    ),
    Scenario(
        "among equals who came first goes first",
        snapshot(
            TWO_NODES[:1],
            [make_job("late", [shape(H100, 8)], at=2), make_job("early", [shape(H100, 8)], at=1)],
        ),
        {"early": ["node-0"]},
        {"late": W.RESERVED},
    ),
    Scenario(
        "at the same second the name decides, so that the order is total",
        snapshot(TWO_NODES[:1], [make_job("b", [shape(H100, 8)]), make_job("a", [shape(H100, 8)])]),
        {"a": ["node-0"]},
        {"b": W.RESERVED},
    ),
    Scenario(
        "a job that waits keeps its kind from services behind it; work that ends may pass, and other kinds",
        snapshot(
            make_nodes([NodePlan("H100", 8, held=4), NodePlan("L40S", 8)]),
            [
                make_job("large", [shape(MIXED_H100, 8)], at=1, priority=1),
                make_job("chat", [shape(MIXED_H100, 1)], at=2, task=TaskType.INFERENCE),
                make_job("batch", [shape(MIXED_H100, 1)], at=2),
                make_job("other", [shape(MIXED_L40S, 1)], at=3, task=TaskType.INFERENCE),
            ],
        ),
        {"batch": ["node-0"], "other": ["node-1"]},
        {"large": W.INSUFFICIENT_FREE_GPUS, "chat": W.WAITING_FOR_TURN},
        {"chat": ("team/large goes first for H100",)},
    ),
    Scenario(
        "who waits behind another on one kind takes the other kind that will do",
        snapshot(
            make_nodes([NodePlan("H100", 8, held=4), NodePlan("L40S", 8)]),
            [
                make_job("large", [shape(MIXED_H100, 8)], at=1),
                make_job(
                    "either", [shape(MIXED_H100, 1), shape(MIXED_L40S, 1)], at=2, task=TaskType.INFERENCE
                ),
            ],
        ),
        {"either": ["node-1"]},
        {"large": W.INSUFFICIENT_FREE_GPUS},
    ),
    # -- jobs that hold up nobody ----------------------------------------------------------------------
    Scenario(
        "a job that can never run is told its reason and holds up nobody",
        snapshot(
            TWO_NODES,
            [
                make_job("lost", refusal=Refusal(W.QUEUE_NOT_FOUND, "GPUQueue x does not exist"), at=1),
                make_job("small", [shape(H100, 1)], at=2),
            ],
        ),
        {"small": ["node-0"]},
        {"lost": W.QUEUE_NOT_FOUND},
        {"lost": ("GPUQueue x does not exist",)},
    ),
    Scenario(
        "a job that backs off holds up nobody",
        snapshot(
            TWO_NODES[:1],
            [
                make_job("failed", [shape(H100, 8)], at=1, not_before=NOW + 30),
                make_job("small", [shape(H100, 8)], at=2),
            ],
        ),
        {"small": ["node-0"]},
        {"failed": W.BACKING_OFF},
        {"failed": ("at 00:02:10 UTC",)},
    ),
    Scenario(
        "when the back-off is over the job goes on",
        snapshot(TWO_NODES[:1], [make_job("failed", [shape(H100, 8)], not_before=NOW)]),
        {"failed": ["node-0"]},
    ),
    Scenario(
        "a gang that no rack could hold even if it were empty holds up nobody",
        snapshot(
            RACKS,
            [
                make_job(
                    "gang",
                    [shape(RACK_H100, 8, workers=3)],
                    at=1,
                    topology=TopologyScope.RACK,
                    mode=TopologyMode.REQUIRED,
                ),
                make_job("small", [shape(RACK_H100, 4)], at=2),
            ],
        ),
        {"small": ["node-2"]},
        {"gang": W.INSUFFICIENT_FREE_GPUS},
        {"gang": ("even empty",)},
    ),
    # -- which GPUs -----------------------------------------------------------------------------------------
    Scenario(
        "the first shape that has room is taken: sizing puts the least waste first",
        snapshot(MIXED, [make_job("job", [shape(MIXED_L40S, 4), shape(MIXED_H100, 1)])]),
        {"job": ["node-1"]},
    ),
    Scenario(
        "the next shape is taken where the first has no room",
        snapshot(
            make_nodes([NodePlan("H100", 8), NodePlan("L40S", 8, held=6)]),
            [make_job("job", [shape(MIXED_L40S, 4), shape(MIXED_H100, 1)])],
        ),
        {"job": ["node-0"]},
    ),
    Scenario(
        "best fit: the fullest node that has room, so that whole nodes stay free",
        snapshot(
            make_nodes([NodePlan("H100", 8), NodePlan("H100", 8, held=5), NodePlan("H100", 8, held=7)]),
            [make_job("job", [shape(kind_of(make_nodes([NodePlan("H100", 8)] * 3)), 2)])],
        ),
        {"job": ["node-1"]},
    ),
    Scenario(
        "GPUs of two half-full nodes do not make one worker",
        snapshot(
            make_nodes([NodePlan("H100", 8, held=4), NodePlan("H100", 8, held=2)]),
            [make_job("job", [shape(H100, 8)])],
        ),
        {},
        {"job": W.FRAGMENTED},
        {"job": ("needs 8 x H100", "10 are free", "largest block on one node is 6 (node-1)")},
    ),
    # -- gangs and units -------------------------------------------------------------------------------
    Scenario(
        "a gang starts with all its workers",
        snapshot(TWO_NODES, [make_job("gang", [shape(H100, 8, workers=2)])]),
        {"gang": ["node-1", "node-0"]},
    ),
    Scenario(
        "a gang that lacks room for one worker starts with none",
        snapshot(
            make_nodes([NodePlan("H100", 8), NodePlan("H100", 8, held=1)]),
            [make_job("gang", [shape(H100, 8, workers=2)])],
        ),
        {},
        {"gang": W.INSUFFICIENT_FREE_GPUS},
        {"gang": ("2 times 8 x H100", "15 of 16 are free")},
    ),
    Scenario(
        "replicas that train together start together or not at all",
        snapshot(
            make_nodes([NodePlan("H100", 8), NodePlan("H100", 8, held=4)]),
            [make_job("train", [shape(H100, 4)], wanted=4, first_unit=4)],
        ),
        {},
        {"train": W.INSUFFICIENT_FREE_GPUS},
    ),
    Scenario(
        "a service starts with its first unit and gets further replicas one by one",
        snapshot(
            make_nodes([NodePlan("H100", 8), NodePlan("H100", 8, held=4)]),
            [make_job("chat", [shape(H100, 4)], wanted=4, first_unit=2, task=TaskType.INFERENCE)],
        ),
        {"chat": ["node-1", "node-0", "node-0"]},
        {"chat": W.INSUFFICIENT_FREE_GPUS},
    ),
    Scenario(
        "the first unit of a service may stand on two kinds",
        snapshot(
            make_nodes([NodePlan("H100", 8, held=4), NodePlan("L40S", 8, held=4)]),
            [
                make_job(
                    "chat",
                    [shape(MIXED_H100, 4), shape(MIXED_L40S, 4)],
                    wanted=2,
                    first_unit=2,
                    task=TaskType.INFERENCE,
                )
            ],
        ),
        {"chat": ["node-0", "node-1"]},
    ),
    Scenario(
        "replicas that train together are never split over two kinds",
        snapshot(
            make_nodes([NodePlan("H100", 8, held=4), NodePlan("L40S", 8, held=4)]),
            [make_job("train", [shape(MIXED_H100, 4), shape(MIXED_L40S, 4)], wanted=2, first_unit=2)],
        ),
        {},
        {"train": W.INSUFFICIENT_FREE_GPUS},
    ),
    Scenario(
        "a replica that is still being cleared away is not placed again, the others are",
        snapshot(TWO_NODES, [make_job("batch", [shape(H100, 4)], wanted=2, clearing=[0])]),
        {"batch": ["node-0"]},
        {"batch": W.BACKING_OFF},
        {"batch": ("replica 0", "still going away")},
    ),
    Scenario(
        "half a first unit is not placed while the other half is being cleared away",
        snapshot(TWO_NODES, [make_job("train", [shape(H100, 4)], wanted=2, first_unit=2, clearing=[0])]),
        {},
        {"train": W.BACKING_OFF},
    ),
    Scenario(
        "replicas that have ended are not started again",
        snapshot(TWO_NODES, [make_job("batch", [shape(H100, 4)], wanted=3, done=[0, 2])]),
        {"batch": ["node-0"]},
    ),
    Scenario(
        "a job that wants one replica and holds number 1 lacks nothing",
        snapshot(TWO_NODES, [make_job("chat", [shape(H100, 4)], wanted=1, holdings=[holding(1, 4)])]),
    ),
    # -- topology --------------------------------------------------------------------------------------
    Scenario(
        "workers share a rack where one has room for all, asked or not",
        snapshot(RACKS, [make_job("gang", [shape(RACK_H100, 4, workers=3)])]),
        {"gang": ["node-1", "node-1", "node-2"]},
    ),
    Scenario(
        "a preferred rack that has no room is given up",
        snapshot(RACKS, [make_job("gang", [shape(RACK_H100, 8, workers=2)], topology=TopologyScope.RACK)]),
        {"gang": ["node-1", "node-0"]},
    ),
    Scenario(
        "a required rack that has no room is waited for, with what to change",
        snapshot(
            RACKS,
            [
                make_job(
                    "gang",
                    [shape(RACK_H100, 8, workers=2)],
                    topology=TopologyScope.RACK,
                    mode=TopologyMode.REQUIRED,
                )
            ],
        ),
        {},
        {"gang": W.TOPOLOGY_UNAVAILABLE},
        {"gang": ("within one rack", "20 are free", "topology mode Preferred would start it now")},
    ),
    # -- limits ----------------------------------------------------------------------------------------
    Scenario(
        "a queue never exceeds its limit, and who is behind in it waits too",
        snapshot(
            TWO_NODES,
            [
                make_job("first", [shape(H100, 4)], at=1, priority=1),
                make_job("second", [shape(H100, 4)], at=2, priority=1),
                make_job("tiny", [shape(H100, 1)], at=3),
                make_job("elsewhere", [shape(H100, 4)], at=4, queue="free"),
            ],
            make_queue(limit=6),
            make_queue("free"),
        ),
        {"first": ["node-0"], "elsewhere": ["node-0"]},
        {"second": W.LIMIT_REACHED, "tiny": W.LIMIT_REACHED},
        {"second": ("holds 4 of at most 6 GPUs, 4 more",), "tiny": ("team/second goes first",)},
    ),
    Scenario(
        "more than the limit can never start, and holds up nobody",
        snapshot(
            TWO_NODES,
            [make_job("huge", [shape(H100, 8)], at=1), make_job("small", [shape(H100, 4)], at=2)],
            make_queue(limit=6),
        ),
        {"small": ["node-0"]},
        {"huge": W.EXCEEDS_QUEUE_LIMIT},
        {"huge": ("needs 8 GPUs", "never holds more than 6")},
    ),
    Scenario(
        "what a job holds itself counts: growth past the limit holds up nobody either",
        snapshot(
            TWO_NODES,
            [
                make_job("chat", [shape(H100, 4)], at=1, wanted=2, holdings=[holding(0, 4)]),
                make_job("small", [shape(H100, 2)], at=2),
            ],
            make_queue(limit=6, held=4),
        ),
        {"small": ["node-0"]},
        {"chat": W.EXCEEDS_QUEUE_LIMIT},
        {"chat": ("needs 8 GPUs", "never holds more than 6")},
    ),
    Scenario(
        "a shape beyond the limit is passed over for one within it",
        snapshot(
            MIXED,
            [make_job("job", [shape(MIXED_L40S, 8), shape(MIXED_H100, 4)])],
            make_queue(limit=6),
        ),
        {"job": ["node-0"]},
    ),
    Scenario(
        "a kind is not kept for a job that the limit keeps off it",
        snapshot(
            make_nodes([NodePlan("H100", 8, held=8), NodePlan("L40S", 8)]),
            [
                make_job("job", [shape(MIXED_L40S, 8), shape(MIXED_H100, 4)], at=1, queue="small"),
                make_job("other", [shape(MIXED_L40S, 8)], at=2),
            ],
            make_queue("small", limit=6),
            make_queue(),
        ),
        {"other": ["node-1"]},
        {"job": W.INSUFFICIENT_FREE_GPUS},
        {"job": ("4 x H100", "0 of 8 are free")},
    ),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[s.name for s in SCENARIOS])
def test_plan(scenario: Scenario) -> None:
    made = plan(scenario.snapshot, NOW)
    names = [job.key.name for job in scenario.snapshot.jobs]
    where = {name: [p.node for p in placed(made, name)] for name in names}
    assert {name: nodes for name, nodes in where.items() if nodes} == scenario.nodes_of
    assert {w.key.name: w.reason for w in made.wait} == scenario.waits
    for name, words in scenario.says.items():
        message = waiting_by_job(made)[JobKey("team", name)].message
        assert all(word in message for word in words), message


def test_positions_count_within_each_queue_and_skip_who_must_act() -> None:
    full = make_nodes([NodePlan("H100", 8, held=8)])
    kind = kind_of(full)
    jobs = [
        make_job("never", refusal=Refusal(W.NO_SUCH_ACCELERATOR, "none"), at=1),
        make_job("a", [shape(kind, 1)], at=2),
        make_job("b", [shape(kind, 1)], at=3, queue="other"),
        make_job("c", [shape(kind, 1)], at=4),
    ]
    made = plan(snapshot(full, jobs, make_queue(), make_queue("other")), NOW)
    positions = {w.key.name: w.position for w in made.wait}
    assert positions == {"never": None, "a": 1, "b": 1, "c": 2}


def test_an_exact_node_gives_named_devices_of_the_fullest_pcie_group() -> None:
    (node,) = make_nodes([NodePlan("H100", 8, held=1, pcie_roots=2)])
    made = plan(snapshot([node], [make_job("job", [shape(node.kind, 3)])]), NOW)
    (placement,) = placed(made, "job")
    assert placement.selection is DeviceSelection.EXACT
    # Free are 1..7; group pci0 has three of them (2, 4, 6), pci1 four: the broken group is used up first.
    assert {d.uuid for d in placement.devices} == {"GPU-0-2", "GPU-0-4", "GPU-0-6"}


def test_a_counting_node_gives_a_number_of_its_resource() -> None:
    (node,) = make_nodes([NodePlan("MI300X", 8, exact=False)])
    made = plan(snapshot([node], [make_job("job", [shape(node.kind, 3)])]), NOW)
    (placement,) = placed(made, "job")
    assert (placement.selection, placement.count, placement.resource, placement.devices) == (
        DeviceSelection.COUNT_ONLY,
        3,
        "nvidia.com/gpu",
        (),
    )


RELEASES = [
    pytest.param(2, [(0, True), (1, True)], (), id="nothing while as many are held as are wanted"),
    pytest.param(1, [(0, True), (1, True), (2, True)], (1, 2), id="the highest first"),
    pytest.param(1, [(0, False), (1, True)], (0,), id="a starting one before a ready one"),
    pytest.param(0, [(0, True), (1, False)], (0, 1), id="all when none is wanted"),
]


@pytest.mark.parametrize(("wanted", "held", "released"), RELEASES)
def test_release(wanted: int, held: list[tuple[int, bool]], released: tuple[int, ...]) -> None:
    job = make_job(
        "chat",
        [shape(H100, 2)],
        wanted=wanted,
        task=TaskType.INFERENCE,
        holdings=[holding(replica, 2, ready=ready) for replica, ready in held],
    )
    made = plan(snapshot(TWO_NODES, [job]), NOW)
    assert [r.replicas for r in made.release] == ([released] if released else [])
    assert all(r.reason is ReleaseReason.SCALED_DOWN for r in made.release)
    assert (made.assign, made.wait) == ((), ())


def test_ended_replicas_count_as_had() -> None:
    job = make_job("batch", [shape(H100, 2)], wanted=2, done=[0], holdings=[holding(1, 2), holding(2, 2)])
    (release,) = plan(snapshot(TWO_NODES, [job]), NOW).release
    assert release.replicas == (2,)


def test_gpus_of_a_release_are_not_given_away_before_they_are_seen_free() -> None:
    full = make_nodes([NodePlan("H100", 8, held=8)])
    kind = kind_of(full)
    jobs: list[Job] = [
        make_job("chat", [shape(kind, 8)], wanted=0, holdings=[holding(0, 8)]),
        make_job("next", [shape(kind, 8)], at=1),
    ]
    made = plan(snapshot(full, jobs, Queue("default", 1, 0, None, 8)), NOW)
    assert [r.replicas for r in made.release] == [(0,)]
    assert made.assign == ()
