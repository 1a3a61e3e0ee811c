"""Which jobs have changed since when: so that who keeps a picture of them need not look at all of them."""

from __future__ import annotations

from collections.abc import Container

#: Jobs that are gone and still remembered to have changed.
_GONE = 10_000


class Changes:
    """Uids in the order of their last change. Changes are counted: a reader remembers how far it has read."""

    def __init__(self) -> None:
        self.count = 0
        self._at: dict[str, int] = {}
        #: Up to here, what has changed has been forgotten.
        self._forgotten = 0

    def note(self, uid: str) -> None:
        """The job has changed, or come, or gone."""
        self.count += 1
        self._at.pop(uid, None)
        self._at[uid] = self.count

    def since(self, count: int) -> list[str] | None:
        """Jobs that have changed since then, in no particular order; None if that was too long ago to say."""
        if count < self._forgotten:
            return None
        found = []
        for uid in reversed(self._at):
            if self._at[uid] <= count:
                break
            found.append(uid)
        return found

    def tidy(self, alive: Container[str], number: int) -> None:
        """Forget jobs that are gone, once they are many; ``number`` are alive."""
        if len(self._at) <= number + _GONE:
            return
        gone = [uid for uid in self._at if uid not in alive]
        for uid in gone:
            self._forgotten = max(self._forgotten, self._at.pop(uid))
