"""From pydantic models to structural schemas, the JSON Schema dialect of CustomResourceDefinitions.

Pydantic writes JSON Schema 2020-12. The API server takes an older and narrower dialect: no ``$ref``, no
``anyOf`` with null, no ``const`` or ``examples``, no ``additionalProperties: false``, and its own
``x-kubernetes-*`` keywords. :class:`_StructuralSchemaGenerator` stops the differences that are easiest to
avoid while pydantic generates; :func:`structural_schema` then inlines the definitions and settles the rest.

See https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
#specifying-a-structural-schema.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from drse_operator.api.base import ApiModel, Rule, StatusModel

#: Order of the keywords in the files, for people who read them.
_KEYWORDS = (
    "description", "type", "format", "default", "enum", "pattern", "minLength", "maxLength",
    "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "minItems", "maxItems",
    "minProperties", "maxProperties",
    "x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
    "required", "properties", "items", "additionalProperties", "anyOf",
)  # fmt: skip
_INT32_MAX = 2**31 - 1


def structural_schema(model: type[ApiModel]) -> dict[str, Any]:
    """The structural schema of ``model`` and all that is in it.

    Raises ``ValueError`` when a model uses a keyword that structural schemas do not have.
    """
    document = model.model_json_schema(by_alias=True, schema_generator=_StructuralSchemaGenerator)
    definitions = document.pop("$defs", {})
    return _settle(document, definitions, at=model.__name__)


def validations(rules: Iterable[Rule]) -> list[dict[str, str]]:
    """``x-kubernetes-validations`` of the rules."""
    return [
        {"rule": rule.cel, "message": rule.message}
        | ({"fieldPath": rule.field_path} if rule.field_path else {})
        for rule in rules
    ]


class _StructuralSchemaGenerator(GenerateJsonSchema):
    """Pydantic's generator, told about rules, absent values and defaults the way Kubernetes has them."""

    def generate(
        self, schema: core_schema.CoreSchema, mode: JsonSchemaMode = "validation"
    ) -> JsonSchemaValue:
        document = super().generate(schema, mode)
        document.pop("title", None)
        return document

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        """Keep the order of declaration."""
        return value

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Optional is "may be absent": the API server removes explicit nulls by itself."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Keep a default that says something.

        That of an object is written out: ``{}`` would be filled from the fields' defaults when a job is
        applied, but the API server checks the rules on it before, when the definition is installed.
        """
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default")
        if default is None or default == ():
            return inner
        if isinstance(default, ApiModel):
            return {**inner, "default": {k: v for k, v in default.to_wire().items() if v not in ([], {})}}
        return {**inner, "default": default.value if isinstance(default, Enum) else default}

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Add the rules of the class. Status gets no defaults: it holds what the operator wrote, no more."""
        document = super().model_schema(schema)
        model = schema["cls"]
        if issubclass(model, StatusModel):
            for field in document.get("properties", {}).values():
                field.pop("default", None)
        if issubclass(model, ApiModel) and model.rules:
            document["x-kubernetes-validations"] = validations(model.rules)
        document["description"] = inspect.cleandoc(model.__doc__ or "")
        return document


def _settle(node: Mapping[str, Any], definitions: Mapping[str, Any], at: str) -> dict[str, Any]:
    """``node`` with definitions inlined and every keyword one that the API server knows."""
    merged = _inlined(node, definitions)
    _settle_bounds(merged)
    _settle_openness(merged)
    if "anyOf" in merged and "x-kubernetes-int-or-string" not in merged:
        raise ValueError(f"{at}: structural schemas know no unions")
    if "description" in merged:
        merged["description"] = one_line(merged["description"])
    if merged.get("type") == "array":
        merged.setdefault("x-kubernetes-list-type", "atomic")
    if "properties" in merged:
        merged["properties"] = {
            name: _settle(field, definitions, f"{at}.{name}") for name, field in merged["properties"].items()
        }
    for keyword in ("items", "additionalProperties"):
        if keyword in merged:
            merged[keyword] = _settle(merged[keyword], definitions, f"{at}[]")
    unknown = merged.keys() - set(_KEYWORDS)
    if unknown:
        raise ValueError(f"{at}: structural schemas have no {', '.join(sorted(unknown))}")
    return {keyword: merged[keyword] for keyword in _KEYWORDS if keyword in merged}


def _inlined(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """What ``node`` refers to, overridden by what stands beside the reference."""
    merged = dict(node)
    while "$ref" in merged:
        target = definitions[merged.pop("$ref").removeprefix("#/$defs/")]
        merged = {**target, **merged}
    for keyword in ("title", "examples", "propertyNames"):
        merged.pop(keyword, None)
    if "const" in merged:
        merged["enum"] = [merged.pop("const")]
    return merged


def _settle_bounds(node: dict[str, Any]) -> None:
    """Exclusive bounds are flags in this dialect; integers and numbers carry their width.

    Pydantic calls the greatest size ``maxLength`` where a validator hides what the size is of.
    """
    sizes = {"array": "Items", "object": "Properties"}.get(node.get("type", ""))
    for bound in ("min", "max"):
        if sizes and f"{bound}Length" in node:
            node[f"{bound}{sizes}"] = node.pop(f"{bound}Length")
    for exclusive, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in node:
            node[inclusive] = node[exclusive]
            node[exclusive] = True
    if node.get("type") == "integer":
        node.setdefault("format", "int32" if node.get("maximum", _INT32_MAX + 1) <= _INT32_MAX else "int64")
    elif node.get("type") == "number":
        node.setdefault("format", "double")


def _settle_openness(node: dict[str, Any]) -> None:
    """Closed is the rule in this dialect, open has a keyword of its own."""
    extra = node.get("additionalProperties")
    if isinstance(extra, bool):
        del node["additionalProperties"]
        if extra:
            node["x-kubernetes-preserve-unknown-fields"] = True


def one_line(text: str) -> str:
    """First paragraph of a docstring or description, without markup of the documentation tool."""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`")
