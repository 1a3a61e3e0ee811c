"""Sentences for what cannot be sized: what was asked, the most there is, what to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drse_operator.api.deepseekjob import Accelerator, DeepSeekJobSpec
from drse_operator.api.enums import Engine, TaskType
from drse_operator.api.reasons import WaitReason
from drse_operator.api.types import gibibytes
from drse_operator.api.words import count
from drse_operator.sizing import accelerators, catalogue
from drse_operator.sizing.catalogue import ModelFacts
from drse_operator.sizing.shapes import AcceleratorKind, Refusal, Shape


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why one kind does not hold a replica.

    ``asked`` and ``available`` are bytes or GPUs, as the reason says; ``gpus`` is the stated number of GPUs
    where memory is short because of it, and 0 otherwise.
    """

    reason: WaitReason
    kind: AcceleratorKind
    asked: int
    available: int
    gpus: int = 0


#: Of several kinds that do not fit, the reason nearest to fitting is told: a quantity, a node, a card.
_NEAREST = (
    WaitReason.TOO_LARGE_FOR_CLUSTER,
    WaitReason.TOO_MANY_GPUS_PER_NODE,
    WaitReason.RESOURCES_CONTRADICT_MODEL,
    WaitReason.INSUFFICIENT_MEMORY_PER_GPU,
)


def model(spec: DeepSeekJobSpec, facts: ModelFacts | None) -> Refusal | None:
    """Refusals that do not depend on the cluster: an unknown model, a context longer than it can read."""
    if spec.model is None:
        return None
    name = spec.model.name or ""
    if facts is None:
        return None if spec.resources.gpus_per_replica is not None else _unknown(name)
    serves = spec.task_type in (TaskType.INFERENCE, TaskType.BATCH)
    context = catalogue.context_of(spec.model, facts)
    if serves and 0 < facts.max_context < context:
        return Refusal(
            WaitReason.RESOURCES_CONTRADICT_MODEL,
            f"model.contextLength {context} exceeds {facts.max_context}, the longest that {facts.name} "
            "reads: lower it.",
        )
    return None


def no_such_accelerator(asked: Sequence[Accelerator], kinds: Sequence[AcceleratorKind]) -> Refusal:
    """None of the cluster's kinds is one the user names, or there are none at all."""
    if not kinds:
        text = "the cluster has 0 accelerators: add nodes with GPUs, or see why their driver publishes none."
        return Refusal(WaitReason.NO_SUCH_ACCELERATOR, text)
    wanted = ", ".join(sorted({f"{a.vendor.value} {a.product or '(any product)'}" for a in asked}))
    products = ", ".join(sorted({f"{k.vendor.value} {k.product}" for k in kinds}))
    return Refusal(
        WaitReason.NO_SUCH_ACCELERATOR,
        f"no node has {wanted}; the cluster has {products}: change resources.accelerators.",
    )


def engine_unsupported(engine: Engine, kinds: Sequence[AcceleratorKind]) -> Refusal:
    """The engine has no release for any fitting kind."""
    products = ", ".join(sorted({k.product for k in kinds}))
    return Refusal(
        WaitReason.NO_SUCH_ACCELERATOR,
        f"{engine.value} is not released for {products}, 0 fitting accelerators are left: "
        "use engine vLLM, set runtime.image, or change resources.accelerators.",
    )


def insufficient_memory(asked: int, kinds: Sequence[AcceleratorKind]) -> Refusal:
    """``asked`` bytes per GPU were stated, and no fitting kind has them."""
    largest = max(kinds, key=lambda k: (k.memory, k.product))
    return Refusal(
        WaitReason.INSUFFICIENT_MEMORY_PER_GPU,
        f"resources.memoryPerGPU asks for {gibibytes(asked)}, the largest fitting accelerator, "
        f"{largest.product}, has {gibibytes(largest.memory)}: lower it or allow other accelerators.",
    )


def insufficient_compute(asked: int, kinds: Sequence[AcceleratorKind]) -> Refusal:
    """``asked`` TFLOPS per GPU were stated, and no fitting kind offers them."""
    fastest = max(kinds, key=lambda k: (k.tflops, k.product))
    return Refusal(
        WaitReason.INSUFFICIENT_COMPUTE_PER_GPU,
        f"resources.computePerGPU asks for {asked} TFLOPS, the fastest fitting accelerator, "
        f"{fastest.product}, has {fastest.tflops}: lower it or allow other accelerators.",
    )


def nothing_fits(misfits: Sequence[Misfit]) -> Refusal:
    """The reason nearest to fitting over all kinds, told of the kind that comes closest."""
    reason = min((m.reason for m in misfits), key=_NEAREST.index)
    nearest = min(
        (m for m in misfits if m.reason is reason),
        key=lambda m: (m.asked - m.available, -m.available, m.kind.vendor.value, m.kind.product),
    )
    return Refusal(reason, _sentence(nearest))


def too_many_replicas(replicas: int, shapes: Sequence[Shape]) -> Refusal:
    """Single replicas fit, but not as many as the job must have at the least."""
    smallest = min(shape.gpus for shape in shapes)
    fitting = sum(shape.kind.total for shape in shapes)
    return Refusal(
        WaitReason.TOO_LARGE_FOR_CLUSTER,
        f"{replicas} replicas need at least {replicas * smallest} GPUs, the cluster has {fitting} that fit: "
        "ask for fewer replicas or allow other accelerators.",
    )


def _unknown(name: str) -> Refusal:
    close = catalogue.suggestions(name)
    hint = f"; did you mean {' or '.join(close)}?" if close else "."
    return Refusal(
        WaitReason.MODEL_UNKNOWN,
        f'model.name "{name}" is none of the {len(catalogue.names())} in the catalogue{hint} '
        "Otherwise set model.shape or resources.gpusPerReplica.",
    )


def _sentence(misfit: Misfit) -> str:
    product, asked, available = misfit.kind.product, misfit.asked, misfit.available
    match misfit.reason:
        case WaitReason.TOO_LARGE_FOR_CLUSTER:
            return (
                f"one replica needs {asked} GPUs, the cluster has {available} of {product}: "
                "ask for fewer GPUs, a smaller model or other accelerators."
            )
        case WaitReason.TOO_MANY_GPUS_PER_NODE:
            return (
                f"one worker needs {asked} GPUs on a node, nodes with {product} give it at most {available}: "
                "ask for more workers, or do not require topology scope Node."
            )
        case WaitReason.RESOURCES_CONTRADICT_MODEL if misfit.gpus:
            usable = gibibytes(accelerators.usable_memory(misfit.kind))
            return (
                f"{count(misfit.gpus, 'GPU')} per replica cannot hold the model: each would need "
                f"{gibibytes(asked)}, the closest accelerator, {product}, has {usable}: "
                "raise resources.gpusPerReplica or leave it out."
            )
        case WaitReason.RESOURCES_CONTRADICT_MODEL:
            return (
                f"the stated GPUs make {asked} pipeline stages, the model has {available} layers: "
                "lower resources.gpusPerReplica or leave it out."
            )
        case _:
            return (
                f"the model needs at least {gibibytes(asked)} on each GPU however it is split, "
                f"the closest accelerator, {product}, has {gibibytes(available)}: "
                "lower model.contextLength or model.concurrency."
            )
