"""Boards as data. What Grafana wants to know besides is added when they are built
(``deploy.boards.build``)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

#: Width of Grafana's grid.
GRID = 24


class Look(Enum):
    """How a panel shows its series."""

    NUMBER = auto()  #: the newest value, large
    LINES = auto()
    SIGNED = auto()  #: lines that may be below 0
    STACK = auto()  #: lines that add up
    BARS = auto()  #: the newest value of each series as a bar
    TABLE = auto()  #: the newest value of each series as a row
    HEAT = auto()  #: a histogram's buckets over time


class Unit:
    """Grafana's names of the units in use."""

    COUNT = "short"
    SECONDS = "s"
    SHARE = "percentunit"
    HOURS = "h"
    BYTES = "bytes"
    MEBIBYTES = "mbytes"
    WATTS = "watt"
    TIME = "dateTimeAsIso"


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL and, unless it is one number, what its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. ``alarm`` colours numbers from there on; ``top`` ends the axis."""

    title: str
    text: str
    queries: tuple[Query, ...]
    unit: str = Unit.COUNT
    look: Look = Look.LINES
    width: int = 8
    height: int = 8
    alarm: float | None = None
    top: float | None = None
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading, from left to right, wrapped at the grid's width."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top: the values of a label. ``within`` selects among the series."""

    name: str
    title: str
    metric: str
    label: str
    within: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard. ``window`` is the range that it opens with, as Grafana writes it."""

    uid: str
    title: str
    text: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()
    window: str = "now-6h"

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels in reading order."""
        return tuple(panel for row in self.rows for panel in row.panels)


def signed(title: str, text: str, *queries: Query, unit: str = Unit.COUNT, width: int = 8) -> Panel:
    """Lines that may be below 0."""
    return Panel(title, text, queries, unit, Look.SIGNED, width)


def number(title: str, text: str, expr: str, unit: str = Unit.COUNT, alarm: float | None = None) -> Panel:
    """One number, an eighth of the width."""
    return Panel(title, text, (Query(expr),), unit, Look.NUMBER, 3, 4, alarm)


def lines(title: str, text: str, *queries: Query, unit: str = Unit.COUNT, width: int = 8) -> Panel:
    """Lines over time."""
    return Panel(title, text, queries, unit, Look.LINES, width)


def shares(title: str, text: str, *queries: Query, width: int = 8) -> Panel:
    """Lines between nothing and all."""
    return Panel(title, text, queries, Unit.SHARE, Look.LINES, width, top=1)


def stack(title: str, text: str, *queries: Query, unit: str = Unit.COUNT, width: int = 12) -> Panel:
    """Areas that add up."""
    return Panel(title, text, queries, unit, Look.STACK, width)


def bars(title: str, text: str, query: Query, unit: str = Unit.COUNT, width: int = 8) -> Panel:
    """The newest values side by side."""
    return Panel(title, text, (query,), unit, Look.BARS, width)


def table(title: str, text: str, query: Query, unit: str = Unit.COUNT, width: int = 12) -> Panel:
    """The newest values as rows, with all labels."""
    return Panel(title, text, (query,), unit, Look.TABLE, width)
