"""The chart on a real API server, and operator and forecaster run with its service accounts' tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from drse_local.apiclient import connect
from drse_local.errors import LocalClusterError
from drse_local.release import Release, Replica
from drse_local.threaded import ThreadedCluster
from tests.helm.chart import FULL_VALUES, NAMESPACE, OTHERS_KINDS, of_kind, render

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

START, RUN = "local.drse.dev/start-seconds", "local.drse.dev/run-seconds"


def job(name: str, task: str, gpus: int, product: str, run: float | None = None, **spec: Any) -> Any:
    """A job on one kind of accelerator, whose pods start at once and, if told so, end after a while."""
    annotations = {START: "0"} | ({RUN: str(run)} if run is not None else {})
    runtime: dict[str, Any] = {"podTemplate": {"metadata": {"annotations": annotations}}}
    if task != "Inference":
        runtime |= {"image": "registry.example.com/none:1"}
    resources: dict[str, Any] = {
        "gpusPerReplica": gpus,
        "accelerators": [{"vendor": "nvidia", "product": product}],
    }
    resources |= spec.pop("resources", {})
    model = {"name": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"}
    fields = {"taskType": task, "queue": "default", "model": model, "resources": resources}
    return {
        "apiVersion": "drse.dev/v1alpha1",
        "kind": "DeepSeekJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**fields, "runtime": runtime, **spec},
    }


def eventually(check: Callable[[], Any], seconds: float = 45) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := check()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert answer, "did not come true in time"
    return answer


def items(cluster: ThreadedCluster, *args: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cluster.kubectl("get", *args, "-o", "json").stdout)["items"]
    return found


def phases(cluster: ThreadedCluster) -> dict[str, str]:
    jobs = items(cluster, "deepseekjobs", "--namespace", "default")
    return {each["metadata"]["name"]: each.get("status", {}).get("phase", "") for each in jobs}


def leads(replica: Replica) -> bool:
    text = httpx.get(replica.metrics_url, trust_env=False).text
    return "\ndrse_leader 1.0" in text


def leaders(release: Release) -> list[Replica]:
    return [replica for replica in release.operators if replica.running and leads(replica)]


@pytest.mark.parametrize(
    "args",
    [("--set=fullnameOverride=dry", "--set=defaultQueue.name=dry"), ("--values", str(FULL_VALUES))],
    ids=["defaults", "full"],
)
def test_the_api_server_takes_everything_that_is_rendered(
    monitored: ThreadedCluster, release: Release, args: tuple[str, ...]
) -> None:
    # Objects of other namespaces than the release's would need them.
    documents = [d for d in render(*args, "--set=dashboards.namespace=") if d["kind"] not in OTHERS_KINDS]
    for pod in of_kind(documents, "Pod"):
        # A dry run leaves no account for it, and pods of accounts that are not there are refused.
        pod["spec"]["serviceAccountName"] = "drse-operator"
    command = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-")
    printed = monitored.kubectl(*command, stdin=yaml.safe_dump_all(documents)).stdout
    assert len(printed.splitlines()) == len(documents)


def test_the_pods_are_admitted_as_restricted(monitored: ThreadedCluster, release: Release) -> None:
    """Asked to enforce the standard, the API server warns of pods that do not keep to it."""

    def warnings(namespace: str) -> str:
        label = "pod-security.kubernetes.io/enforce=restricted"
        return monitored.kubectl("label", "--dry-run=server", "namespace", namespace, label).stderr

    assert len(items(monitored, "pods", "--namespace", NAMESPACE)) == 4
    assert not warnings(NAMESPACE)
    monitored.kubectl("create", "namespace", "careless")
    monitored.kubectl("run", "root", "--namespace", "careless", "--image=none")
    assert "allowPrivilegeEscalation" in warnings("careless")


def test_the_processes_are_the_deployments(monitored: ThreadedCluster, release: Release) -> None:
    deployments = {d["metadata"]["name"]: d for d in items(monitored, "deployments", "-n", NAMESPACE)}
    for replica in (*release.operators, *release.forecasters, *release.consoles):
        deployment = deployments[replica.name.rpartition("-")[0]]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        options = [argument.partition("=")[0] for argument in container["args"]]
        assert [argument.partition("=")[0] for argument in replica.spec.argv[1:]] == options
    assert {len(release.operators), deployments["drse-operator"]["spec"]["replicas"]} == {2}
    assert [replica.spec.env["KUBECONFIG"] for replica in release.forecasters] == [""]


def test_jobs_of_both_binders_run_without_one_refusal(monitored: ThreadedCluster, release: Release) -> None:
    """Jobs start, finish, expire, are suspended and deleted, so that the operator uses what it may do."""
    gang: dict[str, Any] = {"resources": {"workersPerReplica": 2}, "scaling": {"mode": "Off"}}
    jobs = [
        job("exact", "Inference", 2, "H100", scaling={"mode": "Auto", "minReplicas": 1, "maxReplicas": 2}),
        job("gang", "PreTraining", 4, "H100", **gang),
        job("counted", "FineTuning", 2, "A100 80GB"),
        job("short", "Batch", 1, "A100 80GB", run=1, ttlSecondsAfterFinished=1),
    ]
    monitored.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(jobs))
    running = {"exact": "Running", "gang": "Running", "counted": "Running"}
    eventually(lambda: running.items() <= phases(monitored).items())
    eventually(lambda: "short" not in phases(monitored))
    monitored.kubectl("patch", "dsj", "exact", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    monitored.kubectl("patch", "dsj", "counted", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    eventually(lambda: {p["metadata"]["name"] for p in _pods(monitored)} == {"gang-0-0", "gang-0-1"})
    claims = items(monitored, "resourceclaims", "--namespace", "default")
    assert {claim["metadata"]["name"] for claim in claims} == {"gang-0-0", "gang-0-1"}
    eventually(lambda: items(monitored, "events.events.k8s.io", "--namespace", "default"))
    eventually(lambda: _scraped(monitored, 'drse_job_phase{phase="Running"}') == {"gang"})
    monitored.kubectl("delete", "dsj", "--all", "--wait=true", "--timeout=30s")
    eventually(lambda: not _pods(monitored))
    _assert_never_refused(release)


def _pods(cluster: ThreadedCluster) -> list[dict[str, Any]]:
    return items(cluster, "pods", "--namespace", "default")


def _scraped(cluster: ThreadedCluster, expression: str) -> set[str]:
    url = f"{cluster.cluster.monitoring.prometheus.url}/api/v1/query"
    answer = httpx.get(url, params={"query": expression}, trust_env=False).json()
    return {each["metric"]["deepseekjob"] for each in answer["data"]["result"]}


def _assert_never_refused(release: Release) -> None:
    for replica in release.operators:
        log = replica.process.log_path.read_text(encoding="utf-8")
        assert "leading as" in log or not leads(replica), "the log is not the operator's"
        refusals = [line for line in log.splitlines() if "orbidden" in line]
        assert not refusals, replica.name


def test_a_missing_right_shows_as_a_refusal_in_the_log(monitored: ThreadedCluster, release: Release) -> None:
    """That no refusal was seen above proves something only if one would have been."""
    (leader,) = leaders(release)
    role = "clusterrole/drse-operator"
    before = monitored.kubectl("get", role, "-o", "json").stdout
    document = json.loads(before)
    document["rules"] = [rule for rule in document["rules"] if rule["resources"] != ["pods"]]
    document["rules"].append({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]})
    monitored.kubectl("replace", "-f", "-", stdin=json.dumps(document))
    try:
        monitored.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(job("denied", "Batch", 1, "A100 80GB")))
        eventually(lambda: "403 Forbidden" in leader.process.log_path.read_text(encoding="utf-8"))
    finally:
        document["rules"] = json.loads(before)["rules"]
        del document["metadata"]["resourceVersion"]
        monitored.kubectl("replace", "-f", "-", stdin=json.dumps(document))
        monitored.kubectl("delete", "dsj", "denied", "--timeout=30s")


def test_the_operator_may_renew_its_own_lease_and_no_other(
    monitored: ThreadedCluster, release: Release
) -> None:
    account = f"system:serviceaccount:{NAMESPACE}:drse-operator"

    def may(verb: str, what: str, namespace: str = NAMESPACE) -> bool:
        command = ("auth", "can-i", verb, what, f"--as={account}", "--namespace", namespace)
        try:
            return monitored.kubectl(*command).stdout.strip() == "yes"
        except LocalClusterError:
            return False

    assert may("update", "leases.coordination.k8s.io/drse-operator")
    assert not may("update", "leases.coordination.k8s.io/other")
    assert not may("update", "leases.coordination.k8s.io/drse-operator", "kube-system")
    assert not may("list", "secrets")
    assert not may("update", "nodes")
    assert not may("create", "deepseekjobs.drse.dev")


def test_the_forecaster_may_do_no_more_than_an_account_that_nobody_gave_anything(
    monitored: ThreadedCluster, release: Release
) -> None:
    monitored.kubectl("create", "serviceaccount", "nobody", "--namespace", NAMESPACE)

    async def rules(account: str) -> list[Any]:
        path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        question = {"kind": "SelfSubjectRulesReview", "spec": {"namespace": NAMESPACE}}
        kubeconfig = await monitored.cluster.service_account_kubeconfig(NAMESPACE, account)
        async with connect(kubeconfig) as api:
            status = (await api.create(path, question))["status"]
        assert not status["incomplete"]
        return sorted(json.dumps(rule, sort_keys=True) for rule in status["resourceRules"])

    granted = monitored.run(rules("drse-forecaster"))
    assert granted == monitored.run(rules("nobody"))
    assert granted != monitored.run(rules("drse-operator"))


def test_the_forecasters_pod_gets_no_token(monitored: ThreadedCluster, release: Release) -> None:
    def tokens(component: str) -> int:
        selector = f"app.kubernetes.io/component={component}"
        pod, *_ = items(monitored, "pods", "--namespace", NAMESPACE, "--selector", selector)
        sources = [s for v in pod["spec"]["volumes"] for s in v.get("projected", {}).get("sources", ())]
        return sum("serviceAccountToken" in source for source in sources)

    assert (tokens("operator"), tokens("forecaster")) == (1, 0)


def test_the_operator_reaches_the_forecaster(monitored: ThreadedCluster, release: Release) -> None:
    (forecaster,) = release.forecasters
    answer = httpx.get(f"{forecaster.url}/v1/forecasts", trust_env=False)
    assert answer.status_code == 200
    (leader,) = leaders(release)
    assert "forecaster:" not in leader.process.log_path.read_text(encoding="utf-8")


def test_one_operator_leads_and_another_takes_over_from_a_killed_one(
    monitored: ThreadedCluster, release: Release
) -> None:
    (first,) = leaders(release)
    first.kill()
    eventually(lambda: not first.running)
    (second,) = eventually(lambda: leaders(release))
    assert second is not first
    monitored.run(first.restart())
    assert [replica.running for replica in release.operators] == [True, True]
    assert leaders(release) == [second]


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("view", ["get dsj", "watch dsj"], ["create dsj", "patch dsj --subresource=scale", "delete dsj"]),
        ("edit", ["create dsj", "patch dsj --subresource=scale"], ["patch dsj --subresource=status"]),
        ("admin", ["create dsj", "delete dsj"], ["patch dsj --subresource=status"]),
    ],
)
def test_users_get_jobs_with_the_roles_they_have(
    monitored: ThreadedCluster, release: Release, role: str, may: list[str], may_not: list[str]
) -> None:
    user = f"{role}-user"
    binding = ("create", "rolebinding", user, f"--clusterrole={role}", f"--user={user}")
    monitored.kubectl(*binding, "--namespace", "default")

    def allowed(question: str, namespace: str = "default") -> bool:
        command = ("auth", "can-i", *question.split(), f"--as={user}", "--namespace", namespace)
        try:
            return monitored.kubectl(*command).stdout.strip() == "yes"
        except LocalClusterError:
            return False

    eventually(lambda: all(allowed(question) for question in may))
    assert not [question for question in may_not if allowed(question)]
    assert not allowed(may[0], "kube-public")


def test_the_release_test_finds_everything_well(monitored: ThreadedCluster, release: Release) -> None:
    """kwok runs no containers, so what `helm test` would run is run here, with the same rights."""
    (pod,) = of_kind(render(), "Pod")
    (container,) = pod["spec"]["containers"]
    kubeconfig = monitored.service_account_kubeconfig(NAMESPACE, pod["spec"]["serviceAccountName"])
    program, *words = container["command"]
    argv = (str(Path(sys.executable).with_name(program)), *words, *container["args"])
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}

    def doctor() -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)

    eventually(lambda: leaders(release))
    well = doctor()
    assert well.returncode == 0, well.stdout + well.stderr
    queue = monitored.kubectl("get", "gpuqueue", "default", "-o", "json").stdout
    monitored.kubectl("delete", "gpuqueue", "default")
    try:
        assert doctor().returncode == 1, "without a queue no job can wait"
    finally:
        document = json.loads(queue)
        metadata = {"name": "default", "labels": document["metadata"]["labels"]}
        restored = {**document, "metadata": metadata, "status": {}}
        monitored.kubectl("apply", "-f", "-", stdin=json.dumps(restored))


def test_the_console_shows_pages_to_who_may_see_them_and_to_nobody_else(
    monitored: ThreadedCluster, release: Release
) -> None:
    (console,) = release.consoles
    monitored.kubectl("create", "serviceaccount", "reader", "--namespace", "default")
    binding = ("create", "clusterrolebinding", "reader", "--clusterrole=view")
    monitored.kubectl(*binding, "--serviceaccount=default:reader")
    token = monitored.kubectl("create", "token", "reader", "--namespace", "default").stdout.strip()

    def get(path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"{console.url}{path}", headers=headers, trust_env=False)

    assert get("/jobs.json").status_code == 401
    assert get("/jobs.json", Authorization="Bearer nonsense").status_code == 401
    answer = eventually(lambda: get("/jobs.json", Authorization=f"Bearer {token}"))
    assert answer.status_code == 200, answer.text
    log = console.process.log_path.read_text(encoding="utf-8")
    assert not [line for line in log.splitlines() if "orbidden" in line], log
