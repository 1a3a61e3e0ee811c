"""The alerts, as promtool evaluates them: each fires when it should, and does not when it should not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.rules.alerts import ALERTS
from deploy.rules.recording import RECORDINGS
from deploy.rules.render import plain
from drse_forecaster.queries import Utilization, build_load_query
from tests.deploy.alert_cases import (
    CASES,
    CHAT,
    OWNED,
    VLLM,
    Case,
    fires,
    latency,
    silent,
)
from tests.helm.chart import FULL_VALUES, REPOSITORY, of_kind, promtool, render

RUNBOOKS = REPOSITORY / "docs" / "runbooks"
BY_NAME = {alert.name: alert for alert in ALERTS}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules with their defaults, as a plain Prometheus reads them."""
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(plain(), encoding="utf-8")
    return path


def groups_of(*args: str) -> list[dict[str, Any]]:
    """The groups of the chart's PrometheusRule."""
    (rule,) = of_kind(render("--set=prometheusRule.enabled=true", *args), "PrometheusRule")
    groups: list[dict[str, Any]] = rule["spec"]["groups"]
    return groups


def _write(path: Path, groups: list[dict[str, Any]]) -> Path:
    path.write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
    return path


def test_promtool_accepts_the_rules(rules: Path, tmp_path: Path) -> None:
    full = _write(tmp_path / "full.yaml", groups_of("--values", str(FULL_VALUES)))
    for path in (rules, full):
        result = promtool("check", "rules", "--lint=all", "--lint-fatal", str(path))
        assert result.returncode == 0, result.stdout + result.stderr


