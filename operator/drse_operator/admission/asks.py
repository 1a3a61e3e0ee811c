"""What a waiting job asks for next, interned: of jobs that ask for the same, one is tried a pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

from drse_operator.admission.pools import KindId, Pool, kind_id, kind_name
from drse_operator.admission.snapshot import Job
from drse_operator.api.enums import TopologyMode, TopologyScope
from drse_operator.sizing.shapes import Shape


@dataclass(slots=True, eq=False)
class Ask:
    """So many replicas at once, each in one of the shapes; workers of a replica as near as asked.

    ``kinds`` are the names of their kinds. ``mixes``: each replica may be of another kind (they do not talk
    to each other). ``options`` are the shapes that the cluster could hold if nobody held anything, with their
    pools; ``mask`` has one bit for each of their kinds.
    """

    number: int
    shapes: tuple[Shape, ...]
    replicas: int
    scope: TopologyScope | None
    mode: TopologyMode
    mixes: bool
    least: int
    kinds: frozenset[str]
    options: tuple[tuple[Shape, Pool], ...] = ()
    mask: int = 0
    epoch: int = -1


@dataclass(slots=True)
class AskTable:
    """All asks that have been seen, and a bit for each kind."""

    _asks: dict[tuple[object, ...], Ask] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)
    _bits: dict[KindId, int] = field(default_factory=dict)

    def of(self, job: Job, replicas: int, shapes: tuple[Shape, ...]) -> Ask:
        """The ask of ``replicas`` replicas of a job at once, in one of ``shapes``."""
        mixes = replicas > 1 and job.task_type.serves
        key = (shapes, replicas, job.topology, job.topology_mode, mixes)
        ask = self._asks.get(key)
        if ask is None:
            least = replicas * min((s.gpus for s in shapes), default=0)
            kinds = frozenset(kind_name(kind_id(shape.kind)) for shape in shapes)
            ask = Ask(
                next(self._numbers), shapes, replicas, job.topology, job.topology_mode, mixes, least, kinds
            )
            self._asks[key] = ask
        return ask

    def keep(self, used: Iterable[Ask]) -> None:
        """Forget the asks of nobody: shapes name what the cluster has of a kind, so each change of it makes
        new ones."""
        wanted = {ask.number for ask in used}
        self._asks = {key: ask for key, ask in self._asks.items() if ask.number in wanted}

    def bit(self, shape: Shape) -> int:
        """The bit of a shape's kind."""
        return 1 << self._bits.setdefault(kind_id(shape.kind), len(self._bits))
