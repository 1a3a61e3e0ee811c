"""What the pods of a release run and where its Services lead, read from the API server's documents.

Covers what the chart uses, and says so where a manifest goes beyond it, rather than run something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from drse_local.apiclient import Manifest
from drse_local.errors import LocalClusterError

_COMPONENT_LABEL = "app.kubernetes.io/component"
_DEFAULT_GRACE_SECONDS = 30.0
# As in pods: $(NAME) is the variable's value, $$ an escaped dollar, unknown names stay.
_REFERENCE = re.compile(r"\$\$|\$\((?P<name>[A-Za-z_][A-Za-z0-9_.-]*)\)")


@dataclass(frozen=True, slots=True)
class Container:
    """The one container of a pod. ``name`` is that of the pod, or of the Deployment that makes it.

    service_account: whose token the pod gets; None when it gets none.
    variables: environment with plain values. fields: variables that stand for a field of the pod.
    """

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str]
    fields: Mapping[str, str]
    service_account: str | None

    def environment(self, pod: str, namespace: str, moved: Mapping[str, str]) -> dict[str, str]:
        """The container's variables in the pod of that name; `moved` maps addresses to where they are now."""
        known = {"metadata.name": pod, "metadata.namespace": namespace}
        resolved = {name: known[path] for name, path in self.fields.items()}
        return {name: _move(value, moved) for name, value in self.variables.items()} | resolved

    def argv(self, environment: Mapping[str, str], moved: Mapping[str, str]) -> tuple[str, ...]:
        """Command and arguments, with variables filled in and addresses replaced."""

        def fill(match: re.Match[str]) -> str:
            name = match["name"]
            return "$" if name is None else environment.get(name, match[0])

        return tuple(_move(_REFERENCE.sub(fill, text), moved) for text in self.command)


@dataclass(frozen=True, slots=True)
class PodProgram(Container):
    """What a Deployment's pods run.

    port: container port of its probes. ready_path: where its readiness is asked.
    """

    component: str
    labels: Mapping[str, str]
    replicas: int
    port: int
    ready_path: str
    grace_seconds: float

    @property
    def replica_names(self) -> tuple[str, ...]:
        """A name for each pod; they stay the same over restarts."""
        return tuple(f"{self.name}-{index}" for index in range(self.replicas))


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """One port of a Service. address: `name.namespace.svc:port`, as the chart writes it."""

    address: str
    selector: Mapping[str, str]

    def selects(self, program: PodProgram) -> bool:
        """Whether the Service leads to the program's pods."""
        return self.selector.items() <= program.labels.items()


def programs_of(deployments: Iterable[Manifest]) -> Iterator[PodProgram]:
    """What each Deployment runs. Raises LocalClusterError for what cannot be run as a plain process."""
    for deployment in deployments:
        name = deployment["metadata"]["name"]
        template = deployment["spec"]["template"]
        pod, labels = template["spec"], template["metadata"]["labels"]
        found = container_of(name, pod, f"Deployment {name}")
        container = pod["containers"][0]
        probe = container["readinessProbe"]["httpGet"]
        yield PodProgram(
            name=name,
            component=component(labels) or name,
            labels=labels,
            replicas=deployment["spec"]["replicas"],
            command=found.command,
            variables=found.variables,
            fields=found.fields,
            port=_port(container, probe["port"]),
            ready_path=probe["path"],
            service_account=found.service_account,
            grace_seconds=pod.get("terminationGracePeriodSeconds", _DEFAULT_GRACE_SECONDS),
        )


def container_of(name: str, pod: Manifest, owner: str) -> Container:
    """What the spec of a pod runs. Raises LocalClusterError, which names the ``owner`` of the spec, for what
    cannot be run as a plain process."""
    if len(pod["containers"]) != 1 or pod.get("initContainers"):
        raise LocalClusterError(f"{owner} must have one container to be run as a process.")
    container = pod["containers"][0]
    variables, fields = _environment(owner, container)
    return Container(
        name=name,
        command=(*container["command"], *container.get("args", ())),
        variables=variables,
        fields=fields,
        service_account=pod["serviceAccountName"] if pod.get("automountServiceAccountToken") else None,
    )


def component(labels: Mapping[str, str]) -> str | None:
    """Which part of a release something is, by its labels."""
    return labels.get(_COMPONENT_LABEL)


def service_addresses(services: Iterable[Manifest]) -> Iterator[ServiceAddress]:
    """All ports of all Services."""
    for service in services:
        metadata, spec = service["metadata"], service["spec"]
        for port in spec["ports"]:
            address = f"{metadata['name']}.{metadata['namespace']}.svc:{port['port']}"
            yield ServiceAddress(address, spec.get("selector") or {})


def _environment(owner: str, container: Manifest) -> tuple[dict[str, str], dict[str, str]]:
    """Plain variables, and those that name a field of the pod."""
    plain: dict[str, str] = {}
    fields: dict[str, str] = {}
    for variable in container.get("env", ()):
        name, source = variable["name"], variable.get("valueFrom")
        path = (source or {}).get("fieldRef", {}).get("fieldPath")
        if source is None:
            plain[name] = variable.get("value", "")
        elif path in ("metadata.name", "metadata.namespace"):
            fields[name] = path
        else:
            raise LocalClusterError(
                f"{name} of {owner} comes from {source}; only values, metadata.name and "
                "metadata.namespace are known here."
            )
    return plain, fields


def _port(container: Manifest, named: str | int) -> int:
    if isinstance(named, int):
        return named
    return next(int(port["containerPort"]) for port in container["ports"] if port["name"] == named)


def _move(text: str, moved: Mapping[str, str]) -> str:
    for before, after in moved.items():
        text = text.replace(before, after)
    return text
