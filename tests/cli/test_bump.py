"""What a higher priority does, whom it delays; free blocks; GPUs that two jobs were promised."""

from __future__ import annotations

import pytest

from drse_operator.api.keys import JobKey
from drse_operator.cli.commands.bump import describe
from drse_operator.observe.views.bump import NoPriorityError, Priority, bump
from drse_operator.observe.views.conflicts import conflicts
from drse_operator.observe.views.nodes import nodes
from drse_operator.observe.views.scene import Scene
from tests.cli.worlds import NOW, Documents, busy

WHOLE = {"workersPerReplica": 1}


def line() -> Documents:
    """One node in use for an hour, and three jobs that wait for all of it."""
    made = Documents()
    made.node("h100-0")
    made.queue("research")
    for name, value in (("low", 1), ("soon", 500), ("urgent", 1000), ("system-node-critical", 2_000_001_000)):
        made.priority(name, value)
    made.job("holder", gpus=8, on=[("h100-0", range(8))], estimatedDuration="1h")
    for i, hours in enumerate((1, 2, 3)):
        made.job(f"wait-{i}", gpus=8, age=300 - i, estimatedDuration=f"{hours}h", resources=WHOLE)
    return made


def scene(made: Documents, visible: frozenset[str] | None = None) -> Scene:
    return Scene(made.world(), NOW, visible=visible)


def test_the_next_higher_class_and_what_the_planner_makes_of_it() -> None:
    found = bump(scene(line()), JobKey("team-a", "wait-2"), None)
    assert (found.before, found.after) == (Priority(None, 0), Priority("low", 1))
    assert found.position == 3 and found.answer is not None and found.answer.position == 1
    assert [key.name for key in found.overtaken] == ["wait-0", "wait-1"]
    assert {shift.job: shift.delta_seconds for shift in found.delayed} == {"wait-0": 10800, "wait-1": 10800}


def test_a_named_class_and_none_that_is_higher() -> None:
    key = JobKey("team-a", "wait-1")
    assert bump(scene(line()), key, "urgent").after == Priority("urgent", 1000)
    with pytest.raises(NoPriorityError, match="low 1, soon 500, urgent 1000"):
        bump(scene(line()), key, "nope")
    made = line()
    made.job("top", gpus=8, age=10, resources=WHOLE, priorityClassName="urgent")
    with pytest.raises(NoPriorityError, match=r"higher than the job's \(urgent, 1000\)"):
        bump(scene(made), JobKey("team-a", "top"), None)


def test_jobs_that_may_not_be_named_are_counted() -> None:
    made = line()
    made.job("mine", "team-b", gpus=8, age=20, estimatedDuration="4h", resources=WHOLE)
    found = bump(scene(made, frozenset({"team-b"})), JobKey("team-b", "mine"), None)
    assert found.overtaken == () and found.delayed == ()
    assert (found.hidden_overtaken, found.hidden_delayed) == (3, 3)


def test_who_sees_only_a_part_is_told_the_change_and_no_guess() -> None:
    found = bump(Scene(line().world(), NOW, unread=["pods"]), JobKey("team-a", "wait-2"), None)
    assert found.after == Priority("low", 1) and found.answer is None


def test_who_may_not_list_classes_names_one_and_is_not_told_that_there_is_none() -> None:
    made = Documents()
    made.job("mine", gpus=8, age=20, resources=WHOLE)
    blind, key = Scene(made.world(), NOW, unread=["nodes", "priorityclasses"]), JobKey("team-a", "mine")
    found = bump(blind, key, "urgent")
    assert (found.before, found.after) == (Priority(None, None), Priority("urgent", None))
    assert "priority the default becomes urgent" in describe("team-a/mine", found, blind)
    with pytest.raises(NoPriorityError, match="may not list PriorityClasses"):
        bump(blind, key, None)


def test_the_largest_block_leaves_out_what_is_reserved() -> None:
    blocks = {row.node: (row.free, row.largest_block_gpus) for row in nodes(scene(busy())).items}
    # `pretrain` has reserved all of h100-1; two GPUs of h100-0 are free.
    assert blocks == {"h100-0": (2, 2), "h100-1": (2, 0), "l40s-0": (4, 4)}


def test_a_gpu_promised_twice_is_shown_for_both_jobs() -> None:
    assert conflicts(scene(busy())).items == ()
    made = busy()
    made.job("twin", age=100, on=[("h100-0", range(5, 7))], gpus=2)
    rows = conflicts(scene(made)).items
    assert [(row.uuid, row.job, row.detail.split(":")[0]) for row in rows] == [
        ("GPU-h100-0-5", "chat", "promised first"),
        ("GPU-h100-0-5", "twin", "promised later"),
    ]
