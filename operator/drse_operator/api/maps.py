"""Maps of the API, and lists that are maps in disguise.

JSON objects with free keys cannot be described field by field. What both sides check of them is here, once
for the schema and once for Python: sizes, values, the form of label names, and unique keys in lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel, to_snake
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from drse_operator.api.base import Rule
from drse_operator.api.types import Form, ResourceAmount

#: Name of a label.
LABEL_KEY = Form(
    "^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
    "must be letters, digits, -, _ and . (at most 63), after an optional prefix such as example.com/",
)
#: Value of a label; it may be empty.
LABEL_VALUE_PATTERN = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"

_Items = TypeVar("_Items", bound=tuple[BaseModel, ...])


def _read_as_the_api_server_does(data: Any) -> Any:
    """Nulls are dropped and whole floats are integers, as in ``ApiModel``."""
    if not isinstance(data, dict):
        return data
    return {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in data.items()
        if value is not None
    }


_AS_SERVED = BeforeValidator(_read_as_the_api_server_does)
Labels = Annotated[dict[str, Annotated[str, Field(pattern=LABEL_VALUE_PATTERN, max_length=63)]], _AS_SERVED]
Annotations = Annotated[dict[str, str], _AS_SERVED]
ResourceAmounts = Annotated[dict[str, ResourceAmount], _AS_SERVED]


def label_key_rule(field: str) -> Rule:
    """The rule that all keys of ``field``, an optional map, can name labels."""

    def holds(model: BaseModel) -> bool:
        labels: Mapping[str, str] = getattr(model, to_snake(field)) or {}
        return all(LABEL_KEY.fits(key) for key in labels)

    return Rule(
        cel=f"!has(self.{field}) || self.{field}.all(k, k.matches('{LABEL_KEY.pattern}'))",
        message=f"each name in {field} {LABEL_KEY.message}",
        holds=holds,
        field_path=f".{field}",
    )


@dataclass(frozen=True, slots=True)
class KeyedBy:
    """Marks a tuple of models as a map in list form: no two items agree in all the named fields.

    ``fields`` are Python names. In the schema it becomes ``x-kubernetes-list-type: map``, which also lets
    server-side apply merge item by item.
    """

    fields: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            **handler(schema),
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": [to_camel(field) for field in self.fields],
        }

    def _check(self, items: _Items) -> _Items:
        seen: set[tuple[Any, ...]] = set()
        for item in items:
            key = tuple(getattr(item, field) for field in self.fields)
            if key in seen:
                shown = ", ".join(f"{field} {part}" for field, part in zip(self.fields, key, strict=True))
                raise ValueError(f"{shown} occurs more than once: keep one of them")
            seen.add(key)
        return items
