"""Free loopback ports that stay ours from the moment they are chosen.

Closing a probe socket and hoping that nobody takes its port before the server starts loses races when several
instances start at once. Here the probe socket stays open, bound but never listening, with SO_REUSEADDR. The
kernel then gives the port to no other bind to port 0 and to no outgoing connection, while a server that sets
SO_REUSEADDR itself (Go's net package and asyncio both do) may bind and listen on it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"


class PortReservation:
    """Named loopback ports, held until `close`."""

    def __init__(self, names: Iterable[str], preferred: Mapping[str, int] | None = None) -> None:
        """Reserve one port for each name; a preferred port (of an earlier run) is taken where it is still
        free.
        """
        self._sockets: list[socket.socket] = []
        self._ports: dict[str, int] = {}
        wanted = preferred or {}
        for name in names:
            held = self._bind(wanted.get(name, 0))
            self._sockets.append(held)
            self._ports[name] = held.getsockname()[1]

    @staticmethod
    def _bind(port: int) -> socket.socket:
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind((LOOPBACK, port))
        except OSError:
            held.bind((LOOPBACK, 0))
        return held

    def __getitem__(self, name: str) -> int:
        return self._ports[name]

    def as_dict(self) -> dict[str, int]:
        """Port by name, a copy."""
        return dict(self._ports)

    def close(self) -> None:
        """Give all ports back."""
        for held in self._sockets:
            held.close()
        self._sockets.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
