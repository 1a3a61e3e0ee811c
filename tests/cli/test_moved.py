"""An expected start that has moved: by how much in the queue, and why in the card of the job."""

from __future__ import annotations

import time

import click
import pytest

from drse_operator.api import times
from drse_operator.api.keys import JobKey
from drse_operator.cli.commands.queue import columns
from drse_operator.cli.commands.why import describe
from drse_operator.observe.views.queue import QueueRow, queue
from drse_operator.observe.views.scene import Scene
from drse_operator.observe.views.why import why
from tests.cli.worlds import NOW, busy

MINUTE = 60.0
CAUSE = "team-b/urgent arrived and goes first (8 GPUs)"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def scene(p50: float, was: float | None, reason: str = "JobArrivedAhead") -> Scene:
    """A job that was told ``was`` minutes from now until five minutes ago, and ``p50`` since."""
    eta: dict[str, object] = {
        "p50": times.to_wire(NOW + p50 * MINUTE),
        "p90": times.to_wire(NOW + 90 * MINUTE),
    }
    if was is not None:
        told = {"p50": times.to_wire(NOW + was * MINUTE), "p90": times.to_wire(NOW + 3600)}
        at = times.to_wire(NOW - 5 * MINUTE)
        eta["moved"] = {**told, "at": at, "reason": reason, "message": CAUSE}
    since = times.to_wire(NOW - 600)
    wait = {"position": 1, "reason": "Reserved", "message": "soon", "since": since}
    made = busy()
    made.job("told", gpus=8, status={"queue": {**wait, "eta": eta}})
    return Scene(made.world(), NOW)


def row(of: Scene) -> QueueRow:
    return next(row for row in queue(of).items if row.job == "told")


def cell(of: Scene) -> str:
    (column,) = [c for c in columns(queue(of), True) if c.header == "MOVED"]
    return column.cell(row(of))


def card(of: Scene) -> list[str]:
    report = why(of, JobKey("team-a", "told"), suggest=False)
    return click.unstyle(describe(report)).splitlines()


def test_a_move_is_told_by_how_much_and_why() -> None:
    later = scene(p50=40, was=5)
    moved = row(later).moved
    assert moved is not None
    assert (moved.seconds, moved.reason, moved.says) == (35 * MINUTE, "JobArrivedAhead", CAUSE)
    assert (moved.was_p50.timestamp(), moved.at.timestamp()) == (NOW + 300, NOW - 300)
    assert cell(later) == "+35m"
    assert f"moved     +35m: was 12:05 until 11:55; JobArrivedAhead: {CAUSE}" in card(later)


def test_a_start_may_move_earlier() -> None:
    earlier = scene(p50=10, was=55)
    assert cell(earlier) == "-45m"
    assert any(line.startswith("moved     -45m: was 12:55") for line in card(earlier))


def test_where_nothing_moved_nothing_is_said() -> None:
    still = scene(p50=10, was=None)
    assert row(still).moved is None and cell(still) == "-"
    assert not any(line.startswith("moved") for line in card(still))


def test_a_word_of_a_newer_operator_is_passed_on() -> None:
    assert row(scene(p50=40, was=5, reason="SomethingNew")).moved is not None
