"""The boards as Grafana will read them: committed, complete, and made of metrics that exist."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from deploy.boards.all import BOARDS
from deploy.boards.build import encode
from deploy.boards.model import GRID, Board, Look, Panel
from deploy.reference import forecaster_metrics
from deploy.rules.alerts import ALERTS
from deploy.rules.recording import RECORDINGS
from drse_operator.observe.metrics.catalogue import Kind, families
from tests.helm.chart import promtool

EACH = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
#: What others export; the job's own recording rules and DRSE's metrics are known from the code.
FOREIGN = re.compile(
    r"DCGM_FI_DEV_(GPU_UTIL|FB_USED|XID_ERRORS|POWER_USAGE)|process_\w+|ALERTS|(vllm|sglang):\w+"
    r"|gpu_gfx_activity|habanalabs_utilization"
)
NAME = re.compile(r"\b(?:drse[_:][a-zA-Z0-9_:]+|DCGM_\w+|process_\w+)")


def expressions(board: Board) -> list[tuple[Panel, str]]:
    """Every expression, with Grafana's variables filled in."""
    return [(panel, filled_in(query.expr)) for panel in board.panels for query in panel.queries]


def filled_in(expression: str, namespace: str = "serving", job: str = "chat") -> str:
    values = {"$__rate_interval": "1m", "$__range": "30m", "$namespace": namespace, "$job": job}
    for variable, value in values.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


def built(board: Board) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(encode(board))
    return document


def test_uids_and_titles_are_unique_and_each_title_is_a_question() -> None:
    assert len(BOARDS) == 7
    assert len({board.uid for board in BOARDS}) == len({board.title for board in BOARDS}) == 7
    assert all(board.title.endswith("?") and len(board.uid) <= 40 for board in BOARDS)
    assert {alert.board for alert in ALERTS} <= {board.uid for board in BOARDS}


@EACH
def test_panels_have_ids_of_their_own_and_do_not_overlap(board: Board) -> None:
    panels = built(board)["panels"]
    assert [n for n, times in Counter(panel["id"] for panel in panels).items() if times > 1] == []
    places = {panel["title"]: panel["gridPos"] for panel in panels}
    for (one, a), (two, b) in combinations(places.items(), 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, f"{one} and {two} overlap"
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= GRID for place in places.values())
    assert len(places) == len(panels), "two panels of one title"


@EACH
def test_panels_say_what_they_show(board: Board) -> None:
    for panel in built(board)["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"], panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for target in panel["targets"]:
            named = panel["type"] in ("stat", "table") or target.get("legendFormat")
            assert named, f"{panel['title']}: series without a name"


@EACH
def test_expressions_are_made_of_metrics_that_exist(board: Board) -> None:
    for panel, expression in expressions(board):
        unknown = {name for name in NAME.findall(expression) if not _known(name)}
        assert not unknown, f"{panel.title}: {unknown}"


def test_rules_are_made_of_metrics_that_exist() -> None:
    objectives = {"drse:job_latency_objective_seconds"}
    for rule in (*ALERTS, *RECORDINGS):
        unknown = {name for name in NAME.findall(rule.expr) if not _known(name)} - objectives
        assert not unknown, f"{rule}: {unknown}"


def _known(name: str) -> bool:
    return name in _names() or FOREIGN.fullmatch(name) is not None


def _names() -> set[str]:
    names = {rule.record for rule in RECORDINGS}
    kinds = {family.name: family.kind.value for family in families()}
    kinds |= {name: family.type for name, family in forecaster_metrics().items()}
    for name, kind in kinds.items():
        if kind == Kind.COUNTER:
            names.add(f"{name}_total")
        elif kind == Kind.HISTOGRAM:
            names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
        else:
            names.add(name)
    return names


def test_promtool_parses_every_expression(tmp_path: Path) -> None:
    """As rules: promtool checks those without a server."""
    records = [
        {"record": f"test:x{index}", "expr": expression}
        for index, (_, expression) in enumerate(each for board in BOARDS for each in expressions(board))
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "boards", "rules": records}]}), encoding="utf-8")
    result = promtool("check", "rules", "--lint=none", str(path))
    assert result.returncode == 0, result.stdout + result.stderr
    path.write_text(json.dumps({"groups": [{"name": "x", "rules": [{"record": "a", "expr": "sum("}]}]}))
    assert promtool("check", "rules", str(path)).returncode != 0, "promtool would notice"


@EACH
def test_looks_fit_what_is_asked(board: Board) -> None:
    for panel in board.panels:
        if panel.look in (Look.NUMBER, Look.BARS, Look.TABLE, Look.HEAT):
            assert len(panel.queries) == 1, panel.title
        if panel.look is Look.NUMBER:
            assert not panel.queries[0].legend, f"{panel.title}: a number has no legend"
        if len(panel.queries) > 1:
            assert len({query.legend for query in panel.queries}) == len(panel.queries), panel.title


@EACH
def test_variables_come_from_metrics_that_exist(board: Board) -> None:
    for variable in built(board)["templating"]["list"]:
        if variable["type"] == "datasource":
            continue
        metric = re.fullmatch(r"label_values\((\w+)(\{.*\})?, (\w+)\)", variable["query"])
        assert metric, variable["query"]
        assert _known(metric[1]), variable["query"]
