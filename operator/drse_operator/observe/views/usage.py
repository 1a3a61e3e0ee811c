"""GPU-hours by whoever had them: held, used, idle, and not measured, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import Field

from drse_operator.observe.accounts import Account, Periods, Tally, day_of
from drse_operator.observe.views.base import Instant, Report, Row, instant
from drse_operator.observe.views.scene import EVERYWHERE, Where


class By(StrEnum):
    """What GPU-hours can be grouped by."""

    QUEUE = "queue"
    NAMESPACE = "namespace"
    USER = "user"
    MODEL = "model"
    TYPE = "type"
    PRODUCT = "product"


class UsageRow(Row):
    """What one group had in the period."""

    who: dict[str, str] = Field(description="The group, by the words that were asked for.")
    held_gpu_hours: float
    used_gpu_hours: float = Field(description="Held and doing work, by the load that is known.")
    idle_gpu_hours: float = Field(description="Held and doing nothing.")
    unmeasured_gpu_hours: float = Field(description="Held while no load was known.")
    jobs: int = Field(description="Jobs that started.")
    preemptions: int
    wait_p50_seconds: float | None = Field(description="Half of the jobs waited no longer than this.")
    wait_p90_seconds: float | None


class UsageReport(Report):
    """GPU-hours of whole UTC days, most held first."""

    first_day: str
    last_day: str
    since: Instant = Field(description="Beginning of the first day.")
    items: tuple[UsageRow, ...]
    total_held_gpu_hours: float


def usage(
    periods: Periods,
    by: Sequence[By],
    start: float,
    now: float,
    where: Where = EVERYWHERE,
) -> UsageReport:
    """GPU-hours from the UTC day of ``start`` to that of ``now`` (seconds since the epoch)."""
    first, last = day_of(start), day_of(now)
    groups: dict[tuple[str, ...], Tally] = {}
    for period, tallies in periods.items():
        if len(period) != len(first) or not first <= period <= last:
            continue
        for account, tally in tallies.items():
            if _shows(where, account):
                groups.setdefault(_group(account, by), Tally()).add(tally)
    rows = [_row(by, group, tally) for group, tally in groups.items()]
    rows.sort(key=lambda row: (-row.held_gpu_hours, *row.who.values()))
    return UsageReport(
        as_of=instant(now),
        first_day=first,
        last_day=last,
        since=instant(start - start % 86400),
        items=tuple(rows),
        total_held_gpu_hours=_hours(sum(tally.held for tally in groups.values())),
    )


def _shows(where: Where, account: Account) -> bool:
    return where.queue in (None, account.queue) and (
        where.namespaces is None or account.namespace in where.namespaces
    )


def _group(account: Account, by: Sequence[By]) -> tuple[str, ...]:
    values = {
        By.QUEUE: account.queue,
        By.NAMESPACE: account.namespace,
        By.USER: account.user,
        By.MODEL: account.model,
        By.TYPE: account.task_type,
        By.PRODUCT: account.product,
    }
    return tuple(values[one] or "-" for one in by)


def _row(by: Sequence[By], group: tuple[str, ...], tally: Tally) -> UsageRow:
    return UsageRow(
        who={str(one): value for one, value in zip(by, group, strict=True)},
        held_gpu_hours=_hours(tally.held),
        used_gpu_hours=_hours(tally.used),
        idle_gpu_hours=_hours(tally.idle),
        unmeasured_gpu_hours=_hours(tally.unmeasured),
        jobs=tally.jobs,
        preemptions=tally.preempted,
        wait_p50_seconds=tally.wait(0.5),
        wait_p90_seconds=tally.wait(0.9),
    )


def _hours(gpu_seconds: float) -> float:
    return round(gpu_seconds / 3600, 3)
