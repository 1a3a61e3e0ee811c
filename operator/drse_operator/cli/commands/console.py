"""``drse console``: the address of the web pages, and a way there where there is none."""

from __future__ import annotations

import asyncio
import time
import webbrowser
from dataclasses import dataclass

import aiohttp
import click

from drse_operator.cli.access import Access, with_access
from drse_operator.cli.card import card
from drse_operator.cli.connect import Session, connect
from drse_operator.cli.forwarding import PodPort, forwarded
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, Document

_LABELS = "app.kubernetes.io/part-of=drse,app.kubernetes.io/component=console"
#: Seconds for the console to answer through the tunnel.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class _Console:
    """The console's Service: its account, and the port of a pod behind it."""

    account: str
    service_port: int
    target: PodPort


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Port on this machine; the Service's by default, or a free one where that is taken.",
)
@click.option("--open", "browse", is_flag=True, help="Open it in the browser.")
@click.option("--forward", is_flag=True, help="Forward a port even where an Ingress has the console.")
@with_access
def console(access: Access, port: int | None, browse: bool, forward: bool) -> None:
    """The web pages: their address, and how to sign in.

    Without an Ingress a port of this machine is forwarded to the console until Ctrl-C, as kubectl
    port-forward does; you need the right to create pods/portforward in DRSE's namespace.
    """
    try:
        asyncio.run(_console(access, port, browse, forward))
    except KeyboardInterrupt:
        raise click.exceptions.Exit(0) from None


async def _console(access: Access, port: int | None, browse: bool, forward: bool) -> None:
    async with connect(access) as session:
        found = await _find(session, access.drse_namespace)
        public = None if forward else await _ingress(session, access.drse_namespace)
        if public is not None:
            _tell(public, found)
            _browse(public, browse)
            return
        troubles: list[str] = []
        async with forwarded(session.api, found.target, port or found.service_port, troubles.append) as here:
            url = f"http://127.0.0.1:{here}/"
            if not await _answers(url):
                why = troubles[-1] if troubles else f"no answer within {_PATIENCE:.0f} s"
                raise click.ClickException(f"the console cannot be reached: {why}")
            _tell(url, found)
            click.echo("forwarding until Ctrl-C", err=True)
            _browse(url, browse)
            told = len(troubles)
            while True:
                await asyncio.sleep(1)
                for trouble in troubles[told:]:
                    click.echo(f"note: {trouble}", err=True)
                told = len(troubles)


def _tell(url: str, found: _Console) -> None:
    namespace = found.target.namespace
    lines = [
        ("console", url),
        ("sign in", "with a bearer token: you then see what its owner may see in the cluster"),
        ("", f"to see everything: kubectl create token {found.account} -n {namespace}"),
    ]
    click.echo(card(lines))


def _browse(url: str, wanted: bool) -> None:
    if wanted and not webbrowser.open(url):
        click.echo("note: no browser could be opened here", err=True)


async def _find(session: Session, namespace: str) -> _Console:
    """The console's pod by its Service. Raises ClickException with what to do where there is none."""
    services = (await session.api.list(kinds.SERVICE, namespace, {"labelSelector": _LABELS})).items
    if not services:
        raise click.ClickException(
            f"there is no console in namespace {namespace}: install it with --set console.enabled=true, or "
            "say where DRSE is with --drse-namespace"
        )
    selector = ",".join(f"{name}={value}" for name, value in services[0]["spec"]["selector"].items())
    pods = (await session.api.list(kinds.POD, namespace, {"labelSelector": selector})).items
    ready = [pod for pod in pods if _is_ready(pod)]
    if not ready:
        raise click.ClickException(
            f"no pod of the console is ready: see kubectl get pods -n {namespace} -l {selector}"
        )
    pod, port = ready[0], services[0]["spec"]["ports"][0]
    target = _pod_port(pod, port.get("targetPort", port["port"]))
    return _Console(
        account=pod["spec"].get("serviceAccountName", "default"),
        service_port=port["port"],
        target=PodPort(namespace, pod["metadata"]["name"], target),
    )


def _is_ready(pod: Document) -> bool:
    conditions = {c["type"]: c["status"] for c in (pod.get("status") or {}).get("conditions") or ()}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def _pod_port(pod: Document, target: int | str) -> int:
    """A Service's target in the pod, which may be a name. Raises ClickException where no port has it."""
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if port.get("name") == target:
                return int(port["containerPort"])
    name = pod["metadata"]["name"]
    raise click.ClickException(f"pod {name} has no port {target}, which the console's Service leads to")


async def _ingress(session: Session, namespace: str) -> str | None:
    """The public address, where an Ingress gives one and the caller may read it."""
    try:
        found = (await session.api.list(kinds.INGRESS, namespace, {"labelSelector": _LABELS})).items
    except ApiError as error:
        if error.status != 403:
            raise
        return None
    hosts = [rule["host"] for one in found for rule in one["spec"].get("rules") or () if rule.get("host")]
    secure = any(one["spec"].get("tls") for one in found)
    return f"http{'s' if secure else ''}://{hosts[0]}/" if hosts else None


async def _answers(url: str) -> bool:
    """Whether the console serves there; asked again until it does or patience ends."""
    deadline = time.monotonic() + _PATIENCE
    async with aiohttp.ClientSession(trust_env=False, timeout=aiohttp.ClientTimeout(total=_PATIENCE)) as http:
        while time.monotonic() < deadline:
            try:
                async with http.get(f"{url}healthz") as answer:
                    if answer.status == 200:
                        return True
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.3)
    return False
