"""Rules as files: for a plain Prometheus with all defaults filled in, and for the chart, which fills them
in."""

from __future__ import annotations

from typing import Any

import yaml

from deploy.rules.alerts import ALERTS
from deploy.rules.model import THRESHOLD, Alert
from deploy.rules.recording import RECORDINGS
from drse_forecaster.queries import DEFAULT_REQUESTS, DEFAULT_UTILIZATION

#: What the chart puts its own metrics in the place of: values of the forecaster may name others.
_BUSY = ("<BUSY>", " or ".join(one.expression() for one in DEFAULT_UTILIZATION))
_REQUESTS = ("<REQUESTS>", "|".join(DEFAULT_REQUESTS))

_HEADER = "# Written by `python -m deploy` from deploy/rules. Change the code, not this file.\n"


def plain() -> str:
    """A rule file of Prometheus: `rule_files: [drse.rules.yaml]`."""
    groups = [
        {"name": "drse-recording", "rules": recording_rules()},
        {"name": "drse-alerts", "rules": [_filled_in(alert) for alert in ALERTS]},
    ]
    return _dump({"groups": groups})


def for_chart() -> str:
    """What the chart's template reads: recording rules with gaps for the metrics that the forecaster goes by
    and what fills them by default, alerts by name with their defaults."""
    recording = recording_rules()
    for token, text in (_BUSY, _REQUESTS):
        recording = [{**rule, "expr": rule["expr"].replace(text, token)} for rule in recording]
    alerts = {alert.name: _chart_alert(alert) for alert in ALERTS}
    return _dump({"busy": _BUSY[1], "requests": _REQUESTS[1], "recording": recording, "alerts": alerts})


def recording_rules() -> list[dict[str, str]]:
    """The recording rules as Prometheus reads them."""
    return [{"record": rule.record, "expr": rule.expr} for rule in RECORDINGS]


def _filled_in(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr.replace(THRESHOLD, _number(alert.threshold)),
        "for": alert.for_,
        "labels": {"severity": alert.severity.value, **alert.labels},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"docs/runbooks/{alert.runbook}.md",
        },
    }


def _chart_alert(alert: Alert) -> dict[str, Any]:
    return {
        "expr": alert.expr,
        "for": alert.for_,
        "severity": alert.severity.value,
        **({} if alert.threshold is None else {"threshold": _number(alert.threshold)}),
        "labels": dict(alert.labels),
        "summary": alert.summary,
        "description": alert.description,
        "board": alert.board,
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _dump(document: dict[str, Any]) -> str:
    return _HEADER + yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True)
