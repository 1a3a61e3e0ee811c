"""The API server and the pydantic models accept the same objects, and fill in the same defaults.

Level: the real API server, by dry run. The examples are drawn from the generated schema, so that a new
field is covered without a change here: a valid object, some parts of it redrawn, some parts spoiled. What
each refusal tells the user is in ``test_refusals.py``, the conversion itself in ``tests/api``.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from kubernetes import client
from pydantic import ValidationError
from pydantic.alias_generators import to_snake

from drse_operator.api.base import API_VERSION, GROUP, VERSION, ApiModel
from drse_operator.api.crd import DEEPSEEKJOB, GPUQUEUE, Resource
from drse_operator.api.schema import structural_schema

Json = Any
Path = tuple[str | int, ...]

#: Valid specs to start from; together they use every part of the API.
JOBS: tuple[Json, ...] = (
    {"taskType": "Inference", "model": {"name": "deepseek-ai/DeepSeek-R1"}},
    {
        "taskType": "Inference",
        "model": {
            "name": "deepseek-ai/DeepSeek-V3",
            "precision": "FP8",
            "contextLength": 32768,
            "concurrency": 4,
        },
        "scaling": {
            "mode": "Auto",
            "minReplicas": 1,
            "maxReplicas": 8,
            "scaleUpAt": 0.75,
            "scaleDownAt": 0.25,
        },
        "runtime": {"engine": "SGLang", "args": ["--enable-metrics"], "env": [{"name": "A", "value": "1"}]},
    },
    {
        "taskType": "PreTraining",
        "priorityClassName": "high",
        "estimatedDuration": "1h30m",
        "activeDeadlineSeconds": 7200,
        "ttlSecondsAfterFinished": 0,
        "model": {"shape": {"parameters": "1.5B", "layers": 28, "hiddenSize": 1536}},
        "resources": {
            "gpusPerReplica": 64,
            "workersPerReplica": 2,
            "memoryPerGPU": "80Gi",
            "accelerators": [{"vendor": "nvidia", "product": "H100"}, {"vendor": "amd"}],
            "topology": {"scope": "Rack", "mode": "Required"},
        },
        "runtime": {
            "engine": "Custom",
            "image": "registry.example.com/train:1",
            "command": ["torchrun"],
            "podTemplate": {
                "metadata": {"labels": {"team": "research"}, "annotations": {"note": "any text"}},
                "spec": {
                    "tolerations": [{"operator": "Exists"}],
                    "initContainers": [{"name": "fetch", "image": "busybox"}],
                    "containers": [{"name": "engine", "resources": {"limits": {"cpu": 4, "memory": "64Gi"}}}],
                },
            },
        },
    },
)
QUEUES: tuple[Json, ...] = (
    {},
    {
        "weight": 3,
        "guaranteed": 8,
        "limit": 64,
        "namespaces": {"names": ["research"], "matchLabels": {"a": "b"}},
    },
)
#: Values that are wrong in most places, and right in some where one would not think so.
ODD_VALUES: tuple[Json, ...] = (
    None, "", "x", "5", "é" * 60, "é" * 300, "a\n", "0s", "10m\n", "80Gi\n",
    0, -1, 1, 1.0, 1.5, 5e3, 2**31, 2**62, 1e300,
    True, False, [], [None], ["x"], {}, {"x": None}, {"name": "A"}, [{"name": "a"}, {"name": "a"}], [{}],
    {"nvidia.com/gpu": 1}, {"drse.dev/job": "x"}, {"cpu": "lots"}, {"cpu": 0.5}, {"cpu": 2.0}, {"cpu": None},
)  # fmt: skip


#: The one known difference. The schema takes 1.0 for an integer, and so do the models; but a CEL rule or the
#: scale subresource that reads such a field fails with one of these texts, so the server's answer depends on
#: who reads it. ``kubectl`` never sends 1.0: it turns YAML into JSON first, and writes 1.
WHOLE_FLOAT_REFUSALS = ("expected int, got float64", "is of the type float64, expected int64")


class DryRun:
    """Creates objects of one kind without storing them."""

    def __init__(self, custom_objects: client.CustomObjectsApi, resource: Resource) -> None:
        self._kind = resource.kind
        where = {"group": GROUP, "version": VERSION, "plural": resource.plural}
        self._create = (
            partial(custom_objects.create_namespaced_custom_object, namespace="default", **where)
            if resource.namespaced
            else partial(custom_objects.create_cluster_custom_object, **where)
        )

    def create(self, spec: Json) -> tuple[Json | None, str]:
        """The spec as the server would store it, or None and why it is refused."""
        body = {
            "apiVersion": API_VERSION,
            "kind": self._kind,
            "metadata": {"name": "agreement"},
            "spec": spec,
        }
        try:
            stored = self._create(body=body, dry_run="All", field_validation="Strict")
        except client.ApiException as error:
            assert error.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY), error
            return None, json.loads(error.body)["message"]
        return stored["spec"], ""


# -- drawing specs -------------------------------------------------------------------------------------

NAMES = st.sampled_from(("a", "b", "team", "example.com/x", "cpu", "A_1", "x y", ""))
LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5)


def values(schema: Mapping[str, Any]) -> st.SearchStrategy[Json]:
    """Values that the keywords of ``schema`` allow; its rules may still refuse them."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(0, 100) | st.sampled_from(("1", "500m", "1.5Gi", "1e3", ".5"))
    return _BY_TYPE[schema["type"]](schema)


