"""Which cluster, as whom, in which namespace: kubectl's own options, before or after the command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

OPERATOR_NAMESPACE = "drse-system"
_NAMES = ("kubeconfig", "context", "namespace", "drse_namespace")


@dataclass(frozen=True, slots=True)
class Access:
    """``namespace`` is None where none was stated: then it is that of the kubeconfig's context."""

    kubeconfig: str | None
    context: str | None
    namespace: str | None
    drse_namespace: str


def access_options(command: F) -> F:
    """Add the options; the command gets them by name."""
    options = (
        click.option("--kubeconfig", metavar="FILE", help="Kubeconfig to use instead of KUBECONFIG."),
        click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
        click.option(
            "-n",
            "--namespace",
            metavar="NAME",
            shell_complete=_complete("namespaces"),
            help="Namespace; the context's by default.",
        ),
        click.option(
            "--drse-namespace",
            metavar="NAME",
            envvar="DRSE_NAMESPACE",
            help=f"Namespace that DRSE is installed in.  [default: {OPERATOR_NAMESPACE}]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _complete(what: str) -> Callable[..., list[str]]:
    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        from drse_operator.cli.complete import names

        return list(names(what, context, incomplete))

    return complete


complete_jobs = _complete("deepseekjobs")
complete_queues = _complete("gpuqueues")
complete_nodes = _complete("nodes")


def queue_option(command: F) -> F:
    """Add ``-q``; the command gets it as ``queue_name``."""
    return click.option(
        "-q", "--queue", "queue_name", metavar="QUEUE", shell_complete=complete_queues, help="One queue."
    )(command)


def remember_access(access: dict[str, str | None]) -> None:
    """Keep what was stated before the command's name."""
    click.get_current_context().obj = access


def find_access(context: click.Context, stated: dict[str, Any]) -> Access:
    """What was stated after the command's name, else before it."""
    outer: dict[str, str | None] = context.find_root().obj or {}
    found = {name: stated.get(name) or outer.get(name) for name in _NAMES}
    return Access(
        found["kubeconfig"],
        found["context"],
        found["namespace"],
        found["drse_namespace"] or OPERATOR_NAMESPACE,
    )


def with_access(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command an ``access`` argument in place of the options."""

    @access_options
    @functools.wraps(command)
    def run(**kwargs: Any) -> None:
        stated = {name: kwargs.pop(name) for name in _NAMES}
        command(access=find_access(click.get_current_context(), stated), **kwargs)

    return run
