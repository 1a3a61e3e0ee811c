"""Tables that are filtered, sorted and paged on the server, from parameters of the URL.

Parameters: ``q`` text to search for, ``KEY=VALUE`` to keep rows with that value in a filter column (several
values of one column are alternatives), ``sort`` a column key, with ``-`` in front for descending, ``columns``
the keys to show in their order, ``group`` a column to put rows together by, ``page`` from 1.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

from markupsafe import Markup, escape

from drse_operator.observe.console.address import Address
from drse_operator.observe.console.words import NOTHING, fixed
from drse_operator.observe.views.base import rfc3339

R = TypeVar("R")
T = TypeVar("T")
Value = str | int | float | bool | datetime | None

_DIGITS = re.compile(r"([0-9]{1,18})")
#: Rows on a page.
PAGE = 50
#: Letters of a search that count: each word is looked for in every row.
_SEARCHED = 200
#: Values of a column that its filter offers, the most frequent; others are found by searching.
_OFFERED = 12


@dataclass(frozen=True, slots=True)
class Column(Generic[R]):
    """One column. ``value`` is what is sorted, filtered and exported; ``cell`` how it looks.

    ``unit`` stands in the header; an ``optional`` column is shown only when chosen; a ``wide`` one takes the
    room that is left.
    """

    key: str
    title: str
    value: Callable[[R], Value]
    cell: Callable[[R], Markup | str] | None = None
    number: bool = False
    unit: str = ""
    note: str = ""
    filter: bool = False
    optional: bool = False
    wide: bool = False

    def html(self, row: R) -> Markup:
        """The cell of a row."""
        if self.cell is not None:
            return escape(self.cell(row))
        value = self.value(row)
        if value is None or value == "":
            return escape(NOTHING)
        return Markup('<span title="{0}">{0}</span>').format(value) if self.wide else escape(f"{value}")


def figures(
    key: str,
    title: str,
    value: Callable[[R], float | None],
    digits: int = 1,
    unit: str = "",
    note: str = "",
    optional: bool = False,
) -> Column[R]:
    """A column of numbers with so many digits, which stand below each other."""
    return Column(
        key, title, value, lambda row: fixed(value(row), digits), True, unit, note, optional=optional
    )


@dataclass(frozen=True, slots=True)
class Table(Generic[R]):
    """Columns and what rows are called. ``key`` names a row for good; ``href`` is where it leads."""

    name: str
    noun: str
    columns: tuple[Column[R], ...]
    key: Callable[[R], str]
    order: str
    href: Callable[[R], str] | None = None
    groups: tuple[str, ...] = ()
    search: Callable[[R], str] | None = None
    urgent: Callable[[R], bool] | None = None
    page: int = PAGE

    def column(self, key: str) -> Column[R] | None:
        """A column by key."""
        return next((column for column in self.columns if column.key == key), None)

    @property
    def default_columns(self) -> tuple[str, ...]:
        """Keys of the columns that are shown unless others are chosen."""
        return tuple(column.key for column in self.columns if not column.optional)


@dataclass(frozen=True, slots=True)
class Heading:
    """A column's header: where a click leads, and how it is sorted now."""

    key: str
    title: str
    unit: str
    note: str
    number: bool
    wide: bool
    href: str
    sorted: str


