"""From the question to the printed answer, once or again and again."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from drse_operator.cli import output, table
from drse_operator.cli.connect import Session, connect
from drse_operator.cli.output import Request
from drse_operator.cli.table import Column
from drse_operator.observe.views.base import Report

#: Seconds between two looks with ``-w``.
_PERIOD = 2.0


@dataclass(frozen=True, slots=True)
class Sheet:
    """A report and how people read it. ``rows`` with ``columns`` make the table, ``text`` stands instead.

    ``names`` are what ``-o name`` prints, ``empty`` is said where there is nothing, ``below`` after a table.
    """

    report: Report
    rows: Sequence[Any] = ()
    columns: Sequence[Column[Any]] = ()
    names: Sequence[str] = ()
    text: str = ""
    empty: str = ""
    below: str = ""
    notes: tuple[str, ...] = field(default=())


Ask = Callable[[Session], Awaitable[Sheet]]


def answer(request: Request, ask: Ask) -> Sheet:
    """Connect, ask, print; with ``-w`` until interrupted. Returns the last sheet."""
    try:
        return asyncio.run(_run(request, ask))
    except KeyboardInterrupt:
        raise click.exceptions.Exit(130) from None


async def _run(request: Request, ask: Ask) -> Sheet:
    async with connect(request.access) as session:
        sheet = await ask(session)
        for note in sheet.notes:
            click.echo(f"note: {note}", err=True)
        _show(render(request, sheet))
        last = _essence(sheet.report)
        while request.watch:
            await asyncio.sleep(_PERIOD)
            sheet = await ask(session)
            seen = _essence(sheet.report)
            if seen != last or sys.stdout.isatty():
                _again(render(request, sheet))
                last = seen
        return sheet


def _essence(part: Any) -> Any:
    """What is worth printing again when it changes: all but the passing of time."""
    if isinstance(part, Report):
        return _essence(part.model_dump())
    if isinstance(part, dict):
        return {
            name: _essence(value)
            for name, value in part.items()
            if name != "as_of" and not name.endswith("_seconds") and not name.startswith("eta_")
        }
    return [_essence(one) for one in part] if isinstance(part, list | tuple) else part


def _show(text: str) -> None:
    output.say(text)
    sys.stdout.flush()


def _again(text: str) -> None:
    """On a terminal in place of what stood there; elsewhere below it."""
    if sys.stdout.isatty():
        click.clear()
    elif not text.startswith("{"):
        click.echo()
    _show(text)


def render(request: Request, sheet: Sheet) -> str:
    """The sheet in the format asked for."""
    match request.format:
        case "json" if request.watch:
            return json.dumps(output.document(sheet.report), ensure_ascii=False)
        case "json":
            return output.as_json(sheet.report)
        case "yaml":
            return ("---\n" if request.watch else "") + output.as_yaml(sheet.report)
        case "name":
            return "\n".join(dict.fromkeys(sheet.names))
        case "csv":
            return output.as_csv(table.sort(sheet.rows, sheet.columns, request.sort_by), request.headers)
        case _:
            return _for_people(request, sheet)


def _for_people(request: Request, sheet: Sheet) -> str:
    if sheet.text:
        return sheet.text
    columns = table.choose(sheet.columns, request.columns, request.wide)
    rows = table.sort(sheet.rows, sheet.columns, request.sort_by)
    if not rows:
        click.echo(sheet.empty or "nothing to show", err=True)
        return ""
    drawn = table.draw(rows, columns, request.headers, table.terminal_width())
    return f"{drawn}\n{sheet.below}" if sheet.below and request.headers else drawn
