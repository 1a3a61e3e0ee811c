"""How a replica may be cut into workers and ranks: candidates in rising number of GPUs.

Serving uses a power of two of tensor-parallel ranks inside one node, where links are fast, and only then
pipeline stages over more nodes. Training shards over any number of GPUs of one node, and over whole nodes
beyond that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drse_operator.sizing.catalogue import ModelFacts

#: A ResourceClaim allocates at most this many devices (resource.k8s.io/v1, AllocationResultsMaxSize).
MAX_PER_CLAIM = 32
#: The largest ``gpusPerReplica`` that the API takes.
MAX_PER_REPLICA = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """``workers`` pods with ``gpus_per_worker`` GPUs each; tensor x pipeline is the number of GPUs."""

    workers: int
    gpus_per_worker: int
    tensor_parallel: int
    pipeline_parallel: int

    @property
    def gpus(self) -> int:
        return self.workers * self.gpus_per_worker


def fewest_workers(gpus: int, most_per_worker: int) -> int:
    """The smallest number of equal workers that ``gpus`` can be cut into with at most so many GPUs each."""
    return next(w for w in range(-(-gpus // most_per_worker), gpus + 1) if gpus % w == 0)


def serving_layouts(model: ModelFacts, most_per_worker: int) -> Iterator[Layout]:
    """Candidates for serving: tensor parallel 1, 2, 4, ... within a node, then pipeline stages over nodes."""
    tensor = 1
    while True:
        yield serving_layout(tensor, 1, model)
        if 2 * tensor > most_per_worker or model.attention_heads % (2 * tensor):
            break
        tensor *= 2
    for stages in range(2, model.layers + 1):
        if stages * tensor > MAX_PER_REPLICA:
            return
        workers = fewest_workers(stages, most_per_worker // tensor)
        yield serving_layout(stages * tensor, workers, model)


def training_layouts(most_per_worker: int) -> Iterator[Layout]:
    """Candidates for training: 1, 2, 3, ... GPUs of one node, then whole nodes."""
    for gpus in range(1, most_per_worker + 1):
        yield sharded_layout(gpus, 1)
    for workers in range(2, MAX_PER_REPLICA // most_per_worker + 1):
        yield sharded_layout(workers * most_per_worker, workers)


def serving_layout(gpus: int, workers: int, model: ModelFacts | None) -> Layout:
    """How engines split a replica of given size: it follows from the numbers, so a restart finds it again.

    The most tensor-parallel ranks that divide both a worker's GPUs and the attention heads, then stages.
    """
    per_worker = gpus // workers
    tensor = per_worker
    if model is not None and model.attention_heads:
        tensor = max(n for n in _divisors(per_worker) if model.attention_heads % n == 0)
    return Layout(workers, per_worker, tensor, gpus // tensor)


def sharded_layout(gpus: int, workers: int) -> Layout:
    """A training replica of given size: sharded over all its GPUs."""
    return Layout(workers, gpus // workers, gpus // workers, workers)


def _divisors(n: int) -> tuple[int, ...]:
    return tuple(d for d in range(1, n + 1) if n % d == 0)