@dataclass(frozen=True, slots=True)
class Line:
    """A row on the page; or, with ``group``, the head of a group of rows."""

    key: str
    href: str = ""
    cells: tuple[Markup, ...] = ()
    urgent: bool = False
    group: str = ""
    count: int = 0


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is on, and the link that takes it away."""

    label: str
    href: str


class Memory(Protocol):
    """Keeps what has been worked out of rows that do not change."""

    def once(self, key: tuple[str, ...], make: Callable[[], T]) -> T: ...


@dataclass(frozen=True, slots=True)
class Facet:
    """A column that can be filtered by: its values, each with the link that turns it on or off."""

    title: str
    values: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True, slots=True)
class Shown(Generic[R]):
    """A table as an address asks for it. ``rows`` are all that were found, ``lines`` those of the page."""

    table: Table[R]
    address: Address
    rows: tuple[R, ...]
    total: int
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]
    chips: tuple[Chip, ...]
    page: int
    pages: int
    chosen: tuple[str, ...]
    group: str
    offered: Sequence[R]
    memory: Memory | None

    @property
    def facets(self) -> tuple[Facet, ...]:
        """The filters of the columns shown, with the values among all rows."""
        return tuple(_facets(self))

    @property
    def first(self) -> int:
        """Number of the first row of the page, from 1."""
        return (self.page - 1) * self.table.page + 1 if self.rows else 0

    @property
    def last(self) -> int:
        """Number of the last row of the page."""
        return min(len(self.rows), self.page * self.table.page)

    def page_href(self, page: int) -> str:
        """Link to another page of it."""
        return self.address.with_(page=page if page > 1 else None).href


def show(
    table: Table[R],
    rows: Sequence[R],
    address: Address,
    kept: Callable[[R], bool] | None = None,
    memory: Memory | None = None,
) -> Shown[R]:
    """The rows that the address asks for. ``kept`` is a further filter of the page's own.

    With a ``memory``, which must be one of these very rows, the values to filter by are found once.
    """
    every = rows if kept is None else [row for row in rows if kept(row)]
    ordered = _ordered(table, _found(table, every, address), address)
    group = address.get("group") if address.get("group") in table.groups else ""
    grouped = table.column(group)
    if grouped is not None:
        ordered.sort(key=lambda row: str(grouped.value(row)))
    pages = max(1, -(-len(ordered) // table.page))
    page = min(address.number("page", 1, least=1), pages)
    part = ordered[(page - 1) * table.page : page * table.page]
    chosen = _chosen(table, address)
    columns = [column for key in chosen if (column := table.column(key)) is not None]
    lines = [_line(table, columns, row, address) for row in part]
    if grouped is not None:
        lines = _grouped(lines, part, grouped, Counter(str(grouped.value(row)) for row in ordered))
    return Shown(
        table=table,
        address=address,
        rows=tuple(ordered),
        total=len(every),
        headings=tuple(_heading(table, column, address) for column in columns),
        lines=tuple(lines),
        chips=tuple(_chips(table, address)),
        page=page,
        pages=pages,
        chosen=chosen,
        group=group,
        offered=rows,
        memory=memory,
    )


def to_csv(shown: Shown[Any]) -> str:
    """All rows found, in all columns, as RFC 4180; times as RFC 3339, nothing as an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    columns = shown.table.columns
    writer.writerow([column.key for column in columns])
    for row in shown.rows:
        writer.writerow([_field(column.value(row)) for column in columns])
    return out.getvalue()


def _field(value: Value) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value  # a spreadsheet must not take a name for a formula
    return value


def _found(table: Table[R], rows: Sequence[R], address: Address) -> list[R]:
    found = list(rows)
    for column in table.columns:
        wanted = set(address.all(column.key)) if column.filter else set()
        if wanted:
            found = [row for row in found if str(column.value(row) or "") in wanted]
    text = address.get("q").casefold().strip()[:_SEARCHED]
    if text and table.search is not None:
        search = table.search
        found = [row for row in found if all(word in search(row).casefold() for word in text.split())]
    return found


def _ordered(table: Table[R], rows: list[R], address: Address) -> list[R]:
    """Sorted by the column asked for; rows without a value come last either way."""
    order = address.get("sort", table.order)
    column = table.column(order.removeprefix("-")) or table.column(table.order.removeprefix("-"))
    if column is None:
        return rows
    value = column.value
    known = [(found, row) for row in rows if (found := value(row)) not in (None, "")]
    known.sort(key=lambda item: _sortable(item[0]), reverse=order.startswith("-"))
    if len(known) == len(rows):
        return [row for _, row in known]
    return [row for _, row in known] + [row for row in rows if value(row) in (None, "")]


