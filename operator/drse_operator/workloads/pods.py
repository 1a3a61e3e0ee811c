"""The pod of one worker: the user's template below, the assignment on top.

A pod may only run where its GPUs are promised. It is therefore bound by required affinity to the node's
name (as DaemonSet pods are) and goes through the cluster's scheduler like any other, with its claim (Exact)
or a limit on the extended resource (CountOnly).
"""

from __future__ import annotations

from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.enums import DeviceSelection, Engine
from drse_operator.api.status import Assignment
from drse_operator.sizing import accelerators, catalogue
from drse_operator.sizing.layouts import Layout, serving_layout, sharded_layout
from drse_operator.sizing.shapes import Shape
from drse_operator.workloads import engines, names, templates
from drse_operator.workloads.engines import EngineImages, Place
from drse_operator.workloads.names import Document
from drse_operator.workloads.observed import Job
from drse_operator.workloads.services import HTTP_PORT_NAME, RENDEZVOUS_PORT

#: Taints that keep ordinary pods off GPU nodes; every pod of a job tolerates them.
TOLERATED_TAINTS = ("nvidia.com/gpu", "amd.com/gpu", "habana.ai/gaudi")
#: Annotation with the promised devices, for people and node agents.
DEVICES_ANNOTATION = "drse.dev/device-uuids"
QUEUE_ANNOTATION = "drse.dev/queue"
_SHARED_MEMORY = {"name": "drse-shared-memory", "mountPath": "/dev/shm"}


def build_pod(
    job: Job, assignment: Assignment, shape: Shape | None, images: EngineImages | None = None
) -> Document:
    """The pod of one worker, ready to be applied.

    ``shape`` says how many workers the replica has; without one they are counted in the job's status.
    Raises ValueError when there is no image for the engine on this vendor's accelerators.
    """
    spec = names.spec_of(job)
    layout = _layout(job, spec, assignment, shape)
    place = Place(layout, assignment.worker, _master_address(job, assignment.replica, layout))
    name = names.pod_name(job.key.name, assignment.replica, assignment.worker)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(job, spec, assignment, name),
        "spec": _pod_spec(job, spec, assignment, place, images or EngineImages()),
    }


def _layout(job: Job, spec: DeepSeekJobSpec, assignment: Assignment, shape: Shape | None) -> Layout:
    promised = sum(a.replica == assignment.replica for a in job.status.assignments)
    workers = shape.workers if shape is not None else max(promised, assignment.worker + 1)
    gpus = workers * assignment.count
    if not spec.task_type.serves:
        return sharded_layout(gpus, workers)
    return serving_layout(gpus, workers, catalogue.find(spec.model) if spec.model is not None else None)


def _master_address(job: Job, replica: int, layout: Layout) -> str:
    if layout.workers == 1:
        return "localhost"
    return names.worker_address(job.key.name, job.key.namespace, replica, 0)


def _metadata(job: Job, spec: DeepSeekJobSpec, assignment: Assignment, name: str) -> Document:
    theirs = templates.pod_metadata_of(spec)
    own = names.labels(job.key.name, assignment.replica, assignment.worker)
    annotations = {
        "kubectl.kubernetes.io/default-container": names.ENGINE_CONTAINER,
        **_scraping(spec, assignment),
        **(theirs.get("annotations") or {}),
        QUEUE_ANNOTATION: spec.queue,
    }
    if assignment.devices:
        annotations[DEVICES_ANNOTATION] = ",".join(device.uuid for device in assignment.devices)
    document = names.metadata(job, name, {**(theirs.get("labels") or {}), **own})
    return {**document, "annotations": annotations}


def _scraping(spec: DeepSeekJobSpec, assignment: Assignment) -> dict[str, str]:
    """Tells a Prometheus that goes by annotations where an engine's metrics are."""
    if not spec.task_type.serves or spec.runtime.engine is Engine.CUSTOM or assignment.worker > 0:
        return {}
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(spec.runtime.port),
        "prometheus.io/path": "/metrics",
    }


def _pod_spec(
    job: Job, spec: DeepSeekJobSpec, assignment: Assignment, place: Place, images: EngineImages
) -> Document:
    theirs = templates.pod_spec_of(spec)
    containers = theirs.get("containers") or []
    shared = {"name": _SHARED_MEMORY["name"], "emptyDir": {"medium": "Memory"}}
    pod = {
        # Defaults that a template may change: nothing in the pod needs the API or its neighbours' addresses.
        "automountServiceAccountToken": "serviceAccountName" in theirs,
        "enableServiceLinks": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        **theirs,
        "restartPolicy": templates.restart_policy(spec),
        "affinity": _affinity(theirs, assignment.node),
        "tolerations": _tolerations(theirs),
        "volumes": templates.merge_by("name", theirs.get("volumes") or (), (shared,)),
        "containers": _containers(containers, _engine(spec, assignment, place, images, containers)),
    }
    if spec.priority_class_name is not None:
        pod["priorityClassName"] = spec.priority_class_name
    if place.layout.workers > 1:
        pod["hostname"] = names.pod_name(job.key.name, assignment.replica, assignment.worker)
        pod["subdomain"] = names.workers_service_name(job.key.name)
    if assignment.device_selection is DeviceSelection.EXACT:
        claim = names.claim_name(job.key.name, assignment.replica, assignment.worker)
        ours = {"name": names.CLAIM_REQUEST, "resourceClaimName": claim}
        pod["resourceClaims"] = templates.merge_by("name", theirs.get("resourceClaims") or (), (ours,))
    return pod


def _affinity(theirs: Document, node: str) -> Document:
    """The user's affinity with the node fixed; required node affinity of their own is a conflict."""
    affinity = dict(theirs.get("affinity") or {})
    by_name = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity["nodeAffinity"] = {
        **(affinity.get("nodeAffinity") or {}),
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [by_name]},
    }
    return affinity