def objects(schema: Mapping[str, Any]) -> st.SearchStrategy[Json]:
    if "additionalProperties" in schema:
        return st.dictionaries(NAMES, values(schema["additionalProperties"]), max_size=3)
    required = set(schema.get("required", ()))
    fields = {name: values(field) for name, field in schema.get("properties", {}).items()}
    known = st.fixed_dictionaries(
        {name: field for name, field in fields.items() if name in required},
        optional={name: field for name, field in fields.items() if name not in required},
    )
    if not schema.get("x-kubernetes-preserve-unknown-fields"):
        return known
    others = st.dictionaries(st.sampled_from(("volumes", "x", "node_name")), LEAVES, max_size=2)
    return st.builds(lambda one, other: {**other, **one}, known, others)


def strings(schema: Mapping[str, Any]) -> st.SearchStrategy[Json]:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 20)
    patterns = [schema["pattern"]] if "pattern" in schema else []
    for rule in schema.get("x-kubernetes-validations", ()):
        patterns += re.findall(r"^self\.matches\('(.*)'\)$", rule["rule"])
    if patterns:
        drawn = st.from_regex(patterns[0].removeprefix("^").removesuffix("$"), fullmatch=True)
        return drawn.filter(lambda text: least <= len(text) <= most)
    return st.text(min_size=least, max_size=min(most, 20)) | st.just("é" * most if most < 1000 else "é")


def arrays(schema: Mapping[str, Any]) -> st.SearchStrategy[Json]:
    return st.lists(values(schema["items"]), max_size=min(3, schema.get("maxItems", 3)))


def integers(schema: Mapping[str, Any]) -> st.SearchStrategy[Json]:
    low, high = schema["minimum"], schema["maximum"]
    edges = st.sampled_from((low - 1, low, low + 1, high - 1, high, high + 1, float(low), low + 0.5))
    return st.integers(low, min(high, low + 10)) | st.integers(low, high) | edges


def numbers(schema: Mapping[str, Any]) -> st.SearchStrategy[Json]:
    low, high = schema["minimum"], schema["maximum"]
    return st.floats(low, high) | st.sampled_from((low, high, low - 0.01, high + 0.01, 1))


_BY_TYPE: dict[str, Callable[[Mapping[str, Any]], st.SearchStrategy[Json]]] = {
    "object": objects,
    "array": arrays,
    "string": strings,
    "integer": integers,
    "number": numbers,
    "boolean": lambda _: st.booleans(),
}


