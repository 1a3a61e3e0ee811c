"""A connection to the caller's cluster, by the rules of kubectl."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from kubernetes.aio import config as kubernetes_config

from drse_operator.cli.access import Access
from drse_operator.cluster.client import ApiError, ApiUnreachable, KubeApi, load_configuration

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class Session:
    """An open connection; ``namespace`` is the stated one, else the context's, else ``default``. ``contexts``
    are the namespaces of all contexts of the kubeconfig."""

    api: KubeApi
    namespace: str
    host: str
    contexts: tuple[str, ...] = ()


@asynccontextmanager
async def connect(access: Access) -> AsyncIterator[Session]:
    """Open a connection. What the API server refuses becomes a sentence, and exit status 1."""
    try:
        kubeconfig = _kubeconfig(access.kubeconfig)
        configuration = await load_configuration(kubeconfig, access.context)
    except (kubernetes_config.ConfigException, OSError, ValueError) as error:
        raise click.ClickException(
            f"no usable cluster configuration ({error}): set KUBECONFIG, or give --kubeconfig and --context"
        ) from error
    namespace = access.namespace or _own_namespace(kubeconfig, access.context)
    async with KubeApi(configuration, "kubectl-drse") as api:
        try:
            yield Session(api, namespace, configuration.host, _namespaces(kubeconfig))
        except ApiUnreachable as error:
            raise click.ClickException(
                f"the API server at {configuration.host} does not answer: {error}"
            ) from error
        except ApiError as error:
            raise click.ClickException(refusal(error)) from error


def refusal(error: ApiError) -> str:
    """A refusal of the API server in one sentence."""
    if error.status == 401:
        return "the API server does not accept your credentials: log in again, or choose another --context"
    return f"the API server refuses: {error.message}"


def _kubeconfig(stated: str | None) -> str | None:
    """Files to read, joined as in KUBECONFIG; None inside a pod without any. Raises OSError."""
    text = stated or os.environ.get("KUBECONFIG") or "~/.kube/config"
    files = [path for path in text.split(os.pathsep) if path and Path(path).expanduser().is_file()]
    if files:
        return os.pathsep.join(files)
    if stated or not _POD_NAMESPACE.exists():
        raise FileNotFoundError(f"{text} is not there")
    return None


def _namespaces(kubeconfig: str | None) -> tuple[str, ...]:
    """Of all contexts."""
    if kubeconfig is None:
        return ()
    contexts, _ = kubernetes_config.list_kube_config_contexts(kubeconfig)
    return tuple(name for c in contexts if (name := c["context"].get("namespace")))


def _own_namespace(kubeconfig: str | None, context: str | None) -> str:
    if kubeconfig is None:
        return _POD_NAMESPACE.read_text().strip() or "default"
    contexts, active = kubernetes_config.list_kube_config_contexts(kubeconfig)
    chosen = next((c for c in contexts if c["name"] == context), active) if context else active
    return str(chosen["context"].get("namespace") or "default")
