"""``/reports``: GPU-hours by whoever had them, for a span of days, held against used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from markupsafe import Markup

from drse_operator.observe.accounts import Periods
from drse_operator.observe.console.charts import bars
from drse_operator.observe.console.pages.page import Page, Visit, command, queue_chip
from drse_operator.observe.console.tables import Column, Table, show
from drse_operator.observe.console.words import NOTHING, fixed, percent, span
from drse_operator.observe.views.scene import EVERYWHERE, Where
from drse_operator.observe.views.usage import By, UsageReport, UsageRow, usage

_DAY = 86_400.0
SPANS = (("1d", "Today", 0), ("7d", "7 days", 6), ("30d", "30 days", 29), ("90d", "90 days", 89))


def page(visit: Visit) -> Page:
    """The page."""
    address, now = visit.address, visit.look.scene.now
    by = tuple(By(word) for word in address.get("by", "queue").split(",") if word in set(By)) or (By.QUEUE,)
    chosen = next((s for s in SPANS if s[0] == address.get("from", "7d")), SPANS[1])
    where = EVERYWHERE if visit.sight.visible is None else Where(namespaces=visit.sight.visible)
    report = usage(visit.sight.around.periods, by, now - chosen[2] * _DAY, now, where)
    shown = show(_table(visit, by, report), report.items, address)
    return Page(
        template="reports.html",
        title="Reports",
        topics=("usage",),
        document=report.model_copy(update={"items": shown.rows}),
        command=command("drse", "report", "usage", "--by", ",".join(by), "--from", f"-{chosen[0]}"),
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
            "days": _days(visit, visit.sight.around.periods, where),
            "source": visit.sight.around.source("accounts"),
        },
    )


def _days(visit: Visit, periods: Periods, where: Where, weeks: int = 2) -> list[tuple[str, Markup, str]]:
    """Held GPU-hours by day and queue, stacked."""
    today = datetime.fromtimestamp(visit.look.scene.now, UTC)
    days = [today - timedelta(days=back) for back in range(weeks * 7 - 1, -1, -1)]
    reports = [usage(periods, (By.QUEUE,), d.timestamp(), d.timestamp(), where) for d in days]
    most = max((r.total_held_gpu_hours for r in reports), default=0.0)
    found: list[tuple[str, Markup, str]] = []
    for day, report in zip(days, reports, strict=True):
        parts = [
            (
                row.held_gpu_hours,
                f"fill-{visit.look.colours.get(row.who['queue'], 0)}",
                f"{row.who['queue']}: {row.held_gpu_hours:.0f} GPU-hours",
            )
            for row in sorted(report.items, key=lambda row: row.who["queue"])
        ]
        if report.items or found:
            found.append(
                (
                    f"{day:%a} {day.day} {day:%b}",
                    bars.stacked(parts, most, 360.0),
                    fixed(report.total_held_gpu_hours, 0),
                )
            )
    return found


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
            Column(
                "held",
                "Held",
                lambda r: r.held_gpu_hours,
                lambda r: fixed(r.held_gpu_hours),
                number=True,
                unit=hours,
            ),
            Column(
                "used",
                "Used",
                lambda r: r.used_gpu_hours,
                lambda r: fixed(r.used_gpu_hours),
                number=True,
                unit=hours,
            ),
            Column(
                "idle",
                "Idle",
                lambda r: r.idle_gpu_hours,
                lambda r: fixed(r.idle_gpu_hours),
                number=True,
                unit=hours,
            ),
            Column(
                "unmeasured",
                "Not measured",
                lambda r: r.unmeasured_gpu_hours,
                lambda r: fixed(r.unmeasured_gpu_hours),
                number=True,
                unit=hours,
            ),
            Column(
                "ratio",
                "Used of held",
                _ratio,
                lambda r: percent(_ratio(r)),
                number=True,
                note="Of the time for which the load is known",
            ),
            Column("split", "Used, idle, not measured", lambda r: None, split, wide=True),
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
            Column("preemptions", "Preempted", lambda r: r.preemptions, number=True, unit="times"),
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
