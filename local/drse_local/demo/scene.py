"""One moment of the demo, as data: what the view draws and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

from drse_forecaster.contract import JobForecast
from drse_local.demo.documents import EventSeen, JobSeen, QueueSeen
from drse_local.demo.ledger import CapacityStep
from drse_local.demo.load import Loads
from drse_local.demo.verdict import FirstScaleUp


@dataclass(frozen=True, slots=True)
class Service:
    """The service that scales: its measured load, its forecast, the GPUs it held, its first growth."""

    job: JobSeen
    loads: Loads = ()
    forecast: JobForecast | None = None
    capacity: tuple[CapacityStep, ...] = ()
    first: FirstScaleUp | None = None

    @property
    def load(self) -> float | None:
        """The newest measured load in GPU-equivalents."""
        return self.loads[-1].load if self.loads else None

    @property
    def threshold(self) -> float:
        """Load or forecast above this many GPUs makes it grow."""
        return self.job.spec.scaling.scale_up_at * self.job.status.gpus

    @property
    def granted_replicas(self) -> int:
        """Replicas that hold all their GPUs or are promised them."""
        return len({assignment.replica for assignment in self.job.status.assignments})


@dataclass(frozen=True, slots=True)
class Scene:
    """now: seconds since the epoch; elapsed: seconds since the start; nodes, gpus: of the fleet."""

    now: float
    elapsed: float
    nodes: int
    gpus: int
    kubeconfig: str
    jobs: tuple[JobSeen, ...] = ()
    queues: tuple[QueueSeen, ...] = ()
    events: tuple[EventSeen, ...] = ()
    doubly_held: int = 0
    service: Service | None = None
    shows_everything: bool = field(default=False)

    @property
    def held(self) -> int:
        """GPUs that jobs hold."""
        return sum(job.status.gpus for job in self.jobs)
