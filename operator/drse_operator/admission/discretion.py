"""Who may read which names: sentences about several jobs, without those that the reader may not know.

A job's status and events are read by whoever may read its namespace. They name jobs of that namespace only;
others are told of as "a job of queue X", with their numbers. The plan itself and the journal, which
administrators read, keep all names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from drse_operator.admission.decisions import Mention, Release, Wait
from drse_operator.api.keys import JobKey


def discreet(message: str, mentions: Iterable[Mention], may_name: Callable[[JobKey], bool]) -> str:
    """The sentence, in which jobs ``mentions`` says it names are named only to who may know them."""
    for mention in mentions:
        if not may_name(mention.key):
            instead = f"a job of queue {mention.queue}" if mention.queue else "a job of another namespace"
            name = rf"(?<![\w./-]){re.escape(str(mention.key))}(?![\w/-]|\.\w)"
            message = re.sub(name, instead, message)
    return message


def wait_for_owner(wait: Wait) -> Wait:
    """A wait as the job's own status and events tell it."""
    own = _within(wait.key.namespace)
    told = wait.told
    if told is not None and told.moved is not None:
        moved = replace(told.moved, message=discreet(told.moved.message, told.moved.mentions, own))
        told = replace(told, moved=moved)
    return replace(wait, message=discreet(wait.message, wait.mentions, own), told=told)


def release_for_owner(release: Release) -> Release:
    """A release as the status and events of the job that loses GPUs tell it."""
    own = _within(release.key.namespace)
    return replace(release, message=discreet(release.message, release.mentions, own))


def for_reader_of(namespace: str, message: str, *mentions: Mention) -> str:
    """A sentence for an event on a job of a namespace."""
    return discreet(message, mentions, _within(namespace))


def _within(namespace: str) -> Callable[[JobKey], bool]:
    return lambda key: key.namespace == namespace
