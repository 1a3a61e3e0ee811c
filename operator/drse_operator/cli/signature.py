"""Who changed what: written on the object, and told in an event."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from drse_operator.api.base import API_VERSION
from drse_operator.cli.connect import Session
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, Kind
from drse_operator.workloads.observed import Job

#: The latest change by this program: a JSON object with command, by, at and, where given, why.
ANNOTATION = "drse.dev/last-command"


@dataclass(frozen=True, slots=True)
class Write:
    """How the caller wants a change to be made."""

    yes: bool
    dry_run: bool
    why: str

    @property
    def suffix(self) -> str:
        """What to add to a sentence about what was done."""
        return " (server dry run)" if self.dry_run else ""

    async def patch(
        self, session: Session, kind: Kind, namespace: str | None, name: str, patch: dict[str, Any]
    ) -> None:
        """Send a merge patch."""
        await session.api.request(
            "PATCH",
            kind.path(namespace, name),
            query={"fieldManager": "kubectl-drse", **({"dryRun": "All"} if self.dry_run else {})},
            body=patch,
            content_type="application/merge-patch+json",
        )


def write_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what every command has that writes; it gets them as ``write``."""

    @functools.wraps(command)
    def run(yes: bool, dry_run: str, why: str, **kwargs: Any) -> None:
        command(write=Write(yes, dry_run == "server", why), **kwargs)

    wrapped: Callable[..., None] = run
    for option in (
        click.option("--why", default="", metavar="TEXT", help="Recorded beside your name."),
        click.option(
            "--dry-run",
            type=click.Choice(["none", "server"]),
            default="none",
            help="server: the API server checks it, and nothing is kept.",
        ),
        click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    ):
        wrapped = option(wrapped)
    return wrapped


def confirm(write: Write) -> None:
    """Ask, unless told that it is all right. Raises UsageError where nobody can be asked."""
    if write.yes or write.dry_run:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here: say --yes, or --dry-run=server to try")
    if not click.confirm("Proceed?"):
        raise click.exceptions.Exit(1)


@dataclass(frozen=True, slots=True)
class Signature:
    """Who did what, when, and why."""

    command: str
    by: str
    at: str
    why: str

    @property
    def annotation(self) -> dict[str, str]:
        """For the metadata of the object."""
        record = {"command": self.command, "by": self.by, "at": self.at}
        if self.why:
            record["why"] = self.why
        return {ANNOTATION: json.dumps(record, ensure_ascii=False)}

    async def tell(self, session: Session, job: Job, reason: str, dry_run: bool) -> None:
        """Post an event on the job. Who may change a job may not always do that: then the annotation
        alone remembers."""
        if dry_run:
            return
        note = f"{self.by}: drse {self.command}" + (f", because {self.why}" if self.why else "")
        document = {
            "apiVersion": kinds.EVENT.api_version,
            "kind": "Event",
            "metadata": {"namespace": job.key.namespace, "generateName": f"{job.key.name}-"},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "drse.dev/cli",
            "reportingInstance": "kubectl-drse",
            "action": reason,
            "reason": reason,
            "note": note[:1024],
            "type": "Normal",
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": "DeepSeekJob",
                "namespace": job.key.namespace,
                "name": job.key.name,
                "uid": job.uid,
            },
        }
        try:
            await session.api.create(kinds.EVENT, document)
        except ApiError as error:
            if error.status != 403:
                raise


async def sign(session: Session, command: str, why: str) -> Signature:
    """The caller's signature, with the name that the API server knows the caller by."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    answer = await session.api.request("POST", path, body=review)
    name = answer["status"]["userInfo"].get("username") or "unknown"
    return Signature(command, name, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), why)
