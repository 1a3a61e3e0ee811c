"""The checks of ``drse doctor``: each one looks at one thing, and says what to do when it is not right."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from drse_operator.api import times
from drse_operator.api.base import API_VERSION
from drse_operator.api.crd import RESOURCES, object_schema
from drse_operator.api.reasons import ConditionType
from drse_operator.cli.connect import Session
from drse_operator.cli.forecaster import ask_forecaster
from drse_operator.cli.prometheus import utilisation
from drse_operator.cli.wording import count
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, Kind
from drse_operator.observe.views.base import Row
from drse_operator.observe.views.queue import must_act
from drse_operator.observe.views.scene import Scene

_CRD = Kind("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", False)
#: A status that lags behind its spec for longer means that nobody works on it (seconds).
_LAG = 30.0
_STALE = 300.0


class State(StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    #: Not looked at: not asked for, or not allowed.
    SKIP = "skip"


class Finding(Row):
    """One check."""

    check: str
    state: State
    says: str
    do: str = Field(default="", description="What to do about it.")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the checks look at."""

    session: Session
    scene: Scene
    drse_namespace: str
    forecaster: str | None
    prometheus: str | None


async def diagnose(case: Diagnosis) -> AsyncIterator[Finding]:
    """All checks, from the ground up."""
    yield await _api_server(case)
    yield await _definitions(case)
    yield _rights(case)
    yield await _leader(case)
    yield _attention(case)
    yield _queues(case)
    yield _gpus(case)
    yield _exclusive(case)
    yield _devices(case)
    yield _waits(case)
    yield await _forecasts(case)
    yield await _exporters(case)


def _finding(check: str, state: State, says: str, do: str = "") -> Finding:
    return Finding(check=check, state=state, says=says, do=do)


async def _api_server(case: Diagnosis) -> Finding:
    answer = await case.session.api.request("GET", "/version")
    return _finding("api-server", State.OK, f"{case.session.host} answers, {answer.get('gitVersion')}")


async def _definitions(case: Diagnosis) -> Finding:
    """Whether the cluster knows all fields that this program writes and reads."""
    missing: list[str] = []
    for resource in RESOURCES:
        try:
            found = await case.session.api.get(_CRD, f"{resource.plural}.drse.dev")
        except ApiError as error:
            if error.status == 403:
                return _finding("definitions", State.SKIP, "you may not read CustomResourceDefinitions")
            raise
        served = next(v for v in found["spec"]["versions"] if v["name"] == API_VERSION.partition("/")[2])
        have = set(_fields(served["schema"]["openAPIV3Schema"]))
        missing += [f"{resource.kind}.{f}" for f in _fields(object_schema(resource)) if f not in have]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        says = f"the cluster's definitions lack {', '.join(missing[:3])}{more}"
        return _finding("definitions", State.FAIL, says, "apply the CRDs of this version")
    return _finding("definitions", State.OK, "DeepSeekJob and GPUQueue are those of this version")


def _fields(schema: dict[str, Any], path: str = "") -> list[str]:
    found = []
    for name, inner in (schema.get("properties") or {}).items():
        here = f"{path}.{name}" if path else name
        found += [here, *_fields(inner, here)]
    if isinstance(schema.get("items"), dict):
        found += _fields(schema["items"], f"{path}[]")
    return found


def _rights(case: Diagnosis) -> Finding:
    if case.scene.complete:
        return _finding("rights", State.OK, "you may list everything that the planner looks at")
    says = f"you may not list {', '.join(case.scene.unread)} in the whole cluster"
    return _finding("rights", State.WARN, says, "enough for your own jobs; whatif and suggestions need it")


async def _leader(case: Diagnosis) -> Finding:
    try:
        lease = await case.session.api.get(kinds.LEASE, "drse-operator", case.drse_namespace)
    except ApiError as error:
        if error.status == 403:
            return _finding("leader", State.SKIP, f"you may not read Leases in {case.drse_namespace}")
        if not error.not_found:
            raise
        says = f"there is no Lease drse-operator in {case.drse_namespace}"
        return _finding("leader", State.FAIL, says, "install DRSE there, or give --drse-namespace")
    spec = lease["spec"]
    holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
    if not holder or not renewed:
        return _finding("leader", State.FAIL, "nobody leads", "look at the operator's pods")
    age = datetime.now(UTC).timestamp() - times.from_wire(renewed)
    if age > 2 * spec.get("leaseDurationSeconds", 15):
        says = f"{holder} has not renewed its lead for {age:.0f} s"
        return _finding("leader", State.FAIL, says, "look at the operator's pods")
    return _finding("leader", State.OK, f"{holder} leads")


def _attention(case: Diagnosis) -> Finding:
    """Whether the operator keeps up with what users write."""
    late = [
        job
        for job in case.scene.world.all_jobs()
        if (job.status.observed_generation or 0) < job.generation
        and job.status.phase is None
        and case.scene.now - job.created > _LAG
    ]
    if late:
        says = f"{count(len(late), 'job')} without an answer for {_LAG:.0f} s, such as {late[0].key}"
        return _finding("operator", State.FAIL, says, "look at the operator's log")
    return _finding("operator", State.OK, "every job has been answered")


