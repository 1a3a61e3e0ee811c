"""Tables as kubectl prints them: headers in capitals, columns apart by spaces, numbers to the right.

On a terminal the last column is cut at its width and words of state are coloured; into a pipe goes every
character, and no colour.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import click

from drse_operator.observe.views.base import Row

R = TypeVar("R", bound=Row)

_GAP = "  "
#: Narrower than this the last column is not cut: it would say nothing.
_LEAST = 20


@dataclass(frozen=True, slots=True)
class Column(Generic[R]):
    """``cell`` gives the text; ``wide`` columns are shown with ``-o wide`` only. ``colour`` names a colour
    of a cell, or nothing. ``order`` is what ``--sort-by`` sorts by, the text where it is left out."""

    header: str
    cell: Callable[[R], str]
    right: bool = False
    wide: bool = False
    colour: Callable[[R], str | None] | None = None
    order: Callable[[R], Any] | None = None


def choose(columns: Sequence[Column[R]], names: Sequence[str], wide: bool) -> list[Column[R]]:
    """The named columns in their order, else those of the width. Raises UsageError for an unknown one."""
    if not names:
        return [column for column in columns if wide or not column.wide]
    by_name = {column.header.lower(): column for column in columns}
    unknown = [name for name in names if name.lower() not in by_name]
    if unknown:
        have = ", ".join(column.header for column in columns)
        raise click.UsageError(f"there is no column {', '.join(unknown)}: choose from {have}")
    return [by_name[name.lower()] for name in names]


def sort(rows: Sequence[R], columns: Sequence[Column[R]], by: str | None) -> list[R]:
    """Rows by a column, or by a field of the JSON; a leading minus turns the order round."""
    if not by:
        return list(rows)
    name = by.lstrip("-").lstrip(".")
    column = next((c for c in columns if c.header.lower() == name.lower()), None)
    if column is not None:
        order = column.order or column.cell
        keyed = [(order(row), row) for row in rows]
    else:
        fields = [row.model_dump(by_alias=True, mode="json") for row in rows]
        if fields and name not in fields[0]:
            have = ", ".join([c.header for c in columns] + list(fields[0]))
            raise click.UsageError(f"cannot sort by {name}: choose from {have}")
        keyed = [(one[name], row) for one, row in zip(fields, rows, strict=True)]
    known = [pair for pair in keyed if pair[0] is not None]
    known.sort(key=lambda pair: pair[0], reverse=by.startswith("-"))
    return [row for _, row in known] + [row for key, row in keyed if key is None]


def draw(
    rows: Sequence[R], columns: Sequence[Column[R]], headers: bool = True, width: int | None = None
) -> str:
    """The table as text. ``width`` is the terminal's; None means that nothing is cut."""
    cells = [[column.cell(row) for column in columns] for row in rows]
    heads = [column.header for column in columns]
    widths = [
        max(len(text) for text in texts) for texts in zip(*([heads] if headers else []), *cells, strict=True)
    ]
    if width is not None and widths:
        before = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
        widths[-1] = min(widths[-1], max(_LEAST, width - before))
    lines = [_line(heads, columns, widths, [None] * len(columns))] if headers else []
    for row, texts in zip(rows, cells, strict=True):
        colours = [column.colour(row) if column.colour is not None else None for column in columns]
        lines.append(_line(texts, columns, widths, colours))
    return "\n".join(lines)


def _line(
    texts: Sequence[str], columns: Sequence[Column[R]], widths: Sequence[int], colours: Sequence[str | None]
) -> str:
    parts = []
    for i, (text, column, width) in enumerate(zip(texts, columns, widths, strict=True)):
        text = text if len(text) <= width else text[: width - 1] + "…"
        last = i == len(texts) - 1
        padded = text.rjust(width) if column.right else text if last else text.ljust(width)
        colour = colours[i]
        parts.append(padded if colour is None else padded.replace(text, click.style(text, fg=colour), 1))
    return _GAP.join(parts).rstrip()


def terminal_width() -> int | None:
    """Columns of the terminal; None when the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
