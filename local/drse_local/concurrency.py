"""Runs coroutines side by side so that their failure reads like that of one call."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def concurrently(*work: Coroutine[Any, Any, Any]) -> None:
    """Run all of them; at the first failure cancel the others, wait for these, and raise that failure."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
