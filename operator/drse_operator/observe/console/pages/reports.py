"""``/reports``: GPU-hours by whoever had them, for a span of days, held against used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from markupsafe import Markup

from drse_operator.observe.accounts import UNKNOWN
from drse_operator.observe.console.charts import bars
from drse_operator.observe.console.pages.page import Page, Visit, command, queue_chip, reach
from drse_operator.observe.console.tables import Column, Table, figures, show
from drse_operator.observe.console.words import NOTHING, amount, fixed, percent, span
from drse_operator.observe.views.scene import EVERYWHERE, Where
from drse_operator.observe.views.usage import By, UsageReport, UsageRow, usage

_DAY = 86_400.0
#: Bars are drawn for so many days at least; a longer span is drawn by weeks.
_DAYS_SHOWN = 13
#: As ``--from`` of the command line: so many days before today, and today so far.
SPANS = (("0d", "Today", 0), ("7d", "7 days", 7), ("30d", "30 days", 30), ("90d", "90 days", 90))
#: Work of unknown users that is worth a word, as part of all that was held.
_MATERIAL = 0.1


def page(visit: Visit) -> Page:
    """The page."""
    address, now = visit.address, visit.look.scene.now
    by = tuple(dict.fromkeys(By(word) for word in address.get("by").split(",") if word in set(By)))
    by = by or (By.QUEUE,)
    chosen = next((s for s in SPANS if s[0] == address.get("from", "7d")), SPANS[1])
    where = EVERYWHERE if visit.sight.visible is None else Where(namespaces=visit.sight.visible)
    report = usage(visit.sight.around.periods, by, now - chosen[2] * _DAY, now, where)
    shown = show(_table(visit, by, report), report.items, address)
    days = max(chosen[2], _DAYS_SHOWN)
    stacks = visit.sight.once(("stacks", str(days)), lambda: _stacks(visit, where, days))
    return Page(
        template="reports.html",
        title="Reports",
        topics=("usage",),
        document=report.model_copy(update={"items": shown.rows}),
        command=command(
            "drse", "report", "usage", *reach(visit, ""), "--by", ",".join(by), "--from", f"-{chosen[0]}"
        ),
        table=shown,
        values={
            "report": report,
            "used": sum(row.used_gpu_hours for row in report.items),
            "idle": sum(row.idle_gpu_hours for row in report.items),
            "unmeasured": sum(row.unmeasured_gpu_hours for row in report.items),
            "spans": [
                (title, address.with_(**{"from": key if key != "7d" else None}).href, key == chosen[0])
                for key, title, _ in SPANS
            ],
            "bys": [
                (
                    word.title(),
                    address.with_(by=word if word != By.QUEUE else None, sort=None).href,
                    (word,) == by,
                )
                for word in By
            ],
            "stacks": stacks,
            "queues": [
                (name, f"fill-{visit.look.colours.get(name, 0)}")
                for name in sorted({name for stack in stacks for name in stack.queues})
            ],
            "weekly": chosen[2] > _DAYS_SHOWN,
            "lead": _lead(report),
            "unknown": _unknown(report, by),
            "source": visit.sight.around.source("accounts"),
        },
    )


def _lead(report: UsageReport) -> str:
    """Who had most, in a sentence."""
    if not report.items or not report.total_held_gpu_hours:
        return ""
    first, total = report.items[0], report.total_held_gpu_hours
    name = ", ".join(first.who.values())
    if first.who.get(By.USER) == UNKNOWN:
        name = name.replace(UNKNOWN, "Users who are not known")
    held = percent(first.held_gpu_hours / total)
    used = _ratio(first)
    worked = "" if used is None else f" and used {percent(used)} of them where that was measured"
    return f"{name} held most: {amount(first.held_gpu_hours)} of {amount(total)} GPU-hours ({held}){worked}."


def _unknown(report: UsageReport, by: tuple[By, ...]) -> str:
    """Why users are not known and what to set, where that is much of what was held."""
    rows = [row for row in report.items if By.USER in by and row.who.get(By.USER) == UNKNOWN]
    part = sum(row.held_gpu_hours for row in rows) / (report.total_held_gpu_hours or 1.0)
    if part < _MATERIAL:
        return ""
    return f"{percent(part)} is of jobs that do not say who submitted them."


@dataclass(frozen=True, slots=True)
class Stack:
    """What was held in a day or a week: its name, the bar by queue, and all of it."""

    name: str
    bar: Markup
    held: str
    queues: tuple[str, ...]


def _stacks(visit: Visit, where: Where, days: int) -> list[Stack]:
    """Held GPU-hours by queue, stacked: a bar for each day, or for each week of a longer span."""
    today = datetime.fromtimestamp(visit.look.scene.now, UTC)
    first = today - timedelta(days=days)
    spans = list(_weeks(first, today) if days > _DAYS_SHOWN else _each_day(first, today))
    periods = visit.sight.around.periods
    reports = [usage(periods, (By.QUEUE,), a.timestamp(), b.timestamp(), where) for _, a, b in spans]
    most = max((report.total_held_gpu_hours for report in reports), default=0.0)
    found: list[Stack] = []
    for (name, _, _), report in zip(spans, reports, strict=True):
        # Time before anything was accounted for is left out, idle time since then is not.
        if report.items or found:
            bar = bars.stacked(_parts(visit, report), most, 420.0)
            queues = tuple(row.who["queue"] for row in report.items)
            found.append(Stack(name, bar, fixed(report.total_held_gpu_hours), queues))
    return found


def _parts(visit: Visit, report: UsageReport) -> list[tuple[float, str, str]]:
    return [
        (
            row.held_gpu_hours,
            f"fill-{visit.look.colours.get(row.who['queue'], 0)}",
            f"{row.who['queue']}: {row.held_gpu_hours:,.0f} GPU-hours",
        )
        for row in sorted(report.items, key=lambda row: row.who["queue"])
    ]


def _each_day(first: datetime, last: datetime) -> Iterator[tuple[str, datetime, datetime]]:
    for back in range((last - first).days, -1, -1):
        day = last - timedelta(days=back)
        yield f"{day:%a} {day.day} {day:%b}", day, day


def _weeks(first: datetime, last: datetime) -> Iterator[tuple[str, datetime, datetime]]:
    """Weeks from Monday to Sunday (ISO 8601), the first and the last as far as they are in the span."""
    begin = first
    while begin <= last:
        end = min(last, begin + timedelta(days=6 - begin.weekday()))
        yield f"Week {begin.isocalendar().week}, from {begin.day} {begin:%b}", begin, end
        begin = end + timedelta(days=1)


def _table(visit: Visit, by: tuple[By, ...], report: UsageReport) -> Table[UsageRow]:
    most = max((row.held_gpu_hours for row in report.items), default=1.0)

    def who(word: By) -> Column[UsageRow]:
        cell = (lambda r: queue_chip(visit, r.who.get("queue"))) if word is By.QUEUE else None
        return Column(word.value, word.title(), lambda r: r.who.get(word.value, ""), cell, filter=True)

    def split(row: UsageRow) -> Markup:
        parts = [
            (row.used_gpu_hours, "part-used", f"{row.used_gpu_hours:.0f} used"),
            (row.idle_gpu_hours, "part-idle", f"{row.idle_gpu_hours:.0f} idle"),
            (row.unmeasured_gpu_hours, "part-unmeasured", f"{row.unmeasured_gpu_hours:.0f} not measured"),
        ]
        return bars.stacked(parts, most, 160.0)

    hours = "GPU-h"
    return Table(
        name="usage",
        noun="row",
        columns=(
            *(who(word) for word in by),
            figures("held", "Held", lambda r: r.held_gpu_hours, unit=hours),
            figures("used", "Used", lambda r: r.used_gpu_hours, unit=hours),
            figures("idle", "Idle", lambda r: r.idle_gpu_hours, unit=hours),
            figures(
                "unmeasured", "Not measured", lambda r: r.unmeasured_gpu_hours, unit=hours, optional=True
            ),
            Column(
                "ratio",
                "Used of held",
                _ratio,
                lambda r: percent(_ratio(r)),
                number=True,
                note="Of the time for which the load is known",
            ),
            Column("split", "Used, idle, not measured", lambda r: None, split),
            Column(
                "wait50",
                "Wait P50",
                lambda r: r.wait_p50_seconds,
                lambda r: _wait(r.wait_p50_seconds),
                number=True,
            ),
            Column(
                "wait90",
                "Wait P90",
                lambda r: r.wait_p90_seconds,
                lambda r: _wait(r.wait_p90_seconds),
                number=True,
            ),
            Column("jobs", "Started", lambda r: r.jobs, number=True, unit="jobs"),
            Column(
                "preemptions", "Preempted", lambda r: r.preemptions, number=True, unit="times", optional=True
            ),
        ),
        key=lambda r: "/".join(r.who.values()),
        order="-held",
        search=lambda r: " ".join(r.who.values()),
    )


def _ratio(row: UsageRow) -> float | None:
    measured = row.held_gpu_hours - row.unmeasured_gpu_hours
    return row.used_gpu_hours / measured if measured > 0.01 else None


def _wait(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"≤ {span(seconds)}"
