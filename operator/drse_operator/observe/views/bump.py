"""What another PriorityClass would do for a job, and to the others: the planner's answer."""

from __future__ import annotations

from dataclasses import dataclass

from drse_operator.api.keys import JobKey
from drse_operator.cluster import kinds
from drse_operator.cluster.parse import PriorityClassObject
from drse_operator.cluster.world import World
from drse_operator.observe.views.fork import PutJob
from drse_operator.observe.views.scene import Scene, queue_of
from drse_operator.observe.views.whatif import Answer, Outcome, Shift, changed, whatif
from drse_operator.workloads.observed import Job

#: Kubernetes' own classes, which are for what keeps a cluster alive.
_RESERVED = "system-"


class NoPriorityError(LookupError):
    """There is no such PriorityClass, or none that is higher."""


@dataclass(frozen=True, slots=True)
class Priority:
    """A PriorityClass; ``name`` is None for a job that names none where the cluster has no default, and
    ``value`` is None where the reader may not list PriorityClasses."""

    name: str | None
    value: int | None


@dataclass(frozen=True, slots=True)
class Bump:
    """The change, and what the planner makes of it. ``answer`` is None where it could not be asked.

    ``overtaken``: jobs that stand before it now and would stand behind it. ``delayed``: jobs whose start
    moves back, or that lose GPUs. ``hidden_...``: how many more may not be named to the reader.
    """

    before: Priority
    after: Priority
    position: int | None
    answer: Answer | None
    overtaken: tuple[JobKey, ...] = ()
    delayed: tuple[Shift, ...] = ()
    hidden_overtaken: int = 0
    hidden_delayed: int = 0


def bump(scene: Scene, key: JobKey, wanted: str | None) -> Bump:
    """The job with the PriorityClass ``wanted``, or with the next higher one. Raises UnknownJobError, and
    NoPriorityError with what to do."""
    job = scene.job(key)
    if kinds.PRIORITY_CLASS.plural in scene.unread:
        before, after = _unread(job, wanted)
    else:
        before = priority_of(scene.world, job)
        after = _named(scene.world, wanted) if wanted is not None else _next(scene.world, before)
    wait = scene.waits.get(job.uid)
    position = None if wait is None else wait.position
    if not scene.complete or job.spec is None:
        return Bump(before, after, position, None)
    change = PutJob(key, job.spec.model_copy(update={"priority_class_name": after.name}))
    (answer,) = whatif(scene, [change]).items
    everybody = scene.as_seen_by(None)
    shifts = whatif(everybody, [change]).shifts
    later = [s for s in shifts if s.loses_gpus or (s.delta_seconds or 0.0) > 0]
    overtaken = _overtaken(everybody, changed(everybody, [change]), job, answer)
    named = tuple(other for other in overtaken if scene.may_name(other))
    delayed = tuple(s for s in later if scene.may_name(JobKey(s.namespace, s.job)))
    return Bump(
        before,
        after,
        position,
        answer,
        named,
        delayed,
        len(overtaken) - len(named),
        len(later) - len(delayed),
    )


def _unread(job: Job, wanted: str | None) -> tuple[Priority, Priority]:
    """By their names alone; the API server and the operator see what they are worth."""
    if wanted is None:
        raise NoPriorityError(
            "you may not list PriorityClasses, so the next higher one is not known: name one with --priority"
        )
    return Priority(None if job.spec is None else job.spec.priority_class_name, None), Priority(wanted, None)


def priority_of(world: World, job: Job) -> Priority:
    """A job's own PriorityClass, else the cluster's default."""
    name = None if job.spec is None else job.spec.priority_class_name
    if name is not None:
        found = world.priority_classes.get("", name)
        return Priority(name, 0 if found is None else found.value)
    default = next((p for p in world.priority_classes.values() if p.is_default), None)
    return Priority(None, 0) if default is None else Priority(default.name, default.value)


def _named(world: World, name: str) -> Priority:
    found = world.priority_classes.get("", name)
    if found is None:
        raise NoPriorityError(f"there is no PriorityClass {name} (there are: {_list(_usable(world))})")
    return Priority(found.name, found.value)


def _next(world: World, before: Priority) -> Priority:
    higher = [each for each in _usable(world) if each.value > (before.value or 0)]
    if not higher:
        have = f"{before.name or 'none'}, {before.value}"
        raise NoPriorityError(
            f"no PriorityClass is higher than the job's ({have}): create one, and name it with --priority"
        )
    return Priority(higher[0].name, higher[0].value)


def _usable(world: World) -> list[PriorityClassObject]:
    found = (each for each in world.priority_classes.values() if not each.name.startswith(_RESERVED))
    return sorted(found, key=lambda each: (each.value, each.name))


def _list(classes: list[PriorityClassObject]) -> str:
    return ", ".join(f"{each.name} {each.value}" for each in classes) or "none but Kubernetes' own"


def _overtaken(now: Scene, then: Scene, job: Job, answer: Answer) -> tuple[JobKey, ...]:
    """Jobs of its queue that stand before it now, and behind it then."""
    here = now.waits.get(job.uid)
    if here is None or here.position is None:
        return ()
    starts = answer.outcome in (Outcome.STARTS, Outcome.PREEMPTS)
    place = 0 if starts or answer.position is None else answer.position
    after = {uid: wait.position for uid, wait in then.waits.items()}
    return tuple(
        wait.job.key
        for uid, wait in now.waits.items()
        if queue_of(wait.job) == queue_of(job)
        and wait.position is not None
        and wait.position < here.position
        and (position := after.get(uid)) is not None
        and position > place
    )
