"""The pages: which rows a look has for each, in which columns, and which job a row is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from drse_operator.api.keys import JobKey
from drse_operator.cli.commands import forecast, gpus, queue, top
from drse_operator.cli.dash.look import Look
from drse_operator.cli.table import Column
from drse_operator.observe.views.base import Row


@dataclass(frozen=True, slots=True)
class Line:
    """A row as it is drawn. ``name`` is the same from look to look; ``job`` is whose wait Enter explains."""

    name: str
    cells: tuple[Text, ...]
    job: JobKey | None

    def holds(self, words: str) -> bool:
        """Whether any cell has the words in it, in whatever case."""
        return any(words.lower() in cell.plain.lower() for cell in self.cells)


@dataclass(frozen=True, slots=True)
class Page:
    """One page. ``rows`` and ``columns`` come from a look; ``note`` is said above the table."""

    name: str
    title: str
    key: str
    empty: str
    columns: Callable[[Look], Sequence[Column[Any]]]
    rows: Callable[[Look], Sequence[Any]]
    note: Callable[[Look], str] = lambda look: ""

    def headers(self, look: Look) -> list[Text]:
        """Headers of the columns that are shown."""
        return [Text(c.header, justify=_side(c)) for c in self._shown(look)]

    def lines(self, look: Look, words: str = "") -> list[Line]:
        """Rows with the words in them, in the order of the report."""
        columns = self._shown(look)
        seen: dict[str, int] = {}
        made = [_line(row, columns, seen) for row in self.rows(look)]
        return [line for line in made if not words or line.holds(words)]

    def _shown(self, look: Look) -> list[Column[Any]]:
        return [column for column in self.columns(look) if not column.wide]


def _line(row: Row, columns: Iterable[Column[Any]], seen: dict[str, int]) -> Line:
    namespace, job = getattr(row, "namespace", None), getattr(row, "job", None)
    key = JobKey(namespace, job) if namespace and job else None
    name = str(getattr(row, "uuid", None) or key or getattr(row, "node", "-"))
    # A node's device plugin counts GPUs: one holder may have several rows there.
    seen[name] = seen.get(name, 0) + 1
    unique = name if seen[name] == 1 else f"{name}#{seen[name]}"
    return Line(unique, tuple(_cell(row, column) for column in columns), key)


def _cell(row: Row, column: Column[Any]) -> Text:
    colour = column.colour(row) if column.colour is not None else None
    return Text(column.cell(row), style=colour or "", justify=_side(column))


def _side(column: Column[Any]) -> Any:
    return "right" if column.right else "left"


PAGES: tuple[Page, ...] = (
    Page(
        name="now",
        title="Now",
        key="1",
        empty="no job holds GPUs",
        columns=lambda look: top.running_columns(look.running),
        rows=lambda look: look.running.items,
    ),
    Page(
        name="queue",
        title="Queue",
        key="2",
        empty="no job waits",
        columns=lambda look: queue.columns(look.waiting, True),
        rows=lambda look: look.waiting.items,
    ),
    Page(
        name="gpus",
        title="GPUs",
        key="3",
        empty="no node publishes GPUs: drse doctor looks for the cause",
        columns=lambda look: gpus.columns(look.gpus.as_of, False, look.measured),
        rows=lambda look: look.gpus.items,
    ),
    Page(
        name="forecast",
        title="Forecast",
        key="4",
        empty="no job scales: see spec.scaling.mode",
        columns=lambda look: forecast.columns(True),
        rows=lambda look: look.forecasts.items,
        note=lambda look: look.forecaster_note,
    ),
)
