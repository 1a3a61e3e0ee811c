"""The generated schemas are structural, described, and what is committed.

Level: data only. That the API server takes them is shown in ``tests/cluster``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from kubernetes.client import V1JSONSchemaProps
from pydantic import Field

from drse_operator.api import reference
from drse_operator.api.base import ApiModel, StatusModel
from drse_operator.api.crd import RESOURCES, Resource, custom_resource_definition, object_schema
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.maps import KeyedBy
from drse_operator.api.schema import structural_schema

#: Names of the kubernetes client that stand for keywords with dashes.
KEYWORDS = set(V1JSONSchemaProps.attribute_map.values())
FORBIDDEN = {"$ref", "definitions", "$defs", "uniqueItems", "patternProperties", "dependencies", "const"}


def nodes(schema: dict[str, Any], at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in ``schema`` with its place."""
    yield at, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{at}.{name}")
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            yield from nodes(schema[keyword], f"{at}[]")


ALL_NODES = [pair for resource in RESOURCES for pair in nodes(object_schema(resource), resource.kind)]


def test_the_walk_reaches_the_depths() -> None:
    places = {place for place, _ in ALL_NODES}
    assert "DeepSeekJob.spec.runtime.podTemplate.spec.containers[].resources.limits[]" in places
    assert len(places) > 150


def test_only_keywords_of_structural_schemas() -> None:
    for place, node in ALL_NODES:
        assert node.keys() <= KEYWORDS - FORBIDDEN, place
        assert isinstance(node.get("exclusiveMinimum", True), bool), place
        assert not isinstance(node.get("additionalProperties", {}), bool), place
        assert "type" in node or node.get("x-kubernetes-int-or-string"), place
        assert "nullable" not in node, f"{place}: what is optional may be left out"


def test_every_field_has_a_description() -> None:
    for place, node in ALL_NODES:
        for name, field in node.get("properties", {}).items():
            described = field.get("description", "")
            # The API server allows no description of metadata.
            if f"{place}.{name}" not in ("DeepSeekJob.metadata", "GPUQueue.metadata"):
                assert described.endswith((".", ")")), f"{place}.{name}: {described!r}"
                assert "``" not in described and "\n" not in described, f"{place}.{name}"


def test_lists_say_how_they_merge_and_map_keys_are_required() -> None:
    for place, node in ALL_NODES:
        if node.get("type") == "array":
            assert node["x-kubernetes-list-type"] in ("map", "atomic"), place
            keys = node.get("x-kubernetes-list-map-keys", [])
            assert set(keys) <= set(node["items"].get("required", ())), place
            assert "maxItems" in node, f"{place} has no bound"
        if "additionalProperties" in node:
            assert "maxProperties" in node, f"{place} has no bound"


def test_every_rule_has_a_sentence_and_names_fields_that_exist() -> None:
    rules = [
        (place, node, rule) for place, node in ALL_NODES for rule in node.get("x-kubernetes-validations", ())
    ]
    assert len(rules) > 20
    for place, node, rule in rules:
        assert len(rule["message"]) > 20, place
        inner = node
        for name in rule.get("fieldPath", "").split(".")[1:]:
            inner = inner["properties"][name]


def test_status_has_no_defaults() -> None:
    """A default would put words into the status that the operator never wrote."""
    for resource in RESOURCES:
        for place, node in nodes(structural_schema(resource.status), resource.status.__name__):
            assert "default" not in node, place


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda r: r.kind)
def test_columns_and_selectable_fields_point_at_fields(resource: Resource) -> None:
    places = {place for place, _ in ALL_NODES}
    for column in resource.columns:
        if not column.path.startswith(".metadata"):
            assert resource.kind + column.path in places, column.name
    for path in resource.selectable:
        assert resource.kind + path in places


def test_names_that_others_rely_on() -> None:
    job, queue = (custom_resource_definition(resource) for resource in RESOURCES)
    assert job["metadata"]["name"] == "deepseekjobs.drse.dev"
    assert job["spec"]["scope"] == "Namespaced"
    assert job["spec"]["names"]["shortNames"] == ["dsj"]
    assert job["spec"]["versions"][0]["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }
    assert queue["metadata"]["name"] == "gpuqueues.drse.dev"
    assert queue["spec"]["scope"] == "Cluster"
    assert queue["spec"]["names"]["shortNames"] == ["gq"]


# -- the conversion ------------------------------------------------------------------------------------


class Item(ApiModel):
    """One item.

    More about it, for developers.
    """

    name: str = Field(max_length=5, description="Name.")


class Sample(ApiModel):
    """A ``sample``."""

    ratio: float = Field(default=0.5, gt=0, lt=1, description="A ratio.")
    big: int | None = Field(default=None, ge=0, description="A large number.")
    items: Annotated[tuple[Item, ...], KeyedBy(("name",))] | None = Field(
        default=None, max_length=3, description="Items."
    )
    free: dict[str, Any] | None = Field(default=None, description="Anything.")


class SampleStatus(StatusModel):
    """What became of it."""

    count: int = Field(default=0, description="How many.")


def test_conversion_of_each_construct() -> None:
    assert structural_schema(Sample) == {
        "description": "A `sample`.",
        "type": "object",
        "properties": {
            "ratio": {
                "description": "A ratio.",
                "type": "number",
                "format": "double",
                "default": 0.5,
                "minimum": 0.0,
                "exclusiveMinimum": True,
                "maximum": 1.0,
                "exclusiveMaximum": True,
            },
            "big": {"description": "A large number.", "type": "integer", "format": "int64", "minimum": 0},
            "items": {
                "description": "Items.",
                "type": "array",
                "maxItems": 3,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {
                    "description": "One item.",
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"description": "Name.", "type": "string", "maxLength": 5}},
                },
            },
            "free": {
                "description": "Anything.",
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
            },
        },
    }
    assert "default" not in structural_schema(SampleStatus)["properties"]["count"]


def test_union_is_refused() -> None:
    class Union(ApiModel):
        """Two things."""

        either: int | str = Field(description="Either.")

    with pytest.raises(ValueError, match=r"Union\.either: structural schemas know no unions"):
        structural_schema(Union)


def test_default_of_an_object_is_written_out() -> None:
    """The API server checks rules on the default before it fills the default's own fields."""
    properties = structural_schema(DeepSeekJobSpec)["properties"]
    inner = properties["scaling"]["properties"]
    assert properties["scaling"]["default"] == {name: field["default"] for name, field in inner.items()}
    assert properties["resources"]["default"] == {}


# -- the page -----------------------------------------------------------------------------------------


def test_reference_explains_every_type_once() -> None:
    headings = [line for line in reference.reference().splitlines() if line.startswith("#")]
    assert len(headings) == len(set(headings))
    assert {"### DeepSeekJobSpec", "### Assignment", "### WaitReason", "### Phase"} <= set(headings)
