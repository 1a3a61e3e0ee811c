"""``/health``: is DRSE itself well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from pydantic import Field

from drse_operator.observe.console.charts import lines
from drse_operator.observe.console.look import Source
from drse_operator.observe.console.pages.page import Page, Visit, command, reach
from drse_operator.observe.console.words import NOTHING, ago, amount, many, percent, span
from drse_operator.observe.views.base import Instant, Row, instant, instant_or_none
from drse_operator.observe.views.closed import ClosedRow

#: A Lease that was not renewed for so long has no holder any more (seconds).
_LEASE = 20.0


class CheckRow(Row):
    """One thing that is looked at."""

    name: str
    state: str = Field(description="Good, Watch, Act or Unknown.")
    value: str
    says: str


class HealthDocument(Row):
    """The page as JSON."""

    as_of: Instant
    verdict: str = Field(description="Whether DRSE is well, in a sentence.")
    checks: tuple[CheckRow, ...]
    heard: Instant = Field(description="When the API server last answered.")


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure of the operator, and from when on it wants looking at and acting."""

    name: str
    key: str
    watch: float
    act: float
    text: str
    says: str


_FIGURES = (
    _Figure(
        "Last plan",
        "last_plan_age_seconds",
        60,
        120,
        "seconds",
        "Time since the operator last planned; passes come every 30 s at least.",
    ),
    _Figure(
        "Plan time, p99", "plan_p99_seconds", 0.5, 2.0, "milliseconds", "Time of one pass over everything."
    ),
    _Figure("Devices promised twice", "double_assignments", 1, 1, "number", "Must be 0."),
    _Figure(
        "Devices other than promised", "assignment_mismatches", 1, 1, "number", "In the last hour; must be 0."
    ),
    _Figure("Failed API requests", "api_errors_per_hour", 10, 100, "number", "In the last hour."),
    _Figure(
        "Fairness bound used",
        "fairness_bound_used_ratio",
        0.9,
        1.0,
        "percent",
        "Above 100 % the bound would be broken.",
    ),
    _Figure(
        "GPUs without metrics",
        "gpus_without_metrics",
        1,
        1e9,
        "number",
        "Held GPUs that no exporter reports: the join by UUID fails.",
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether DRSE is well. ``state`` is Good, Watch or Act."""

    state: str
    says: str


#: The figure that says little before so many starts have been judged.
_TOLD, _TOLD_KEY, _JUDGED = "Starts as told", "eta_coverage_ratio", 20


def checks(visit: Visit) -> tuple[CheckRow, ...]:
    """Everything that is looked at."""
    return (*_process(visit), *_figures(visit), _told(visit), *_closed(visit), *_sources(visit))


def verdict(visit: Visit, rows: Sequence[CheckRow]) -> Verdict:
    """The checks and alerts in a sentence: what needs a person, else by which numbers all is well."""
    alerts = (visit.sight.around.alerts or ()) if visit.sight.everything else ()
    by_state = {word: [row for row in rows if row.state == word] for word in ("Act", "Watch", "Unknown")}
    critical = [alert.name for alert in alerts if alert.severity == "critical"]
    if by_state["Act"] or critical:
        names = [f"{row.name} ({row.value})" for row in by_state["Act"]] + critical
        return Verdict("Act", f"DRSE needs a person: {', '.join(names)}.")
    known = {row.name: row.value for row in rows if row.state != "Unknown"}
    facts = [f"{known['Leader']} leads"]
    if "Last plan" in known:
        facts.append(f"it last planned {known['Last plan']} ago")
    if "Plan time, p99" in known:
        facts.append(f"a plan takes {known['Plan time, p99']} at most (p99)")
    if by_state["Watch"]:
        facts.append("to watch: " + ", ".join(f"{row.name} ({row.value})" for row in by_state["Watch"]))
    if alerts:
        firing = ", ".join(sorted({alert.name for alert in alerts}))
        facts.append(f"{many(len(alerts), 'alert')} firing ({firing})")
    if by_state["Unknown"]:
        facts.append(f"{many(len(by_state['Unknown']), 'figure is', 'figures are')} not known")
    quiet = not by_state["Watch"] and not alerts
    return Verdict("Good" if quiet else "Watch", f"DRSE is well: {'; '.join(facts)}.")


def page(visit: Visit) -> Page:
    """The page."""
    rows = checks(visit)
    whole = verdict(visit, rows)
    alerts = visit.sight.around.alerts if visit.sight.everything else ()
    return Page(
        template="health.html",
        title="Health",
        topics=("health", "use", "gpus", "queues"),
        document=HealthDocument(
            as_of=visit.now, verdict=whole.says, checks=rows, heard=instant(visit.look.heard)
        ),
        command=command("drse", "doctor", *reach(visit, "")),
        values={
            "versions": ", ".join(visit.sight.around.versions),
            "verdict": whole,
            "badge": shape(whole.state, ""),
            "checks": [(row, shape(row.state), _spark(visit, row.name)) for row in rows],
            "alerts": alerts,
            "sources": [
                (s, ago(instant_or_none(s.answered), visit.now))
                for s in sorted(visit.sight.around.sources, key=lambda s: s.name)
            ],
        },
    )


def shape(word: str, label: str | None = None) -> Markup:
    """The state of a check as a word with its shape; ``label`` stands instead of the word."""
    drawn, tone = {
        "Good": ("full", "tone-good"),
        "Watch": ("half", "tone-half"),
        "Act": ("cross", "act"),
    }.get(word, ("hollow", "tone-hollow"))
    return Markup('<span class="state {}"><span class="shape {}"></span>{}</span>').format(
        tone, drawn, word if label is None else label
    )


def _process(visit: Visit) -> tuple[CheckRow, ...]:
    around, now = visit.sight.around, visit.look.scene.now
    silent = now - visit.look.heard
    age = None if around.leader_renewed is None else max(0.0, now - around.leader_renewed)
    leads = bool(around.leader) and age is not None and age < _LEASE
    renewed = "never" if age is None else f"{span(age)} ago"
    return (
        CheckRow(
            name="API server",
            state="Good" if silent < 15 else "Act",
            value=f"{span(silent)} ago",
            says="When it last answered this console. The picture stands still while it does not.",
        ),
        CheckRow(
            name="Leader",
            state="Good" if leads else "Act",
            value=around.leader or "nobody",
            says=f"Holds the Lease, renewed {renewed}. Without a leader nothing is admitted; jobs run on.",
        ),
    )


def _spark(visit: Visit, name: str) -> Markup:
    """How the figure went, where that is known."""
    key = next((figure.key for figure in _FIGURES if figure.name == name), _TOLD_KEY if name == _TOLD else "")
    series = visit.sight.around.trends.get(key)
    return Markup("") if series is None else lines.spark(series)


def _figures(visit: Visit) -> tuple[CheckRow, ...]:
    known, rows = visit.sight.around.metrics, []
    for figure in _FIGURES:
        value = known.get(figure.key)
        word = "Unknown"
        if value is not None:
            word = "Act" if value >= figure.act else "Watch" if value >= figure.watch else "Good"
        rows.append(CheckRow(name=figure.name, state=word, value=_text(value, figure.text), says=figure.says))
    return tuple(rows)


def _told(visit: Visit) -> CheckRow:
    """Whether jobs start by the p90 they were told. That all of them did is no fault."""
    told = [queue.status.told for queue in visit.look.scene.world.queues.values()]
    judged = sum(one.judged for one in told if one is not None)
    kept = sum(one.kept for one in told if one is not None)
    says = "Jobs that started by the p90 they were told; nine in ten is the aim, below 80 % is too few."
    if judged < _JUDGED:
        few = f" Judged from {_JUDGED} starts on."
        value = f"{kept} of {judged}" if judged else NOTHING
        return CheckRow(name=_TOLD, state="Unknown", value=value, says=says + few)
    word = "Good" if kept >= 0.8 * judged else "Watch"
    return CheckRow(name=_TOLD, state=word, value=percent(kept / judged), says=says)


def _closed(visit: Visit) -> tuple[CheckRow, ...]:
    """What is closed while jobs wait for it."""
    rows = visit.sight.closed
    nodes = [row for row in rows if row.what == "Node"]
    queues = [row for row in rows if row.what == "Queue"]
    cordoned = ", ".join(row.name for row in queues)
    return (
        CheckRow(
            name="GPUs out of service",
            state="Watch" if nodes else "Good",
            value=f"{sum(row.gpus for row in nodes)}",
            says=_sentences(nodes) or "None that a waiting job could use.",
        ),
        CheckRow(
            name="Cordoned queues",
            state="Watch" if queues else "Good",
            value=cordoned or "0",
            says=_sentences(queues) or "None in which jobs wait.",
        ),
    )


def _sentences(rows: Sequence[ClosedRow]) -> str:
    return "; ".join(f"{row.says} ({row.remedy})" if row.remedy else row.says for row in rows)


def _sources(visit: Visit) -> tuple[CheckRow, ...]:
    titles = {
        "forecaster": "Forecaster",
        "prometheus": "Prometheus",
        "accounts": "Accounts and decisions",
        "lease": "Lease",
    }
    without = {
        "forecaster": "Not configured (--forecaster-url): no forecasts are shown.",
        "prometheus": "Not configured (--prometheus-url): no use of GPUs, history or alerts.",
    }
    rows = []
    for key, title in titles.items():
        source: Source = visit.sight.around.source(key)
        if not source.configured:
            if key in without:
                rows.append(CheckRow(name=title, state="Unknown", value="not asked", says=without[key]))
            continue
        # Addresses, which troubles name as well, are the administrators'.
        told = source.trouble or f"Asked at {source.address}."
        says = told if visit.sight.everything else "Asked regularly."
        rows.append(
            CheckRow(
                name=title,
                state="Act" if source.trouble else "Good",
                value="no answer" if source.trouble else "answers",
                says=says,
            )
        )
    return tuple(rows)


def _text(value: float | None, kind: str) -> str:
    if value is None:
        return NOTHING
    if kind == "seconds":
        return span(value)
    if kind == "milliseconds":
        return f"{1000 * value:.0f} ms"
    return percent(value) if kind == "percent" else amount(value, 0)
