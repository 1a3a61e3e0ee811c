"""``runtime.podTemplate``: what in it contradicts an assignment, and how the rest goes under DRSE's pod.

The user's pod spec is the ground that DRSE builds on. Lists of named things (containers, env, volumes) are
merged by name. The container called ``engine`` may change anything but what makes the assignment true: its
GPUs and its claim. ``schedulerName`` is let through on purpose: any scheduler that keeps node affinity and
claims will do, and a pod it never binds is released like any other that does not bind in time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.workloads import names
from drse_operator.workloads.names import Document

#: Extended resources that are GPUs or parts of GPUs, and those that DRA makes from device classes. Network
#: devices of the same makers, such as nvidia.com/hostdev, are the user's own business.
_GPU_RESOURCE = re.compile(
    r"^(nvidia\.com/(gpu|mig-)|amd\.com/(gpu|[a-z]+_nps)|habana\.ai/gaudi|gpu\.intel\.com/"
    r"|deviceclass\.resource\.kubernetes\.io/)"
)
_CONTAINER_LISTS = ("containers", "initContainers")
#: Free fields that are merged with what DRSE builds, and so must be of their right type.
_POD_LISTS = ("volumes", "tolerations", "resourceClaims", "initContainers")
_CONTAINER_FIELD_LISTS = ("env", "volumeMounts", "ports")


def restart_policy(spec: DeepSeekJobSpec) -> str:
    """Services are restarted in place; of other tasks an ended pod is a result, and DRSE starts the next."""
    return "Always" if spec.task_type.serves else "Never"


def template_conflict(spec: DeepSeekJobSpec) -> str | None:
    """What in the pod template contradicts an assignment and the API server cannot see, in a sentence.

    None when the template can be honoured. The first conflict is told, in a fixed order.
    """
    return next(_conflicts(spec), None)


def pod_spec_of(spec: DeepSeekJobSpec) -> Document:
    """The user's pod spec as a document of its own, empty when there is none."""
    template = spec.runtime.pod_template
    return template.spec.to_wire() if template is not None and template.spec is not None else {}


def pod_metadata_of(spec: DeepSeekJobSpec) -> Document:
    """The user's labels and annotations, empty when there are none."""
    template = spec.runtime.pod_template
    return template.metadata.to_wire() if template is not None and template.metadata is not None else {}


def merge_by(key: str, under: Iterable[Document], over: Iterable[Document]) -> list[Document]:
    """Two lists of documents that ``key`` identifies: order of ``under``, then what is new in ``over``.

    Where both have an element, that of ``over`` stands alone: halves of two sources make neither. Elements
    without the key are all kept.
    """
    merged: dict[object, Document] = {}
    for place, element in enumerate((*under, *over)):
        merged[(element[key],) if key in element else place] = element
    return list(merged.values())


def _conflicts(spec: DeepSeekJobSpec) -> Iterator[str]:
    theirs = pod_spec_of(spec)
    yield from _wrong_types(theirs)
    yield from _placement_conflicts(theirs, restart_policy(spec))
    yield from _gpu_conflicts(theirs)


def _wrong_types(theirs: Document) -> Iterator[str]:
    """The schema lets most of a pod spec pass unread; what cannot be merged is told before it is tried."""
    place = "podTemplate.spec"
    yield from _not_lists_of_objects(place, theirs, _POD_LISTS)
    affinity = theirs.get("affinity")
    for path, value in ((f"{place}.affinity", affinity), (f"{place}.affinity.nodeAffinity", _node(affinity))):
        if value is not None and not isinstance(value, dict):
            yield f"{path} must be an object, as in a pod."
    for container in _sequence(theirs, "containers"):
        document = _mapping(container)
        where = f"container {document.get('name')} in {place}.containers"
        yield from _not_lists_of_objects(where, document, _CONTAINER_FIELD_LISTS)
        yield from _not_lists_of_objects(
            f"{where}, resources", _mapping(document.get("resources")), ("claims",)
        )
        if not isinstance(document.get("args") or [], list):
            yield f"{where}: args must be a list of words."


def _not_lists_of_objects(where: str, parent: Document, fields: Iterable[str]) -> Iterator[str]:
    for field in fields:
        value = parent.get(field)
        if value is not None and not (isinstance(value, list) and all(isinstance(v, dict) for v in value)):
            yield f"{where}: {field} must be a list of objects, as in a pod."


def _node(affinity: object) -> object:
    return affinity.get("nodeAffinity") if isinstance(affinity, dict) else None


def _placement_conflicts(theirs: Document, policy: str) -> Iterator[str]:
    affinity = _mapping(_mapping(theirs.get("affinity")).get("nodeAffinity"))
    if affinity.get("requiredDuringSchedulingIgnoredDuringExecution"):
        yield (
            "podTemplate.spec.affinity.nodeAffinity requires nodes of its own, and DRSE chooses the node: "
            "make it preferred, or name the accelerators that will do in spec.resources.accelerators."
        )
    for field in ("priorityClassName", "priority"):
        if theirs.get(field) is not None:
            yield f"podTemplate.spec.{field} ranks the pod apart from its job: use spec.priorityClassName."
    if theirs.get("restartPolicy", policy) != policy:
        yield f"podTemplate.spec.restartPolicy must be {policy} for this taskType: remove it."


def _gpu_conflicts(theirs: Document) -> Iterator[str]:
    if _names_own_claim(_sequence(theirs, "resourceClaims")):
        yield f"podTemplate.spec.resourceClaims has one named {names.CLAIM_REQUEST}, as DRSE's is: rename it."
    for kind in _CONTAINER_LISTS:
        for container in _sequence(theirs, kind):
            yield from _container_conflicts(kind, _mapping(container))


def _container_conflicts(kind: str, container: Document) -> Iterator[str]:
    resources, name = _mapping(container.get("resources")), container.get("name")
    for field in ("limits", "requests"):
        for resource in sorted(map(str, _mapping(resources.get(field)))):
            if _GPU_RESOURCE.match(resource):
                yield (
                    f"container {name} in podTemplate.spec.{kind} asks for {resource} itself: "
                    "remove it, DRSE adds the GPUs; say how many in spec.resources.gpusPerReplica."
                )
    if _names_own_claim(_sequence(resources, "claims")):
        yield (
            f"container {name} in podTemplate.spec.{kind} names the claim {names.CLAIM_REQUEST}: "
            "remove it, DRSE gives the GPUs to the container named engine alone."
        )


def _names_own_claim(claims: Sequence[object]) -> bool:
    return any(_mapping(claim).get("name") == names.CLAIM_REQUEST for claim in claims)


def _mapping(value: object) -> Document:
    """A free field that should be an object; anything else is left to the API server to refuse."""
    return value if isinstance(value, dict) else {}


def _sequence(parent: Document, key: str) -> Sequence[object]:
    value = parent.get(key)
    return value if isinstance(value, list) else ()
