"""What a page is made of: rows as a table, the same as a document, and a template around them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from markupsafe import Markup
from pydantic import BaseModel

from drse_operator.observe.console.access import Viewer
from drse_operator.observe.console.address import Address, job_path, link, part
from drse_operator.observe.console.look import Look, Sight
from drse_operator.observe.console.tables import Shown
from drse_operator.observe.console.words import at, span, until
from drse_operator.observe.views.base import instant
from drse_operator.observe.views.queue import EtaMove


class NotFound(Exception):
    """There is no such page or object, or the reader may not see it."""


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody asks for a page."""

    look: Look
    sight: Sight
    viewer: Viewer
    address: Address

    @property
    def now(self) -> datetime:
        """When the cluster was looked at."""
        return instant(self.look.scene.now)


@dataclass(frozen=True, slots=True)
class Page:
    """A page for one visit. ``topics`` are the parts of the picture it shows; ``command`` asks the same."""

    template: str
    title: str
    topics: tuple[str, ...]
    document: BaseModel
    command: str
    table: Shown[Any] | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def command(*words: str) -> str:
    """A command as it may be pasted into a shell: words from the URL are quoted, whatever they are."""
    return shlex.join(words)


def reach(visit: Visit, wide: str = "-A") -> list[str]:
    """Words of a command for the jobs that the reader sees: ``wide`` for all, else their first namespace."""
    if visit.sight.visible is None:
        return [wide] if wide else []
    return ["-n", min(visit.sight.visible)] if visit.sight.visible else []


def job_link(namespace: str | None, job: str | None, hidden: str = "another job") -> Markup:
    """A job by name, or that it may not be named."""
    if namespace is None or job is None:
        return Markup('<span class="muted">{}</span>').format(hidden)
    return Markup('<a class="job" href="{}"><span class="ns">{}/</span>{}</a>').format(
        job_path(namespace, job), namespace, job
    )


def queue_chip(visit: Visit, queue: str | None, href: str | None = None) -> Markup:
    """A queue by name and colour; the link keeps only its rows, or leads to its page."""
    if not queue:
        return Markup('<span class="muted">–</span>')
    colour = visit.look.colours.get(queue)
    dot = Markup('<span class="swatch {}"></span>').format("unknown" if colour is None else f"fill-{colour}")
    target = href or link(f"/queues/{part(queue)}")
    return Markup('<a class="queue" href="{}">{}{}</a>').format(target, dot, queue)


@dataclass(frozen=True, slots=True)
class Move:
    """How an expected start has moved: what was told until when, by how much it is now otherwise, and why."""

    was: Markup
    at: Markup
    by: str
    says: str


def move(visit: Visit, moved: EtaMove) -> Move:
    """A move as people read it."""
    return Move(
        was=until(moved.was_p50, moved.was_p90, visit.now),
        at=at(moved.at, visit.now),
        by=f"{span(abs(moved.seconds))} {'later' if moved.seconds > 0 else 'earlier'}",
        says=moved.says,
    )


#: Shape of each state; the word stands beside it.
_SHAPES = {
    "Running": "full",
    "Starting": "half",
    "Queued": "hollow",
    "Suspended": "bar",
    "Succeeded": "tick",
    "Failed": "cross",
    "Free": "hollow",
    "Held": "full",
    "Foreign": "square",
    "OutOfService": "cross",
    "Ready": "full",
}
_SPACED = {"OutOfService": "Out of service"}


def state(word: str, urgent: bool = False, label: str = "") -> Markup:
    """A state as a word with its shape; ``label`` stands instead of the word. Red where somebody must act."""
    shape = _SHAPES.get(word, "hollow")
    tone = "act" if urgent else f"tone-{shape}"
    return Markup('<span class="state {}"><span class="shape {}"></span>{}</span>').format(
        tone, shape, label or _SPACED.get(word, word)
    )
