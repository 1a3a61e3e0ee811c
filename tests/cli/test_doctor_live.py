"""``drse doctor`` on a real cluster: all well, under names of its own, and with one thing wrong at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from drse_operator.api.enums import Phase
from drse_operator.cluster import kinds
from tests.cli.conftest import Drse, Said
from tests.cli.podnetwork import PodNetwork
from tests.forecaster.forecaster import ForecasterProcess
from tests.forecaster.prometheus import PrometheusProcess
from tests.operator.harness import L40S, Cluster, OperatorProcess, eventually, free_port

pytestmark = pytest.mark.cluster

LEASE, LEADER, SYSTEM = "engine-operator", "engine-operator-0", "drse-system"


@pytest.fixture(scope="module")
def leader(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """An operator whose names are not the usual ones, whose pod exists, and which Prometheus scrapes."""
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    words = ("--lease", LEASE, "--identity", LEADER)
    process = OperatorProcess(cluster.threaded.kubeconfig, log, *words)
    port = {"name": "http", "containerPort": 8080}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": LEADER, "namespace": SYSTEM},
        "spec": {"containers": [{"name": "operator", "image": "none:1", "ports": [port]}]},
    }
    monitoring = cluster.threaded.cluster.monitoring
    with ExitStack() as stack:
        cluster.create(kinds.POD, pod)
        stack.callback(cluster.delete, kinds.POD, LEADER, SYSTEM)
        process.start()
        stack.callback(process.stop)
        monitoring.set_targets("operator", [f"127.0.0.1:{process.port}"])
        stack.callback(monitoring.set_targets, "operator", [])
        eventually(process.leads, bool, 60)
        yield process


@pytest.fixture(scope="module")
def forecaster(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForecasterProcess]:
    log = tmp_path_factory.mktemp("forecaster") / "log"
    url = cluster.threaded.cluster.monitoring.prometheus.url
    process = ForecasterProcess(url, log, "--history", "1d", port=free_port())
    process.start()
    yield process
    process.kill()


@pytest.fixture(scope="module")
def administrator(
    cluster: Cluster, leader: OperatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Drse]:
    """Somebody who may do everything, on a cluster whose leader's pod can be reached."""
    threaded = cluster.threaded
    threaded.kubectl("create", "serviceaccount", "doctor", "-n", SYSTEM)
    account = f"--serviceaccount={SYSTEM}:doctor"
    threaded.kubectl("create", "clusterrolebinding", "doctor", "--clusterrole=cluster-admin", account)
    token = threaded.kubectl("create", "token", "doctor", "-n", SYSTEM).stdout.strip()
    with PodNetwork(threaded.cluster.server, threaded.cluster.plane.pki.ca_cert) as network:
        network.leads["pods", LEADER] = f"http://127.0.0.1:{leader.port}"
        yield Drse(network.kubeconfig(tmp_path_factory.mktemp("doctor") / "kubeconfig", token))


def states(said: Said) -> dict[str, str]:
    """How each check went; of a cluster that is not well, too."""
    return {item["check"]: item["state"] for item in yaml.safe_load(said.out)["items"]}


def says(said: Said, check: str) -> str:
    (item,) = (item for item in yaml.safe_load(said.out)["items"] if item["check"] == check)
    return f"{item['says']}: {item['do']}"


def test_all_is_well_and_said_in_one_command(
    cluster: Cluster, administrator: Drse, forecaster: ForecasterProcess, namespace: str
) -> None:
    url = cluster.threaded.cluster.monitoring.prometheus.url
    cluster.job(namespace, "busy", resources={"gpusPerReplica": 2, "accelerators": [L40S]})
    cluster.wait_status(namespace, "busy", lambda s: s.phase is Phase.RUNNING, 60)
    words = ("doctor", "--lease", LEASE, "--prometheus", url, "--forecaster", forecaster.url)
    found = eventually(
        lambda: administrator(*words, "-o", "json"),
        lambda said: {states(said)[c] for c in ("plan", "exporters", "prometheus")} == {"ok"},
        60,
    )
    assert found.code == 0, found.out
    # Nobody has given this Prometheus any rules.
    assert "alert rules are not loaded" in says(found, "alerts")
    assert {check for check, state in states(found).items() if state != "ok"} == {"alerts"}, found.out
    assert says(found, "forecaster").startswith("1 replica answered")
    table = administrator(*words)
    assert table.code == 0 and "DRSE is healthy, with 1 warning.\n- alerts: " in table.out


