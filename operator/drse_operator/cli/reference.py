"""``docs/reference/cli.md``: every command with its options, and the JSON that it answers with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from pydantic import BaseModel

from drse_operator.api.schema import one_line
from drse_operator.cli.commands.doctor import DoctorReport
from drse_operator.cli.commands.submit import SubmitReport
from drse_operator.cli.main import cli
from drse_operator.observe.views.decisions import DecisionReport
from drse_operator.observe.views.forecast import ForecastReport
from drse_operator.observe.views.gpus import GpuReport
from drse_operator.observe.views.nodes import NodeReport
from drse_operator.observe.views.prio import PrioReport
from drse_operator.observe.views.queue import QueueReport
from drse_operator.observe.views.share import ShareReport
from drse_operator.observe.views.usage import UsageReport
from drse_operator.observe.views.whatif import WhatIfReport
from drse_operator.observe.views.why import WhyReport

_INTRODUCTION = """# Command line

`drse` reads the cluster with your own kubeconfig and rights; under the name `kubectl-drse` on the PATH it is
the plugin `kubectl drse`. Written from the commands by `make crds`; `drse COMMAND --help` says the same.

Exit status: 0 all right, 1 an error, 2 wrong usage, 3 the job would not run until somebody acts.

Tables are for people and may change. `-o json` and `-o yaml` give the documents described below, which are
kept stable: `apiVersion: cli.drse.dev/v1`, fields are added and never change their meaning. `-o csv` has one
line a row under the same names. Times are RFC 3339 in UTC; units are in the names.

Every command that asks the cluster also takes `--kubeconfig FILE`, `--context NAME`, `-n, --namespace NAME`
and `--drse-namespace NAME` (where DRSE is installed, drse-system by default), after the command or before it.
"""
#: Options that nearly every command has.
_COMMON = ("kubeconfig", "context", "namespace", "drse_namespace")
#: What each command answers with.
_REPORTS: dict[str, type[BaseModel]] = {
    "submit": SubmitReport,
    "queue": QueueReport,
    "why": WhyReport,
    "gpus": GpuReport,
    "nodes": NodeReport,
    "share": ShareReport,
    "prio": PrioReport,
    "forecast": ForecastReport,
    "decisions": DecisionReport,
    "whatif": WhatIfReport,
    "report usage": UsageReport,
    "doctor": DoctorReport,
}


def reference() -> str:
    """The whole page, in Markdown."""
    parts = [_INTRODUCTION]
    described: set[str] = set()
    root = click.Context(cli, info_name="drse")
    for name in cli.list_commands(root):
        command = cli.get_command(root, name)
        assert command is not None
        for path, one, context in _walk(name, command, root):
            parts.append(_command(path, one, context))
            if path in _REPORTS:
                parts += _report(_REPORTS[path], described)
    return "\n".join(parts)


def _walk(
    path: str, command: click.Command, parent: click.Context
) -> Iterator[tuple[str, click.Command, click.Context]]:
    context = click.Context(command, parent=parent, info_name=command.name)
    yield path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _walk(f"{path} {name}", inner, context)


def _command(path: str, command: click.Command, context: click.Context) -> str:
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## drse {path}\n", f"```\ndrse {path} {usage}\n```\n", _prose(command.help or "")]
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    if options:
        lines += ["| option | |", "|---|---|"]
        for option in options:
            record = option.get_help_record(context)
            if record is not None and option.name not in _COMMON:
                lines.append(f"| `{_cell(record[0])}` | {_cell(record[1])} |")
        lines.append("")
    return "\n".join(lines)


def _prose(text: str) -> str:
    """Help as Markdown: what must not be folded becomes a block of code."""
    parts = []
    for part in text.split("\n\n"):
        if part.startswith("\b"):
            parts.append("```\n" + part.removeprefix("\b").strip("\n") + "\n```")
        else:
            parts.append(" ".join(part.split()))
    return "\n\n".join(parts) + "\n"


def _report(model: type[BaseModel], described: set[str]) -> Iterator[str]:
    """The fields of a report, and of what it is made of where no command before has told."""
    schema = model.model_json_schema(by_alias=True, mode="serialization")
    parts: dict[str, Any] = {model.__name__: schema, **schema.get("$defs", {})}
    for name, part in parts.items():
        if name in described or "properties" not in part:
            continue
        described.add(name)
        fields = part["properties"].items()
        rows = [f"| `{f}` | {_type(one, parts)} | {_cell(one.get('description', ''))} |" for f, one in fields]
        what = _cell(part.get("description", ""))
        yield "\n".join((f"### {name}\n", f"{what}\n", "| field | type | |", "|---|---|---|", *rows, ""))


def _type(schema: dict[str, Any], parts: dict[str, Any]) -> str:
    """A type in a few words."""
    if "anyOf" in schema:
        inner = [_type(one, parts) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(inner) + " or null"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        words = parts[name].get("enum")
        return " or ".join(f"`{word}`" for word in words) if words else f"[{name}](#{name.lower()})"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items') or {}, parts)}"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"map of {_type(values, parts)}" if isinstance(values, dict) else "object"
    return "time" if schema.get("format") == "date-time" else str(schema.get("type", "any"))


def _cell(text: str) -> str:
    return one_line(text).replace("|", "\\|")
