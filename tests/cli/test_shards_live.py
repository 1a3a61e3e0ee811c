"""``drse`` asks all shards of the forecaster: by a name with several addresses, and through the API server.

Forecasters, API server, pods and rights are real; only the way from the API server to a pod is the test's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from drse_operator.cluster import kinds
from tests.cli.conftest import Drse
from tests.cli.podnetwork import PodNetwork
from tests.forecaster.forecaster import ForecasterProcess
from tests.names import names
from tests.operator.harness import Cluster, eventually, free_port

__all__ = ["names"]

pytestmark = pytest.mark.cluster

NAMESPACE = "sharded"
JOBS = tuple(f"job-{number}" for number in range(8))
HOSTS = ("127.0.0.1", "127.0.0.2")
#: A load for each job, whatever Prometheus has: the forecasters divide the jobs among them by name.
QUERY = " or ".join(
    f'label_replace(label_replace(vector(1), "deepseekjob", "{job}", "", ""), '
    f'"deepseekjob_namespace", "{NAMESPACE}", "", "")'
    for job in JOBS
)
_LABELS = {"app.kubernetes.io/part-of": "drse", "app.kubernetes.io/component": "forecaster"}
_accounts = itertools.count()

Shards = tuple[ForecasterProcess, ForecasterProcess]


@pytest.fixture(scope="module")
def shards(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shards]:
    """Two forecasters that share the jobs, which exist."""
    metadata = {"name": NAMESPACE}
    cluster.create(kinds.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    for job in JOBS:
        scaling = {"mode": "Recommend", "minReplicas": 1, "maxReplicas": 2}
        cluster.job(NAMESPACE, job, taskType="Inference", suspend=True, scaling=scaling)
    url, port = cluster.threaded.cluster.monitoring.prometheus.url, free_port()
    with ExitStack() as stack:
        started = []
        for index, host in enumerate(HOSTS):
            log = tmp_path_factory.mktemp("forecaster") / "log"
            arguments = ("--query", QUERY, "--shard", f"{index}/2", "--history", "1d")
            process = ForecasterProcess(url, log, *arguments, port=port, host=host)
            process.start()
            stack.callback(process.kill)
            started.append(process)
        for process in started:
            eventually(lambda process=process: process.answer().forecasts, bool, 60)
        yield started[0], started[1]


@pytest.fixture(scope="module")
def network(cluster: Cluster, shards: Shards) -> Iterator[PodNetwork]:
    """The pods of the two in the cluster, behind a Service, and the way to them."""
    for index in range(2):
        port = {"name": "http", "containerPort": 8090}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"forecaster-{index}", "namespace": NAMESPACE, "labels": _LABELS},
            "spec": {"containers": [{"name": "forecaster", "image": "none:1", "ports": [port]}]},
        }
        cluster.create(kinds.POD, pod)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "engine-forecaster", "namespace": NAMESPACE, "labels": _LABELS},
        "spec": {"selector": _LABELS, "ports": [{"name": "http", "port": 8090}]},
    }
    cluster.create(kinds.SERVICE, service)
    eventually(
        lambda: [ready(pod) for pod in cluster.list(kinds.POD, NAMESPACE)], lambda r: r == [True, True], 60
    )
    plane = cluster.threaded.cluster.plane
    with PodNetwork(cluster.threaded.cluster.server, plane.pki.ca_cert) as found:
        found.leads = {("pods", f"forecaster-{index}"): shard.url for index, shard in enumerate(shards)}
        found.leads |= {
            ("services", name): shards[0].url for name in ("engine-forecaster", "drse-forecaster")
        }
        yield found


def ready(pod: dict[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


Reader = Callable[..., Drse]


@pytest.fixture
def reader(cluster: Cluster, network: PodNetwork, tmp_path: Path) -> Reader:
    """Make somebody who may list jobs, and what else is said, in the namespace."""

    def make(*rules: tuple[str, str]) -> Drse:
        name = f"reader-{next(_accounts)}"
        metadata = {"name": name, "namespace": NAMESPACE}
        kubectl = cluster.threaded.kubectl
        kubectl("create", "serviceaccount", name, "-n", NAMESPACE)
        allowed = [("list", "deepseekjobs.drse.dev"), *rules]
        for number, (verb, resource) in enumerate(allowed):
            role = f"{name}-{number}"
            kubectl("create", "role", role, f"--verb={verb}", f"--resource={resource}", "-n", NAMESPACE)
            subject = f"--serviceaccount={NAMESPACE}:{name}"
            kubectl("create", "rolebinding", role, f"--role={role}", subject, "-n", NAMESPACE)
        token = kubectl("create", "token", metadata["name"], "-n", NAMESPACE).stdout.strip()
        return Drse(network.kubeconfig(tmp_path / name, token))

    return make


def foretold(drse: Drse, *words: str) -> tuple[set[str], str]:
    """Jobs that somebody is told a forecast of, and what they are told is wrong."""
    said = drse("forecast", "-n", NAMESPACE, "--drse-namespace", NAMESPACE, "-o", "json", *words)
    document = said.json
    told = {row["job"] for row in document["items"] if row["state"] not in ("Unknown", "Unreachable")}
    return told, "" if document["forecaster"] == "Answered" else document["forecaster"]


def share(shard: ForecasterProcess) -> set[str]:
    return {forecast.name for forecast in shard.answer().forecasts}


def test_all_addresses_of_the_forecasters_name_are_asked(
    drse: Drse, shards: Shards, names: dict[str, tuple[str, ...]]
) -> None:
    assert share(shards[0]) and share(shards[1])
    names["forecaster.test"] = HOSTS
    url = shards[0].url.replace(HOSTS[0], "forecaster.test")
    assert foretold(drse, "--forecaster", url) == (set(JOBS), "")
    names["forecaster.test"] = HOSTS[:1]
    told, trouble = foretold(drse, "--forecaster", url)
    assert told == share(shards[0]) and "of the forecaster's 2 shards, 1 did not answer" in trouble
    names["forecaster.test"] = ("no.such.host.invalid",)
    assert "does not resolve" in foretold(drse, "--forecaster", url)[1]


def test_all_pods_are_asked_by_who_may(reader: Reader) -> None:
    assert foretold(reader(("list", "pods"), ("get", "pods/proxy"))) == (set(JOBS), "")


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        ([("get", "services/proxy")], "list pods"),
        ([("get", "services/proxy"), ("list", "services")], "list pods"),
        ([("get", "services/proxy"), ("list", "pods")], "get pods/proxy"),
    ],
)
def test_who_may_ask_the_service_alone_is_told_what_is_left_out(
    reader: Reader, shards: Shards, rules: list[tuple[str, str]], missing: str
) -> None:
    told, trouble = foretold(reader(*rules))
    assert told == share(shards[0])
    assert f"one of 2 shards of the forecaster has answered, for you may not {missing}" in trouble


def test_who_may_ask_nobody_is_told_what_they_need(reader: Reader) -> None:
    told, trouble = foretold(reader())
    assert not told
    assert f"you may neither list pods nor get services/proxy in {NAMESPACE}" in trouble
    assert "--forecaster" in trouble


def test_where_no_pods_are_the_service_is_asked(cluster: Cluster, reader: Reader) -> None:
    """As of a forecaster that runs elsewhere, behind a Service."""
    somebody = reader()
    account = f"--serviceaccount={NAMESPACE}:reader-{next(_accounts) - 1}"
    kubectl = cluster.threaded.kubectl
    kubectl("create", "role", "lister", "--verb=list", "--resource=pods", "-n", "default")
    kubectl("create", "rolebinding", "lister", "--role=lister", account, "-n", "default")
    said = somebody("forecast", "-n", NAMESPACE, "--drse-namespace", "default")
    assert "you may not get services/proxy in default: give its address with --forecaster" in said.err


def test_a_pod_that_does_not_answer_is_named(reader: Reader, network: PodNetwork, shards: Shards) -> None:
    network.leads["pods", "forecaster-1"] = f"http://127.0.0.1:{free_port()}"
    try:
        told, trouble = foretold(reader(("list", "pods"), ("get", "pods/proxy")))
    finally:
        network.leads["pods", "forecaster-1"] = shards[1].url
    assert told == share(shards[0])
    assert "the forecaster (forecaster-1) does not answer" in trouble
