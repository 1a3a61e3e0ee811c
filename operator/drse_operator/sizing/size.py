"""``size``: from what a user asks to the shapes that one replica can take on the cluster's accelerators.

The kinds of accelerator are narrowed step by step (named by the user, memory, compute), then the model is
laid out on each that is left. What the user states in ``spec.resources`` wins over what is derived. Where a
step leaves nothing, the answer is a refusal that names the step and gives the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drse_operator.api.deepseekjob import Accelerator, DeepSeekJobSpec, Resources
from drse_operator.api.enums import Engine, Precision, TaskType, TopologyMode, TopologyScope, Vendor
from drse_operator.api.reasons import WaitReason
from drse_operator.api.types import as_bytes
from drse_operator.sizing import accelerators, catalogue, refusals
from drse_operator.sizing.catalogue import ModelFacts
from drse_operator.sizing.footprint import Work, footprint
from drse_operator.sizing.layouts import (
    MAX_PER_CLAIM,
    Layout,
    fewest_workers,
    serving_layout,
    serving_layouts,
    sharded_layout,
    training_layouts,
)
from drse_operator.sizing.refusals import Misfit
from drse_operator.sizing.shapes import AcceleratorKind, Refusal, Shape, Sizing

#: SGLang is released for these makers' accelerators.
_SGLANG_VENDORS = frozenset({Vendor.NVIDIA, Vendor.AMD})


@dataclass(frozen=True, slots=True)
class _Ask:
    """What one replica must offer, read from the spec once."""

    resources: Resources
    task: TaskType
    model: ModelFacts | None
    precision: Precision | None
    context: int
    concurrency: int

    @property
    def one_node(self) -> bool:
        topology = self.resources.topology
        return (
            topology is not None
            and topology.scope is TopologyScope.NODE
            and topology.mode is TopologyMode.REQUIRED
        )

    @property
    def serves(self) -> bool:
        return self.task in (TaskType.INFERENCE, TaskType.BATCH)

    def work_on(self, model: ModelFacts, kind: AcceleratorKind) -> Work:
        """The work as this kind of accelerator does it: FP8 is widened where it is not computed in."""
        default = model.precision if self.serves else Precision.BF16
        precision = self.precision or default
        if precision is Precision.FP8 and not accelerators.multiplies_fp8(kind):
            precision = Precision.BF16
        published = self.serves and precision is model.precision
        return Work(self.task, precision, self.context, self.concurrency, published)


def size(spec: DeepSeekJobSpec, kinds: Sequence[AcceleratorKind]) -> Sizing:
    """Shapes of one replica on each kind that will do, or the reason why none does.

    ``kinds`` is what the cluster has, held or free; the order does not matter. Shapes come in the user's
    order of accelerators; among equals the one that takes the least GPU memory in all (as sold, so that ECC
    does not decide), then the fewest GPUs, then the least compute.
    """
    ask = _read(spec)
    refused = refusals.model(spec, ask.model)
    if refused is not None:
        return Sizing((), refused)
    left = _narrow(ask.resources, [kind for kind in kinds if kind.total > 0 and kind.max_per_node > 0])
    if not isinstance(left, Refusal):
        left = _runnable(spec, left)
    if isinstance(left, Refusal):
        return Sizing((), left)
    outcomes = [_fit(ask, kind) for kind in left]
    shapes = [outcome for outcome in outcomes if isinstance(outcome, Shape)]
    if not shapes:
        misfits = [outcome for outcome in outcomes if isinstance(outcome, Misfit)]
        return Sizing((), refusals.nothing_fits(misfits))
    replicas, _ = spec.wanted_range
    room = [shape.kind.total // shape.gpus for shape in shapes]
    # Replicas that train together are of one kind; those of services and batches need not be.
    if (sum(room) if ask.serves else max(room)) < replicas:
        return Sizing((), refusals.too_many_replicas(replicas, shapes))
    return Sizing(tuple(sorted(shapes, key=lambda shape: _order(ask.resources.accelerators, shape))))


def _read(spec: DeepSeekJobSpec) -> _Ask:
    model = spec.model
    facts = catalogue.find(model) if model is not None else None
    return _Ask(
        resources=spec.resources,
        task=spec.task_type,
        model=facts,
        precision=model.precision if model is not None else None,
        context=catalogue.context_of(model, facts) if model is not None else 0,
        concurrency=model.concurrency if model is not None else 0,
    )


def _narrow(asked: Resources, kinds: Sequence[AcceleratorKind]) -> list[AcceleratorKind] | Refusal:
    """The kinds that are named, large and fast enough."""
    named = [k for k in kinds if _preference(asked.accelerators, k) is not None]
    if not named:
        return refusals.no_such_accelerator(asked.accelerators, kinds)
    memory = as_bytes(asked.memory_per_gpu) if asked.memory_per_gpu is not None else 0
    large = [k for k in named if max(k.memory, accelerators.marketed_memory(k)) >= memory]
    if not large:
        return refusals.insufficient_memory(memory, named)
    tflops = asked.compute_per_gpu or 0
    fast = [k for k in large if k.tflops >= tflops]
    if not fast:
        return refusals.insufficient_compute(tflops, large)
    return fast


def _runnable(spec: DeepSeekJobSpec, kinds: list[AcceleratorKind]) -> list[AcceleratorKind] | Refusal:
    """The kinds that the engine runs on; with an image of the user's own, the user knows."""
    runtime = spec.runtime
    if runtime.engine is not Engine.SGLANG or runtime.image is not None or not spec.task_type.serves:
        return kinds
    left = [kind for kind in kinds if kind.vendor in _SGLANG_VENDORS]
    return left or refusals.engine_unsupported(runtime.engine, kinds)


