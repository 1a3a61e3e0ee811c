"""Which replica of the forecaster serves a job.

The problem: more jobs than one process serves, and replicas that do not talk to each other. The approach:
rendezvous hashing. Every replica scores each job against every index and serves those whose highest score is
its own index. All replicas that know the count agree, so each job is served by exactly one; and when the
count grows from n to n + 1, only the jobs that the new replica takes move, one in n + 1.

Each replica reads the loads of all jobs in its one query, which Prometheus answers either way, and keeps its
own.

Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM ToN 6, 1998.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from drse_forecaster.series import JobKey


@dataclass(frozen=True, slots=True)
class Shard:
    """One replica among `count`."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"Shard {self.index} of {self.count} does not exist; count from 0 to count - 1.")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `INDEX/COUNT`; the index may be a pod's name that ends in it. Raises ValueError."""
        match = re.fullmatch(r"(?:.*-)?(\d+)/([1-9]\d*)", text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a shard; write INDEX/COUNT, such as 0/3 or forecaster-0/3.")
        return cls(int(match[1]), int(match[2]))

    def owns(self, key: JobKey) -> bool:
        """Return whether this replica serves the job."""
        return self.count == 1 or owner(key, self.count) == self.index


def owner(key: JobKey, count: int) -> int:
    """Return the index of the replica that serves a job."""
    return max(range(count), key=lambda index: _score(key, index))


def _score(key: JobKey, index: int) -> bytes:
    return hashlib.blake2b(f"{index}\0{key}".encode(), digest_size=8).digest()
