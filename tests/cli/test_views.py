"""The read model on small clusters: every figure as the objects say, and none to whom it is not due."""

from __future__ import annotations

import pytest

from drse_forecaster.contract import ForecastList
from drse_operator.api import times
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.gpuqueue import GPUQueueSpec
from drse_operator.api.keys import JobKey
from drse_operator.observe.accounts import Account, Tally
from drse_operator.observe.journal import Decision
from drse_operator.observe.shares import Claimant, fair_shares
from drse_operator.observe.views.decisions import decisions, from_event
from drse_operator.observe.views.forecast import forecast
from drse_operator.observe.views.fork import PutJob, PutQueue, WithoutNode
from drse_operator.observe.views.gpus import GpuState, count_by_state, gpus
from drse_operator.observe.views.jobs import jobs
from drse_operator.observe.views.nodes import nodes
from drse_operator.observe.views.now import now
from drse_operator.observe.views.prio import prio
from drse_operator.observe.views.queue import queue
from drse_operator.observe.views.scene import Scene, UnknownJobError, Where
from drse_operator.observe.views.share import share
from drse_operator.observe.views.usage import By, usage
from drse_operator.observe.views.whatif import IncompleteSceneError, Outcome, whatif
from drse_operator.observe.views.why import why
from tests.cli.worlds import H100, NOW, Documents, busy, job_spec

PRETRAIN = JobKey("team-a", "pretrain")


def scene(documents: Documents | None = None) -> Scene:
    return Scene((documents or busy()).world(), NOW)


def test_the_queue_tells_reason_place_and_range() -> None:
    report = queue(scene())
    assert [(row.job, row.position, row.reason, row.gpus) for row in report.items] == [
        ("pretrain", 1, "Reserved", 8),
        ("lost", None, "NoSuchAccelerator", 2),
    ]
    first, lost = report.items
    assert first.waited_seconds == 300 and not first.must_act and lost.must_act
    assert first.eta_p50 is not None and first.eta_p90 is not None and first.eta_p50 < first.eta_p90
    # `tune` was promised its GPUs 595 s ago and states two hours.
    assert first.eta_p50.timestamp() == NOW - 595 + 7200
    assert lost.eta_p50 is None


def test_an_expected_start_that_the_operator_told_is_told_again() -> None:
    made = busy()
    told = {"p50": times.to_wire(NOW + 60), "p90": times.to_wire(NOW + 120)}
    wait = {"reason": "Reserved", "message": "soon", "since": times.to_wire(NOW), "eta": told}
    made.job("told", gpus=8, status={"queue": wait})
    row = next(row for row in queue(scene(made)).items if row.job == "told")
    assert row.eta_p50 is not None and row.eta_p50.timestamp() == NOW + 60


def test_why_names_numbers_holders_and_what_helps() -> None:
    report = why(scene(), PRETRAIN)
    assert (report.reason, report.position, report.lacking_gpus) == ("Reserved", 1, 8)
    assert [(h.job, h.gpus, h.free_at is None) for h in report.holders] == [
        ("tune", 6, False),
        ("chat", 6, True),
    ]
    room = report.room[0]
    assert (room.product, room.needed_gpus, room.free_gpus, room.largest_block_gpus) == (H100, 8, 2, 2)
    assert report.reservation is not None and report.reservation.nodes == {"h100-1": 8}
    # The four free GPUs are two and two, and two of them go to `small` in the same plan.
    (suggestion,) = report.suggestions
    assert suggestion.patch == {"resources": {"gpusPerReplica": 2, "workersPerReplica": None}}


def test_every_suggestion_starts_the_job_when_it_is_followed() -> None:
    made = Documents()
    made.node("h100-0")
    made.node("h100-1")
    made.node("l40s-0", 8, "NVIDIA L40S")
    made.queue("research")
    made.queue("other")
    made.priority("urgent", 10)
    made.job("a", on=[("h100-0", range(4))], gpus=4)
    made.job("b", on=[("h100-1", range(4))], gpus=4)
    made.job("c", age=60, gpus=8, resources={"workersPerReplica": 1})
    before = scene(made)
    report = why(before, JobKey("team-a", "c"))
    assert {s.change for s in report.suggestions} == {
        "spread each replica over 2 workers of 4 GPUs",
        "accept NVIDIA L40S",
        "4 GPUs per replica",
    }
    job = before.job(JobKey("team-a", "c"))
    for suggestion in report.suggestions:
        assert job.spec is not None
        patched = _merge(job.spec.to_wire(), suggestion.patch)
        change = PutJob(job.key, DeepSeekJobSpec.from_wire(patched))
        (answer,) = whatif(scene(made), [change]).items
        assert answer.outcome is Outcome.STARTS and answer.places == suggestion.places