def _fit(ask: _Ask, kind: AcceleratorKind) -> Shape | Misfit:
    """One replica on one kind of accelerator: as stated, else on the fewest GPUs that hold the model."""
    found = _stated(ask, kind) if ask.resources.gpus_per_replica is not None else _derived(ask, kind)
    if isinstance(found, Misfit):
        return found
    if found.gpus > kind.total:
        return Misfit(WaitReason.TOO_LARGE_FOR_CLUSTER, kind, found.gpus, kind.total)
    return Shape(
        kind=kind,
        workers=found.workers,
        gpus_per_worker=found.gpus_per_worker,
        tensor_parallel=found.tensor_parallel,
        pipeline_parallel=found.pipeline_parallel,
        memory_needed=_needed(ask, kind, found),
    )


def _stated(ask: _Ask, kind: AcceleratorKind) -> Layout | Misfit:
    gpus = ask.resources.gpus_per_replica
    assert gpus is not None
    most = min(kind.max_per_node, MAX_PER_CLAIM)
    workers = ask.resources.workers_per_replica or (1 if ask.one_node else fewest_workers(gpus, most))
    per_node = gpus if ask.one_node else gpus // workers
    if per_node > kind.max_per_node or gpus // workers > MAX_PER_CLAIM:
        return Misfit(WaitReason.TOO_MANY_GPUS_PER_NODE, kind, per_node, most)
    layout = serving_layout(gpus, workers, ask.model) if ask.serves else sharded_layout(gpus, workers)
    if ask.serves and ask.model is not None and layout.pipeline_parallel > ask.model.layers:
        return Misfit(WaitReason.RESOURCES_CONTRADICT_MODEL, kind, layout.pipeline_parallel, ask.model.layers)
    needed, usable = _needed(ask, kind, layout), accelerators.usable_memory(kind)
    if needed > usable:
        return Misfit(WaitReason.RESOURCES_CONTRADICT_MODEL, kind, needed, usable, gpus)
    return layout


def _derived(ask: _Ask, kind: AcceleratorKind) -> Layout | Misfit:
    assert ask.model is not None
    most = min(kind.max_per_node, MAX_PER_CLAIM)
    usable = accelerators.usable_memory(kind)
    candidates = serving_layouts(ask.model, most) if ask.serves else training_layouts(most)
    least_needed = 0
    for layout in candidates:
        needed = _needed(ask, kind, layout)
        least_needed = min(needed, least_needed or needed)
        if needed > usable:
            continue
        if ask.one_node and layout.workers > 1:
            return Misfit(WaitReason.TOO_MANY_GPUS_PER_NODE, kind, layout.gpus, most)
        return layout
    return Misfit(WaitReason.INSUFFICIENT_MEMORY_PER_GPU, kind, least_needed, usable)


def _needed(ask: _Ask, kind: AcceleratorKind, layout: Layout) -> int:
    """Bytes each GPU must have to hold the model in this layout; 0 when the model is not known."""
    if ask.model is None:
        return 0
    work = ask.work_on(ask.model, kind)
    return footprint(ask.model, work, layout.tensor_parallel, layout.pipeline_parallel).memory_needed


def _preference(asked: Sequence[Accelerator], kind: AcceleratorKind) -> int | None:
    """Place of a kind in the user's list, 0 for any when the list is empty, None when it is not in it."""
    if not asked:
        return 0
    return next((i for i, one in enumerate(asked) if accelerators.matches(one, kind)), None)


def _order(asked: Sequence[Accelerator], shape: Shape) -> tuple[int, int, int, int, str, str, int, int, int]:
    """Least is best; the tail only makes the order independent of that of the input."""
    kind, gpus = shape.kind, shape.gpus
    return (
        _preference(asked, kind) or 0,
        gpus * accelerators.marketed_memory(kind),
        gpus,
        gpus * kind.tflops,
        kind.vendor.value,
        kind.product,
        kind.memory,
        kind.max_per_node,
        kind.total,
    )
