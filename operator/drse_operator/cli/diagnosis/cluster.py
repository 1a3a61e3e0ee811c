"""Checks of the cluster: its API, what is in it, and who holds what."""

from __future__ import annotations

from typing import Any

from drse_operator.api.base import API_VERSION
from drse_operator.api.crd import RESOURCES, object_schema
from drse_operator.api.reasons import ConditionType
from drse_operator.api.words import count
from drse_operator.cli.diagnosis.finding import Case, Finding, State, finding
from drse_operator.cluster.client import ApiError, Kind
from drse_operator.observe.views.queue import must_act

_CRD = Kind("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", False)
#: A status that lags behind its spec for longer means that nobody works on it (seconds).
_LAG = 30.0


async def api_server(case: Case) -> Finding:
    """Whether the API server answers."""
    answer = await case.session.api.request("GET", "/version")
    return finding("api-server", State.OK, f"{case.session.host} answers, {answer.get('gitVersion')}")


async def definitions(case: Case) -> Finding:
    """Whether the cluster knows all fields that this program writes and reads."""
    missing: list[str] = []
    for resource in RESOURCES:
        try:
            found = await case.session.api.get(_CRD, f"{resource.plural}.drse.dev")
        except ApiError as error:
            if error.status == 403:
                return finding("definitions", State.SKIP, "you may not read CustomResourceDefinitions")
            raise
        served = next(v for v in found["spec"]["versions"] if v["name"] == API_VERSION.partition("/")[2])
        have = set(_fields(served["schema"]["openAPIV3Schema"]))
        missing += [f"{resource.kind}.{f}" for f in _fields(object_schema(resource)) if f not in have]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        says = f"the cluster's definitions lack {', '.join(missing[:3])}{more}"
        return finding("definitions", State.FAIL, says, "apply the CRDs of this version (helm upgrade)")
    return finding("definitions", State.OK, "DeepSeekJob and GPUQueue are those of this version")


def _fields(schema: dict[str, Any], path: str = "") -> list[str]:
    found = []
    for name, inner in (schema.get("properties") or {}).items():
        here = f"{path}.{name}" if path else name
        found += [here, *_fields(inner, here)]
    if isinstance(schema.get("items"), dict):
        found += _fields(schema["items"], f"{path}[]")
    return found


def rights(case: Case) -> Finding:
    """Whether the caller sees what the planner sees."""
    if case.scene.complete:
        return finding("rights", State.OK, "you may list everything that the planner looks at")
    says = f"you may not list {', '.join(case.scene.unread)} in the whole cluster"
    return finding("rights", State.WARN, says, "enough for your own jobs; whatif and suggestions need it")


def answered(case: Case) -> Finding:
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
        return finding("operator", State.FAIL, says, "look at the operator's log")
    return finding("operator", State.OK, "every job has been answered")


def queues(case: Case) -> Finding:
    """Whether every job has a queue to wait in."""
    names = {queue.name for queue in case.scene.world.queues.values()}
    lost = [j for j in case.scene.world.all_jobs() if j.spec is not None and j.spec.queue not in names]
    if "gpuqueues" in case.scene.unread:
        return finding("queues", State.SKIP, "you may not list GPUQueues")
    if not names:
        return finding("queues", State.FAIL, "there is no GPUQueue", "create one named default")
    if lost:
        assert lost[0].spec is not None
        says = f"{count(len(lost), 'job')} in a GPUQueue that does not exist, such as {lost[0].spec.queue}"
        return finding("queues", State.WARN, says, "create it, or change spec.queue")
    default = "" if "default" in names else "; none is named default, where jobs go that name none"
    return finding("queues", State.OK, f"{count(len(names), 'GPUQueue')}{default}")


def gpus(case: Case) -> Finding:
    """Whether there are GPUs, and each is published once."""
    world = case.scene.world
    if "nodes" in case.scene.unread:
        return finding("gpus", State.SKIP, "you may not list nodes")
    found = case.scene.picture.fleet.gpus
    if not found:
        return finding(
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
        return finding("gpus", State.FAIL, says, "turn one of them off: they would give a GPU out twice")
    total = sum(gpus.count for gpus in found)
    kinds_ = count(len({gpus.product for gpus in found}), "kind")
    return finding("gpus", State.OK, f"{count(total, 'GPU')} of {kinds_}")


def dra(case: Case) -> Finding:
    """Whether GPUs are published by name, which is what exact assignment and the use by job need."""
    if "resourceslices" in case.scene.unread:
        return finding("dra", State.SKIP, "you may not list ResourceSlices")
    found = case.scene.picture.fleet.gpus
    total = sum(gpus.count for gpus in found)
    exact = sum(gpus.count for gpus in found if gpus.devices)
    if not total:
        return finding("dra", State.SKIP, "there are no GPUs to publish")
    if not exact:
        says = "no GPU is published by name, so device plugins pick them and their use by job is unknown"
        return finding("dra", State.WARN, says, "install a DRA driver where exact GPUs matter")
    rest = f"; device plugins pick the other {total - exact}" if total > exact else ""
    return finding("dra", State.OK, f"{exact} of {count(total, 'GPU')} are published by name{rest}")


def exclusive(case: Case) -> Finding:
    """Whether each GPU has one holder at most."""
    conflicts = case.scene.usage.conflicts
    if conflicts:
        one = conflicts[0]
        says = f"GPU {one.uuid} is promised to {one.first} and to {one.second}"
        return finding("exclusive", State.FAIL, says, "the later one is taken back; report this")
    return finding("exclusive", State.OK, "no GPU is promised twice")


def devices(case: Case) -> Finding:
    """Whether jobs run on GPUs that are well."""
    sick = [
        (job, condition)
        for job in case.scene.world.all_jobs()
        for condition in job.status.conditions
        if condition.type == ConditionType.DEVICES_HEALTHY and condition.status == "False"
    ]
    if sick:
        job, condition = sick[0]
        says = f"{count(len(sick), 'job')} on GPUs that are not well: {job.key}: {condition.message}"
        return finding("devices", State.WARN, says, f"drse requeue {job.key.name} moves it")
    return finding("devices", State.OK, "all GPUs that jobs hold are well")


def waits(case: Case) -> Finding:
    """Whether waiting jobs wait for others alone."""
    stuck = [wait for wait in case.scene.waits.values() if must_act(wait.reason)]
    if stuck:
        first = stuck[0]
        waiting = f"{count(len(stuck), 'job')} waiting until somebody acts"
        says = f"{waiting}, such as {first.job.key} ({first.reason})"
        return finding(
            "waits", State.WARN, says, f"drse why {first.job.key.name} -n {first.job.key.namespace}"
        )
    jobs = len(case.scene.waits)
    says = f"{count(jobs, 'job')} waiting, for others to end" if jobs else "no job waits"
    return finding("waits", State.OK, says)