def _merge(document: dict[str, object], patch: dict[str, object]) -> dict[str, object]:
    merged = dict(document)
    for key, value in patch.items():
        inner = merged.get(key)
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = (
                _merge(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
            )
    return merged


def test_gpus_by_holder_and_what_they_add_up_to() -> None:
    made = busy()
    made.node("sick", 2, unused="")
    made.listed[_kind("Node")][-1]["spec"] = {"unschedulable": True}
    look = scene(made)
    report = gpus(look, use={"GPU-h100-0-0": 0.01, "GPU-h100-0-1": 0.9})
    assert count_by_state(report.items) == {
        GpuState.HELD: 12,
        GpuState.FREE: 8,
        GpuState.OUT_OF_SERVICE: 2,
    }
    first = report.items[0]
    assert (first.node, first.uuid, first.job, first.utilisation_ratio) == (
        "h100-0",
        "GPU-h100-0-0",
        "chat",
        0.01,
    )
    assert first.free_at is None
    tune = next(row for row in report.items if row.job == "tune")
    assert tune.free_at is not None and tune.free_at.timestamp() == NOW - 595 + 7200
    assert len(gpus(look, free_only=True).items) == 8
    assert {row.job for row in gpus(look, Where(namespaces=frozenset({"team-b"}))).items} == {"tune"}
    by_node = {row.node: row for row in nodes(look, {"GPU-h100-0-0": 0.01}).items}
    assert (by_node["h100-0"].free, by_node["h100-0"].held, by_node["h100-0"].held_idle) == (2, 6, 1)
    assert by_node["sick"].state == "is cordoned" and by_node["h100-0"].rack == "rack-1"
    figures = now(look, {"GPU-h100-0-0": 0.01})
    assert (figures.gpus, figures.held_gpus, figures.free_gpus, figures.held_idle_gpus) == (22, 12, 8, 1)
    assert (figures.waiting_jobs, figures.must_act_jobs) == (2, 1)


def _kind(name: str) -> object:
    from drse_operator.cluster import kinds

    return kinds.BY_NAME[name]


def test_shares_divide_by_weight_what_can_be_used() -> None:
    rows = {row.queue: row for row in share(scene()).items}
    assert (rows["product"].held_gpus, rows["research"].held_gpus) == (6, 6)
    assert rows["research"].borrowed_gpus == 2 and rows["research"].asked_gpus == 16
    # 20 GPUs: product can use the 6 that it holds, research the 14 left (what it asks of B200 is no use).
    assert (rows["product"].fair_gpus, rows["research"].fair_gpus) == (6, 14)


@pytest.mark.parametrize(
    ("total", "demand", "weights", "expected"),
    [
        (12, {"a": 100, "b": 100}, {"a": 2, "b": 1}, {"a": 8, "b": 4}),
        (12, {"a": 3, "b": 100}, {"a": 2, "b": 1}, {"a": 3, "b": 9}),
        (12, {"a": 1, "b": 2, "c": 0}, {"a": 1, "b": 1, "c": 5}, {"a": 1, "b": 2, "c": 0}),
        (0, {"a": 1}, {"a": 1}, {"a": 0}),
    ],
)
def test_divide(
    total: float, demand: dict[str, float], weights: dict[str, float], expected: dict[str, float]
) -> None:
    claimants = {name: Claimant(weights[name], asked) for name, asked in demand.items()}
    assert fair_shares(total, claimants) == pytest.approx(expected)


def test_prio_tells_the_terms_and_the_neighbours() -> None:
    made = busy()
    made.job("behind", age=20, gpus=8, taskType="PreTraining", estimatedDuration="9h")
    report = prio(scene(made), PRETRAIN)
    terms = {term.term: term for term in report.items}
    assert terms["flow weight"].value == 2 and terms["key"].value is not None
    assert [(n.job, n.ahead) for n in report.neighbours] == [("behind", False)]


def test_whatif_changes_nothing_and_answers_for_the_change() -> None:
    look = scene()
    before = look.snapshot
    spec = DeepSeekJobSpec.from_wire(job_spec(2, estimatedDuration="10m", queue="product"))
    report = whatif(look, [PutJob(JobKey("team-b", "new"), spec)])
    (answer,) = report.items
    assert answer.outcome is Outcome.STARTS and sum(place.count for place in answer.places) == 2
    assert Scene(look.world, NOW).snapshot == before
    full = PutQueue("product", GPUQueueSpec(limit=6))
    (limited,) = whatif(look, [full, PutJob(JobKey("team-b", "new"), spec)]).items
    assert (limited.outcome, limited.reason) == (Outcome.WAITS, "LimitReached")


def test_whatif_without_a_node_tells_who_loses_gpus() -> None:
    report = whatif(scene(), [WithoutNode("h100-0")])
    assert [(s.job, s.runs_now) for s in report.shifts if s.loses_gpus] == [("chat", True)]
    # The service takes the only node that is left for good, and the gang that needs all of it never starts.
    pretrain = next(s for s in report.shifts if s.job == "pretrain")
    assert pretrain.start_now is not None and pretrain.start_then is None


# -- who may see what ------------------------------------------------------------------------------------


def test_other_tenants_jobs_are_numbers() -> None:
    tenant = scene().as_seen_by(frozenset({"team-b"}))
    waiting = queue(tenant)
    assert waiting.items == () and (waiting.hidden_jobs, waiting.hidden_gpus) == (2, 10)
    rows = gpus(tenant).items
    assert {row.job for row in rows} == {None, "tune"}
    assert count_by_state(rows)[GpuState.HELD] == 12
    assert jobs(tenant).hidden_jobs == 3
    with pytest.raises(UnknownJobError):
        why(tenant, PRETRAIN)
    assert "pretrain" not in why(tenant, JobKey("team-b", "small")).model_dump_json()


def test_a_wait_names_those_ahead_only_to_who_may_know_them() -> None:
    made = busy()
    made.job("late", "team-b", gpus=8, age=10)
    whole, key = scene(made), JobKey("team-b", "late")
    assert "team-a/pretrain goes first" in why(whole, key).says
    tenant = whole.as_seen_by(frozenset({"team-b"}))
    assert "a job of queue research goes first" in why(tenant, key, suggest=False).says
    assert "team-a/" not in queue(tenant).model_dump_json() + jobs(tenant).model_dump_json()
    assert "team-a/pretrain goes first" in why(whole, key).says, "the whole scene keeps its names"


def test_half_a_picture_is_told_from_statuses_and_not_planned() -> None:
    made = Documents()
    wait = {"reason": "WaitingForTurn", "message": "a goes first", "position": 4, "since": times.to_wire(NOW)}
    made.queue(
        "research", {"assignedGPUs": 30, "pendingGPUs": 12, "pendingJobs": 3, "runningJobs": 5}, weight=2
    )
    made.job("mine", status={"queue": wait, "gpusPerReplica": 8})
    half = Scene(made.world(), NOW, unread=["nodes", "deepseekjobs"])
    (row,) = queue(half).items
    assert (row.reason, row.position, row.gpus, row.priority) == ("WaitingForTurn", 4, 8, None)
    (line,) = share(half).items
    assert (line.held_gpus, line.waiting_gpus, line.running_jobs, line.fair_gpus) == (30, 12, 5, None)
    report = why(half, JobKey("team-a", "mine"))
    assert (
        report.says == "a goes first"
        and report.suggestions == ()
        and report.unread == ("deepseekjobs", "nodes")
    )
    with pytest.raises(IncompleteSceneError, match="nodes"):
        whatif(half, [WithoutNode("x")])


# -- what is kept for later ------------------------------------------------------------------------------


def _decision(at: float, kind: str, job: str, by: str = "") -> Decision:
    return Decision(
        at=times.to_wire(at),
        kind=kind,
        namespace="team-a",
        job=job,
        queue="research",
        gpus=8,
        reason="x",
        by=by,
    )


def test_decisions_of_a_job_are_those_for_it_too() -> None:
    kept = [
        _decision(NOW - 30, "Admit", "one"),
        _decision(NOW - 20, "Preempt", "victim", by="team-b/taker"),
        _decision(NOW - 10, "Scale", "two"),
    ]
    taker = Where(keys=frozenset({JobKey("team-b", "taker")}))
    assert [row.job for row in decisions(kept, NOW, taker).items] == ["victim"]
    assert [row.job for row in decisions(kept, NOW, kinds=frozenset({"Scale"})).items] == ["two"]
    assert [row.job for row in decisions(kept, NOW, since=NOW - 25).items] == ["victim", "two"]
    hidden = decisions(kept, NOW, visible=frozenset({"team-a"})).items[1]
    assert hidden.by == "another job"


def test_events_tell_decisions_where_the_journal_may_not_be_read() -> None:
    event = {
        "eventTime": "2026-11-24T11:00:00.123456Z",
        "reason": "Assigned",
        "note": "8 x NVIDIA H100 on h100-0 for replica 0",
        "regarding": {"namespace": "team-a", "name": "one"},
    }
    found = from_event(event)
    assert found is not None and (found.kind, found.job, found.gpus) == ("Admit", "one", 8)
    assert from_event({**event, "reason": "WorkerFailed"}) is None
    taken = from_event(
        {**event, "reason": "Preempted", "type": "Warning", "note": "8 GPUs go to team-b/taker"}
    )
    assert taken is not None and taken.kind == "Preempt"
    lost = {
        **event,
        "reason": "Waiting",
        "type": "Warning",
        "note": "QueueNotFound: GPUQueue x does not exist",
    }
    denied = from_event(lost)
    assert denied is not None and (denied.kind, denied.reason) == ("Deny", "QueueNotFound")


def test_forecasts_carry_their_own_skill() -> None:
    made = busy()
    scaling = {"mode": "Auto", "minReplicas": 1, "maxReplicas": 4}
    decided = {"desiredReplicas": 2, "load": 5.0, "forecastP90": 11.0, "reason": "x", "message": "grows"}
    status = {"scaling": decided}
    made.job("api", on=[("l40s-0", range(2))], gpus=2, taskType="Inference", scaling=scaling, status=status)
    points = [{"minutes": m, "p50": 6.0 + m, "p90": 8.0 + m} for m in (5, 10, 15)]
    known = {
        "namespace": "team-a",
        "name": "api",
        "state": "Ready",
        "reason": "beats the last value",
        "asOf": "2026-11-24T12:00:00Z",
        "load": 5.5,
        "points": points,
        "skill": 0.7,
        "coverage": 0.91,
    }
    answered = ForecastList.model_validate({"generatedAt": "2026-11-24T12:00:00Z", "forecasts": [known]})
    (row,) = forecast(scene(made), answered).items
    assert (row.load, row.p50_at_5_minutes, row.p50_at_10_minutes, row.p90) == (5.5, 11, 16, 18)
    assert (row.capacity_gpus, row.wanted_gpus, row.skill_ratio, row.coverage_ratio) == (2, 4, 0.7, 0.91)
    (alone,) = forecast(scene(made), None, trouble="it is down").items
    assert (alone.state, alone.load, alone.p90, alone.says) == ("Unreachable", 5, 11, "grows")


def test_usage_adds_up_by_any_word() -> None:
    a = Account("research", "team-a", "alice", "r1", "Batch", H100)
    b = Account("product", "team-b", "bob", "", "Inference", H100)
    day = {a: Tally(held=7200, used=3600, jobs=2, waits={0: 2}), b: Tally(held=3600, unmeasured=3600, jobs=1)}
    periods = {"2026-11-23": day, "2026-11-24": day, "2026-11-24T10": day, "2026-10-01": day}
    report = usage(periods, [By.QUEUE], NOW - 86400, NOW)
    assert [
        (row.who, row.held_gpu_hours, row.used_gpu_hours, row.idle_gpu_hours) for row in report.items
    ] == [
        ({"queue": "research"}, 4, 2, 2),
        ({"queue": "product"}, 2, 0, 0),
    ]
    assert report.total_held_gpu_hours == 6 and report.items[0].jobs == 4
    for words in ([By.USER], [By.MODEL, By.TYPE], [By.PRODUCT]):
        other = usage(periods, words, NOW - 86400, NOW)
        assert sum(row.held_gpu_hours for row in other.items) == report.total_held_gpu_hours
    mine = usage(periods, [By.QUEUE], NOW, NOW, Where(namespaces=frozenset({"team-b"})))
    assert [row.held_gpu_hours for row in mine.items] == [1]
