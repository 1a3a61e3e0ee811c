"""Who may raise a job: the policy that administrators may apply, with users of a tenant.

Level: the real API server, which alone asks RBAC inside of a policy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from drse_local.errors import LocalClusterError
from drse_local.threaded import ThreadedCluster
from drse_operator.api.base import API_VERSION
from tests.cluster.conftest import REPOSITORY

POLICY = str(REPOSITORY / "manifests" / "policies" / "priority-classes.yaml")
#: ann may write jobs in team-a alone; bob may use PriorityClass urgent there, too.
TENANTS = """
apiVersion: v1
kind: Namespace
metadata: {name: team-a}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: writer, namespace: team-a}
rules:
  - {apiGroups: [drse.dev], resources: [deepseekjobs], verbs: [get, create, patch, delete]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: writers, namespace: team-a}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: writer}
subjects:
  - {apiGroup: rbac.authorization.k8s.io, kind: User, name: ann}
  - {apiGroup: rbac.authorization.k8s.io, kind: User, name: bob}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: urgent, namespace: team-a}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: drse-urgent}
subjects:
  - {apiGroup: rbac.authorization.k8s.io, kind: User, name: bob}
"""


@pytest.fixture(scope="module")
def policed(cluster_with_crds: ThreadedCluster) -> Iterator[ThreadedCluster]:
    """The policy is applied, and in force."""
    cluster = cluster_with_crds
    cluster.kubectl("apply", "-f", POLICY)
    cluster.kubectl("apply", "-f", "-", stdin=TENANTS)
    deadline = time.monotonic() + 60
    while not refusal(cluster, "ann", "create", "probe", "urgent", "--dry-run=server"):
        assert time.monotonic() < deadline, "the policy has not come into force"
        time.sleep(0.2)
    yield cluster
    cluster.kubectl("delete", "-f", "-", stdin=TENANTS)
    cluster.kubectl("delete", "-f", POLICY)


def refusal(
    cluster: ThreadedCluster, user: str, verb: str, name: str, priority: str | None, *more: str
) -> str:
    """Create a job, or give it a PriorityClass, as a user; why that is refused, or nothing."""
    spec: dict[str, Any] = {} if priority is None else {"priorityClassName": priority}
    whoever = (f"--as={user}", "--namespace=team-a", *more)
    try:
        if verb == "patch":
            patch = json.dumps({"spec": spec})
            cluster.kubectl("patch", "dsj", name, "--type=merge", f"--patch={patch}", *whoever)
            return ""
        spec |= {
            "taskType": "Batch",
            "runtime": {"image": "registry.example/x:1"},
            "resources": {"gpusPerReplica": 1},
        }
        job = {"apiVersion": API_VERSION, "kind": "DeepSeekJob", "metadata": {"name": name}, "spec": spec}
        cluster.kubectl("create", "-f", "-", *whoever, stdin=json.dumps(job))
        return ""
    except LocalClusterError as error:
        return str(error)


def test_only_who_may_use_a_class_puts_jobs_into_it(policed: ThreadedCluster) -> None:
    assert refusal(policed, "ann", "create", "plain", None) == "", "a job that names no class passes"
    said = refusal(policed, "ann", "patch", "plain", "urgent")
    assert "you may not use PriorityClass urgent: name another one, or ask for the verb use on it" in said
    assert "may not use" in refusal(policed, "ann", "patch", "plain", "system-node-critical")
    assert refusal(policed, "bob", "patch", "plain", "urgent") == ""
    assert "may not use" in refusal(policed, "bob", "patch", "plain", "system-node-critical")


def test_a_job_that_was_raised_can_still_be_changed_by_its_owner(policed: ThreadedCluster) -> None:
    assert refusal(policed, "bob", "create", "raised", "urgent") == ""
    where = ("--namespace=team-a", "--as=ann")
    policed.kubectl("patch", "dsj", "raised", "--type=merge", '--patch={"spec": {"suspend": true}}', *where)
    policed.kubectl(
        "patch", "dsj", "raised", "--type=merge", '--patch={"spec": {"priorityClassName": null}}', *where
    )
    assert "may not use" in refusal(policed, "ann", "patch", "raised", "urgent"), "and not raised again"
