"""Jobs that lack replicas and take no part in a pass, with why: nothing that happens in a pass helps them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from drse_operator.admission.flows import Record
from drse_operator.admission.snapshot import FlowKey
from drse_operator.api.reasons import WaitReason


class Park:
    """Why a job is set aside."""

    REFUSED = "refused"
    BACKING_OFF = "backing off"
    CLEARING = "clearing"
    EXCEEDS_LIMIT = "exceeds limit"
    NEVER_FITS = "never fits"


@dataclass(frozen=True, slots=True)
class Cause:
    """What jobs of one flow that are set aside have in common: enough to know their reason.

    ``refusal`` is the reason of a job that was refused for itself; ``ask`` the number of what never fits.
    """

    flow: FlowKey
    park: str
    refusal: WaitReason | None = None
    ask: int = -1


@dataclass(slots=True)
class Parked:
    """Jobs set aside for one cause, by uid, and the GPUs that they lack."""

    records: dict[str, Record] = field(default_factory=dict)
    gpus: int = 0


class Aside:
    """All jobs set aside, by queue and cause."""

    def __init__(self) -> None:
        self._by_queue: dict[str, dict[Cause, Parked]] = defaultdict(dict)
        self._filed: dict[str, tuple[Cause, int]] = {}

    def __iter__(self) -> Iterator[Record]:
        for causes in self._by_queue.values():
            for parked in causes.values():
                yield from parked.records.values()

    def add(self, record: Record, park: str, gpus: int) -> None:
        """Set a record aside; ``gpus`` is what it lacks."""
        record.parked = park
        job = record.job
        refusal = job.refusal.reason if park == Park.REFUSED and job.refusal is not None else None
        never = record.ask.number if park == Park.NEVER_FITS and record.ask is not None else -1
        cause = Cause(job.flow, park, refusal, never)
        parked = self._by_queue[job.queue].setdefault(cause, Parked())
        parked.records[job.uid] = record
        parked.gpus += gpus
        self._filed[job.uid] = cause, gpus

    def remove(self, record: Record) -> None:
        """The record is set aside no more, if it was."""
        record.parked = ""
        filed = self._filed.pop(record.job.uid, None)
        if filed is None:
            return
        cause, gpus = filed
        causes = self._by_queue[cause.flow.queue]
        parked = causes[cause]
        del parked.records[record.job.uid]
        parked.gpus -= gpus
        if not parked.records:
            del causes[cause]
        if not causes:
            del self._by_queue[cause.flow.queue]

    @property
    def queues(self) -> Iterable[str]:
        """Queues of which somebody is set aside."""
        return self._by_queue.keys()

    def of(self, queue: str) -> dict[Cause, Parked]:
        """Who of a queue is set aside, by cause."""
        return self._by_queue.get(queue, {})