def test_without_prometheus_the_leaders_pod_tells_when_it_planned(administrator: Drse) -> None:
    said = administrator("doctor", "--lease", LEASE, "-o", "json")
    assert states(said)["plan"] == "ok" and "the last plan is" in says(said, "plan")
    assert {states(said)[check] for check in ("prometheus", "exporters", "alerts")} == {"skip"}


def test_a_lease_of_another_name_is_asked_for(administrator: Drse) -> None:
    said = administrator("doctor", "--lease", "another-operator", "-o", "json")
    assert said.code == 1 and states(said)["leader"] == "fail"
    assert "--lease" in says(said, "leader")


@pytest.fixture
def alarmed(tmp_path: Path) -> Iterator[str]:
    """A Prometheus that scrapes nothing, and in which one of DRSE's alerts fires."""
    prometheus = PrometheusProcess(tmp_path, free_port())
    rule = {"alert": "DRSENoLeader", "expr": "vector(1)", "labels": {"severity": "critical"}}
    rules: dict[str, Any] = {"groups": [{"name": "drse", "rules": [rule]}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    config = {"global": {"evaluation_interval": "1s"}, "rule_files": ["rules.yml"]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    prometheus.start()
    yield prometheus.url
    prometheus.stop()


def test_what_is_wrong_is_said_with_what_to_do(
    administrator: Drse, alarmed: str, forecaster: ForecasterProcess
) -> None:
    def doctor(*words: str) -> Said:
        return administrator("doctor", "--lease", LEASE, *words, "-o", "json")

    firing = eventually(
        lambda: doctor("--prometheus", alarmed), lambda said: states(said)["alerts"] == "fail", 60
    )
    assert firing.code == 1 and "DRSENoLeader: see their runbooks" in says(firing, "alerts")
    assert "serviceMonitor.enabled" in says(firing, "prometheus")
    assert "no series of DCGM_FI_DEV_GPU_UTIL" in says(firing, "exporters")

    gone = doctor("--prometheus", f"http://127.0.0.1:{free_port()}")
    assert gone.code == 1 and "does not answer" in says(gone, "prometheus")

    own = doctor("--prometheus", alarmed, "--utilization-metric", "own_busy:1:card")
    assert "no series of own_busy" in says(own, "exporters")

    silent = doctor("--forecaster", f"http://127.0.0.1:{free_port()}")
    assert "does not answer" in says(silent, "forecaster")


def test_gpus_measured_by_another_label_are_told_apart_from_none(
    cluster: Cluster, administrator: Drse
) -> None:
    """The exporters' stand-in puts a GPU's number into a label, too."""
    url = cluster.threaded.cluster.monitoring.prometheus.url
    words = ("--prometheus", url, "--utilization-metric", "DCGM_FI_DEV_GPU_UTIL:100:gpu")
    said = administrator("doctor", "--lease", LEASE, *words, "-o", "json")
    assert states(said)["exporters"] == "warn"
    assert "none by a UUID that the cluster knows" in says(said, "exporters")


def test_nobody_leads_any_more(administrator: Drse, leader: OperatorProcess) -> None:
    """The last test of the file: the leader does not come back."""
    leader.terminate()
    said = administrator("doctor", "--lease", LEASE, "-o", "json")
    assert said.code == 1 and states(said)["leader"] == "fail"
    assert "nobody leads" in says(said, "leader") and states(said)["plan"] == "skip"
