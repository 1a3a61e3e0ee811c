"""The table and the schema of the chart's values, against the values themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from deploy.chart.schema import schema
from deploy.chart.table import rows_of
from tests.helm.chart import CHART

VALUES = (CHART / "values.yaml").read_text(encoding="utf-8")


def leaves(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Values that are not mappings with keys, by path."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = leaves(value, f"{path}{key}.") if isinstance(value, dict) else {}
        found |= inner or {f"{path}{key}": value}
    return found


def test_the_table_has_every_value_with_its_default() -> None:
    shown = {row.path: yaml.safe_load(row.default) for row in rows_of(VALUES) if row.default}
    assert shown == leaves(yaml.safe_load(VALUES))


def test_comments_describe_what_is_below_them() -> None:
    text = (
        "# One\n# two.\na: 1\n\nb:\n  # Inner.\n  c: [x]\n  d:\n    - 1\n    - {e: 2}\n\n# Lost.\n\nf: {}\n"
    )
    rows = [(row.path, row.default, row.text) for row in rows_of(text)]
    assert rows == [
        ("a", "1", "One two."),
        ("b", "", ""),
        ("b.c", "[x]", "Inner."),
        ("b.d", "[1, {e: 2}]", ""),
        ("f", "{}", ""),
    ]


@pytest.mark.parametrize("open_", ["global", "operator.affinity", "operator.securityContext"])
def test_what_is_not_the_charts_own_stays_open(open_: str) -> None:
    node = json.loads(schema())
    definitions = node["$defs"]
    for step in open_.split("."):
        node = node["properties"][step]
        if "$ref" in node:
            node = definitions[node["$ref"].rpartition("/")[2]]
    assert node.get("additionalProperties") in (True, None)


def test_own_mappings_are_closed() -> None:
    document = json.loads(schema())
    for name, definition in {"Values": document, **document["$defs"]}.items():
        assert definition["additionalProperties"] is False, name
