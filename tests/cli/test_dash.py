"""The terminal dashboard on a small cluster, driven by keys; without a cluster it is in test_reach_live."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import click
from click.testing import CliRunner
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from drse_operator.api.keys import JobKey
from drse_operator.cli.dash.app import Ask, Dash
from drse_operator.cli.dash.look import Look, draw
from drse_operator.cli.dash.pages import PAGES
from drse_operator.cli.dash.sheet import Sheet
from drse_operator.cli.main import cli
from drse_operator.observe.views.scene import Scene
from drse_operator.outside.forecaster import Answer
from drse_operator.workloads.observed import Job
from tests.cli.worlds import NOW, Documents, busy


def seen(documents: Documents | None = None) -> Look:
    return draw(Scene((documents or busy()).world(), NOW), None, Answer(note="the forecaster is not here"))


def dash(looks: Callable[[], Look]) -> Dash:
    async def ask() -> Look:
        return looks()

    @asynccontextmanager
    async def opened() -> AsyncIterator[Ask]:
        yield ask

    return Dash(seen(), opened, 0.05)


def rows(app: Dash, page: str) -> list[list[str]]:
    shown = app.query_one(f"#{page}", DataTable)
    return [[cell.plain for cell in shown.get_row_at(i)] for i in range(shown.row_count)]


def text(app: Dash, name: str) -> str:
    return str(app.screen.query_one(f"#{name}", Static).render())


async def until(pilot: Pilot[None], check: Callable[[], object]) -> None:
    """Wait for a state: workers run beside the keys."""
    for _ in range(600):
        if check():
            return
        await pilot.pause(0.05)
    assert check()


async def test_every_page_shows_what_its_command_prints() -> None:
    app = dash(seen)
    async with app.run_test(size=(140, 40)) as pilot:
        assert "20 GPUs: 12 held" in text(app, "summary") and "research" in text(app, "summary")
        assert {row[1] for row in rows(app, "now")} == {"chat", "tune"}
        await pilot.press("2")
        assert [(row[1], row[2], row[7]) for row in rows(app, "queue")] == [
            ("1", "pretrain", "Reserved"),
            ("-", "lost", "NoSuchAccelerator"),
        ]
        await pilot.press("tab")
        assert len(rows(app, "gpus")) == 20
        await pilot.press("4")
        assert "the forecaster is not here" in text(app, "note")


async def test_every_page_can_be_drawn_narrow_and_wide() -> None:
    for size in ((60, 15), (220, 60)):
        app = dash(seen)
        async with app.run_test(size=size) as pilot:
            for page in PAGES:
                await pilot.press(page.key)
                assert app.export_screenshot().count("<text") > 5


async def test_words_narrow_the_rows_until_escape() -> None:
    app = dash(seen)
    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("3", "slash", *"tune")
        assert {row[6] for row in rows(app, "gpus")} == {"team-b/tune"}
        await pilot.press("enter")
        assert app.query_one("#search").display is False and len(rows(app, "gpus")) == 6
        await pilot.press("escape")
        assert len(rows(app, "gpus")) == 20


async def test_the_cursor_stays_on_its_row_while_rows_come_and_go() -> None:
    made = busy()
    app = dash(lambda: seen(made))
    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("2", "j")
        made.job("newcomer", age=5, gpus=8, resources={"workersPerReplica": 1})
        await until(pilot, lambda: len(rows(app, "queue")) == 3)
        assert app.query_one("#queue", DataTable).cursor_row == [r[2] for r in rows(app, "queue")].index(
            "lost"
        )
        await pilot.press("g")
        assert app.query_one("#queue", DataTable).cursor_row == 0
        await pilot.press("G")
        assert app.query_one("#queue", DataTable).cursor_row == 2


async def test_enter_says_why_and_question_mark_the_keys() -> None:
    app = dash(seen)
    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("2", "enter")
        await until(pilot, lambda: isinstance(app.screen, Sheet) and "Reserved" in text(app, "text"))
        assert "2 GPUs per replica: would start now" in text(app, "text")
        await pilot.press("escape", "question_mark")
        assert "Enter     why" in text(app, "text")
        await pilot.press("q", "q")
    assert app.return_code == 0


async def test_without_an_answer_the_picture_stays_and_says_how_old_it_is() -> None:
    broken = [True]

    def looks() -> Look:
        if broken[0]:
            raise click.ClickException("the API server at https://here does not answer")
        return seen(Documents())

    app = dash(looks)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: "https://here does not answer" in text(app, "status"))
        assert "ago; the API server" in text(app, "status") and app.query_one("#status").has_class("trouble")
        assert len(rows(app, "now")) == 2
        broken[0] = False
        await until(pilot, lambda: not rows(app, "now"))
        assert not app.query_one("#status").has_class("trouble")


async def test_a_connection_that_cannot_even_be_opened_leaves_the_keys_alone() -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Ask]:
        raise click.ClickException("no usable cluster configuration")
        yield

    app = Dash(seen(), opened, 0.05)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: "no usable cluster configuration" in text(app, "status"))
        await pilot.press("3")
        assert len(rows(app, "gpus")) == 20


async def test_an_explanation_that_comes_too_late_is_dropped() -> None:
    """The sheet was closed while the planner was still asked."""
    app, hold, came = dash(seen), threading.Event(), threading.Event()

    class Late(Scene):
        def job(self, key: JobKey) -> Job:
            hold.wait(30)
            came.set()
            return super().job(key)

    late = Late(busy().world(), NOW)
    app._look = replace(app._look, scene=late)
    app._open = _never
    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("2", "enter", "escape")
        assert not isinstance(app.screen, Sheet)
        hold.set()
        await until(pilot, came.is_set)
        await until(pilot, lambda: all(worker.name != "_explain" for worker in app.workers))
        await pilot.press("3")
        assert len(rows(app, "gpus")) == 20


@asynccontextmanager
async def _never() -> AsyncIterator[Ask]:
    """A connection on which nothing is ever answered."""
    await asyncio.Event().wait()
    yield _unasked


async def _unasked() -> Look:
    raise AssertionError("not reached")


def test_it_wants_a_terminal() -> None:
    result = CliRunner().invoke(cli, ["dash"])
    assert result.exit_code == 2 and "drse top --once" in result.stderr


def test_without_textual_it_says_what_to_install_and_nothing_else_needs_it() -> None:
    program = (
        "import sys; sys.modules['textual'] = None\n"
        "sys.stdin.isatty = sys.stdout.isatty = lambda: True\n"
        "from drse_operator.cli.main import cli; cli(sys.argv[1:])"
    )
    argv = [sys.executable, "-c", program]
    done = subprocess.run([*argv, "dash"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1 and "pip install 'drse[dash]'" in done.stderr
    top = subprocess.run([*argv, "top", "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert top.returncode == 0
