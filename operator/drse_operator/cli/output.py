"""How an answer leaves: a table, or JSON, YAML, CSV or names for programs."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from drse_operator.cli.access import Access, access_options, find_access

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
FORMATS = ("wide", "json", "yaml", "csv", "name")
_ACCESS = ("kubeconfig", "context", "namespace", "drse_namespace")


@dataclass(frozen=True, slots=True)
class Request:
    """What the caller stated besides the question itself."""

    access: Access
    all_namespaces: bool = False
    selector: str | None = None
    format: str | None = None
    columns: tuple[str, ...] = ()
    headers: bool = True
    sort_by: str | None = None
    watch: bool = False

    def watching(self) -> Request:
        """The same request with ``-w``."""
        return replace(self, watch=True)

    @property
    def wide(self) -> bool:
        """Whether the table shows its wide columns."""
        return self.format == "wide"

    @property
    def tabular(self) -> bool:
        """Whether the answer is for people."""
        return self.format in (None, "wide")


def reading(
    *, scoped: bool = False, selector: bool = False, table: bool = True, watch: bool = True
) -> Decorator:
    """Options of a command that reads; it gets them as ``request``.

    ``scoped`` commands show one namespace unless told ``-A``; ``table`` ones have columns.
    """
    options: list[Callable[[Any], Any]] = []
    if scoped:
        options.append(click.option("-A", "--all-namespaces", is_flag=True, help="Jobs of all namespaces."))
    if selector:
        options.append(click.option("-l", "--selector", metavar="LABELS", help="Jobs with these labels."))
    kinds = click.Choice(FORMATS if table else ("json", "yaml", "name"))
    options.append(click.option("-o", "--output", "format", type=kinds, help="Instead of the usual text."))
    if table:
        options += [
            click.option("--columns", metavar="A,B,...", help="Columns to show, in this order."),
            click.option("--no-headers", is_flag=True, help="No line of headers."),
            click.option("--sort-by", metavar="[-]COLUMN", help="Column or JSON field; - turns round."),
        ]
    if watch:
        options.append(click.option("-w", "--watch", is_flag=True, help="Go on, and show what changes."))

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @access_options
        @functools.wraps(command)
        def run(**kwargs: Any) -> Any:
            stated = {name: kwargs.pop(name) for name in _ACCESS}
            columns = kwargs.pop("columns", None)
            request = Request(
                access=find_access(click.get_current_context(), stated),
                all_namespaces=kwargs.pop("all_namespaces", False),
                selector=kwargs.pop("selector", None),
                format=kwargs.pop("format"),
                columns=tuple(c.strip() for c in columns.split(",")) if columns else (),
                headers=not kwargs.pop("no_headers", False),
                sort_by=kwargs.pop("sort_by", None),
                watch=kwargs.pop("watch", False),
            )
            return command(request=request, **kwargs)

        wrapped: Callable[..., Any] = run
        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def document(report: Any) -> dict[str, Any]:
    """The documented JSON of a report."""
    kind = type(report).__name__
    return {"apiVersion": "cli.drse.dev/v1", "kind": kind, **report.model_dump(mode="json", by_alias=True)}


def as_json(report: Any) -> str:
    """One line per report with ``-w``, else indented; here indented."""
    return json.dumps(document(report), indent=2, ensure_ascii=False)


def as_yaml(report: Any) -> str:
    """The same in YAML."""
    import yaml

    return str(yaml.safe_dump(document(report), sort_keys=False, allow_unicode=True, width=110)).rstrip()


def as_csv(rows: Sequence[Any], headers: bool) -> str:
    """One line a row under the names of the JSON's fields. Groups (``who``) become columns of their own."""
    flat = [_flat(row.model_dump(mode="json", by_alias=True)) for row in rows]
    if not flat:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    if headers:
        writer.writeheader()
    writer.writerows(flat)
    return text.getvalue().rstrip("\n")


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name == "who":
            found |= value
        elif isinstance(value, dict | list):
            found[name] = json.dumps(value, ensure_ascii=False)
        else:
            found[name] = value
    return found


def colours() -> bool:
    """Whether to colour: on a terminal, unless NO_COLOR says otherwise (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def say(text: str) -> None:
    """Print to stdout; without colour where there should be none."""
    if text:
        click.echo(text, color=colours())
