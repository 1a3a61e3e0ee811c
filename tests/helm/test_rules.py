"""The alerts, as promtool evaluates them: each fires when it should, and does not when it should not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.chart import FULL_VALUES, of_kind, promtool, render

JOB = {"deepseekjob": "chat", "deepseekjob_namespace": "serving"}
CHAT = 'deepseekjob="chat", deepseekjob_namespace="serving"'
OWNED = {**JOB, "namespace": "serving"}


@dataclass(frozen=True, slots=True)
class Case:
    """Series of promtool's notation from minute 0 on, and whether the alert fires at `minute`."""

    alert: str
    series: dict[str, str]
    minute: int
    fires: bool
    severity: str = "warning"
    labels: dict[str, str] = field(default_factory=dict)


def latency(metric: str, slow_share: int, job: str = CHAT) -> dict[str, str]:
    """Ten requests a second, of which so many in a hundred take between 0.5 and 1 second."""
    bucket = f"{metric}_bucket{{{job}, pod="
    fast = 6 * (100 - slow_share)
    return {
        f'{bucket}"chat-0-0", le="0.3"}}': f"0+{fast}x30",
        f'{bucket}"chat-0-0", le="0.5"}}': f"0+{fast}x30",
        f'{bucket}"chat-0-0", le="1.0"}}': "0+600x30",
        f'{bucket}"chat-0-0", le="+Inf"}}': "0+600x30",
    }


VLLM, SGLANG = "vllm:e2e_request_latency_seconds", "sglang:e2e_request_latency_seconds"
FROZEN = f'drse_scaling_frozen{{{CHAT}, reason="LoadStale", instance="a"}}'
AGE = f'drse_forecast_age_seconds{{{CHAT}, instance="a"}}'
CASES = {
    "latency: 10 % over half a second": Case(
        "HighInferenceLatency", latency(VLLM, 10), 20, True, labels=OWNED
    ),
    "latency: SGLang too": Case("HighInferenceLatency", latency(SGLANG, 10), 20, True, labels=OWNED),
    "latency: not yet for five minutes": Case("HighInferenceLatency", latency(VLLM, 10), 4, False),
    "latency: 2 % over half a second": Case("HighInferenceLatency", latency(VLLM, 2), 20, False),
    "latency: an engine of somebody else": Case(
        "HighInferenceLatency", latency(VLLM, 50, 'job="other"'), 20, False
    ),
    "leader: two followers and nobody leads": Case(
        "DRSENoLeader",
        {'drse_leader{instance="a"}': "0x20", 'drse_leader{instance="b"}': "0x20"},
        10,
        True,
        "critical",
    ),
    "leader: nothing is scraped": Case("DRSENoLeader", {"up": "1x20"}, 10, True, "critical"),
    "leader: one leads": Case(
        "DRSENoLeader", {'drse_leader{instance="a"}': "0x20", 'drse_leader{instance="b"}': "1x20"}, 10, False
    ),
    "leader: a gap of two minutes": Case(
        "DRSENoLeader", {'drse_leader{instance="a"}': "1x5 0x1 1x20"}, 7, False
    ),
    "double: one device": Case(
        "DRSEDoubleAssignment", {'drse_double_assignments{instance="a"}': "0x5 1x5"}, 8, True, "critical"
    ),
    "double: none": Case("DRSEDoubleAssignment", {'drse_double_assignments{instance="a"}': "0x20"}, 8, False),
    "frozen: for twenty minutes": Case(
        "DRSEScalingFrozen", {FROZEN: "1x30"}, 20, True, labels={**OWNED, "reason": "LoadStale"}
    ),
    "frozen: for ten minutes": Case("DRSEScalingFrozen", {FROZEN: "1x10 stale"}, 20, False),
    "stale: ten minutes old": Case("DRSEForecastStale", {AGE: "0+60x40"}, 20, True, labels=OWNED),
    "stale: fresh": Case("DRSEForecastStale", {AGE: "15 45 15 45 15x30"}, 20, False),
    "stale: late for a moment only": Case("DRSEForecastStale", {AGE: "15x10 400x3 15x20"}, 20, False),
}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules of the default values, as Prometheus reads them."""
    return _write(tmp_path_factory.mktemp("rules") / "rules.yaml", "--set=prometheusRule.enabled=true")


def _write(path: Path, *args: str) -> Path:
    (rule,) = of_kind(render(*args), "PrometheusRule")
    path.write_text(yaml.safe_dump(rule["spec"]), encoding="utf-8")
    return path


def test_promtool_accepts_the_rules(rules: Path, tmp_path: Path) -> None:
    full = _write(tmp_path / "full.yaml", "--values", str(FULL_VALUES))
    for path in (rules, full):
        result = promtool("check", "rules", "--lint=all", "--lint-fatal", str(path))
        assert result.returncode == 0, result.stdout + result.stderr


def test_each_alert_is_tested_both_ways(rules: Path) -> None:
    named = {rule["alert"] for rule in _rules(rules)}
    assert named == {case.alert for case in CASES.values() if case.fires}
    assert named == {case.alert for case in CASES.values() if not case.fires}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_an_alert_fires_when_it_should_and_only_then(rules: Path, tmp_path: Path, case: Case) -> None:
    annotations = _expected_annotations(rules, case) if case.fires else {}
    expected = {"exp_labels": {"severity": case.severity, **case.labels}, "exp_annotations": annotations}
    result = _evaluate(rules, tmp_path, case, [expected] if case.fires else [])
    assert result.returncode == 0, result.stdout + result.stderr


def test_promtool_would_notice_a_silent_alert(rules: Path, tmp_path: Path) -> None:
    case = CASES["double: one device"]
    assert _evaluate(rules, tmp_path, case, []).returncode != 0


def _evaluate(rules: Path, folder: Path, case: Case, expected: list[dict[str, Any]]) -> Any:
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    test = {
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [
            {"eval_time": f"{case.minute}m", "alertname": case.alert, "exp_alerts": expected}
        ],
    }
    document = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [test]}
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return promtool("test", "rules", str(path))


VALUES_IN_WORDS = {
    "latency: 10 % over half a second": "750ms",
    "latency: SGLang too": "750ms",
    "stale: ten minutes old": "20m 0s",
}


def _expected_annotations(rules: Path, case: Case) -> dict[str, str]:
    """The rule's annotations with what Prometheus puts in, spelt out by hand for each case."""
    name = next(name for name, each in CASES.items() if each is case)
    words = {
        "{{ $labels.deepseekjob_namespace }}": "serving",
        "{{ $labels.deepseekjob }}": "chat",
        "{{ $labels.reason }}": "LoadStale",
        "{{ $value }}": "1",
        "{{ $value | humanizeDuration }}": VALUES_IN_WORDS.get(name, ""),
    }
    (rule,) = (rule for rule in _rules(rules) if rule["alert"] == case.alert)
    annotations: dict[str, str] = rule["annotations"]
    for template, text in words.items():
        annotations = {key: value.replace(template, text) for key, value in annotations.items()}
    return annotations


def _rules(path: Path) -> list[dict[str, Any]]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]
