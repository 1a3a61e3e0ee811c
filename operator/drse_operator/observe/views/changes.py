"""From what somebody writes, YAML or ``queue.NAME.FIELD=VALUE``, to the changes of a what-if."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from drse_operator.api.base import API_VERSION
from drse_operator.api.crd import RESOURCES, object_schema
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.gpuqueue import GPUQueueSpec
from drse_operator.api.keys import JobKey
from drse_operator.cluster.world import World
from drse_operator.observe.views.documents import DocumentError, read_documents, read_value
from drse_operator.observe.views.fork import Change, PutJob, PutQueue

#: Names of objects, as the API server takes them (RFC 1123 subdomains).
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class ChangeError(Exception):
    """A change that cannot be read; the message says what to write instead."""


def parse_documents(text: str, source: str) -> list[dict[str, Any]]:
    """DeepSeekJobs and GPUQueues in YAML; ``source`` names it in errors. Raises ChangeError."""
    try:
        documents = read_documents(text)
    except DocumentError as error:
        raise ChangeError(f"{source} {error}") from error
    for document in documents:
        if not isinstance(document, dict) or document.get("apiVersion") != API_VERSION:
            raise ChangeError(
                f"{source} holds something else than DeepSeekJobs and GPUQueues of {API_VERSION}"
            )
        _check_metadata(document, source)
    if not documents:
        raise ChangeError(f"{source} is empty")
    return documents


def _check_metadata(document: dict[str, Any], source: str) -> None:
    """Names are those that the API server would take."""
    kind, metadata = document.get("kind"), document.get("metadata") or {}
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise ChangeError(f"{source} holds a {kind} without metadata.name: give it one")
    for field in ("name", "namespace"):
        value = metadata.get(field, "x")
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise ChangeError(
                f"{source} holds a {kind} whose metadata.{field} is no name: take lower case letters, digits "
                "and hyphens"
            )


def parse_changes(text: str, source: str, namespace: str) -> Iterator[Change]:
    """The objects in YAML as changes. Raises ChangeError with what the API server would refuse."""
    for document in parse_documents(text, source):
        if document.get("kind") == "GPUQueue":
            name = document["metadata"]["name"]
            yield PutQueue(name, _queue_spec(name, document.get("spec") or {}))
        else:
            yield job_change(document, namespace)


def job_change(document: dict[str, Any], namespace: str) -> PutJob:
    """A DeepSeekJob as a change. Raises ChangeError for anything else, and for what would be refused."""
    name = document["metadata"]["name"]
    if document.get("kind") != "DeepSeekJob":
        raise ChangeError(f"{name} is a {document.get('kind')}: give a DeepSeekJob")
    key = JobKey(document["metadata"].get("namespace") or namespace, name)
    return PutJob(key, _job_spec(str(key), document.get("spec") or {}))


def settings(world: World, texts: Sequence[str], namespace: str) -> list[Change]:
    """``queue.NAME.FIELD=VALUE`` and ``job.NAME.FIELD=VALUE`` as changes of what is there. Later ones see
    what earlier ones set. Raises ChangeError."""
    specs: dict[tuple[str, str], dict[str, Any]] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        kind, _, rest = path.partition(".")
        name, _, fields = rest.partition(".")
        if not equals or kind not in ("queue", "job") or not name or not fields:
            raise ChangeError(
                f"cannot read --set {text}: write queue.NAME.FIELD=VALUE or job.NAME.FIELD=VALUE"
            )
        spec = specs.setdefault((kind, name), _current(world, kind, name, namespace))
        _put(spec, fields.split("."), _value(text, value))
    changes: list[Change] = []
    for (kind, name), spec in specs.items():
        if kind == "queue":
            changes.append(PutQueue(name, _queue_spec(name, spec)))
        else:
            key = _key(name, namespace)
            changes.append(PutJob(key, _job_spec(str(key), spec)))
    return changes


def _value(text: str, value: str) -> Any:
    try:
        return read_value(value)
    except DocumentError as error:
        raise ChangeError(f"cannot read --set {text}: the value {error}") from error


def _current(world: World, kind: str, name: str, namespace: str) -> dict[str, Any]:
    if kind == "queue":
        queue = world.queues.get("", name)
        if queue is None or queue.spec is None:
            have = ", ".join(sorted(q.name for q in world.queues.values())) or "none"
            raise ChangeError(f"there is no GPUQueue {name} (there are: {have})")
        return queue.spec.to_wire()
    key = _key(name, namespace)
    job = world.jobs.get(key.namespace, key.name)
    if job is None or job.spec is None:
        raise ChangeError(f"there is no DeepSeekJob {key.name} in namespace {key.namespace}")
    return job.spec.to_wire()


def _key(name: str, namespace: str) -> JobKey:
    stated, slash, rest = name.partition("/")
    return JobKey(stated, rest) if slash else JobKey(namespace, name)


def _put(spec: dict[str, Any], fields: list[str], value: object) -> None:
    for field in fields[:-1]:
        spec = spec.setdefault(field, {})
        if not isinstance(spec, dict):
            raise ChangeError(f"{field} has no fields of its own")
    spec[fields[-1]] = value


def _job_spec(name: str, spec: dict[str, Any]) -> DeepSeekJobSpec:
    try:
        return DeepSeekJobSpec.from_wire(spec)
    except ValidationError as error:
        raise ChangeError(_refusal(f"DeepSeekJob {name}", error)) from error


def _queue_spec(name: str, spec: dict[str, Any]) -> GPUQueueSpec:
    try:
        return GPUQueueSpec.from_wire(spec)
    except ValidationError as error:
        raise ChangeError(_refusal(f"GPUQueue {name}", error)) from error


def _refusal(what: str, error: ValidationError) -> str:
    found = error.errors()
    # A field that is missing may be the one that was misspelt.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    if first["type"] == "extra_forbidden":
        return f"{what} would be refused: {_unknown_field(what.split()[0], first['loc'])}"
    place = ".".join(["spec", *(str(part) for part in first["loc"])])
    return f"{what} would be refused: {place}: {first['msg'].removeprefix('Value error, ')}"


def _unknown_field(kind: str, place: tuple[int | str, ...]) -> str:
    """What the API server's strict decoding says, and the field that was meant."""
    *above, name = (str(part) for part in place)
    schema = next(object_schema(r) for r in RESOURCES if r.kind == kind)["properties"]["spec"]
    for part in above:
        items = schema.get("items") or schema.get("additionalProperties") or {}
        schema = items if part.isdigit() else schema.get("properties", {}).get(part, items)
    fields = {field.lower(): field for field in schema.get("properties", {})}
    near = difflib.get_close_matches(name.lower(), fields, 1)
    meant = f": did you mean {fields[near[0]]}?" if near else f"; it has {', '.join(sorted(fields.values()))}"
    return f"{'.'.join(['spec', *above])} has no field {name}{meant}"
