"""From a job of a trace to what it asks of a cluster."""

from __future__ import annotations

from collections.abc import Sequence

from drse_operator.admission.snapshot import Job, Node
from drse_operator.api.enums import TaskType
from drse_operator.api.keys import JobKey
from drse_operator.simulator.trace import TraceJob
from drse_operator.sizing.shapes import AcceleratorKind, Shape


class Sizer:
    """Shapes of jobs on a cluster: whole on one node where a node is large enough, else equal workers."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._kinds = sorted({n.kind for n in nodes}, key=lambda k: (k.memory, k.product))
        self._shapes: dict[tuple[int, str], tuple[Shape, ...]] = {}

    def shapes(self, gpus: int, gpu_type: str = "") -> tuple[Shape, ...]:
        """Ways to place ``gpus`` GPUs, kinds with least memory first; of one type only where it is named."""
        key = (gpus, gpu_type)
        if key not in self._shapes:
            named = [k for k in self._kinds if k.product in gpu_type.split("|")] if gpu_type else self._kinds
            self._shapes[key] = tuple(_shape(kind, gpus) for kind in named if gpus <= kind.total)
        return self._shapes[key]

    def job(self, job: TraceJob) -> Job:
        """The job as admission knows it."""
        return Job(
            key=JobKey("trace", job.uid),
            uid=job.uid,
            queue=job.flow,
            task_type=TaskType.BATCH,
            priority=job.priority,
            queued_at=job.submit,
            wanted=1,
            first_unit=1,
            shapes=self.shapes(job.gpus, job.gpu_type),
            expected_duration=job.estimate,
        )


def _shape(kind: AcceleratorKind, gpus: int) -> Shape:
    workers = -(-gpus // kind.max_per_node)
    while gpus % workers:
        workers += 1
    return Shape(kind, workers, gpus // workers, gpus // workers, workers, 0)
