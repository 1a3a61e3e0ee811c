"""``docs/reference/api.md``: every type, field, rule and reason of the API, from the models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

import yaml

from drse_operator.api.base import API_VERSION, ApiModel
from drse_operator.api.crd import RESOURCES, Resource
from drse_operator.api.reasons import (
    ConditionType,
    EventReason,
    MoveReason,
    ScalingReason,
    StateReason,
    WaitReason,
)
from drse_operator.api.schema import one_line, structural_schema
from drse_operator.api.words import Word

_INTRODUCTION = f"""# API reference

Group and version `{API_VERSION}`. Written from the models by `make crds`; `kubectl explain dsj.spec` says the
same in the terminal. Fields in **bold** are required. Explicit nulls count as left out.
"""
_WAITS = """A job that does not hold the GPUs it asks for says why in `status.queue.reason`, and in the
condition `Admitted`. The numbers are in the message beside it."""

_OTHER_REASONS = (MoveReason, ScalingReason, ConditionType, StateReason, EventReason)


def reference() -> str:
    """The whole page, in Markdown."""
    parts, described = [_INTRODUCTION], dict[type[ApiModel], None]()
    for resource in RESOURCES:
        parts.append(_kind(resource))
        new = [model for model in _models((resource.spec, resource.status)) if model not in described]
        described |= dict.fromkeys(new)
        parts += [_type(model) for model in new]
    words = {word.__name__: word for model in described for word in _named(model, Word)}
    parts.append("## Words\n")
    parts += [_word_list(words[name]) for name in sorted(words)]
    parts.append("## Reasons\n")
    parts.append(_wait_reasons())
    parts += [_word_list(reasons) for reasons in _OTHER_REASONS]
    return "\n".join(parts)


# -- kinds and types ---------------------------------------------------------------------------------------


def _kind(resource: Resource) -> str:
    scope = "Namespaced" if resource.namespaced else "Cluster-scoped"
    rules = [rule.message for rule in resource.rules]
    return "\n".join(
        (
            f"## {resource.kind}\n",
            f"{resource.description} {scope}, short name `{resource.short_name}`.\n",
            f"`spec` is a {_link(resource.spec)}, `status` a {_link(resource.status)}.\n",
            _bullets("Rules on the whole object:", rules),
        )
    )


def _models(roots: tuple[type[ApiModel], ...]) -> Iterator[type[ApiModel]]:
    """The models and all that they are made of, each once, in reading order."""
    waiting, seen = list(roots), set[type[ApiModel]]()
    while waiting:
        model = waiting.pop(0)
        if model not in seen:
            seen.add(model)
            yield model
            waiting[:0] = _named(model, ApiModel)


def _type(model: type[ApiModel]) -> str:
    schema = structural_schema(model)
    rows = [_row(model, name, schema) for name in schema["properties"]]
    parts = (
        f"### {model.__name__}\n",
        f"{schema['description']}\n",
        table(("Field", "Type", "Default", "Description"), rows),
        _bullets("Rules:", [rule.message for rule in model.rules]),
    )
    return "\n".join(part for part in parts if part)


def _row(model: type[ApiModel], name: str, schema: Mapping[str, Any]) -> tuple[str, ...]:
    field = schema["properties"][name]
    shown = f"**`{name}`**" if name in schema.get("required", ()) else f"`{name}`"
    python_field = next(f for key, f in model.model_fields.items() if (f.alias or key) == name)
    types = list(_classes(python_field.annotation, (ApiModel, Word)))
    linked = _link(types[0]) if types else None
    form = [
        rule["message"]
        for rule in field.get("x-kubernetes-validations", ())
        if "self.matches" in rule["rule"]
    ]
    described = field["description"] + "".join(f" It {message}." for message in form)
    return shown, _shape(field, linked), _default(field), described


def _shape(field: Mapping[str, Any], linked: str | None) -> str:
    """Type and bounds of a field in a few words; ``linked`` stands for the type inside."""
    if field.get("x-kubernetes-int-or-string"):
        return "integer or quantity"
    match field["type"]:
        case "array":
            inside = linked or _shape(field["items"], None)
            keys = field.get("x-kubernetes-list-map-keys")
            keyed = f", one per {' and '.join(f'`{key}`' for key in keys)}" if keys else ""
            return f"list of {inside}{_at_most(field, 'maxItems')}{keyed}"
        case "object" if "additionalProperties" in field:
            return f"map of {_shape(field['additionalProperties'], None)}{_at_most(field, 'maxProperties')}"
        case "string" if linked is None:
            return str(field.get("format", "string")) + _at_most(field, "maxLength")
        case "integer" | "number":
            return str(field["type"]) + _range(field)
    return linked or str(field["type"])


def _at_most(field: Mapping[str, Any], bound: str) -> str:
    return f", at most {field[bound]:,}" if bound in field else ""


def _range(field: Mapping[str, Any]) -> str:
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None and high is not None:
        return f", {low:,} to {high:,}"
    return f", at least {low:,}" if low is not None else ""


def _default(field: Mapping[str, Any]) -> str:
    if "default" not in field:
        return ""
    if isinstance(field["default"], dict):
        return "its fields' defaults"
    return f"`{yaml.safe_dump(field['default']).splitlines()[0]}`"


def _named(model: type[ApiModel], base: type[Any]) -> list[type[Any]]:
    """Classes derived from ``base`` that the fields of ``model`` name."""
    return [found for field in model.model_fields.values() for found in _classes(field.annotation, (base,))]


def _classes(annotation: Any, bases: tuple[type[Any], ...]) -> Iterator[type[Any]]:
    if isinstance(annotation, type) and issubclass(annotation, bases):
        yield annotation
    for argument in get_args(annotation):
        yield from _classes(argument, bases)


# -- words and reasons -------------------------------------------------------------------------------------


def _word_list(words: type[Word]) -> str:
    rows = [(f"`{word.value}`", word.meaning) for word in words]
    return "\n".join(
        (f"### {words.__name__}\n", f"{one_line(words.__doc__ or '')}\n", table(("Word", "Meaning"), rows))
    )


def _wait_reasons() -> str:
    rows = [
        (f"`{reason.value}`", "you" if reason.user_must_act else "time", reason.meaning)
        for reason in WaitReason
    ]
    return "\n".join(("### WaitReason\n", f"{_WAITS}\n", table(("Reason", "Cleared by", "Meaning"), rows)))


# -- Markdown ----------------------------------------------------------------------------------------------


def _link(named: type[Any]) -> str:
    return f"[{named.__name__}](#{named.__name__.lower()})"


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _bullets(title: str, items: list[str]) -> str:
    return f"{title}\n\n" + "".join(f"- {item}\n" for item in items) if items else ""