def _tolerations(theirs: Document) -> list[Document]:
    tolerated = list(theirs.get("tolerations") or ())
    ours: list[Document] = [{"key": taint, "operator": "Exists"} for taint in TOLERATED_TAINTS]
    return tolerated + [toleration for toleration in ours if toleration not in tolerated]


def _containers(theirs: list[Document], engine: Document) -> list[Document]:
    """The user's sidecars with the engine's container in its place, or first."""
    if any(container["name"] == names.ENGINE_CONTAINER for container in theirs):
        return [engine if c["name"] == names.ENGINE_CONTAINER else c for c in theirs]
    return [engine, *theirs]


def _engine(
    spec: DeepSeekJobSpec,
    assignment: Assignment,
    place: Place,
    images: EngineImages,
    containers: list[Document],
) -> Document:
    """The container that gets the GPUs: DRSE's defaults, the template over them, the assignment over both."""
    theirs = next((c for c in containers if c["name"] == names.ENGINE_CONTAINER), {})
    program, runtime = engines.program(spec, place), spec.runtime
    container: Document = {
        "image": _image(spec, assignment, images, theirs),
        "securityContext": {"allowPrivilegeEscalation": False},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **dict(program.probes),
    }
    if program.command and "command" not in theirs:
        container["command"] = list(program.command)
    if arguments := [*(theirs.get("args") or program.args), *runtime.args]:
        container["args"] = arguments
    container = {**container, **{key: value for key, value in theirs.items() if key != "args"}}
    if runtime.image is not None:
        container["image"] = runtime.image
    if runtime.command:
        container["command"] = list(runtime.command)
    container["name"] = names.ENGINE_CONTAINER
    container["env"] = _environment(spec, assignment, place, theirs)
    mounts = theirs.get("volumeMounts") or ()
    container["volumeMounts"] = templates.merge_by("mountPath", (_SHARED_MEMORY,), mounts)
    container["resources"] = _resources(assignment, theirs)
    if spec.task_type.serves:
        port = {"name": HTTP_PORT_NAME, "containerPort": runtime.port, "protocol": "TCP"}
        container["ports"] = templates.merge_by("containerPort", theirs.get("ports") or (), (port,))
    return container


def _image(spec: DeepSeekJobSpec, assignment: Assignment, images: EngineImages, theirs: Document) -> str:
    vendor = accelerators.vendor_of(assignment.product, assignment.resource)
    default = images.of(spec.runtime.engine, vendor) if spec.task_type.serves else ""
    image = spec.runtime.image or theirs.get("image") or default
    if not image:
        raise ValueError(
            f"there is no default image of {spec.runtime.engine.value} for {vendor.value} accelerators: "
            "set runtime.image"
        )
    return str(image)


def _resources(assignment: Assignment, theirs: Document) -> Document:
    resources = dict(theirs.get("resources") or {})
    if assignment.device_selection is DeviceSelection.EXACT:
        claims = resources.get("claims") or ()
        resources["claims"] = templates.merge_by("name", claims, ({"name": names.CLAIM_REQUEST},))
        return resources
    # Of extended resources the request equals the limit, and the limit alone says both.
    resources["limits"] = {**(resources.get("limits") or {}), assignment.resource: str(assignment.count)}
    return resources


def _environment(
    spec: DeepSeekJobSpec, assignment: Assignment, place: Place, theirs: Document
) -> list[Document]:
    """The worker's place as variables, then the user's. Names that begin with DRSE_ stay DRSE's."""
    layout, worker = place.layout, str(place.worker)
    fixed = {
        "DRSE_REPLICA": str(assignment.replica),
        "DRSE_REPLICAS": str(spec.replicas),
        "DRSE_WORKER": worker,
        "DRSE_WORKERS": str(layout.workers),
        "DRSE_GPUS_PER_WORKER": str(assignment.count),
    }
    if spec.task_type.serves:
        del fixed["DRSE_REPLICAS"]  # it changes while they run
    defaults = {} if spec.task_type.serves else _rendezvous(place, assignment)
    own = [*_as_env({**fixed, **defaults}), *_pod_ip(spec, layout)]
    mine = templates.merge_by("name", theirs.get("env") or (), (env.to_wire() for env in spec.runtime.env))
    return templates.merge_by("name", own, (env for env in mine if env["name"] not in fixed))


def _rendezvous(place: Place, assignment: Assignment) -> dict[str, str]:
    """How the processes of a training replica find each other.

    MASTER_ADDR, MASTER_PORT, RANK and WORLD_SIZE as torch.distributed reads them, with one process a pod as
    in Kubeflow's PyTorchJob; PET_* are torchrun's, which starts one process for each GPU and ranks them anew.
    """
    nodes, rank, port = str(place.layout.workers), str(place.worker), str(RENDEZVOUS_PORT)
    return {
        "MASTER_ADDR": place.master_address,
        "MASTER_PORT": port,
        "RANK": rank,
        "WORLD_SIZE": nodes,
        "PET_NNODES": nodes,
        "PET_NODE_RANK": rank,
        "PET_NPROC_PER_NODE": str(assignment.count),
        "PET_MASTER_ADDR": place.master_address,
        "PET_MASTER_PORT": port,
    }


def _pod_ip(spec: DeepSeekJobSpec, layout: Layout) -> list[Document]:
    """vLLM must be told which of several interfaces its peers can reach."""
    if not spec.task_type.serves or layout.workers == 1 or spec.runtime.engine is not Engine.VLLM:
        return []
    return [{"name": "VLLM_HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]


def _as_env(values: dict[str, str]) -> list[Document]:
    return [{"name": name, "value": value} for name, value in values.items()]