def test_the_charts_rules_are_the_plain_ones() -> None:
    def by_name(groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {rule.get("alert") or rule["record"]: rule for group in groups for rule in group["rules"]}

    assert by_name(groups_of()) == by_name(yaml.safe_load(plain())["groups"])


def test_the_charts_rules_go_by_the_metrics_of_the_forecaster(tmp_path: Path) -> None:
    """Else its alerts would say of each GPU that it is not measured."""
    texts = ["GR_ENGINE_ACTIVE:1", "amd_busy::gpu_id", "plain"]
    requests = ["engine:running", "engine:waiting"]
    sets = [f"--set-json=forecaster.utilizationMetrics={json.dumps(texts)}"]
    groups = groups_of(*sets, f"--set-json=forecaster.requestMetrics={json.dumps(requests)}")
    path = _write(tmp_path / "other.yaml", groups)
    assert promtool("check", "rules", str(path)).returncode == 0
    found = {rule["record"]: rule["expr"] for rule in groups[0]["rules"]}
    metrics = tuple(map(Utilization.parse, texts))
    assert found["drse:gpu_utilization:ratio"] == " or ".join(one.expression() for one in metrics)
    assert found["drse:job_load:gpus"] == build_load_query(metrics, tuple(requests))
    default = next(rule.expr for rule in RECORDINGS if rule.record == "drse:job_load:gpus")
    (load,) = (
        rule["expr"] for rule in groups_of(*sets)[0]["rules"] if rule["record"] == "drse:job_load:gpus"
    )
    assert load == build_load_query(metrics) != default


@pytest.mark.parametrize("wanted", [True, False], ids=["fires", "silent"])
def test_each_alert_is_tested_both_ways(wanted: bool) -> None:
    assert {case.alert for case in CASES if case.fires is wanted} == BY_NAME.keys()


@pytest.mark.parametrize("step", sorted({case.step for case in CASES}))
def test_alerts_fire_when_they_should_and_only_then(rules: Path, tmp_path: Path, step: int) -> None:
    result = _evaluate(rules, tmp_path, [case for case in CASES if case.step == step])
    assert result.returncode == 0, result.stdout + result.stderr


def test_promtool_would_notice_a_silent_alert(rules: Path, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.fires)
    assert _evaluate(rules, tmp_path, [replace(case, fires=False)]).returncode != 0


def _evaluate(rules: Path, folder: Path, cases: list[Case]) -> Any:
    """Ask for the series that a firing alert leaves."""
    return _run(rules, folder, [_group(case, {"promql_expr_test": [_firing(case)]}) for case in cases])


def _firing(case: Case) -> dict[str, Any]:
    severity = BY_NAME[case.alert].severity.value
    labels = {"alertname": case.alert, "alertstate": "firing", "severity": severity, **case.labels}
    expression = f'ALERTS{{alertname="{case.alert}", alertstate="firing"}}'
    samples = [{"labels": _selector(labels), "value": 1}] if case.fires else []
    return {"expr": expression, "eval_time": f"{case.minute}m", "exp_samples": samples}


def _group(case: Case, tests: dict[str, Any]) -> dict[str, Any]:
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    name = f"{case.alert}: {case.why}"
    return {"name": name, "interval": f"{case.step}m", "input_series": series, **tests}


def _run(rules: Path, folder: Path, groups: list[dict[str, Any]]) -> Any:
    (interval,) = {group["interval"] for group in groups}
    document = {"rule_files": [str(rules)], "evaluation_interval": interval, "tests": groups}
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return promtool("test", "rules", str(path))


def _selector(labels: dict[str, str]) -> str:
    return f"ALERTS{{{', '.join(f'{key}={chr(34)}{value}{chr(34)}' for key, value in labels.items())}}}"


def test_summaries_and_descriptions_fill_in(rules: Path, tmp_path: Path) -> None:
    """promtool prints what fires against the expectation that nothing does; the words must have come out."""
    firing = {case.alert: case for case in CASES if case.fires}
    assert firing.keys() == BY_NAME.keys()
    printed = ""
    for step in sorted({case.step for case in firing.values()}):
        cases = [case for case in firing.values() if case.step == step]
        groups = [_group(case, {"alert_rule_test": [_nothing(case)]}) for case in cases]
        printed += _run(rules, tmp_path, groups).stderr
    assert printed.count("Annotations:") == len(ALERTS)
    assert "DeepSeekJob serving/chat answers slowly" in printed
    assert "95 % of its requests take up to 750ms" in printed
    assert "Queue q holds 2 GPUs, less than its guarantee" in printed
    for wrong in ("error expanding", "<no value>", "{{", "%!"):
        assert wrong not in printed, printed


def _nothing(case: Case) -> dict[str, Any]:
    return {"eval_time": f"{case.minute}m", "alertname": case.alert, "exp_alerts": []}


def test_objectives_of_single_jobs_go_over_the_threshold(tmp_path: Path) -> None:
    """At 750 ms: above the default of half a second, below the second that this job is allowed."""
    objective = "--set=prometheusRule.objectives.latencySeconds.serving/chat=1"
    path = _write(tmp_path / "rules.yaml", groups_of(objective))
    allowed = silent("HighInferenceLatency", "allowed", 20, latency(VLLM, 10))
    labels = {**OWNED, "deepseekjob": "other"}
    slow = latency(VLLM, 10, CHAT.replace("chat", "other"))
    result = _evaluate(path, tmp_path, [allowed, fires("HighInferenceLatency", "another", 20, slow, labels)])
    assert result.returncode == 0, result.stderr


def test_settings_of_single_alerts_reach_their_rules() -> None:
    settings = ("DRSEGPUHeldIdle.enabled=false", "DRSEPlanStale.threshold=300", "DRSEScalingFrozen.for=1h")
    args = [f"--set=prometheusRule.alerts.{setting}" for setting in settings]
    rules = {rule["alert"]: rule for rule in groups_of(*args)[1]["rules"]}
    assert rules.keys() == BY_NAME.keys() - {"DRSEGPUHeldIdle"}
    assert rules["DRSEPlanStale"]["expr"].endswith("> 300")
    assert rules["DRSEScalingFrozen"]["for"] == "1h"


def test_links_lead_to_the_runbook_and_the_board() -> None:
    links = "prometheusRule.runbookUrl=https://docs.example.com/runbooks/"
    board = "dashboards.uidPrefix=a,dashboards.grafanaUrl=https://grafana.example.com"
    (alert, *_) = groups_of("--set", links, "--set", board)[1]["rules"]
    name = alert["alert"]
    assert alert["annotations"]["runbook_url"] == f"https://docs.example.com/runbooks/{name.lower()}"
    assert alert["annotations"]["dashboard_url"] == f"https://grafana.example.com/d/a-{BY_NAME[name].board}"


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in RUNBOOKS.glob("*.md")}
    pages.pop("index")
    assert pages.keys() == {alert.runbook for alert in ALERTS}
    for alert in ALERTS:
        page = pages[alert.runbook]
        assert page.startswith(f"# {alert.name}\n")
        for heading in ("## What it means", "## First step", "## What to do"):
            assert heading in page, f"{alert.name}: {heading}"
        assert "```console\n$ " in page, f"{alert.name}: no command"
