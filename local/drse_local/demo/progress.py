"""What the demo says while nobody watches: one line a step, an event or a quarter of a minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from drse_local.demo.documents import EventSeen
from drse_local.demo.scene import Scene

_STATUS_SECONDS = 15.0


class Progress:
    """Writes lines with the seconds since it was made."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.started = time.monotonic()
        self._out = out or sys.stderr
        self._told: set[EventSeen] = set()
        self._last_status = self.started

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self.started

    def say(self, text: str) -> None:
        """Write one line."""
        print(f"[{self.elapsed:6.1f} s] {text}", file=self._out, flush=True)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say that something starts, and how long it took when it is done."""
        self.say(f"{what} ...")
        began = self.elapsed
        yield
        self.say(f"{what}: done in {self.elapsed - began:.1f} s")

    def follow(self, scene: Scene) -> None:
        """Say what is new in a scene."""
        for event in scene.events:
            if event not in self._told:
                self._told.add(event)
                self.say(f"{event.job}: {event.reason}, {event.note}")
        if time.monotonic() - self._last_status >= _STATUS_SECONDS:
            self._last_status = time.monotonic()
            self.say(_status(scene))


def _status(scene: Scene) -> str:
    parts = [f"{scene.held} of {scene.gpus} GPUs held, {scene.doubly_held} twice"]
    service = scene.service
    if service is not None and service.load is not None:
        held = service.job.status.gpus
        parts.append(f"{service.job.key}: load {service.load:.2f} of {held} GPUs")
        point = service.forecast.at(10) if service.forecast is not None else None
        if point is not None:
            parts.append(f"in 10 min P50 {point.p50:.2f}, P90 {point.p90:.2f}")
        wanted, ready = service.job.wanted_replicas, service.job.status.ready_replicas
        parts.append(f"replicas wanted {wanted}, granted {service.granted_replicas}, ready {ready}")
    return "; ".join(parts)
