"""What would let a waiting job start now: small changes, each tried through the planner before it is told.

Most are changes of the job. Where somebody has cordoned its queue, or nodes that it could use, to take that
back comes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError

from drse_operator.admission.engine import Engine
from drse_operator.admission.explain import duration
from drse_operator.admission.pools import kind_id
from drse_operator.admission.snapshot import Job as Asking
from drse_operator.admission.snapshot import Preemption
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.enums import TaskType, TopologyMode
from drse_operator.cluster.devices import CORDONED
from drse_operator.observe.views.base import Row
from drse_operator.observe.views.fork import Change, PutJob, PutQueue, UncordonNode, fork, put_job
from drse_operator.observe.views.scene import Scene, queue_of
from drse_operator.observe.views.whatif import Place, places, victims_of
from drse_operator.workloads.observed import Job

#: Plans that are made for one job at most; suggestions that are named at most.
_TRIALS = 16
_NAMED = 6
#: Cordoned nodes that are tried one by one.
_NODES = 4
#: Durations that are tried, in seconds: what surely ends before a reservation may pass it.
_DURATIONS = ((8, "8h"), (4, "4h"), (2, "2h"), (1, "1h"), (0.5, "30m"), (0.25, "15m"))


class Suggestion(Row):
    """A change with which the next plan starts the job."""

    change: str = Field(description="In words; or the command, for a change of something else than the job.")
    patch: dict[str, Any] = Field(description="As a merge patch of the job's spec; empty for a command.")
    places: tuple[Place, ...] = Field(description="Where it would start; empty when it preempts first.")
    preempts: tuple[str, ...] = Field(default=(), description="Jobs that would give way for it.")


@dataclass(frozen=True, slots=True)
class _Variant:
    """A change to try. Of the variants of one ``topic`` only the first that works is named."""

    topic: str
    words: str
    patch: dict[str, Any]


def suggestions(scene: Scene, job: Job) -> tuple[Suggestion, ...]:
    """Changes with which the job would start now; none for a job that does not wait, or on half a picture."""
    if not scene.complete or job.spec is None or job.uid not in scene.waits:
        return ()
    asking = scene.asking[job.uid]
    world = fork(scene.world, (), scene.now)
    trial = Scene(world, scene.now, visible=scene.visible)
    found = [*_uncordoned_queue(scene, job), *_uncordoned_nodes(scene, job)]
    settled: set[str] = set()
    before, trials = Engine.of(scene.snapshot, scene.now), 0
    for variant in _variants(scene, job, job.spec, asking):
        spec = None if variant.topic in settled else _patched(job.spec, variant.patch)
        if spec is None:
            continue
        put_job(world, PutJob(job.key, spec), scene.now)
        trial = Scene(world, scene.now, visible=scene.visible, picture=trial.picture)
        if not _thinkable(before, trial.asking[job.uid]):
            continue
        trials += 1
        works = _suggestion(trial, job, variant.words, variant.patch)
        if works is not None:
            settled.add(variant.topic)
            found.append(works)
        if len(found) == _NAMED or trials == _TRIALS:
            break
    return tuple(found)


def _thinkable(engine: Engine, asking: Asking) -> bool:
    """What a start needs at the least, told at a fraction of a plan's price: free GPUs, or a right to
    others'."""
    if asking.refusal is not None or asking.queue not in engine.state.queues:
        return False
    queue = engine.state.queues[asking.queue]
    held = engine.state.held[asking.queue]
    if queue.preemption is not Preemption.NEVER or held < queue.guaranteed:
        return True
    pools = engine.state.pools
    return any(
        (pool := pools.get(kind_id(shape.kind))) is not None
        and pool.find(shape, 1, asking.topology, asking.topology_mode) is not None
        for shape in asking.shapes
    )


def _suggestion(trial: Scene, job: Job, change: str, patch: dict[str, Any]) -> Suggestion | None:
    assigns = [assign for assign in trial.plan.assign if assign.uid == job.uid]
    victims = victims_of(trial, job)
    if not assigns and not victims:
        return None
    return Suggestion(
        change=change,
        patch=patch,
        places=places(assigns),
        preempts=tuple(str(key) for key in victims if trial.may_name(key)),
    )


# -- what somebody has closed --------------------------------------------------------------------------


def uncordon_queue(name: str) -> str:
    """The command with which a GPUQueue goes on."""
    return f"drse uncordon {name}"


def _uncordoned_queue(scene: Scene, job: Job) -> Iterator[Suggestion]:
    queue = scene.world.queues.get("", queue_of(job))
    if queue is not None and queue.spec is not None and queue.spec.cordoned:
        opened = PutQueue(queue.name, queue.spec.model_copy(update={"cordoned": False}))
        yield from _tried(scene, job, uncordon_queue(queue.name), (opened,))


def _uncordoned_nodes(scene: Scene, job: Job) -> Iterator[Suggestion]:
    """The first cordoned node with which the job starts, or all of them together."""
    usable = {shape.kind for shape in scene.asking[job.uid].shapes}
    closed = [c for c in scene.snapshot.out_of_service if c.whole and c.why == CORDONED and c.kind in usable]
    names = tuple(sorted({piece.node for piece in closed}))
    for group in (*((name,) for name in names[:_NODES]), *([names] if len(names) > 1 else ())):
        changes = tuple(UncordonNode(name) for name in group)
        works = list(_tried(scene, job, f"kubectl uncordon {' '.join(group)}", changes))
        if works:
            yield from works
            return


