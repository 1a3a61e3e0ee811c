"""How a Deployment becomes a process: what a kubelet would fill in, and what is refused, not guessed."""

from __future__ import annotations

from typing import Any

import pytest

from drse_local.errors import LocalClusterError
from drse_local.pods import programs_of, service_addresses
from drse_local.release import merged

MOVED = {"0.0.0.0:8080": "127.0.0.1:4711", "other.system.svc:80": "127.0.0.1:4712"}


def deployment(env: list[dict[str, Any]], args: list[str], **pod: Any) -> dict[str, Any]:
    container = {
        "name": "main",
        "command": ["program"],
        "args": args,
        "env": env,
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}},
    }
    spec = {"containers": [container], "serviceAccountName": "account", **pod}
    labels = {"app.kubernetes.io/component": "main", "app": "x"}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {"metadata": {"name": "x-main"}, "spec": {"replicas": 2, "template": template}}


def field(path: str) -> dict[str, Any]:
    return {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": path}}}


@pytest.mark.parametrize(
    ("argument", "filled"),
    [
        ("--name=$(POD)", "--name=x-main-1"),
        ("$(POD)/$(PLAIN)", "x-main-1/http://127.0.0.1:4712/a"),
        ("$$(POD)", "$(POD)"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("--listen=0.0.0.0:8080", "--listen=127.0.0.1:4711"),
        ("--url=http://other.system.svc:80", "--url=http://127.0.0.1:4712"),
    ],
)
def test_arguments_are_filled_in_as_in_a_pod(argument: str, filled: str) -> None:
    plain = {"name": "PLAIN", "value": "http://other.system.svc:80/a"}
    (program,) = programs_of([deployment([field("metadata.name"), plain], [argument])])
    environment = program.environment(program.replica_names[1], "system", MOVED)
    assert program.argv(environment, MOVED) == ("program", filled)


def test_a_token_is_given_to_pods_that_mount_one() -> None:
    (with_token,) = programs_of([deployment([], [], automountServiceAccountToken=True)])
    (without,) = programs_of([deployment([], [], automountServiceAccountToken=False)])
    assert (with_token.service_account, without.service_account) == ("account", None)


@pytest.mark.parametrize(
    "source", [{"secretKeyRef": {"name": "a", "key": "b"}}, {"fieldRef": {"fieldPath": "status.podIP"}}]
)
def test_variables_that_cannot_be_known_are_refused_by_name(source: dict[str, Any]) -> None:
    with pytest.raises(LocalClusterError, match="POD of Deployment x-main"):
        list(programs_of([deployment([{"name": "POD", "valueFrom": source}], [])]))


def test_more_than_one_container_is_refused() -> None:
    two = deployment([], [])
    containers = two["spec"]["template"]["spec"]["containers"]
    containers.append(containers[0])
    with pytest.raises(LocalClusterError, match="must have one container"):
        list(programs_of([two]))


def test_a_service_leads_to_the_pods_that_it_selects() -> None:
    (program,) = programs_of([deployment([], [])])
    ports = [{"port": 80}, {"port": 81}]
    metadata = {"name": "s", "namespace": "system"}
    services = [
        {"metadata": metadata, "spec": {"ports": ports, "selector": {"app": "x"}}},
        {"metadata": metadata, "spec": {"ports": ports, "selector": {"app": "y"}}},
    ]
    found = [(each.address, each.selects(program)) for each in service_addresses(services)]
    expected = [("s.system.svc:80", True), ("s.system.svc:81", True)]
    assert found == expected + [(address, False) for address, _ in expected]


def test_values_are_merged_as_helm_does() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}}
    assert merged(base, {"a": {"c": [3]}, "d": 4}) == {"a": {"b": 1, "c": [3]}, "d": 4}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}}, "neither argument is changed"
