"""The screen: pages, keys, and a picture that stays when the cluster no longer answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import ClassVar, NoReturn

import click
from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult, ScreenStackError
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.widgets import ContentSwitcher, DataTable, Footer, Input, Static

from drse_operator.api.keys import JobKey
from drse_operator.cli import table
from drse_operator.cli.commands import share, top, why
from drse_operator.cli.dash.look import Look
from drse_operator.cli.dash.pages import PAGES, Line, Page
from drse_operator.cli.dash.sheet import Sheet
from drse_operator.cli.wording import age
from drse_operator.observe.views.scene import UnknownJobError
from drse_operator.observe.views.why import why as why_view

Ask = Callable[[], Awaitable[Look]]
#: Opens a connection to look over. What goes wrong is a ClickException, and ends the connection.
Open = Callable[[], AbstractAsyncContextManager[Ask]]

_HELP = """\
1 2 3 4   now, queue, gpus, forecast; Tab goes to the next
j k       down and up; g G to the first and the last row
/         only rows with these words; Esc shows all again
Enter     why the job of the row waits, or what it holds
r         look again now
?         this text
q         quit

Everything is read with your own rights. When the cluster no longer answers, the last
picture stays, and the line at the bottom says how old it is."""


class Dash(App[None]):
    """The dashboard. ``interval`` is in seconds; ``first`` is shown until there is news."""

    TITLE = "drse"
    ENABLE_COMMAND_PALETTE = False
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(page.key, f"page('{page.name}')", page.title) for page in PAGES),
        Binding("tab", "next_page", "Next", show=False, priority=True),
        Binding("slash", "search", "Search"),
        Binding("escape", "clear", "All", show=False),
        Binding("j", "move(1)", "Down", show=False),
        Binding("k", "move(-1)", "Up", show=False),
        Binding("g", "edge(False)", "First", show=False),
        Binding("G", "edge(True)", "Last", show=False),
        Binding("enter", "why", "Why"),
        Binding("r", "refresh", "Look again", show=False),
        Binding("question_mark", "help", "Help"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, first: Look, open_: Open, interval: float) -> None:
        super().__init__()
        self._open = open_
        self._interval = interval
        self._look = first
        self._trouble = ""
        self._words = ""
        self._wake = asyncio.Event()
        #: What each page's table shows.
        self._drawn: dict[str, tuple[tuple[str, ...], list[Line]]] = {}

    def compose(self) -> ComposeResult:
        """Summary, tabs, one table a page, search, status, keys."""
        yield Static(id="summary", markup=False)
        yield Static(id="tabs", markup=False)
        yield Static(id="note", markup=False)
        with ContentSwitcher(initial=PAGES[0].name):
            for page in PAGES:
                yield DataTable[Text](id=page.name, cursor_type="row", zebra_stripes=True)
        yield Input(id="search", placeholder="words; Enter keeps them, Esc shows all", disabled=True)
        yield Static(id="status", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Show the first look, then go on looking."""
        self.query_one("#search").display = False
        self._draw()
        self._table.focus()
        self.set_interval(1.0, self._tell_age)
        self._follow()

    # -- looking ---------------------------------------------------------------------------------------

    @work(exclusive=True)
    async def _follow(self) -> None:
        """Look again and again; what goes wrong is told, and tried again."""
        with suppress(NoMatches, ScreenStackError):  # somebody has quit: the screen is taken away
            while True:
                await self._pause()
                try:
                    await self._look_over()
                except click.ClickException as error:
                    self._trouble = error.message
                    self._tell_age()

    async def _look_over(self) -> NoReturn:
        """Look over one connection, until something goes wrong."""
        async with self._open() as ask:
            while True:
                self._look, self._trouble = await ask(), ""
                self._draw()
                await self._pause()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), self._interval)
        self._wake.clear()

    # -- drawing ---------------------------------------------------------------------------------------

    @property
    def _page(self) -> Page:
        name = self.query_one(ContentSwitcher).current
        return next(page for page in PAGES if page.name == name)

    @property
    def _table(self) -> DataTable[Text]:
        return self.query_one(f"#{self._page.name}", DataTable)

    def _draw(self) -> None:
        """All that is seen of the look."""
        look, page = self._look, self._page
        self.query_one("#summary", Static).update(Text.from_ansi(_summary(look, page, self.size.width)))
        self.query_one("#tabs", Static).update(self._tabs())
        notes = [*look.notes, *([found] if (found := page.note(look)) else [])]
        if not page.lines(look):
            notes.append(page.empty)
        note = self.query_one("#note", Static)
        note.update("\n".join(notes))
        note.display = bool(notes)
        self._fill(page)
        self._tell_age()

    def _fill(self, page: Page) -> None:
        """The page's table; the cursor stays on its row, and nothing moves when nothing has changed."""
        headers, lines = page.headers(self._look), page.lines(self._look, self._words)
        drawn = tuple(header.plain for header in headers), lines
        if self._drawn.get(page.name) == drawn:
            return
        shown, at = self._table, self._line
        if drawn[0] != self._drawn.get(page.name, ((), []))[0]:
            shown.clear(columns=True)
            shown.add_columns(*headers)
        else:
            shown.clear()
        for line in lines:
            shown.add_row(*line.cells, key=line.name)
        self._drawn[page.name] = drawn
        names = [line.name for line in lines]
        if at is not None and at.name in names:
            shown.move_cursor(row=names.index(at.name), animate=False)

    @property
    def _line(self) -> Line | None:
        """The row under the cursor."""
        lines = self._drawn.get(self._page.name, ((), []))[1]
        row = self._table.cursor_row
        return lines[row] if 0 <= row < len(lines) else None

    def _tabs(self) -> Text:
        counts = {"queue": len(self._look.waiting.items), "forecast": len(self._look.forecasts.items)}
        tabs = Text()
        for page in PAGES:
            count = f" {counts[page.name]}" if page.name in counts else ""
            style = "reverse bold" if page is self._page else ""
            tabs.append(f" {page.key} {page.title}{count} ", style)
            tabs.append(" ")
        if self._words:
            tabs.append(f"/{self._words}", "bold")
        return tabs

    def _tell_age(self) -> None:
        """How old the picture is; in red while nobody answers."""
        seen = self._look.now.as_of.timestamp()
        text = f"as of {self._look.now.as_of.astimezone():%H:%M:%S}, {age(time.time() - seen)} ago"
        status = self.query_one("#status", Static)
        status.update(f"{text}; {self._trouble}" if self._trouble else text)
        status.set_class(bool(self._trouble), "trouble")

    # -- keys ------------------------------------------------------------------------------------------

    def action_page(self, name: str) -> None:
        """Turn to a page."""
        self.query_one(ContentSwitcher).current = name
        self._draw()
        self._table.focus()

    def action_next_page(self) -> None:
        """Turn to the next page."""
        at = PAGES.index(self._page)
        self.action_page(PAGES[(at + 1) % len(PAGES)].name)

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        self._table.move_cursor(row=self._table.cursor_row + rows, animate=False)

    def action_edge(self, last: bool) -> None:
        """Go to the first or the last row."""
        self._table.move_cursor(row=self._table.row_count - 1 if last else 0, animate=False)

    def action_search(self) -> None:
        """Ask for words."""
        search = self.query_one("#search", Input)
        search.display, search.disabled, search.value = True, False, self._words
        search.focus()

    @on(Input.Changed, "#search")
    def _narrow(self, changed: Input.Changed) -> None:
        self._words = changed.value
        self._draw()

    @on(Input.Submitted, "#search")
    def _keep(self) -> None:
        self._close_search()

    def action_clear(self) -> None:
        """Show all rows again."""
        self._words = ""
        self._close_search()
        self._draw()

    def _close_search(self) -> None:
        search = self.query_one("#search", Input)
        search.display, search.disabled = False, True
        self._table.focus()

    def action_refresh(self) -> None:
        """Look again now."""
        self._wake.set()

    def action_help(self) -> None:
        """Say what the keys do."""
        self.push_screen(Sheet("keys", _HELP))

    @on(DataTable.RowSelected)
    def action_why(self) -> None:
        """Why the job under the cursor waits."""
        line = self._line
        if line is None or line.job is None:
            return
        sheet = Sheet(str(line.job), "asking the planner ...")
        self.push_screen(sheet)
        self._explain(sheet, self._look, line.job)

    @work(thread=True)
    def _explain(self, sheet: Sheet, look: Look, job: JobKey) -> None:
        """Suggestions are tried through the planner, which may take a second."""
        width = self.size.width - 12
        try:
            text = Text.from_ansi(why.describe(why_view(look.scene, job), width))
        except UnknownJobError as error:
            text = Text(str(error))
        self.call_from_thread(sheet.show, text)


def _summary(look: Look, page: Page, width: int) -> str:
    """The numbers of the moment; on the first page with the queues below."""
    text = top.summary(look.now, top.free_by_model(look.scene), width - 4)
    if page is not PAGES[0] or not look.shares.items:
        return text
    shown = [column for column in share.columns(look.shares) if not column.wide]
    return f"{text}\n\n{table.draw(look.shares.items, shown, width=width - 4)}"
