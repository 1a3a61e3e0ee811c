"""A leader that was deposed and still writes: the API server refuses it, by the policy of the chart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drse_operator.api.base import API_VERSION
from drse_operator.api.enums import Phase
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, Document, Kind
from drse_operator.controller.fence import TERM_ANNOTATION
from tests.helm.chart import of_kind, render
from tests.operator.flaky import FlakyApiServer
from tests.operator.harness import L40S, Cluster, OperatorProcess, eventually, running_for

pytestmark = [pytest.mark.cluster]

POLICY = Kind(
    "/apis/admissionregistration.k8s.io/v1",
    "validatingadmissionpolicies",
    "ValidatingAdmissionPolicy",
    namespaced=False,
)
BINDING = Kind(POLICY.prefix, "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", False)
FOUR = {"gpusPerReplica": 4, "accelerators": [L40S]}


@pytest.fixture
def policy(cluster: Cluster) -> Iterator[None]:
    """The chart's policy, in force."""
    documents = render("--show-only", "templates/leader.yaml")
    made = []
    for kind in (POLICY, BINDING):
        (document,) = of_kind(documents, kind.kind)
        cluster.create(kind, document)
        made.append((kind, document["metadata"]["name"]))
    yield
    for kind, name in reversed(made):
        cluster.delete(kind, name)


def present_term(cluster: Cluster) -> int:
    document = cluster.get(kinds.NAMESPACE, "drse-system")
    assert document is not None
    return int((document["metadata"].get("annotations") or {}).get(TERM_ANNOTATION, "0"))


def write(cluster: Cluster, namespace: str, name: str, term: int, assigned: bool = True) -> Document:
    """Try to write a status as the leader of a term would."""
    assignment = {
        "replica": 0,
        "worker": 0,
        "node": "l40s-0",
        "deviceSelection": "Exact",
        "count": 1,
        "since": "2030-01-01T00:00:00Z",
    }
    document = {
        "apiVersion": API_VERSION,
        "kind": "DeepSeekJob",
        "metadata": {"name": name, "namespace": namespace},
        "status": {"term": term, "assignments": [assignment] if assigned else []},
    }
    return cluster.call(cluster.api.apply(kinds.DEEPSEEKJOB, document, "test", "status", dry_run=True))


def test_only_the_leader_of_the_term_changes_assignments(
    cluster: Cluster, namespace: str, policy: None, tmp_path: Path
) -> None:
    operator = OperatorProcess(cluster.threaded.kubeconfig, tmp_path / "operator.log")
    operator.start()
    try:
        eventually(operator.leads, bool, 40)
        cluster.job(namespace, "waits", queue="nowhere")
        cluster.job(namespace, "runs", resources=FOUR, runtime=running_for(300))
        cluster.wait_status(namespace, "runs", lambda s: s.phase is Phase.RUNNING, 60)
        cluster.wait_reason(namespace, "waits", "QueueNotFound")
        term = present_term(cluster)
        assert cluster.status(namespace, "runs").term == term
        # The policy comes into force a moment after it was made.
        eventually(
            lambda: _refusal(cluster, namespace, term - 1), lambda text: "may change assignments" in text
        )
        assert _refusal(cluster, namespace, term + 1), "nobody is ahead of the present either"
        assert _refusal(cluster, namespace, term) == ""
        operator.kill()
        operator.start()
        eventually(lambda: present_term(cluster), lambda now: now > term, 60)
        eventually(operator.leads, bool, 60)
        cluster.delete(kinds.DEEPSEEKJOB, "runs", namespace)
        cluster.job(namespace, "next", resources=FOUR)
        cluster.wait_status(namespace, "next", lambda s: s.phase is Phase.RUNNING, 60)
        assert "may change assignments" in _refusal(cluster, namespace, term), "that of the killed process"
    finally:
        operator.stop()
    assert "Traceback" not in operator.log.read_text()


def test_writes_that_arrive_after_another_has_taken_over(
    cluster: Cluster, namespace: str, policy: None, tmp_path: Path
) -> None:
    """Everything that the first leader has decided arrives when the second has long given the GPUs away."""
    with FlakyApiServer(cluster.threaded.kubeconfig, share=0, seed=1) as server:
        first = OperatorProcess(server.kubeconfig(tmp_path / "kubeconfig"), tmp_path / "first.log")
        second = OperatorProcess(cluster.threaded.kubeconfig, tmp_path / "second.log")
        first.start()
        try:
            eventually(first.leads, bool, 60)
            server.hold()
            names = [f"job-{number}" for number in range(3)]
            for name in names:
                cluster.job(namespace, name, resources=FOUR, runtime=running_for(300))
            second.start()
            eventually(second.leads, bool, 60)
            eventually(
                lambda: [n for n in names if cluster.status(namespace, n).phase is Phase.RUNNING],
                lambda running: len(running) == 1,
                60,
            )
            server.let_go()
            late = eventually(
                lambda: [code for path, code in server.late if path.endswith("/status")], bool, 30
            )
            assert all(code in (409, 422) for code in late), server.late
            assert cluster.doubly_held() == []
            assert sum(bool(cluster.status(namespace, name).assignments) for name in names) == 1
        finally:
            for process in (first, second):
                process.stop()


def _refusal(cluster: Cluster, namespace: str, term: int) -> str:
    try:
        write(cluster, namespace, "waits", term)
    except ApiError as error:
        return error.message
    return ""
