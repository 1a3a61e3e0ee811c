"""The latest look, and who waits for the next one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from drse_operator.observe.console.look import Look

#: Parts of the picture that change by themselves; a page says which of them it shows.
TOPICS = ("jobs", "queues", "gpus", "use", "forecast", "decisions", "usage", "health")


@dataclass(frozen=True, slots=True)
class Change:
    """What a listener has not seen yet. ``token`` is what to resume from."""

    token: str
    topics: tuple[str, ...]


class Stage:
    """Shows one look at a time."""

    def __init__(self) -> None:
        self._look: Look | None = None
        self._marks: dict[str, Hashable] = {}
        self._changed: dict[str, int] = {}
        self._shown = asyncio.Event()
        #: Tokens of another process of the console mean nothing here.
        self._epoch = secrets.token_hex(4)
        self.listeners = 0

    @property
    def look(self) -> Look | None:
        """The latest look; None until the first one."""
        return self._look

    def show(self, look: Look, marks: Mapping[str, Hashable]) -> None:
        """A new look. ``marks`` are values by topic that differ when the topic has changed."""
        for topic, mark in marks.items():
            if topic not in self._marks or self._marks[topic] != mark:
                self._changed[topic] = look.version
        self._marks = dict(marks)
        self._look = look
        self._shown.set()
        self._shown = asyncio.Event()

    async def next(self) -> None:
        """Wait for the next look."""
        await self._shown.wait()

    @property
    def token(self) -> str:
        """Names the latest look."""
        return f"{self._epoch}-{0 if self._look is None else self._look.version}"

    def since(self, token: str) -> Change:
        """What has changed since the look that the token names; everything when it names none of ours."""
        epoch, _, version = token.partition("-")
        if epoch != self._epoch or not version.isdecimal():
            return Change(self.token, TOPICS if token else ())
        seen = int(version)
        return Change(self.token, tuple(t for t in TOPICS if self._changed.get(t, 0) > seen))
