"""What the operator keeps for later: the journal of decisions and the books of usage, in ConfigMaps."""

from __future__ import annotations

from collections.abc import Sequence

import click

from drse_operator.cli.connect import Session
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, Document
from drse_operator.observe import books
from drse_operator.observe.accounts import Periods
from drse_operator.observe.journal import Decision
from drse_operator.observe.views.decisions import from_event


async def read_decisions(
    session: Session, drse_namespace: str, namespace: str | None
) -> tuple[Sequence[Decision], str, str]:
    """Decisions, where they come from (journal or events), and what to say about that."""
    try:
        document = await session.api.get(kinds.CONFIG_MAP, books.DECISIONS_NAME, drse_namespace)
        return books.read_decisions(document).decisions, "journal", ""
    except books.BookUnreadable as error:
        note = str(error)
    except ApiError as error:
        if not (error.not_found or error.status == 403):
            raise
        found = "is not there" if error.not_found else "may not be read"
        note = f"the journal in {drse_namespace} {found}: this is what events of the last hour tell"
    query = {"fieldSelector": "reportingController=drse.dev/operator"}
    listing = await session.api.list(kinds.EVENT, namespace, query)
    told = [decision for item in listing.items if (decision := from_event(item)) is not None]
    return told, "events", note


async def read_usage(session: Session, drse_namespace: str, first_month: str) -> Periods:
    """Tallies from a month (``2026-11``) on. Raises ClickException when they may not be read."""
    try:
        query = {"labelSelector": f"{books.BOOK_LABEL}=usage"}
        listing = await session.api.list(kinds.CONFIG_MAP, drse_namespace, query)
    except ApiError as error:
        if error.status != 403:
            raise
        raise click.ClickException(
            f"you may not read the ConfigMaps in {drse_namespace}, where GPU-hours are kept: ask an "
            "administrator for the report, or for that right"
        ) from error
    first = books.USAGE_NAME.format(month=first_month)
    wanted = [item for item in listing.items if item["metadata"]["name"] >= first]
    return books.merge(_book(item) for item in wanted)


def _book(document: Document) -> books.UsageBook:
    try:
        return books.read_usage(document)
    except books.BookUnreadable as error:
        raise click.ClickException(str(error)) from error
