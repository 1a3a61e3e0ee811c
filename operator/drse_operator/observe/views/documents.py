"""YAML that somebody has written, read with care: as documents, or with a sentence that says what is wrong.

Text may come out of a link. An alias may stand for more aliases, so that a few lines mean billions of nodes
(the "billion laughs"); a document may hold itself; nesting may be deeper than Python's stack. Each is refused
before anything is made of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

#: Nodes of a document with all aliases written out: some hundred times what a job has.
_NODES = 50_000


class DocumentError(Exception):
    """It cannot be read; the message goes on from the name of what was read."""


def read_documents(text: str) -> list[Any]:
    """All documents that are not empty. Raises DocumentError."""
    try:
        return [document for document in _documents(text) if document is not None]
    except yaml.YAMLError as error:
        raise DocumentError(f"cannot be read as YAML: {error}") from error
    except RecursionError as error:
        raise DocumentError("is nested too deeply to be a job or a queue") from error
    except (ValueError, OverflowError, TypeError) as error:
        # A date that is none, a number of thousands of digits, a key that cannot be one.
        raise DocumentError(f"has a value that YAML cannot hold: {error}") from error


def read_value(text: str) -> Any:
    """One value, such as follows the = of a setting; None for nothing. Raises DocumentError."""
    found = read_documents(text)
    if len(found) > 1:
        raise DocumentError("holds several values: give one")
    return found[0] if found else None


def _documents(text: str) -> Iterator[Any]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None and _size(node, {}) > _NODES:
                raise DocumentError(f"holds more than {_NODES:,} values with its aliases written out")
            yield loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Nodes below and with this one, those behind aliases as often as they are named."""
    if id(node) in known:
        if not known[id(node)]:
            raise DocumentError("holds itself by an alias")
        return known[id(node)]
    known[id(node)] = 0
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = list(node.value)
    known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return known[id(node)]
