"""Names that resolve to several loopback addresses, which no name service of a test machine has."""

from __future__ import annotations

import socket
from typing import Any

import pytest


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, ...]]:
    """A table that a test fills; other names resolve as ever."""
    table: dict[str, tuple[str, ...]] = {}
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        found = [real(address, port, *args, **kwargs) for address in table.get(host, (host,))]
        return [one for each in found for one in each]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return table
