"""Names of others' jobs inside of sentences.

The operator's sentences name jobs as ``namespace/name``: whoever goes first, whoever GPUs were taken for. A
reader who may not see that namespace is told "another job". This looks at whole answers, so that no page and
no format can forget it.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_NAMED = re.compile(r"(?<![\w/.:-])([a-z0-9][a-z0-9-]*)/([a-z][a-z0-9-]*)(?![\w/])")


def conceal(text: str, hidden: Collection[str]) -> str:
    """The text without names of jobs in the ``hidden`` namespaces."""

    def replaced(found: re.Match[str]) -> str:
        return "another job" if found[1] in hidden else found[0]

    return _NAMED.sub(replaced, text) if hidden else text
