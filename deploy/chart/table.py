"""The table of values for the chart's README and the documentation, from the comments of values.yaml.

A comment belongs to the key below it. A mapping that is written out is described by its keys, one row each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

_KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z_][\w.-]*):(?: (?P<value>.*))?$")
_HEAD = """# drse

{description}. Kubernetes 1.34 or later.

<!-- run -->
```console
$ helm upgrade --install drse helm/drse --namespace drse-system --create-namespace \\
    --set image.registry=registry.example.com/drse \\
    --set console.enabled=true
```

The CustomResourceDefinitions are part of the release and stay when it is uninstalled (`crds`); with GitOps
they can come from the chart `drse-crds` instead. A misspelt key is refused by `values.schema.json`.

## Values

Written from `values.yaml` by `python -m deploy`.

"""
_PAGE = """# Chart values

What may be set in the chart `helm/drse`, with its default. Written from `helm/drse/values.yaml` by
`python -m deploy`. A key that is not here is refused.

"""
_COLUMNS = """| Key | Default | Description |
|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One key. ``default`` is empty for a mapping that is written out."""

    path: str
    default: str
    text: str


def readme(values: str, description: str) -> str:
    """The chart's page from the text of values.yaml and the chart's description."""
    return _HEAD.format(description=description) + _table(values)


def values_page(values: str) -> str:
    """The same table as a page of the documentation."""
    return _PAGE + _table(values)


def _table(values: str) -> str:
    rows = [row for row in rows_of(values) if row.default or row.text]
    return _COLUMNS + "".join(
        f"| `{row.path}` | {_code(row.default)} | {_cell(row.text)} |\n" for row in rows
    )


def rows_of(values: str) -> Iterator[Row]:
    """The keys in the order of the file. Keys in flow style are one row with what they are in."""
    comment: list[str] = []
    path: list[tuple[int, str]] = []
    lines = values.splitlines()
    listed_until = -1
    for number, line in enumerate(lines):
        stripped = line.strip()
        if number <= listed_until:
            continue
        if stripped.startswith("#"):
            comment.append(stripped.removeprefix("#").strip())
            continue
        found = _KEY.match(line)
        if found is None:
            comment = []
            continue
        indent = len(found["indent"])
        path = [step for step in path if step[0] < indent] + [(indent, found["key"])]
        default = (found["value"] or "").strip()
        if not default:
            default, length = _list_below(lines[number + 1 :], indent)
            listed_until = number + length
        yield Row(".".join(key for _, key in path), default, " ".join(comment))
        comment = []


def _list_below(lines: list[str], indent: int) -> tuple[str, int]:
    """A list that is written out, on one line, and how many lines it takes; nothing for a mapping."""
    block = []
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        block.append(line)
    content = yaml.safe_load("\n".join(block))
    if not isinstance(content, list):
        return "", 0
    return yaml.safe_dump(content, default_flow_style=True, width=1000).strip(), len(block)


def _code(default: str) -> str:
    return f"`{default}`".replace("|", "\\|") if default else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
