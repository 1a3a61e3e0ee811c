"""What is cordoned while jobs wait: said with the command that ends it, and tried before it is promised."""

from __future__ import annotations

import pytest

from drse_operator.api.keys import JobKey
from drse_operator.cli.commands.doctor import verdict
from drse_operator.cli.commands.whatif import describe as describe_whatif
from drse_operator.cli.commands.why import describe
from drse_operator.cli.diagnosis.finding import Finding, State, finding
from drse_operator.cluster import kinds
from drse_operator.observe.views.changes import ChangeError, parse_changes, settings
from drse_operator.observe.views.fork import WithoutNode
from drse_operator.observe.views.scene import Scene
from drse_operator.observe.views.whatif import whatif
from drse_operator.observe.views.why import WhyReport, why
from tests.cli.worlds import NOW, Documents, busy

BIG = JobKey("team-a", "big")


def cluster(*cordoned: str, held: int = 8, queue_cordoned: bool = False, gpus: int = 8) -> Documents:
    """Two nodes of eight, the first one held; a job that wants ``gpus``."""
    made = Documents()
    for name in ("h100-0", "h100-1", "h100-2"):
        made.node(name)
    made.queue("research", cordoned=queue_cordoned)
    made.job("holder", on=[("h100-0", range(held))], gpus=held, estimatedDuration="2h")
    made.job("big", age=30, gpus=gpus)
    for document in made.listed[kinds.NODE]:
        if document["metadata"]["name"] in cordoned:
            document["spec"] = {
                "unschedulable": True,
                "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}],
            }
    return made


def asked(made: Documents) -> WhyReport:
    return why(Scene(made.world(), NOW), BIG)


def test_a_cordoned_queue_is_the_reason_and_to_uncordon_it_the_remedy() -> None:
    report = asked(cluster(queue_cordoned=True))
    first = report.suggestions[0]
    assert first.change == "drse uncordon research" and [p.node for p in first.places] == ["h100-1"]
    text = describe(report, 200)
    assert "not while queue research is cordoned" in text and "not in sight" not in text
    assert "drse uncordon research: would start now on h100-1" in text


def test_where_uncordoning_a_queue_does_not_start_the_job_no_start_is_promised() -> None:
    report = asked(cluster("h100-1", "h100-2", queue_cordoned=True))
    assert all(one.change != "drse uncordon research" for one in report.suggestions)
    assert "drse uncordon research: it takes its turn then" in describe(report, 200)


def test_a_node_is_named_only_if_the_job_would_start_there() -> None:
    report = asked(cluster("h100-1", "h100-2"))
    first = report.suggestions[0]
    assert first.change == "kubectl uncordon h100-1" and [p.node for p in first.places] == ["h100-1"]
    assert "kubectl uncordon" not in describe(asked(cluster("h100-0", "h100-1", "h100-2", gpus=64)), 200)


def test_nodes_that_help_only_together_are_named_together() -> None:
    report = asked(cluster("h100-1", "h100-2", gpus=16))
    assert report.suggestions[0].change == "kubectl uncordon h100-1 h100-2"


@pytest.mark.parametrize(
    ("states", "last"),
    [
        ((State.OK,), "DRSE is healthy."),
        ((State.WARN, State.OK, State.WARN), "DRSE is healthy, with 2 warnings."),
        ((State.WARN, State.FAIL), "DRSE is not healthy: 1 check failed."),
    ],
)
def test_the_verdict_counts_warnings(states: tuple[State, ...], last: str) -> None:
    findings: tuple[Finding, ...] = tuple(finding("one", state, "so it is") for state in states)
    assert verdict(findings).splitlines()[0] == last


def test_a_start_that_no_time_brings_about_is_never() -> None:
    made = cluster("h100-2", held=8, gpus=16)
    report = whatif(Scene(made.world(), NOW), [WithoutNode("h100-0"), WithoutNode("h100-1")])
    (shift,) = (shift for shift in report.shifts if shift.job == "big")
    assert shift.never_then and not shift.never_now
    (line,) = (line for line in describe_whatif(report).splitlines() if "team-a/big" in line)
    assert line.split()[2] == "never", line


def test_another_weight_tells_the_fair_shares_before_and_after() -> None:
    world = busy().world()
    report = whatif(Scene(world, NOW), settings(world, ["queue.product.weight=6"], "team-a"))
    heads, *rows = describe_whatif(report).splitlines()
    assert heads.split() == ["QUEUE", "WEIGHT(now)", "WEIGHT(then)", "FAIR(now)", "FAIR(then)", "HELD"]
    assert ["product", "1", "6"] in [row.split()[:3] for row in rows]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (
            "resources: {gpuPerReplica: 2}",
            "spec.resources has no field gpuPerReplica: did you mean gpusPerRep",
        ),
        ("taskTyp: Batch", "spec has no field taskTyp: did you mean taskType?"),
        ("scaling: {zzz: 1}", "spec.scaling has no field zzz; it has "),
    ],
)
def test_an_unknown_field_is_answered_with_the_one_that_was_meant(spec: str, says: str) -> None:
    text = f"apiVersion: drse.dev/v1alpha1\nkind: DeepSeekJob\nmetadata: {{name: x}}\nspec: {{{spec}}}\n"
    with pytest.raises(ChangeError, match="DeepSeekJob team-a/x would be refused") as refused:
        list(parse_changes(text, "x.yaml", "team-a"))
    assert says in str(refused.value)
