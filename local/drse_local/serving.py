"""How load shows on the GPUs and engines that carry it: one model for the live metrics and for the recorded
past.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drse_local.series import FloatArray


@dataclass(frozen=True, slots=True)
class ServingState:
    """utilization: of each GPU, 0 to 1; running, waiting: whole requests of the job. Shapes as the load's."""

    utilization: FloatArray
    running: FloatArray
    waiting: FloatArray


def serve(load: FloatArray, gpus: int, gpus_per_replica: int, target_concurrency: float) -> ServingState:
    """Spread a load (GPU-equivalents) evenly over `gpus` >= 1 GPUs.

    A replica at its target concurrency keeps its GPUs just busy. What exceeds the GPUs waits in the engines'
    queues, so the load can be read from requests when utilisation cannot show it any more.
    """
    requests_per_gpu = target_concurrency / gpus_per_replica
    total = np.rint(load * requests_per_gpu)
    running = np.minimum(total, np.floor(gpus * requests_per_gpu))
    return ServingState(np.minimum(load / gpus, 1.0), running, total - running)