def _sortable(value: Value) -> Any:
    return _natural(value) if isinstance(value, str) else value


@lru_cache(20_000)
def _natural(text: str) -> tuple[tuple[int, str], ...]:
    """Numbers in names count as numbers: node-2 comes before node-10. Each look has the same names again."""
    return tuple((int(p), "") if p.isdecimal() else (-1, p) for p in _DIGITS.split(text.casefold()))


def _chosen(table: Table[R], address: Address) -> tuple[str, ...]:
    keys = [key for value in address.all("columns") for key in value.split(",")]
    known = [key for key in dict.fromkeys(keys) if table.column(key) is not None]
    return tuple(known) or table.default_columns


def _heading(table: Table[R], column: Column[R], address: Address) -> Heading:
    order = address.get("sort", table.order)
    if order.removeprefix("-") == column.key:
        direction, turn = (
            ("descending", column.key) if order.startswith("-") else ("ascending", f"-{column.key}")
        )
    else:
        direction, turn = "", f"-{column.key}" if column.number else column.key
    sort = None if turn == table.order else turn
    return Heading(
        key=column.key,
        title=column.title,
        unit=column.unit,
        note=column.note,
        number=column.number,
        wide=column.wide,
        href=address.with_(sort=sort).href,
        sorted=direction,
    )


def _line(table: Table[R], columns: Sequence[Column[R]], row: R, address: Address) -> Line:
    return Line(
        key=table.key(row),
        href="" if table.href is None else table.href(row),
        cells=tuple(_cell(column, row, address) for column in columns),
        urgent=table.urgent is not None and table.urgent(row),
    )


def _cell(column: Column[R], row: R, address: Address) -> Markup:
    """The cell; in a column that can be filtered by, a click keeps the rows that say the same."""
    cell, value = column.html(row), column.value(row)
    if not column.filter or value in (None, "") or "<a " in cell or str(value) in address.all(column.key):
        return cell
    # For the mouse: from the keyboard the same is in the menu of filters, without a stop at every cell.
    return Markup('<a class="only" tabindex="-1" href="{}" title="Only {}">{}</a>').format(
        address.plus(column.key, str(value)).href, value, cell
    )


def _facets(shown: Shown[Any]) -> Iterable[Facet]:
    """Of columns whose rows do not all say the same."""
    address = shown.address
    for column in shown.table.columns:
        on = address.all(column.key)
        if not column.filter or (column.key not in shown.chosen and not on):
            continue
        counts = _counts(shown, column)
        offered = dict.fromkeys([*on, *(name for name, _ in counts.most_common(_OFFERED))])
        if len(counts) > 1 or on:
            values = [
                (name, (address.without if name in on else address.plus)(column.key, name).href, name in on)
                for name in sorted(offered)
            ]
            yield Facet(column.title, tuple(values))


def _counts(shown: Shown[Any], column: Column[Any]) -> Counter[str]:
    """How often each value of a column occurs among all rows."""

    def count() -> Counter[str]:
        counts = Counter(map(column.value, shown.offered))
        return Counter({str(word): n for word, n in counts.items() if word not in (None, "")})

    if shown.memory is None:
        return count()
    return shown.memory.once(("values", shown.table.name, column.key), count)


def _grouped(lines: Sequence[Line], rows: Sequence[R], by: Column[R], counts: Counter[str]) -> list[Line]:
    """A head before each group's first line on the page."""
    found: list[Line] = []
    last: str | None = None
    for line, row in zip(lines, rows, strict=True):
        name = str(by.value(row))
        if name != last:
            found.append(Line(key=f"group:{name}", group=name or NOTHING, count=counts[name]))
        last = name
        found.append(line)
    return found


def _chips(table: Table[R], address: Address) -> Iterable[Chip]:
    if text := address.get("q").strip():
        yield Chip(f"“{text}”", address.with_(q=None).href)
    for column in table.columns:
        for value in address.all(column.key) if column.filter else ():
            yield Chip(f"{column.title.lower()}: {value}", address.without(column.key, value).href)
