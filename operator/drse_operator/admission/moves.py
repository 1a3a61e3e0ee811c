"""Why a start that was told has moved: what is otherwise between the outlook of then and that of now.

Only what differs between the two is named, and only if it has to do with the kinds of accelerator that the
job could use. Where several things differ, the one that takes or gives most GPU time is named, since it
moves a start by most; nothing is named where nothing of it differs. This is a comparison, not a trial: that
the start would stand without the change is likely, not proven.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass

from drse_operator.admission.decisions import Mention
from drse_operator.admission.explain import duration
from drse_operator.admission.outlook import Outlook, Stay, Turn
from drse_operator.admission.pools import KindId
from drse_operator.admission.snapshot import Queue
from drse_operator.api.keys import JobKey
from drse_operator.api.reasons import MoveReason
from drse_operator.api.words import count

#: A start or an end has moved when it is off by more than this part of the wait, and by more than so many
#: seconds.
SLACK = 0.1
SLACK_SECONDS = 60.0
#: Longer work counts as if it took so long (seconds): a service is no infinite cause.
_LONGEST = 7 * 86400.0
#: Corrections by less than this part are none.
_SAME = 0.01


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a start has moved: a typed reason, and in words that name the jobs ``mentions``."""

    reason: MoveReason
    message: str
    mentions: tuple[Mention, ...] = ()


UNKNOWN = Cause(MoveReason.PLAN_CHANGED, "the plan has changed; no single cause stands out")


@dataclass(frozen=True, slots=True)
class _Found:
    """Something that may be the cause, the GPU-seconds that it takes or gives, and the jobs it is about."""

    work: float
    reason: MoveReason
    message: str
    about: Sequence[Turn | Stay] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """What is otherwise in one outlook than in a former one."""

    before: Outlook
    after: Outlook
    #: Came since: they wait, or hold GPUs already.
    arrived: tuple[Turn, ...]
    entered: tuple[Stay, ...]
    #: Held GPUs and asked for no more; ask for some now, again or in addition.
    asking: tuple[Turn, ...]
    #: Are no longer there, though they were to start.
    left: tuple[Turn, ...]
    #: (then, now) of holders whose end has moved; ``now`` is None where they hold nothing any more.
    longer: tuple[tuple[Stay, Stay], ...]
    sooner: tuple[tuple[Stay, Stay | None], ...]
    #: (node, kind, GPUs then, GPUs now).
    nodes: tuple[tuple[str, KindId, int, int], ...]
    #: (then, now) of queues whose rights were changed.
    rights: tuple[tuple[Queue, Queue], ...]


def changes(before: Outlook, after: Outlook, alive: Container[str]) -> Changes:
    """Compare two outlooks; ``alive`` are the uids of all jobs that there are at the later one."""
    known = before.turns.keys() | before.stays.keys()
    stays = [(then, after.stays.get(uid)) for uid, then in before.stays.items()]
    places = before.gpus.keys() | after.gpus.keys()
    return Changes(
        before=before,
        after=after,
        arrived=tuple(t for u, t in after.turns.items() if u not in known and t.queued_at > before.at),
        entered=tuple(s for u, s in after.stays.items() if u not in known and s.queued_at > before.at),
        asking=tuple(t for u, t in after.turns.items() if u in before.stays and u not in before.turns),
        left=tuple(t for u, t in before.turns.items() if u not in alive),
        longer=tuple((a, b) for a, b in stays if b is not None and _lasts_longer(a, b, after.at)),
        sooner=tuple((a, b) for a, b in stays if _ends_sooner(a, b, after.at)),
        nodes=tuple(
            (*place, gpus, left)
            for place in sorted(places)
            if (gpus := before.gpus.get(place, 0)) != (left := after.gpus.get(place, 0))
        ),
        rights=tuple(
            (then, now)
            for name, then in before.queues.items()
            if (now := after.queues.get(name)) is not None and then != now
        ),
    )


def cause(uid: str, found: Changes) -> Cause:
    """Why the start of the job has moved from the one outlook to the other."""
    then, now = found.before.turns.get(uid), found.after.turns.get(uid)
    if then is None or now is None:
        return UNKNOWN
    if not is_off(then.start, now.start, found.after.at):
        corrected = _corrected(now.queue, found)
        if corrected is not None:
            return corrected
    if now.start == then.start:
        return UNKNOWN
    causes = _later(then, now, found) if now.start > then.start else _earlier(then, now, found)
    best = max(causes, key=lambda c: c.work, default=None)
    if best is None:
        return UNKNOWN
    named = (one for one in best.about if str(one.key) in best.message)
    return Cause(best.reason, best.message, tuple(Mention(one.key, one.queue) for one in named))


