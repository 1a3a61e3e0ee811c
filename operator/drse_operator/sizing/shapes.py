"""What sizing answers: for each kind of accelerator that will do, the shape of one replica on it."""

from __future__ import annotations

from dataclasses import dataclass

from drse_operator.api.enums import Vendor
from drse_operator.api.reasons import WaitReason


@dataclass(frozen=True, slots=True)
class AcceleratorKind:
    """A kind of GPU that the cluster has.

    ``product`` is the name that nodes publish; ``memory`` is bytes of one GPU as published;
    ``tflops`` is dense BF16 TFLOPS by the data sheet (0 when the product is not in the table);
    ``max_per_node`` is the most GPUs of the kind on any one node, held or not; ``total`` counts the
    cluster's.
    """

    vendor: Vendor
    product: str
    memory: int
    tflops: int
    max_per_node: int
    total: int


@dataclass(frozen=True, slots=True)
class Shape:
    """One replica on one kind of accelerator: ``workers`` pods with ``gpus_per_worker`` whole GPUs each.

    ``memory_needed`` is bytes per GPU that the model takes (0 when unknown); the tensor-parallel size
    times the pipeline-parallel size is the number of GPUs of the replica.
    """

    kind: AcceleratorKind
    workers: int
    gpus_per_worker: int
    tensor_parallel: int
    pipeline_parallel: int
    memory_needed: int

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.workers * self.gpus_per_worker


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no kind of accelerator in the cluster will do, with the numbers: asked, largest available."""

    reason: WaitReason
    message: str


@dataclass(frozen=True, slots=True)
class Sizing:
    """Shapes in the user's order of preference, else least waste first; or the reason there is none."""

    shapes: tuple[Shape, ...]
    refusal: Refusal | None = None
