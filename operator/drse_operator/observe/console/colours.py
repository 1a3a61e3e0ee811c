"""One colour for each queue, the same on every page.

There are eight (after Okabe and Ito's palette for all kinds of colour vision, less the red, which is kept
for what somebody must act upon). A queue's name chooses its colour; where two would share one while others
are free, the later name takes the next free one. The stylesheet has the values, for light and dark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

COLOURS = 8


def colours(queues: Iterable[str]) -> Mapping[str, int]:
    """Number of each queue's colour."""
    given: dict[str, int] = {}
    for name in sorted(queues):
        wish = hashlib.blake2s(name.encode(), digest_size=2).digest()[0] % COLOURS
        free = [(wish + step) % COLOURS for step in range(COLOURS)]
        taken = set(given.values()) if len(given) < COLOURS else set()
        given[name] = next(colour for colour in free if colour not in taken)
    return given