def is_off(told: float, expected: float, now: float) -> bool:
    """Whether a time that was told is off by more than a tenth of what is left, and more than a minute."""
    return abs(told - expected) > max(SLACK_SECONDS, SLACK * (expected - now))


# -- what differs ------------------------------------------------------------------------------------------


def _lasts_longer(then: Stay, now: Stay, at: float) -> bool:
    """A stay that is overdue, or is now expected to end later."""
    return then.end <= at or now.end > then.end + SLACK_SECONDS


def _ends_sooner(then: Stay, now: Stay | None, at: float) -> bool:
    """A stay that has ended before its time, or is now expected to."""
    return (at if now is None else now.end) < then.end - SLACK_SECONDS


def _corrected(queue: str, found: Changes) -> Cause | None:
    """The order stands, but what is made of it differs."""
    then, now = found.before.corrections.get(queue), found.after.corrections.get(queue)
    if then is None or now is None or abs(now - then) <= _SAME * then:
        return None
    word = "later" if now > then else "earlier"
    return Cause(
        MoveReason.CORRECTED,
        f"the order is as before, but jobs of queue {queue} have lately started {word} than expected",
    )


# -- causes, by direction ----------------------------------------------------------------------------------


def _later(then: Turn, now: Turn, found: Changes) -> Iterator[_Found]:
    before, after, kinds = found.before, found.after, now.kinds
    came = [t for t in found.arrived if t.place < now.place and t.kinds & kinds]
    entered = [s for s in found.entered if s.kinds & kinds]
    if came or entered:
        work = sum(_work(t) for t in came) + sum(_held(s, s.end - s.since) for s in entered)
        yield _Found(work, MoveReason.JOB_ARRIVED_AHEAD, _arrived(came, entered), [*came, *entered])
    asking = [t for t in found.asking if t.place < now.place and t.kinds & kinds]
    if asking:
        gpus, names = sum(t.gpus for t in asking), _names([t.key for t in asking])
        message = f"{names} {_does(asking, 'asks')} for {count(gpus, 'more GPU')} and {_does(asking)} first"
        yield _Found(sum(_work(t) for t in asking), MoveReason.JOB_ARRIVED_AHEAD, message, asking)
    # Who was to end later than the job was to start was not waited for; a job that grows not for itself.
    longer = [
        (a, b)
        for a, b in found.longer
        if b.kinds & kinds and a.end <= then.start + SLACK_SECONDS and b.key != now.key
    ]
    if longer:
        late, later = max(longer, key=lambda pair: _held(pair[1], pair[1].end - pair[0].end))
        work = sum(_held(b, b.end - a.end) for a, b in longer)
        yield _Found(
            work, MoveReason.RUNS_LONGER, _runs_longer(late, later, len(longer) - 1, after.at), [later]
        )
    lost = [(name, a, b) for name, kind, a, b in found.nodes if kind in kinds and b < a]
    if lost:
        work = sum(a - b for _, a, b in lost) * (now.start - after.at)
        yield _Found(work, MoveReason.CAPACITY_LOST, _capacity(lost))
    started = [
        turn
        for uid, turn in before.turns.items()
        if turn.place > then.place and (s := after.stays.get(uid)) and s.kinds & kinds and s.end > then.start
    ]
    ahead = [*_passing(then, now, before, after), *started]
    yield from _turned(ahead, now.queue, found, "now go{es} before it")


def _earlier(then: Turn, now: Turn, found: Changes) -> Iterator[_Found]:
    before, after, kinds = found.before, found.after, now.kinds
    left = [t for t in found.left if t.place < then.place and t.kinds & kinds and _remaining(t, after.at) > 0]
    if left:
        message = f"{_names([t.key for t in left])}, which went first, {_does(left, 'is')} gone"
        work = sum(t.gpus * _remaining(t, after.at) for t in left)
        yield _Found(work, MoveReason.JOB_LEFT_AHEAD, message, left)
    sooner = [(a, b) for a, b in found.sooner if a.kinds & kinds and a.key != now.key]
    if sooner:
        work = sum(_held(a, a.end - (after.at if b is None else b.end)) for a, b in sooner)
        yield _Found(work, MoveReason.ENDS_EARLIER, _ends_earlier(sooner, after.at), [a for a, _ in sooner])
    won = [(name, a, b) for name, kind, a, b in found.nodes if kind in kinds and b > a]
    if won:
        work = sum(b - a for _, a, b in won) * max(0.0, then.start - after.at)
        yield _Found(work, MoveReason.CAPACITY_GAINED, _capacity(won))
    behind = _passing(now, then, after, before)
    yield from _turned(behind, now.queue, found, "no longer go{es} before it")


