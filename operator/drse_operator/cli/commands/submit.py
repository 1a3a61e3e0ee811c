"""``drse submit``."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import click
from pydantic import Field

from drse_operator.api.keys import JobKey
from drse_operator.cli import wording
from drse_operator.cli.answer import Sheet, answer
from drse_operator.cli.changes import ChangeError, job_change, read_documents
from drse_operator.cli.connect import Session, refusal
from drse_operator.cli.load import load_scene
from drse_operator.cli.output import Request, reading
from drse_operator.cluster import kinds, parse
from drse_operator.cluster.client import ApiError
from drse_operator.observe.views.base import Report, instant
from drse_operator.observe.views.scene import Scene
from drse_operator.observe.views.whatif import Answer, Outcome, whatif
from drse_operator.observe.views.whatif import answer as answer_view


class SubmitReport(Report):
    """What has become, or would become, of the jobs submitted."""

    dry_run: bool = Field(description="Whether nothing was created.")
    items: tuple[Answer, ...]


@click.command()
@click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="DeepSeekJobs; - reads from stdin.",
)
@click.option(
    "--dry-run",
    type=click.Choice(["none", "server"]),
    default="none",
    help="server: the API server checks it and the planner answers; nothing is created.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0, 600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="For the operator's first answer.",
)
@reading(table=False, watch=False)
def submit(request: Request, files: tuple[Path, ...], dry_run: str, wait: float) -> None:
    """Create jobs, and say what becomes of them: they start, or wait for a reason until about then.

    Exit status 3 when one would not run until somebody acts.
    """

    async def ask(session: Session) -> Sheet:
        try:
            documents = [document for file in files for document in read_documents(file)]
            for document in documents:
                job_change(document, session.namespace)
        except ChangeError as error:
            raise click.ClickException(str(error)) from error
        keys = [await _create(session, document, dry_run == "server") for document in documents]
        if dry_run == "server":
            items = await _foretell(session, documents)
        else:
            items = await _first_answers(session, keys, wait)
        report = SubmitReport(as_of=instant(time.time()), dry_run=dry_run == "server", items=items)
        lines = [sentence(row, report) for row in items] or ["accepted (server dry run)"]
        return Sheet(
            report,
            names=[f"deepseekjob.drse.dev/{document['metadata']['name']}" for document in documents],
            text="\n".join(lines),
        )

    sheet = answer(request, ask)
    assert isinstance(sheet.report, SubmitReport)
    if any(row.outcome is Outcome.REFUSED for row in sheet.report.items):
        raise click.exceptions.Exit(3)


async def _create(session: Session, document: dict[str, Any], dry_run: bool) -> JobKey:
    metadata = {**document["metadata"]}
    metadata.setdefault("namespace", session.namespace)
    query = {"fieldManager": "kubectl-drse", "fieldValidation": "Strict"}
    path = kinds.DEEPSEEKJOB.path(metadata["namespace"])
    try:
        await session.api.request(
            "POST",
            path,
            query=query | ({"dryRun": "All"} if dry_run else {}),
            body={**document, "metadata": metadata},
        )
    except ApiError as error:
        name = f"DeepSeekJob {metadata['name']}"
        if error.conflict:
            message = f"{name} exists in namespace {metadata['namespace']}: kubectl apply changes it"
        elif error.not_found:
            message = f"{name} cannot be created: {error.message}"
        else:
            message = f"{name}: {refusal(error)}"
        raise click.ClickException(message) from error
    return JobKey(metadata["namespace"], metadata["name"])


async def _foretell(session: Session, documents: list[dict[str, Any]]) -> tuple[Answer, ...]:
    """What the planner would answer; nothing where the caller's rights do not reach for that."""
    scene = await load_scene(session)
    if not scene.complete:
        return ()
    changes = [job_change(document, session.namespace) for document in documents]
    return whatif(scene, changes).items


async def _first_answers(session: Session, keys: list[JobKey], patience: float) -> tuple[Answer, ...]:
    """Wait until the operator has said something about each job, then tell it."""
    deadline = time.monotonic() + patience
    for key in keys:
        while True:
            if await _answered(session, key) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
    scene = await load_scene(session)
    return tuple(_become(scene, key) for key in keys)


async def _answered(session: Session, key: JobKey) -> bool:
    status = parse.job(await session.api.get(kinds.DEEPSEEKJOB, key.name, key.namespace)).status
    return bool(status.queue is not None or status.assignments or (status.phase and status.phase.finished))


def _become(scene: Scene, key: JobKey) -> Answer:
    job = scene.job(key)
    etas = scene.etas([job.uid]) if job.uid in scene.waits else {}
    found = answer_view(scene, job, None)
    eta = etas.get(job.uid)
    if eta is None or found.outcome is not Outcome.WAITS:
        return found
    return found.model_copy(update={"eta_p50": instant(eta.p50), "eta_p90": instant(eta.p90)})


def sentence(row: Answer, report: SubmitReport) -> str:
    """What became of one job, in one line."""
    name = f"deepseekjob/{row.job}"
    if row.outcome is Outcome.STARTS:
        nodes = ", ".join(dict.fromkeys(place.node for place in row.places))
        verb = "would start" if report.dry_run else "starts"
        return f"{name} {verb} on {nodes}" if nodes else f"{name} {row.message}"
    if row.outcome is Outcome.PREEMPTS:
        return f"{name} queued: starts once {', '.join(row.preempts)} gave way to it"
    if row.outcome is Outcome.REFUSED:
        return f"{name} does not run: {row.reason}: {row.message}"
    start = wording.between(row.eta_p50, row.eta_p90, report.as_of)
    when = "start not in sight" if row.eta_p50 is None else f"start {start}"
    verb = "would queue" if report.dry_run else "queued"
    return f"{name} {verb}: position {row.position} in {row.queue}, {row.reason}, {when}"
