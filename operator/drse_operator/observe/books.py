"""How accounts and decisions are written down: compact documents that fit into ConfigMaps.

There is one book of usage a month and one of decisions, each gzipped JSON under ``binaryData``. They are
read by the next leader, by ``drse report usage`` and ``drse decisions``, and by the console.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drse_operator.api.keys import JobKey
from drse_operator.observe.accounts import Account, Accounts, Periods, Stay, Tally
from drse_operator.observe.journal import Decision

#: Object names in the operator's namespace. A month is written ``2026-11``.
USAGE_NAME = "drse-usage-{month}"
DECISIONS_NAME = "drse-decisions"
#: Label of all of them, with ``usage`` or ``decisions``.
BOOK_LABEL = "drse.dev/book"
_ENTRY = "book.json.gz"
#: Compressed size that is well below what the API server stores in one object (1 MiB of ConfigMap data).
LARGEST = 700_000
#: User and model of accounts that had to be put together to keep a book small.
OTHERS = "(others)"

Document = dict[str, Any]
B = TypeVar("B", bound="_Book")


class BookUnreadable(Exception):
    """A book was written by something else, or is damaged; the message says which and why."""


class _Book(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


#: Number of the account, GPU-seconds held, used and unmeasured, jobs started, preemptions, waits by step.
Row = tuple[int, float, float, float, int, int, dict[int, int]]


class OpenStay(_Book):
    """A stay that goes on. Times are seconds since the epoch, ``made`` the assignment's own word for it."""

    uid: str
    replica: int
    worker: int
    made: str
    namespace: str
    job: str
    account: int
    gpus: int
    since: float
    counted: float


class UsageBook(_Book):
    """What accounts had in the days of a month and in its latest hours."""

    month: str
    settled: float = Field(description="Everything up to this time is counted, seconds since the epoch.")
    accounts: tuple[Account, ...] = ()
    periods: dict[str, tuple[Row, ...]] = Field(default_factory=dict)
    open: tuple[OpenStay, ...] = ()

    def tallies(self) -> Periods:
        """Tallies by period and account."""
        return {
            period: {self.accounts[row[0]]: Tally(*row[1:6], waits=dict(row[6])) for row in rows}
            for period, rows in self.periods.items()
        }


class DecisionBook(_Book):
    """The latest decisions, oldest first."""

    decisions: tuple[Decision, ...] = ()


def usage_book(accounts: Accounts, month: str, settled: float, largest: int = LARGEST) -> UsageBook:
    """The accounts of a month. Where the book would be too large, small accounts are put together."""
    mine = {p: tallies for p, tallies in accounts.periods.items() if p.startswith(month)}
    book = _usage(accounts, mine, month, settled)
    while len(pack(book)) > largest:
        folded = _fold(mine)
        if folded == mine:
            break
        mine = folded
        book = _usage(accounts, mine, month, settled)
    return book


def _usage(accounts: Accounts, periods: Periods, month: str, settled: float) -> UsageBook:
    stays = [(uid, place, stay) for uid, places in accounts.open.items() for place, stay in places.items()]
    named = {account for tallies in periods.values() for account in tallies}
    order = sorted(named | {stay.account for _, _, stay in stays})
    number = {account: i for i, account in enumerate(order)}
    return UsageBook(
        month=month,
        settled=settled,
        accounts=tuple(order),
        periods={
            period: tuple(_row(number[account], tally) for account, tally in sorted(tallies.items()))
            for period, tallies in sorted(periods.items())
        },
        open=tuple(
            OpenStay(
                uid=uid,
                replica=replica,
                worker=worker,
                made=made,
                namespace=stay.key.namespace,
                job=stay.key.name,
                account=number[stay.account],
                gpus=stay.gpus,
                since=stay.since,
                counted=stay.counted,
            )
            for uid, (replica, worker, made), stay in stays
        ),
    )


def _row(number: int, tally: Tally) -> Row:
    held, used, unmeasured = (round(v, 3) for v in (tally.held, tally.used, tally.unmeasured))
    return number, held, used, unmeasured, tally.jobs, tally.preempted, dict(sorted(tally.waits.items()))


def _fold(periods: Periods) -> Periods:
    """Put the smaller half of the accounts together by queue, namespace, task type and product."""
    held: dict[Account, float] = {}
    for tallies in periods.values():
        for account, tally in tallies.items():
            held[account] = held.get(account, 0.0) + tally.held
    small = set(sorted(held, key=lambda account: (held[account], account))[: (len(held) + 1) // 2])
    folded: Periods = {}
    for period, tallies in periods.items():
        for account, tally in tallies.items():
            name = account._replace(user=OTHERS, model=OTHERS) if account in small else account
            folded.setdefault(period, {}).setdefault(name, Tally()).add(tally)
    return folded


def reopen(accounts: Accounts, book: UsageBook) -> None:
    """Go on with what a book says: its tallies are added, its open stays are taken up."""
    for period, tallies in book.tallies().items():
        mine = accounts.periods.setdefault(period, {})
        for account, tally in tallies.items():
            mine.setdefault(account, Tally()).add(tally)
    for o in book.open:
        stay = Stay(JobKey(o.namespace, o.job), book.accounts[o.account], o.gpus, o.since, o.counted)
        accounts.resume(o.uid, (o.replica, o.worker, o.made), stay)


# -- ConfigMaps ------------------------------------------------------------------------------------------


def pack(book: _Book) -> bytes:
    """A book as gzipped JSON; equal books give equal bytes."""
    return gzip.compress(book.model_dump_json().encode(), mtime=0)


def config_map(name: str, namespace: str, book: _Book) -> Document:
    """The ConfigMap that holds a book."""
    kind = "usage" if isinstance(book, UsageBook) else "decisions"
    labels = {"app.kubernetes.io/managed-by": "drse", BOOK_LABEL: kind}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "binaryData": {_ENTRY: base64.b64encode(pack(book)).decode()},
    }


def read_usage(document: Mapping[str, Any]) -> UsageBook:
    """The book of usage in a ConfigMap. Raises BookUnreadable."""
    return _read(document, UsageBook)


def read_decisions(document: Mapping[str, Any]) -> DecisionBook:
    """The book of decisions in a ConfigMap. Raises BookUnreadable."""
    return _read(document, DecisionBook)


def merge(books: Iterable[UsageBook]) -> Periods:
    """Tallies of several months together."""
    periods: Periods = {}
    for book in books:
        periods |= book.tallies()
    return periods


def _read(document: Mapping[str, Any], kind: type[B]) -> B:
    name = document["metadata"]["name"]
    try:
        raw = base64.b64decode(document["binaryData"][_ENTRY], validate=True)
        return kind.model_validate_json(gzip.decompress(raw))
    except (KeyError, ValueError, OSError, EOFError, ValidationError) as error:
        raise BookUnreadable(
            f"ConfigMap {name} holds no book of DRSE ({type(error).__name__}): delete it, or move it away"
        ) from error
