"""The sentences of a wait: what is out of service, clock times, and whose names they hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drse_operator.admission.decisions import (
    Eta,
    FirstTold,
    Mention,
    Moved,
    Release,
    ReleaseReason,
    Told,
    Wait,
)
from drse_operator.admission.discretion import discreet, release_for_owner, wait_for_owner
from drse_operator.admission.explain import clock
from drse_operator.admission.planner import plan
from drse_operator.admission.snapshot import Closed, Snapshot
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import MoveReason, WaitReason
from tests.admission.builders import NodePlan, kind_of, make_job, make_nodes, shape, snapshot

NODES = make_nodes([NodePlan("H100", 8), NodePlan("H100", 8)])
H100 = kind_of(NODES)
CORDONED = Closed("node-1", H100, 8, "is cordoned", "kubectl uncordon node-1", True)
NOW = 1_700_000_000.0


def told(seen: Snapshot, name: str) -> str:
    return next(wait.message for wait in plan(seen, NOW).wait if wait.key.name == name)


def short(seen: Snapshot, *closed: Closed) -> Snapshot:
    """The snapshot with only the first node in service."""
    return replace(seen, nodes=seen.nodes[:1], out_of_service=closed)


def test_nodes_out_of_service_that_would_have_room_are_named_with_what_to_do() -> None:
    gang = [make_job("gang", [shape(H100, 8, workers=2)])]
    message = told(short(snapshot(NODES, gang), CORDONED), "gang")
    assert "needs 2 times 8 x H100 on one node; 8 of 8 are free" in message
    assert "node-1 (8 GPUs) is cordoned: kubectl uncordon node-1" in message


def test_nodes_that_are_too_small_are_not_named() -> None:
    small = replace(CORDONED, gpus=4)
    gang = [make_job("gang", [shape(H100, 8, workers=2)])]
    assert "cordoned" not in told(short(snapshot(NODES, gang), small), "gang")


def test_who_waits_for_holders_is_told_of_a_closed_node_too() -> None:
    jobs = [make_job("first", [shape(H100, 8)], at=1), make_job("second", [shape(H100, 8)], at=2)]
    message = told(short(snapshot(NODES, jobs), CORDONED), "second")
    assert "0 of 8 are free" in message and "kubectl uncordon node-1" in message


def test_single_devices_out_of_service_are_counted() -> None:
    sick = Closed("node-1", H100, 1, "has the taint xid", "", False)
    gang = [make_job("gang", [shape(H100, 8, workers=2)])]
    message = told(short(snapshot(NODES, gang), sick), "gang")
    assert "1 GPU of node-1 is out of service (has the taint xid)" in message


@pytest.mark.parametrize(
    ("at", "text"), [(NOW, "22:13 UTC"), (NOW + 86400, "2023-11-15 22:13 UTC")], ids=["today", "tomorrow"]
)
def test_times_can_be_read_later(at: float, text: str) -> None:
    assert clock(at, NOW) == text


def test_a_wait_names_jobs_of_other_namespaces_by_their_queue_only() -> None:
    jobs = [
        make_job("first", [shape(H100, 8)], at=1),
        make_job("second", [shape(H100, 8)], at=2),
        make_job("third", [shape(H100, 8)], at=3),
    ]
    waits = {wait.key.name: wait for wait in plan(short(snapshot(NODES, jobs)), NOW).wait}
    third = waits["third"]
    assert third.reason is WaitReason.WAITING_FOR_TURN and "team/second goes first" in third.message
    assert wait_for_owner(third).message == third.message, "its own namespace"
    other = wait_for_owner(replace(third, key=JobKey("elsewhere", "third")))
    assert other.message == third.message.replace("team/second", "a job of queue default")


def test_a_victim_and_a_move_in_another_namespace_name_nobody() -> None:
    mentions = (Mention(JobKey("team", "taker"), "research"),)
    message = "4 GPUs go to team/taker, which has a higher priority"
    victim = JobKey("elsewhere", "victim")
    release = Release(victim, "uid", (0,), ReleaseReason.PREEMPTED, message, mentions[0].key, mentions)
    assert release_for_owner(release).message == (
        "4 GPUs go to a job of queue research, which has a higher priority"
    )
    eta = Eta(NOW, NOW)
    moved = Moved(NOW, eta, MoveReason.JOB_ARRIVED_AHEAD, "team/taker arrived and goes first", mentions)
    wait = Wait(victim, "uid", WaitReason.RESERVED, "", told=Told(eta, FirstTold(NOW, NOW, eta), moved))
    told = wait_for_owner(wait).told
    assert told is not None and told.moved is not None
    assert told.moved.message == "a job of queue research arrived and goes first"


def test_only_whole_names_are_replaced() -> None:
    mentions = (Mention(JobKey("team", "a"), "x"),)
    message = "team/ab, my-team/a, team/a.b and team/a."
    assert discreet(message, mentions, lambda _: False) == (
        "team/ab, my-team/a, team/a.b and a job of queue x."
    )