def fields(schema: Mapping[str, Any], at: Path = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Path and schema of every field that can be reached without a list."""
    for name, field in schema.get("properties", {}).items():
        yield (*at, name), field
        yield from fields(field, (*at, name))


@st.composite
def specs(draw: st.DrawFn, bases: tuple[Json, ...], schema: Mapping[str, Any]) -> Json:
    """A valid spec with up to two fields redrawn and up to two places spoiled."""
    spec = copy.deepcopy(draw(st.sampled_from(bases)))
    everywhere = list(fields(schema))
    for path, field in draw(st.lists(st.sampled_from(everywhere), max_size=2)):
        put(spec, path, draw(values(field)))
    for _ in range(draw(st.integers(0, 2))):
        spec = draw(spoiled(spec))
    return spec


def put(tree: Json, path: Path, value: Json) -> None:
    """Set the value at ``path``, with objects on the way where there are none."""
    for step in path[:-1]:
        if not isinstance(tree.get(step), dict):
            tree[step] = {}
        tree = tree[step]
    tree[path[-1]] = value


def places(tree: Json, at: Path = ()) -> Iterator[Path]:
    """Paths of all that is in ``tree``."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for step, value in inner:
        yield (*at, step)
        yield from places(value, (*at, step))


@st.composite
def spoiled(draw: st.DrawFn, spec: Json) -> Json:
    """A copy of ``spec`` with one place changed as people and programs get it wrong."""
    spec = copy.deepcopy(spec)
    found = list(places(spec))
    if not found:
        return {"unknown": 1}
    path = draw(st.sampled_from(found))
    parent = spec
    for step in path[:-1]:
        parent = parent[step]
    step = path[-1]
    if draw(st.booleans()):
        parent[step] = draw(st.sampled_from(ODD_VALUES))
    else:
        draw(st.sampled_from(MISTAKES))(parent, step)
    return spec


def leave_out(parent: Json, step: Any) -> None:
    del parent[step]


def say_null(parent: Json, step: Any) -> None:
    parent[step] = None


def add_unknown(parent: Json, step: Any) -> None:
    parent.append("unknown") if isinstance(parent, list) else parent.update(unknown=None)


def write_snake_case(parent: Json, step: Any) -> None:
    if isinstance(parent, dict):
        parent[to_snake(step)] = parent.pop(step)


def repeat_item(parent: Json, step: Any) -> None:
    if isinstance(parent, list):
        parent.append(copy.deepcopy(parent[step]))


def end_with_newline(parent: Json, step: Any) -> None:
    if isinstance(parent[step], str):
        parent[step] += "\n"


def write_as_text(parent: Json, step: Any) -> None:
    parent[step] = str(parent[step])


def write_as_float(parent: Json, step: Any) -> None:
    if isinstance(parent[step], int):
        parent[step] = float(parent[step])


MISTAKES: tuple[Callable[[Json, Any], None], ...] = (
    leave_out, say_null, add_unknown, write_snake_case, repeat_item,
    end_with_newline, write_as_text, write_as_float,
)  # fmt: skip


# -- comparing -----------------------------------------------------------------------------------------


def agree(dry_run: DryRun, model: type[ApiModel], spec: Json) -> bool:
    """Whether ``spec`` is accepted; fails unless both sides say the same."""
    stored, refusal = dry_run.create(spec)
    try:
        parsed = model.from_wire(spec)
    except ValidationError as error:
        assert stored is None, f"only pydantic refuses {spec!r}: {error}"
        return False
    if any(text in refusal for text in WHOLE_FLOAT_REFUSALS):
        return False
    assert stored is not None, f"only the API server refuses {spec!r}: {refusal}"
    assert without_empties(stored) == without_empties(parsed.to_wire()), "defaults differ"
    assert model.from_wire(stored) == parsed, "what is stored reads differently from what was applied"
    return True


def without_empties(tree: Json) -> Json:
    """``tree`` without nulls and empty containers: the models write empty lists out, the server does not."""
    if isinstance(tree, dict):
        inner = {name: without_empties(value) for name, value in tree.items()}
        return {name: value for name, value in inner.items() if value not in (None, [], {})}
    return [without_empties(value) for value in tree] if isinstance(tree, list) else tree


@pytest.mark.parametrize(
    ("resource", "bases"), [(DEEPSEEKJOB, JOBS), (GPUQUEUE, QUEUES)], ids=["job", "queue"]
)
def test_both_accept_the_same_specs(
    custom_objects: client.CustomObjectsApi, resource: Resource, bases: tuple[Json, ...]
) -> None:
    dry_run = DryRun(custom_objects, resource)
    verdicts: Counter[bool] = Counter()

    @settings(
        max_examples=600,
        print_blob=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(spec=specs(bases, structural_schema(resource.spec)))
    def check(spec: Json) -> None:
        note(f"{spec!r}")
        verdicts[agree(dry_run, resource.spec, spec)] += 1

    check()
    # A generator that drifts to one side would prove little.
    assert min(verdicts[True], verdicts[False]) > 100, verdicts
