"""``/forecast``: load ahead, what scaling makes of it, and whether the forecast is worth trusting."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from markupsafe import Markup

from drse_operator.api.enums import ScalingMode
from drse_operator.observe.console.address import job_path
from drse_operator.observe.console.charts import bars, lines
from drse_operator.observe.console.pages.page import Page, Visit, command, job_link, reach, state
from drse_operator.observe.console.tables import Column, Table, figures, show
from drse_operator.observe.console.words import NOTHING, fixed, many, percent
from drse_operator.observe.views.forecast import ForecastRow

#: Fans that are drawn at once.
_FANS = 4


def page(visit: Visit) -> Page:
    """The page."""
    sight = visit.sight
    report = sight.forecast
    shown = show(_table(), report.items, visit.address, _kept(visit.address.get("view")), sight)
    chosen = visit.address.get("job")
    rows = [r for r in shown.rows if f"{r.namespace}/{r.job}" == chosen] or list(shown.rows)
    charts: list[tuple[ForecastRow, Markup, lines.Chart, str]] = []
    for row in rows:
        if len(charts) == _FANS:
            break
        past = sight.around.loads.get((row.namespace, row.job))
        chart = lines.fan(row, past, visit.look.scene.now)
        if chart is not None:
            charts.append((row, job_link(row.namespace, row.job), chart, trust(row)))
    scaled = [row for row in report.items if row.mode != ScalingMode.OFF]
    need = sum(row.p90 or row.load or 0.0 for row in scaled)
    tabs = [
        (
            title,
            visit.address.with_(view=key or None).href,
            key == visit.address.get("view"),
            sum(map(_kept(key), report.items)),
        )
        for key, title in (
            ("", "All"),
            ("growing", "Wants more"),
            ("frozen", "Frozen"),
            ("unskilled", "Not trusted"),
        )
    ]
    return Page(
        template="forecast.html",
        title="Forecast",
        topics=("forecast", "jobs"),
        document=report.model_copy(update={"items": shown.rows}),
        command=command("drse", "forecast", *reach(visit)),
        table=shown,
        values={
            "verdict": verdict(scaled, report.forecaster),
            "charts": charts,
            "tabs": tabs,
            "need": need,
            "held": sum(row.capacity_gpus for row in scaled),
            "wanted": sum(
                row.wanted_gpus if row.wanted_gpus is not None else row.capacity_gpus for row in scaled
            ),
            "skilled": sum(row.skill_ratio is not None and row.skill_ratio < 1 for row in scaled),
            "judged": sum(row.skill_ratio is not None for row in scaled),
            "answered": report.forecaster == "Answered",
        },
    )


def trust(row: ForecastRow) -> str:
    """One sentence: is it worth trusting."""
    if row.state != "Ready":
        why = f": {row.state_reason}" if row.state_reason else ""
        return f"No forecast ({row.state}{why}). Scaling follows the load alone, or stands still."
    if row.skill_ratio is None:
        return "Not judged yet: too little history for a backtest."
    better = (1 - row.skill_ratio) * 100
    covered = (
        f"; {percent(row.coverage_ratio)} of loads stayed below P90" if row.coverage_ratio is not None else ""
    )
    if better > 0:
        return f"{better:.0f} % less error than the last value, 10 minutes ahead{covered}."
    return f"No better than the last value, so that is what it says{covered}."


def verdict(rows: Sequence[ForecastRow], forecaster: str) -> str:
    """Whether the forecasts of jobs that scale are worth trusting, with the numbers that say so."""
    if not rows:
        return "No job scales, so no forecast is acted upon."
    if forecaster != "Answered":
        return f"No forecasts are known ({forecaster}): scaling follows the load alone."
    judged = [row for row in rows if row.state == "Ready" and row.skill_ratio is not None]
    if not judged:
        return "Nothing can be said yet: no forecast has enough history for a backtest."
    better = [row for row in judged if row.skill_ratio is not None and row.skill_ratio < 1]
    parts = [f"Worth trusting for {_of(len(better), len(judged))}"]
    if better:
        gain = 1 - statistics.median(row.skill_ratio or 0.0 for row in better)
        parts[0] += f": 10 minutes ahead the error is {percent(gain)} below that of the last value (median)"
    covered = [row.coverage_ratio for row in judged if row.coverage_ratio is not None]
    if covered:
        parts.append(f"{percent(statistics.mean(covered))} of loads stayed below P90, where 90 % is the aim")
    if len(better) < len(judged):
        parts.append("where it is no better, the last value is used instead")
    if silent := sum(row.state not in ("Ready", "Unknown") for row in rows):
        parts.append(f"{many(silent, 'job that scales has', 'jobs that scale have')} no usable forecast now")
    return "; ".join(parts) + "."


def _of(better: int, judged: int) -> str:
    """How many of the jobs with a backtest."""
    if judged == 1:
        return "the one job that could be judged" if better else "no job: one could be judged"
    return f"{better or 'none'} of {judged} jobs"


def _kept(view: str) -> Callable[[ForecastRow], bool]:
    views: dict[str, Callable[[ForecastRow], bool]] = {
        "growing": lambda r: r.wanted_gpus is not None and r.wanted_gpus > r.capacity_gpus,
        "frozen": lambda r: r.state not in ("Ready", "TooShort"),
        "unskilled": lambda r: r.skill_ratio is not None and r.skill_ratio >= 1,
    }
    return views.get(view, lambda r: True)


def _says(row: ForecastRow) -> str:
    """Why it is frozen where it is, else what scaling last decided."""
    return row.state_reason if row.state_reason and row.state not in ("Ready", "Unknown") else row.says


def _table() -> Table[ForecastRow]:
    def load(row: ForecastRow) -> Markup:
        drawn = bars.load(row.load, row.p90, float(max(row.capacity_gpus, 1)), 56.0)
        return bars.beside(drawn, fixed(row.load))

    def wanted(row: ForecastRow) -> Markup:
        if row.wanted_gpus is None:
            return Markup(NOTHING)
        more = row.wanted_gpus - row.capacity_gpus
        return Markup("{}{}").format(
            row.wanted_gpus, Markup(' <span class="muted">{:+}</span>').format(more) if more else ""
        )

    return Table(
        name="forecast",
        noun="job",
        columns=(
            Column(
                "job",
                "Job",
                lambda r: f"{r.namespace}/{r.job}",
                lambda r: job_link(r.namespace, r.job),
                wide=True,
            ),
            Column(
                "load",
                "Now",
                lambda r: r.load,
                load,
                number=True,
                unit="GPUs",
                note="The bar ends at what is held; the mark is P90",
            ),
            figures("p5", "+5 min", lambda r: r.p50_at_5_minutes, unit="P50", optional=True),
            figures("p10", "+10 min", lambda r: r.p50_at_10_minutes, unit="P50"),
            figures(
                "p90", "Highest", lambda r: r.p90, unit="P90", note="Highest P90 up to the job's horizon"
            ),
            Column("held", "Held", lambda r: r.capacity_gpus, number=True, unit="GPUs"),
            Column("wanted", "Wanted", lambda r: r.wanted_gpus, wanted, number=True, unit="GPUs"),
            figures(
                "skill",
                "Skill",
                lambda r: r.skill_ratio,
                digits=2,
                note="Error of the forecast / error of the last value, 10 minutes ahead: below 1 is better",
            ),
            Column(
                "coverage",
                "Below P90",
                lambda r: r.coverage_ratio,
                lambda r: percent(r.coverage_ratio),
                number=True,
                optional=True,
            ),
            Column("mode", "Mode", lambda r: r.mode, filter=True, optional=True),
            Column("state", "Forecast", lambda r: r.state, lambda r: state(r.state), filter=True),
            Column("says", "Says", _says, wide=True),
            Column("reason", "Reason", lambda r: r.reason, filter=True, optional=True),
            Column("model", "Model", lambda r: r.model, filter=True, optional=True),
        ),
        key=lambda r: f"{r.namespace}/{r.job}",
        order="-p90",
        href=lambda r: job_path(r.namespace, r.job),
        search=lambda r: f"{r.namespace}/{r.job} {r.state} {r.reason} {r.says}",
    )