def _tried(scene: Scene, job: Job, command: str, changes: tuple[Change, ...]) -> Iterator[Suggestion]:
    trial = Scene(fork(scene.world, changes, scene.now), scene.now, visible=scene.visible)
    works = _suggestion(trial, job, command, {})
    if works is not None:
        yield works


def _patched(spec: DeepSeekJobSpec, patch: dict[str, Any]) -> DeepSeekJobSpec | None:
    try:
        return DeepSeekJobSpec.from_wire(_merged(spec.to_wire(), patch))
    except ValidationError:
        return None


def _merged(document: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """JSON merge patch (RFC 7386)."""
    merged = dict(document)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merged(merged.get(key) or {}, value)
        else:
            merged[key] = value
    return merged


# -- what is tried, the mildest first -------------------------------------------------------------------


def _variants(scene: Scene, job: Job, spec: DeepSeekJobSpec, asking: Asking) -> Iterator[_Variant]:
    if not job.status.assignments:  # these fields cannot change while the job holds GPUs
        yield from _nearness(spec)
        yield from _spread(spec, asking)
        yield from _kinds(scene, asking)
    yield from _duration(scene, spec, job)
    if not job.status.assignments:
        yield from _other_queue(scene, spec)
        yield from _smaller(spec, asking)
    yield from _fewer(spec, asking)
    yield from _priority(scene, asking)


def _nearness(spec: DeepSeekJobSpec) -> Iterator[_Variant]:
    topology = spec.resources.topology
    if topology is not None and topology.mode is TopologyMode.REQUIRED:
        yield _Variant(
            "topology",
            f"prefer one {topology.scope} instead of requiring it",
            {"resources": {"topology": {"mode": TopologyMode.PREFERRED.value}}},
        )


def _spread(spec: DeepSeekJobSpec, asking: Asking) -> Iterator[_Variant]:
    if not asking.shapes:
        return
    gpus, workers = asking.shapes[0].gpus, asking.shapes[0].workers
    for more in (n for n in (2, 4, 8, 16) if n > workers and gpus % n == 0):
        yield _Variant(
            "spread",
            f"spread each replica over {more} workers of {gpus // more} GPUs",
            {"resources": {"gpusPerReplica": gpus, "workersPerReplica": more}},
        )


def _kinds(scene: Scene, asking: Asking) -> Iterator[_Variant]:
    """Kinds that the cluster has and the job does not ask for, the fullest pools last."""
    mine = {shape.kind.product for shape in asking.shapes}
    vendors = {str(shape.kind.vendor) for shape in asking.shapes}
    free: dict[tuple[str, str], int] = {}
    for node in scene.snapshot.nodes:
        key = (str(node.kind.vendor), node.kind.product)
        free[key] = free.get(key, 0) + node.free_count
    for (vendor, product), count in sorted(free.items(), key=lambda item: (-item[1], item[0])):
        if count and product not in mine:
            accelerator = {"vendor": vendor, "product": product}
            foreign = "" if vendor in vendors else ", if its image runs there"
            yield _Variant(
                f"kind {product}",
                f"accept {product}{foreign}",
                {"resources": {"accelerators": [accelerator]}},
            )


def _duration(scene: Scene, spec: DeepSeekJobSpec, job: Job) -> Iterator[_Variant]:
    record = scene.settled.engine.state.records.get(job.uid)
    if spec.task_type.serves or record is None:
        return
    now_taken = record.estimate.conservative
    for hours, text in _DURATIONS:
        if hours * 3600 < now_taken:
            yield _Variant(
                "duration",
                f"if it ends within {text} (it is taken to need up to {duration(now_taken)})",
                {"estimatedDuration": text},
            )


def _other_queue(scene: Scene, spec: DeepSeekJobSpec) -> Iterator[_Variant]:
    for name in sorted(scene.snapshot.queues):
        if name != spec.queue:
            yield _Variant("queue", f"queue {name}", {"queue": name})


def _smaller(spec: DeepSeekJobSpec, asking: Asking) -> Iterator[_Variant]:
    gpus = min((shape.gpus for shape in asking.shapes), default=spec.resources.gpus_per_replica or 0)
    while gpus > 1:
        gpus //= 2
        yield _Variant(
            "gpus",
            f"{gpus} {'GPU' if gpus == 1 else 'GPUs'} per replica",
            {"resources": {"gpusPerReplica": gpus, "workersPerReplica": None}},
        )


def _fewer(spec: DeepSeekJobSpec, asking: Asking) -> Iterator[_Variant]:
    """Replicas that start all together may be too many; of others each starts on its own anyway."""
    if asking.first_unit <= 1 or asking.holdings:
        return
    replicas = asking.first_unit
    while replicas > 1:
        replicas //= 2
        if spec.task_type is TaskType.INFERENCE:
            yield _Variant("replicas", f"minReplicas {replicas}", {"scaling": {"minReplicas": replicas}})
        else:
            yield _Variant("replicas", f"{replicas} replicas", {"replicas": replicas})


def _priority(scene: Scene, asking: Asking) -> Iterator[_Variant]:
    higher = [p for p in scene.world.priority_classes.values() if p.value > asking.priority]
    for found in sorted(higher, key=lambda p: (p.value, p.name)):
        if not found.name.startswith("system-"):
            yield _Variant(
                "priority",
                f"priority class {found.name} ({found.value})",
                {"priorityClassName": found.name},
            )