def _queues(case: Diagnosis) -> Finding:
    names = {queue.name for queue in case.scene.world.queues.values()}
    lost = [j for j in case.scene.world.all_jobs() if j.spec is not None and j.spec.queue not in names]
    if not names:
        return _finding("queues", State.FAIL, "there is no GPUQueue", "create one named default")
    if lost:
        assert lost[0].spec is not None
        says = f"{count(len(lost), 'job')} in a GPUQueue that does not exist, such as {lost[0].spec.queue}"
        return _finding("queues", State.WARN, says, "create it, or change spec.queue")
    default = "" if "default" in names else "; none is named default, which jobs use that name none"
    return _finding("queues", State.OK, f"{count(len(names), 'GPUQueue')}{default}")


def _gpus(case: Diagnosis) -> Finding:
    world = case.scene.world
    if "nodes" in case.scene.unread:
        return _finding("gpus", State.SKIP, "you may not list nodes")
    found = case.scene.picture.fleet.gpus
    if not found:
        return _finding(
            "gpus", State.FAIL, "no node publishes GPUs", "install a DRA driver or a device plugin"
        )
    both = [
        gpus.node
        for gpus in found
        if gpus.devices and (node := world.nodes.get("", gpus.node)) is not None
        for resource, count in node.allocatable.items()
        if count and resource.startswith(gpus.vendor)
    ]
    if both:
        says = f"{both[0]} publishes GPUs both by slices and by a device plugin"
        return _finding("gpus", State.FAIL, says, "turn one of them off: they would give a GPU out twice")
    total = sum(gpus.count for gpus in found)
    exact = sum(gpus.count for gpus in found if gpus.devices)
    kinds_ = len({gpus.product for gpus in found})
    return _finding("gpus", State.OK, f"{total} GPUs of {kinds_} kinds, {exact} of them by name (DRA)")


def _exclusive(case: Diagnosis) -> Finding:
    conflicts = case.scene.usage.conflicts
    if conflicts:
        one = conflicts[0]
        says = f"GPU {one.uuid} is promised to {one.first} and to {one.second}"
        return _finding("exclusive", State.FAIL, says, "the later one is taken back; report this")
    return _finding("exclusive", State.OK, "no GPU is promised twice")


def _devices(case: Diagnosis) -> Finding:
    sick = [
        (job, condition)
        for job in case.scene.world.all_jobs()
        for condition in job.status.conditions
        if condition.type == ConditionType.DEVICES_HEALTHY and condition.status == "False"
    ]
    if sick:
        job, condition = sick[0]
        says = f"{count(len(sick), 'job')} on GPUs that are not well: {job.key}: {condition.message}"
        return _finding("devices", State.WARN, says, f"drse requeue {job.key.name} moves it")
    return _finding("devices", State.OK, "all GPUs that jobs hold are well")


def _waits(case: Diagnosis) -> Finding:
    stuck = [wait for wait in case.scene.waits.values() if must_act(wait.reason)]
    if stuck:
        first = stuck[0]
        waiting = f"{count(len(stuck), 'job')} waiting until somebody acts"
        says = f"{waiting}, such as {first.job.key} ({first.reason})"
        return _finding(
            "waits", State.WARN, says, f"drse why {first.job.key.name} -n {first.job.key.namespace}"
        )
    return _finding(
        "waits", State.OK, f"{count(len(case.scene.waits), 'job')} waiting, all for others to end"
    )


async def _forecasts(case: Diagnosis) -> Finding:
    found, trouble = await ask_forecaster(case.session, case.drse_namespace, case.forecaster)
    scaled = [
        job
        for job in case.scene.world.all_jobs()
        if job.spec is not None and job.spec.scaling.mode.value != "Off"
    ]
    if found is None:
        state = State.WARN if scaled else State.SKIP
        return _finding("forecaster", state, trouble, "scaling on forecast is frozen" if scaled else "")
    age = datetime.now(UTC).timestamp() - found.generated_at.timestamp()
    ready = sum(forecast.ready for forecast in found.forecasts)
    says = f"{ready} of {len(found.forecasts)} forecasts are ready, made {age:.0f} s ago"
    if age > _STALE:
        return _finding("forecaster", State.WARN, says, "look at the forecaster's log")
    return _finding("forecaster", State.OK, says)


async def _exporters(case: Diagnosis) -> Finding:
    """Whether the exporters' series can be joined with who holds what."""
    use = await utilisation(case.prometheus)
    if use is None:
        return _finding("exporters", State.SKIP, "give --prometheus to check them")
    held = {
        device.uuid
        for job in case.scene.world.all_jobs()
        for a in job.status.assignments
        for device in a.devices
    }
    unmeasured = sorted(held - use.keys())
    if unmeasured:
        says = f"{len(unmeasured)} of {len(held)} held GPUs have no use measured, such as {unmeasured[0]}"
        return _finding("exporters", State.WARN, says, "check the exporter there, and its UUID label")
    return _finding("exporters", State.OK, f"the use of all {len(held)} held GPUs is measured")
