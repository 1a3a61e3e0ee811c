"""``values.schema.json``: what helm checks values by before it renders anything (JSON Schema 2020-12)."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from deploy.chart.values import Values
from deploy.rules.alerts import ALERTS

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Made by pydantic for people; helm shows none of it.
_WORDS = ("title", "description")


def schema() -> str:
    """The file."""
    made = TypeAdapter(Values).json_schema(by_alias=True)
    definitions = made["$defs"]
    definitions["Rules"]["properties"]["alerts"] = _alerts()
    _tidy(made)
    return json.dumps({"$schema": _DIALECT, "title": "Values of the DRSE chart", **made}, indent=2) + "\n"


def _alerts() -> dict[str, Any]:
    """Exactly the alerts that there are; a threshold only where one has a meaning."""
    kinds = {
        alert.name: "AlertSettings" if alert.threshold is None else "AlertWithThreshold" for alert in ALERTS
    }
    references = {name: {"$ref": f"#/$defs/{kind}"} for name, kind in kinds.items()}
    return {"type": "object", "additionalProperties": False, "properties": references}


def _tidy(node: Any) -> None:
    """Drop what is for people, and close maps whose keys have a pattern."""
    if isinstance(node, list):
        for each in node:
            _tidy(each)
    if not isinstance(node, dict):
        return
    for word in _WORDS:
        if isinstance(node.get(word), str):
            del node[word]
    if "patternProperties" in node:
        node["additionalProperties"] = False
    for each in node.values():
        _tidy(each)
