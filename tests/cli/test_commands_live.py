"""The commands against a running operator, as an administrator and as a tenant with few rights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from drse_operator.api.enums import Phase
from drse_operator.cluster import kinds
from drse_operator.cluster.client import Kind
from tests.cli.conftest import Drse
from tests.operator.harness import A100, H100, L40S, Cluster, OperatorProcess, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]

_SERVICE_ACCOUNT = Kind("/api/v1", "serviceaccounts", "ServiceAccount")
_ROLE = Kind("/apis/rbac.authorization.k8s.io/v1", "roles", "Role")
_BINDING = Kind("/apis/rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding")


@pytest.fixture(scope="module")
def filled(cluster: Cluster, operator: OperatorProcess) -> Iterator[str]:
    """Both H100 nodes in use, and a job that waits for a whole one."""
    name = "filled"
    cluster.create(kinds.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for i in range(2):
        cluster.job(name, f"six-{i}", resources={"gpusPerReplica": 6, "accelerators": [H100]})
    whole = {"gpusPerReplica": 8, "workersPerReplica": 1, "accelerators": [H100]}
    for i in range(2):
        cluster.wait_status(name, f"six-{i}", lambda s: s.phase is Phase.RUNNING, 60)
    cluster.job(name, "whole", resources=whole, estimatedDuration="2h")
    cluster.wait_status(name, "whole", lambda s: s.queue is not None, 60)
    yield name
    for job in cluster.list(kinds.DEEPSEEKJOB, name):
        cluster.delete(kinds.DEEPSEEKJOB, job["metadata"]["name"], name)
    eventually(lambda: cluster.list(kinds.POD, name), lambda pods: not pods, 30)


def document(name: str, **spec: Any) -> str:
    defaults: dict[str, Any] = {
        "taskType": "Batch",
        "queue": "tests",
        "resources": {"gpusPerReplica": 1, "accelerators": [A100]},
        "runtime": {"engine": "Custom", "image": "registry.example/job:1"},
    }
    return yaml.safe_dump(
        {
            "apiVersion": "drse.dev/v1alpha1",
            "kind": "DeepSeekJob",
            "metadata": {"name": name},
            "spec": defaults | spec,
        }
    )


# -- reading ---------------------------------------------------------------------------------------------


def test_queue_and_why_say_what_the_status_says(cluster: Cluster, drse: Drse, filled: str) -> None:
    status = cluster.status(filled, "whole")
    assert status.queue is not None
    (row,) = drse("queue", "-n", filled, "-o", "json").json["items"]
    assert (row["job"], row["reason"], row["position"]) == (
        "whole",
        status.queue.reason,
        status.queue.position,
    )
    said = drse("why", "whole", "-n", filled)
    assert said.code == 0 and status.queue.reason in said.out
    report = drse("why", "whole", "-n", filled, "-o", "json").json
    assert {h["job"] for h in report["holders"]} == {"six-0", "six-1"}
    assert report["room"][0]["freeGpus"] == 4
    changes = [s["change"] for s in report["suggestions"]]
    assert "2 GPUs per replica" in changes and any(change.startswith("accept ") for change in changes)
    assert drse("why", "nobody", "-n", filled).code == 1


def test_gpus_are_those_that_the_assignments_name(cluster: Cluster, drse: Drse, filled: str) -> None:
    held = {
        device.uuid: name
        for name in ("six-0", "six-1")
        for a in cluster.status(filled, name).assignments
        for device in a.devices
    }
    rows = drse("gpus", "-n", filled, "-o", "json").json["items"]
    assert {row["uuid"]: row["job"] for row in rows} == held
    uuid = next(iter(held))
    (one,) = drse("gpus", "--uuid", uuid, "-o", "json").json["items"]
    assert (one["job"], one["namespace"]) == (held[uuid], filled)
    nodes = {row["node"]: row for row in drse("nodes", "-o", "json").json["items"]}
    for name in {one["node"]}:
        assert nodes[name]["free"] + nodes[name]["held"] == nodes[name]["gpus"] == 8


def test_shares_and_prio(drse: Drse, filled: str) -> None:
    rows = {row["queue"]: row for row in drse("share", "-o", "json").json["items"]}
    assert rows["tests"]["heldGpus"] == 12 and rows["tests"]["waitingJobs"] == 1
    terms = {row["term"] for row in drse("prio", "whole", "-n", filled, "-o", "json").json["items"]}
    assert {"priority", "start tag", "finish tag", "virtual clock", "key"} <= terms


def test_decisions_name_who_got_what(drse: Drse, filled: str) -> None:
    def admitted() -> set[str]:
        items = drse("decisions", "-n", filled, "--kind", "admit", "-o", "json").json["items"]
        return {item["job"] for item in items}

    eventually(admitted, lambda jobs: {"six-0", "six-1"} <= jobs, 40)


def test_labels_names_and_csv(cluster: Cluster, drse: Drse, filled: str) -> None:
    cluster.merge(kinds.DEEPSEEKJOB, "whole", filled, {"metadata": {"labels": {"team": "blue"}}})
    assert drse("queue", "-n", filled, "-l", "team=red", "-o", "name").out == ""
    assert drse("queue", "-n", filled, "-l", "team=blue", "-o", "name").out == "deepseekjob.drse.dev/whole\n"
    lines = drse("queue", "-n", filled, "-o", "csv").out.splitlines()
    assert len(lines) == 2 and lines[1].startswith("1,")
    assert drse("queue", "-n", filled, "--columns", "JOB,GPUS", "--no-headers").out.split() == ["whole", "8"]


def test_top_and_doctor_on_a_healthy_cluster(drse: Drse, filled: str) -> None:
    said = drse("top", "--once")
    assert said.code == 0 and "12 held" in said.out and "whole" in said.out
    doctor = drse("doctor", "-o", "json")
    states = {item["check"]: item["state"] for item in doctor.json["items"]}
    for check in (
        "api-server",
        "definitions",
        "rights",
        "leader",
        "operator",
        "gpus",
        "exclusive",
        "devices",
    ):
        assert states[check] == "ok", doctor.out


def test_doctor_finds_that_nobody_leads(drse: Drse) -> None:
    said = drse("doctor", "--drse-namespace", "elsewhere")
    assert said.code == 1 and "there is no Lease drse-operator in elsewhere" in said.out


def test_without_a_forecaster_forecasts_say_so(cluster: Cluster, drse: Drse, namespace: str) -> None:
    scaling = {"mode": "Auto", "minReplicas": 1, "maxReplicas": 3}
    cluster.job(namespace, "service", taskType="Inference", scaling=scaling)
    said = drse("forecast", "-n", namespace, "-o", "json")
    (row,) = said.json["items"]
    assert (row["job"], row["mode"], row["state"]) == ("service", "Auto", "Unreachable")
    assert "there is no forecaster behind Service drse-forecaster" in said.err


# -- writing ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
def test_submit_answers_with_what_becomes_of_the_job(cluster: Cluster, drse: Drse, namespace: str) -> None:
    tried = drse("submit", "-n", namespace, "-f", "-", "--dry-run", "server", stdin=document("small"))
    assert tried.code == 0 and "would start on a100" in tried.out
    assert cluster.get(kinds.DEEPSEEKJOB, "small", namespace) is None
    said = drse("submit", "-n", namespace, "-f", "-", "--wait", "30", stdin=document("small"))
    assert said.code == 0 and "starts on a100" in said.out
    again = drse("submit", "-n", namespace, "-f", "-", stdin=document("small"))
    assert again.code == 1 and "exists in namespace" in again.err
    whole = {"gpusPerReplica": 8, "workersPerReplica": 1, "accelerators": [H100]}
    waits = drse(
        "submit", "-n", namespace, "-f", "-", "--wait", "30", stdin=document("next", resources=whole)
    )
    assert waits.code == 0 and "deepseekjob/next queued: position" in waits.out
    lost = drse("submit", "-n", namespace, "-f", "-", "--wait", "30", stdin=document("lost", queue="nowhere"))
    assert lost.code == 3 and "QueueNotFound" in lost.out
    wrong = drse("submit", "-n", namespace, "-f", "-", stdin=document("wrong", taskType="Dancing"))
    assert wrong.code == 1 and "taskType" in wrong.err


def test_hold_release_requeue(cluster: Cluster, drse: Drse, namespace: str) -> None:
    cluster.job(namespace, "job")
    cluster.wait_status(namespace, "job", lambda s: s.phase is Phase.RUNNING, 60)
    unasked = drse("hold", "job", "-n", namespace)
    assert unasked.code == 2 and "--yes" in unasked.err
    tried = drse("hold", "job", "-n", namespace, "--dry-run", "server")
    assert tried.code == 0 and not cluster.spec(namespace, "job").suspend
    held = drse("hold", "job", "-n", namespace, "--yes", "--why", "maintenance")
    assert held.code == 0 and "which frees 1 GPU" in held.out
    cluster.wait_status(namespace, "job", lambda s: s.phase is Phase.SUSPENDED, 60)
    stored = cluster.get(kinds.DEEPSEEKJOB, "job", namespace)
    assert stored is not None
    signed = json.loads(stored["metadata"]["annotations"]["drse.dev/last-command"])
    assert (signed["command"], signed["why"]) == ("hold", "maintenance") and signed["by"]
    assert "Held" in cluster.event_reasons(namespace, "job")
    assert drse("hold", "job", "-n", namespace, "--yes").code == 1
    assert "drse release" in drse("why", "job", "-n", namespace).out
    assert drse("release", "job", "-n", namespace, "--yes").code == 0
    running = cluster.wait_status(namespace, "job", lambda s: s.phase is Phase.RUNNING, 60)
    assert drse("requeue", "job", "-n", namespace, "--yes").code == 0
    again = cluster.wait_status(namespace, "job", lambda s: s.phase is Phase.RUNNING, 60)
    assert again.assignments[0].since != running.assignments[0].since


@pytest.mark.usefixtures("filled")
def test_bump_tells_whom_it_delays_and_puts_the_job_before_them(
    cluster: Cluster, drse: Drse, namespace: str
) -> None:
    for name, value in (("urgent", 1000), ("soon", 500)):
        meta = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}}
        cluster.create(kinds.PRIORITY_CLASS, {**meta, "value": value})
    whole = {"gpusPerReplica": 8, "workersPerReplica": 1, "accelerators": [H100]}
    cluster.job(namespace, "late", resources=whole, estimatedDuration="3h")
    cluster.wait_status(namespace, "late", lambda s: s.queue is not None and s.queue.position == 2, 60)
    tried = drse("bump", "late", "-n", namespace, "--dry-run", "server")
    assert tried.code == 0 and "none (0) becomes soon (500)" in tried.out
    assert "ahead of  filled/whole" in tried.out
    assert cluster.spec(namespace, "late").priority_class_name is None
    assert drse("bump", "late", "-n", namespace).code == 2
    bumped = drse("bump", "late", "-n", namespace, "--priority", "urgent", "--yes", "--why", "deadline")
    assert bumped.code == 0 and "deepseekjob.drse.dev/late bumped" in bumped.out
    cluster.wait_status(namespace, "late", lambda s: s.queue is not None and s.queue.position == 1, 60)
    cluster.wait_status("filled", "whole", lambda s: s.queue is not None and s.queue.position == 2, 60)
    stored = cluster.get(kinds.DEEPSEEKJOB, "late", namespace)
    assert stored is not None
    signed = json.loads(stored["metadata"]["annotations"]["drse.dev/last-command"])
    assert (signed["command"], signed["why"]) == ("bump", "deadline") and signed["by"]
    assert "Bumped" in cluster.event_reasons(namespace, "late")
    highest = drse("bump", "late", "-n", namespace, "--yes")
    assert highest.code == 1 and "no PriorityClass is higher" in highest.err
    unknown = drse("bump", "late", "-n", namespace, "--priority", "none", "--yes")
    assert unknown.code == 1 and "soon 500, urgent 1000" in unknown.err


def test_a_cordoned_queue_starts_nobody_until_it_is_uncordoned(
    cluster: Cluster, drse: Drse, namespace: str
) -> None:
    cluster.queue("drained")
    cluster.job(namespace, "early", queue="drained")
    cluster.wait_status(namespace, "early", lambda s: s.phase is Phase.RUNNING, 60)
    assert drse("cordon", "drained", "--yes").code == 0
    said = drse("whatif", "-f", "-", "-n", namespace, "-o", "json", stdin=document("late", queue="drained"))
    assert said.json["items"][0]["reason"] == "QueueCordoned"
    cluster.job(namespace, "late", queue="drained")
    assert "drained is cordoned" in cluster.wait_reason(namespace, "late", "QueueCordoned", 60)
    assert cluster.status(namespace, "early").phase is Phase.RUNNING
    assert "drained (cordoned)" in drse("share").out
    assert drse("uncordon", "drained", "--yes", "--dry-run", "server").code == 0
    assert drse("uncordon", "drained", "--yes").code == 0
    cluster.wait_status(namespace, "late", lambda s: s.phase is Phase.RUNNING, 60)
    assert drse("uncordon", "drained", "--yes").code == 1


# -- with few rights -------------------------------------------------------------------------------------


@pytest.fixture
def tenant(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Drse]:
    """Somebody who may look at DeepSeekJobs and events of one namespace, and at nothing else."""
    cluster.create(_SERVICE_ACCOUNT, _named("ServiceAccount", "tenant", namespace))
    rules = [
        {"apiGroups": ["drse.dev"], "resources": ["deepseekjobs"], "verbs": ["get", "list"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["list"]},
    ]
    cluster.create(_ROLE, {**_named("Role", "tenant", namespace), "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"}
    subject = {"kind": "ServiceAccount", "name": "tenant", "namespace": namespace}
    binding = {**_named("RoleBinding", "tenant", namespace), "roleRef": reference, "subjects": [subject]}
    cluster.create(_BINDING, binding)
    token = cluster.threaded.kubectl("create", "token", "tenant", "-n", namespace).stdout.strip()
    config = yaml.safe_load(Path(cluster.threaded.kubeconfig).read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    for context in config["contexts"]:
        context["context"]["namespace"] = namespace
    kubeconfig = tmp_path / "tenant.kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    yield Drse(kubeconfig)


def _named(kind: str, name: str, namespace: str) -> dict[str, Any]:
    group = "v1" if kind == "ServiceAccount" else "rbac.authorization.k8s.io/v1"
    return {"apiVersion": group, "kind": kind, "metadata": {"name": name, "namespace": namespace}}


def test_a_tenant_sees_its_own_waits_as_the_operator_wrote_them(
    cluster: Cluster, tenant: Drse, namespace: str
) -> None:
    cluster.job(namespace, "mine", resources={"gpusPerReplica": 64, "accelerators": [H100]})
    reason = "TooLargeForCluster"
    message = cluster.wait_reason(namespace, "mine", reason, 60)
    said = tenant("queue", "-o", "json")
    (row,) = said.json["items"]
    assert (row["reason"], row["message"], row["namespace"]) == (reason, message, namespace)
    assert "you may not list" in said.err and "nodes" in said.json["unread"]
    why = tenant("why", "mine")
    assert why.code == 3 and message in why.out
    refused = tenant("whatif", "-f", "-", stdin=document("new"))
    assert refused.code == 1 and "planning needs to see the whole cluster" in refused.err


def test_a_tenant_sees_its_own_gpus_and_decisions_and_no_others(
    cluster: Cluster, tenant: Drse, namespace: str
) -> None:
    cluster.job(namespace, "mine", resources={"gpusPerReplica": 2, "accelerators": [L40S]})
    status = cluster.wait_status(namespace, "mine", lambda s: s.phase is Phase.RUNNING, 60)
    rows = tenant("gpus", "-o", "json").json["items"]
    assert {row["uuid"] for row in rows} == {d.uuid for a in status.assignments for d in a.devices}
    eventually(lambda: cluster.event_reasons(namespace, "mine"), lambda reasons: "Assigned" in reasons)
    told = tenant("decisions", "-o", "json")
    assert told.json["source"] == "events" and [i["job"] for i in told.json["items"]] == ["mine"]
    elsewhere = tenant("queue", "-n", "default")
    assert elsewhere.code == 1 and f"give -n {namespace}, or" in elsewhere.err
    assert "you may not list GPUQueues" in tenant("share").err
    doctor = {
        item["check"]: item["state"] for item in yaml.safe_load(tenant("doctor", "-o", "json").out)["items"]
    }
    assert (doctor["queues"], doctor["closed-nodes"], doctor["operator"]) == ("skip", "skip", "ok")
    refused = tenant("whatif", "--without", "h100-0")
    assert refused.code == 1 and "planning needs to see the whole cluster" in refused.err
    assert tenant("hold", "mine", "--yes").code == 1
    assert tenant("report", "usage").code == 1
