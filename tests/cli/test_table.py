"""What people read: aligned, no wider than their terminal, and plain in a pipe."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import click
import pytest

from drse_operator.api.keys import JobKey
from drse_operator.cli import output, table, wording
from drse_operator.cli.access import Access
from drse_operator.cli.answer import Sheet, render
from drse_operator.cli.commands import gpus as gpu_command
from drse_operator.cli.commands.queue import columns as queue_columns
from drse_operator.cli.commands.share import columns as share_columns
from drse_operator.cli.commands.top import page
from drse_operator.cli.commands.why import describe
from drse_operator.cli.output import Request
from drse_operator.observe.views.gpus import gpus
from drse_operator.observe.views.nodes import nodes
from drse_operator.observe.views.queue import queue
from drse_operator.observe.views.scene import Scene
from drse_operator.observe.views.share import share
from drse_operator.observe.views.why import why
from tests.cli.worlds import NOW, busy


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.fixture
def scene() -> Scene:
    return Scene(busy().world(), NOW)


def plain(text: str) -> str:
    return click.unstyle(text).strip("\n")


QUEUE = """
NAMESPACE  POS  JOB       QUEUE     TYPE         PRIO  GPUS  REASON             WAITED  ETA           MOVED
team-a       1  pretrain  research  PreTraining  0        8  Reserved               5m  13:50..17:30      -
team-a       -  lost      research  Batch        0        2  NoSuchAccelerator    100s  -                 -
"""
SHARE = """
QUEUE     WEIGHT  GUARANT  LIMIT  HELD  BORROWED  FAIR  ASKED  WAITING  RUNNING  BOUND-USED  LAST-GRANT
product        1        0     20     6         6     6      6        0        1           -  11:50
research       2        4      -     6         2    14     16        2        1           -  11:50
"""
NODES = """
NODE    MODEL           GPUS  FREE  RESERVED  LARGEST  HELD  FOREIGN  OUT  JOBS  RACK    ZONE  STATE
h100-0  H100 80GB HBM3     8     2         0        2     6        0    0     1  rack-1  -     Ready
h100-1  H100 80GB HBM3     8     2         2        0     6        0    0     1  rack-1  -     Ready
l40s-0  L40S               4     4         0        4     0        0    0     0  -       -     Ready
"""
WHY = """
job       team-a/pretrain in queue research, position 1: Queued, waits for 8 GPUs (5m so far)
reason    Reserved: needs 8 x NVIDIA H100 80GB HBM3 on one node; 2 of 16 are free; first in order, GPUs on \
h100-1 are reserved for it, expected at 13:50 UTC
room      NVIDIA H100 80GB HBM3: needs 8, 2 of 16 free, largest block 2 (h100-1)
reserved  8 on h100-1, from 13:50
held by   team-b/tune: 6 on h100-1, until 13:50
          team-a/chat: 6 on h100-0, runs until it is deleted
start     13:50..17:30
do        2 GPUs per replica: would start now on h100-0
"""


def test_golden_queue(scene: Scene) -> None:
    report = queue(scene)
    shown = table.choose(queue_columns(report, True), (), wide=False)
    assert plain(table.draw(report.items, shown)) == QUEUE.strip("\n")


def test_golden_share(scene: Scene) -> None:
    report = share(scene)
    assert plain(table.draw(report.items, share_columns(report))) == SHARE.strip("\n")


def test_golden_nodes(scene: Scene) -> None:
    shown = table.choose(gpu_command.node_columns(measured=False), (), wide=False)
    assert plain(table.draw(nodes(scene).items, shown)) == NODES.strip("\n")


def test_golden_why(scene: Scene) -> None:
    assert plain(describe(why(scene, JobKey("team-a", "pretrain")))) == WHY.strip("\n")


def test_top_fits_the_terminal_it_is_given(scene: Scene) -> None:
    text = page(scene, {}, 100, 24)
    lines = plain(text).splitlines()
    assert len(lines) <= 24
    assert "20 GPUs: 12 held (0 idle), 8 free" in lines[0] and "1 needs somebody to act" in lines[1]
    assert {"queues", "waiting", "running"} <= set(lines)


def test_the_last_column_gives_way_to_the_terminal(scene: Scene) -> None:
    report = queue(scene)
    shown = queue_columns(report, True)
    drawn = table.draw(report.items, shown, width=140).splitlines()
    assert all(len(plain(line)) <= 140 for line in drawn) and plain(drawn[1]).endswith("…")
    assert "…" not in table.draw(report.items, shown, width=None)


def test_columns_are_chosen_and_sorted_by_name_or_field(scene: Scene) -> None:
    rows = gpus(scene).items
    columns = gpu_command.columns(datetime.fromtimestamp(NOW, UTC), False, False)
    chosen = table.choose(columns, ("job", "NODE"), wide=False)
    assert [column.header for column in chosen] == ["JOB", "NODE"]
    by_field = table.sort(rows, columns, "-memoryBytes")
    assert by_field[-1].node == "l40s-0"
    by_time = table.sort(rows, columns, "FREE-AT")
    assert by_time[0].job == "tune" and by_time[-1].free_at is None
    with pytest.raises(click.UsageError, match="choose from NODE, GPU"):
        table.choose(columns, ("COLOUR",), wide=False)
    with pytest.raises(click.UsageError, match="cannot sort by colour"):
        table.sort(rows, columns, "colour")


@pytest.mark.parametrize("format", [None, "wide", "json", "yaml", "csv", "name"])
def test_every_format_says_the_same_rows(scene: Scene, format: str | None) -> None:
    report = queue(scene)
    sheet = Sheet(report, report.items, queue_columns(report, True), names=["deepseekjob.drse.dev/pretrain"])
    request = Request(Access(None, None, None, "drse-system"), format=format)
    text = render(request, sheet)
    assert "pretrain" in text
    if format == "csv":
        assert text.splitlines()[0].startswith("position,namespace,job,queue,taskType")
        assert len(text.splitlines()) == 3
    if format == "json":
        assert '"kind": "QueueReport"' in text and '"asOf": "2026-11-24T12:00:00Z"' in text


def test_without_a_terminal_there_is_no_colour(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    output.say(describe(why(scene, JobKey("team-a", "lost"))))
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (3600, "1h"),
        (11100, "3h5m"),
        (90000, "1d1h"),
        (2e6, "23d"),
        (None, "-"),
    ],
)
def test_ages(seconds: float | None, text: str) -> None:
    assert wording.age(seconds) == text


def test_ranges_write_the_day_once() -> None:
    today = datetime(2026, 11, 24, 12, tzinfo=UTC)
    tomorrow = datetime(2026, 11, 25, 9, 5, tzinfo=UTC)
    assert wording.between(today, today.replace(hour=14), today) == "12:00..14:00"
    assert wording.between(tomorrow, tomorrow.replace(hour=10), today) == "Nov 25 09:05..10:05"
    assert wording.between(today, tomorrow, today) == "12:00..Nov 25 09:05"
    assert wording.between(None, today, today) == "-"
