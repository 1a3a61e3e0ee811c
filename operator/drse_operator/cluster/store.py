"""A cache of one kind that never goes back in time.

Fed by a watch and by the answers to our own writes, in any order: an older resourceVersion never replaces
a newer one, and an object that has been deleted does not come back through a late answer. (Since KEP-5504
resourceVersions of one kind may be compared as integers.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, ValuesView
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Document = dict[str, Any]
Key = tuple[str, str]

_TOMBSTONES = 10_000


class Store(Generic[T]):
    """Parsed objects by (namespace, name).

    ``parse`` turns a document into what is kept, or None for objects of no interest. ``changed`` is called
    with (old, new) after each change, either of them None for an arrival or a departure.
    """

    def __init__(
        self, parse: Callable[[Document], T | None], changed: Callable[[T | None, T | None], None]
    ) -> None:
        self._parse = parse
        self._changed = changed
        self._items: dict[Key, T] = {}
        self._versions: dict[Key, tuple[str, int]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        #: Version that an object of a name had when it went: what is older is an earlier one of that name.
        self._went: OrderedDict[Key, int] = OrderedDict()
        #: Version of the last complete list: what is older and was not in it is gone, known or not.
        self._listed = -1

    def __len__(self) -> int:
        return len(self._items)

    def get(self, namespace: str, name: str) -> T | None:
        """The object, if it is known."""
        return self._items.get((namespace, name))

    def values(self) -> ValuesView[T]:
        """All objects."""
        return self._items.values()

    def put(self, document: Document) -> bool:
        """Take over an object unless something newer is known; True when it was taken over."""
        metadata = document["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        uid, version = metadata.get("uid", ""), int(metadata.get("resourceVersion") or 0)
        known = self._versions.get(key)
        least = max(self._listed, self._went.get(key, -1)) if known is None else known[1]
        if uid in self._gone or version <= least:
            return False
        if known is not None and known[0] != uid:
            # Deleted and made again, though we were not told of the first half yet.
            self._bury(known[0])
        self._versions[key] = (uid, version)
        self._replace(key, self._parse(document))
        return True

    def discard(self, document: Document) -> None:
        """The object has been deleted."""
        metadata = document["metadata"]
        self.forget(metadata.get("namespace", ""), metadata["name"], metadata.get("uid", ""))

    def forget(self, namespace: str, name: str, uid: str) -> None:
        """The object with this uid is gone; one of the same name and another uid stays."""
        self._bury(uid)
        key = (namespace, name)
        known = self._versions.get(key)
        if known is None or (uid and known[0] != uid):
            return
        del self._versions[key]
        self._went[key] = known[1]
        self._went.move_to_end(key)
        if len(self._went) > _TOMBSTONES:
            self._went.popitem(last=False)
        self._replace(key, None)

    def reset(self, documents: Iterable[Document], resource_version: str) -> int:
        """Take over a complete list: what is not in it and not newer than the list is gone.

        Returns how many objects the list had news of.
        """
        listed: set[Key] = set()
        news = 0
        self._listed = -1
        for document in documents:
            metadata = document["metadata"]
            listed.add((metadata.get("namespace", ""), metadata["name"]))
            news += self.put(document)
        limit = self._listed = int(resource_version or 0)
        for key, (uid, version) in list(self._versions.items()):
            if key not in listed and version <= limit:
                self.forget(*key, uid)
                news += 1
        return news

    def copy_to(self, other: Store[T]) -> None:
        """Fill an empty store of the same kind with what is known here; nothing is parsed again."""
        other._versions, other._listed = dict(self._versions), self._listed
        for key, item in self._items.items():
            other._replace(key, item)

    def seal(self) -> None:
        """Nothing changes any more: let go of who would be told, so that no cycle keeps a copy alive."""
        self._changed = _sealed

    def _bury(self, uid: str) -> None:
        """An object with this uid is gone for good."""
        if uid:
            self._gone[uid] = None
            if len(self._gone) > _TOMBSTONES:
                self._gone.popitem(last=False)

    def _replace(self, key: Key, new: T | None) -> None:
        old = self._items.pop(key, None)
        if new is not None:
            self._items[key] = new
        if old is not None or new is not None:
            self._changed(old, new)


def _sealed(_old: object, _new: object) -> None:
    raise RuntimeError("this store is a copy that was sealed, and cannot change")
