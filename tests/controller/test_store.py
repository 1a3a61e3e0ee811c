"""The cache never goes back in time, in whatever order watch, list and own writes arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from drse_operator.cluster.store import Store

Document = dict[str, Any]


@dataclass(frozen=True)
class Thing:
    """What the store keeps: nothing at all of things that are dull."""

    uid: str
    version: int


def parse(document: Document) -> Thing | None:
    metadata = document["metadata"]
    return None if document.get("dull") else Thing(metadata["uid"], int(metadata["resourceVersion"]))


def document(uid: str, version: int, *, dull: bool = False, name: str = "x") -> Document:
    return {"metadata": {"name": name, "uid": uid, "resourceVersion": str(version)}, "dull": dull}


class Changes:
    """Records what the store tells, and checks that each change begins where the last one ended."""

    def __init__(self) -> None:
        self.now: Thing | None = None
        self.count = 0

    def __call__(self, old: Thing | None, new: Thing | None) -> None:
        assert old == self.now
        assert (old, new) != (None, None)
        self.now, self.count = new, self.count + 1


def ignore(_old: Thing | None, _new: Thing | None) -> None:
    """For stores of several things."""


class OneName(RuleBasedStateMachine):
    """The life of whatever is called ``x``: made, changed, deleted, made again, and told late or twice."""

    told = Bundle("told")

    @initialize()
    def start(self) -> None:
        self.version = 0
        self.alive: Document | None = None
        self.generation = 0
        self.changes = Changes()
        self.store: Store[Thing] = Store(parse, self.changes)
        self.newest = 0
        self.buried: set[str] = set()

    @rule(target=told, dull=st.booleans())
    def written(self, dull: bool) -> Document:
        """The API server takes a write; what it answered may be told any time later."""
        self.version += 1
        if self.alive is None:
            self.generation += 1
        self.alive = document(f"uid-{self.generation}", self.version, dull=dull)
        return self.alive

    @rule()
    def deleted(self) -> None:
        self.version += 1
        self.alive = None

    @rule(one=told)
    def hears(self, one: Document) -> None:
        version = int(one["metadata"]["resourceVersion"])
        taken = self.store.put(one)
        assert not taken or version > self.newest
        if taken:
            self.newest = version

    @rule(one=told)
    def hears_that_it_is_gone(self, one: Document) -> None:
        uid = one["metadata"]["uid"]
        if self.alive is not None and self.alive["metadata"]["uid"] == uid:
            return  # it is not: nobody would say so
        self.store.discard(one)
        self.buried.add(uid)

    @rule()
    def lists(self) -> None:
        """A complete list as of now."""
        self.store.reset([] if self.alive is None else [self.alive], str(self.version))
        expected = None if self.alive is None else parse(self.alive)
        assert self.store.get("", "x") == expected
        self.newest = self.version if self.alive is None else int(self.alive["metadata"]["resourceVersion"])

    @invariant()
    def never_goes_back(self) -> None:
        if not hasattr(self, "store"):
            return
        kept = self.store.get("", "x")
        assert kept == self.changes.now
        if kept is not None:
            assert kept.uid not in self.buried
            assert kept.version == self.newest
        assert len(self.store) == len(list(self.store.values())) == (kept is not None)


TestOneName = OneName.TestCase


def make_store() -> tuple[Store[Thing], Changes]:
    changes = Changes()
    return Store(parse, changes), changes


def test_an_older_answer_changes_nothing() -> None:
    store, changes = make_store()
    assert store.put(document("a", 5))
    assert not store.put(document("a", 4))
    assert not store.put(document("a", 5))
    assert (changes.now, changes.count) == (Thing("a", 5), 1)


def test_what_was_deleted_does_not_come_back_late() -> None:
    store, changes = make_store()
    store.put(document("a", 5))
    store.discard(document("a", 6))
    assert not store.put(document("a", 5))
    assert changes.now is None


def test_a_late_word_about_the_first_does_not_replace_the_second_of_that_name() -> None:
    """Deleted and made again: our own create is answered before the watch tells of the deletion."""
    store, _ = make_store()
    store.put(document("a", 5))
    store.put(document("b", 9))
    assert not store.put(document("a", 7))
    store.discard(document("a", 8))
    assert store.get("", "x") == Thing("b", 9)
    store.discard(document("b", 10))
    assert not store.put(document("a", 7))


def test_a_list_removes_what_it_lacks_but_not_what_is_newer() -> None:
    store: Store[Thing] = Store(parse, ignore)
    for name, version in (("old", 3), ("kept", 4), ("newer", 9)):
        store.put(document(name, version, name=name))
    store.reset([document("kept", 4, name="kept")], "6")
    assert sorted(t.uid for t in store.values()) == ["kept", "newer"]


def test_what_a_list_lacked_does_not_come_back_late_though_it_was_never_known() -> None:
    store, _ = make_store()
    store.reset([], "6")
    assert not store.put(document("a", 5))
    assert store.put(document("b", 7))


def test_things_of_no_interest_are_followed_but_not_kept() -> None:
    store, changes = make_store()
    store.put(document("a", 1, dull=True))
    assert (len(store), changes.count) == (0, 0)
    store.put(document("a", 2))
    store.put(document("a", 3, dull=True))
    assert (len(store), changes.count) == (0, 2)