def _passing(mine: Turn, other: Turn, here: Outlook, there: Outlook) -> list[Turn]:
    """Jobs in both outlooks that come after the job in the one (``here``) and before it in the other."""
    return [
        turn
        for uid, turn in there.turns.items()
        if turn.place < other.place
        and turn.kinds & other.kinds
        and (was := here.turns.get(uid)) is not None
        and was.place > mine.place
    ]


def _turned(passing: list[Turn], queue: str, found: Changes, what: str) -> Iterator[_Found]:
    """The order has turned: by new rights of a queue that it is about, or as priorities and turns have it."""
    work = sum(_work(turn) for turn in passing)
    about = {queue, *(turn.queue for turn in passing)}
    changed = [(then, now) for then, now in found.rights if now.name in about]
    if changed:
        message = "; ".join(_rights(then, now) for then, now in changed)
        yield _Found(work, MoveReason.SHARE_CHANGED, message)
    elif passing:
        verb = what.replace("{es}", "es" if len(passing) == 1 else "")
        yield _Found(work, MoveReason.ORDER_CHANGED, f"{_names([t.key for t in passing])} {verb}", passing)


def _work(turn: Turn) -> float:
    return turn.gpus * min(turn.seconds, _LONGEST)


def _remaining(turn: Turn, at: float) -> float:
    """Seconds for which a job that is gone would still have held GPUs."""
    end = turn.start + min(turn.seconds, _LONGEST)
    return end - max(turn.start, at) - SLACK_SECONDS


def _held(stay: Stay, seconds: float) -> float:
    return stay.gpus * min(seconds, _LONGEST)


# -- in words ----------------------------------------------------------------------------------------------


def _arrived(came: list[Turn], entered: list[Stay]) -> str:
    names = _names([*(s.key for s in entered), *(t.key for t in came)])
    gpus = sum(t.gpus for t in came) + sum(s.gpus for s in entered)
    return f"{names} arrived and {_does([*came, *entered])} first ({count(gpus, 'GPU')})"


def _runs_longer(then: Stay, now: Stay, others: int, at: float) -> str:
    more = f", as do {others} more" if others else ""
    if then.end <= at:
        late = f", {duration(at - then.end)} longer than expected" if at - then.end >= 1 else ""
        return f"{now.key} still holds {count(now.gpus, 'GPU')}{late}{more}"
    longer = duration(now.end - then.end)
    return f"{now.key} is expected to hold {count(now.gpus, 'GPU')} for {longer} longer{more}"


def _ends_earlier(sooner: list[tuple[Stay, Stay | None]], at: float) -> str:
    then, now = max(sooner, key=lambda pair: _held(pair[0], pair[0].end - at))
    more = f", as did {len(sooner) - 1} more" if len(sooner) > 1 else ""
    if now is None:
        return f"{then.key} gave back its {count(then.gpus, 'GPU')} sooner than expected{more}"
    return f"{then.key} is expected to end {duration(then.end - now.end)} sooner{more}"


def _capacity(nodes: list[tuple[str, int, int]]) -> str:
    name, then, now = max(nodes, key=lambda one: abs(one[1] - one[2]))
    more = f", and {len(nodes) - 1} more nodes have changed" if len(nodes) > 1 else ""
    return f"node {name} has {now} GPUs for jobs, {then} before{more}"


def _rights(then: Queue, now: Queue) -> str:
    """What was changed about a queue; the rights that have a number by their numbers."""
    numbers = (
        ("weight", then.weight, now.weight),
        ("guaranteed", then.guaranteed, now.guaranteed),
        ("limit", then.limit, now.limit),
    )
    told = [f"{word} {_or_none(new)} (before: {_or_none(old)})" for word, old, new in numbers if old != new]
    return f"queue {now.name} has {', '.join(told)}" if told else f"the settings of queue {now.name} changed"


def _or_none(number: int | None) -> str:
    return "none" if number is None else str(number)


def _names(keys: Iterable[JobKey]) -> str:
    first, *others = map(str, keys)
    return first if not others else f"{first} and {len(others)} more"


def _does(several: Sized, verb: str = "goes") -> str:
    """The verb for one, or for several."""
    return verb if len(several) == 1 else _PLURAL[verb]


_PLURAL = {"goes": "go", "asks": "ask", "is": "are"}
