"""What a what-if is asked about, from files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drse_operator.observe.views.changes import (
    ChangeError,
    job_change,
    parse_changes,
    parse_documents,
    settings,
)
from drse_operator.observe.views.fork import Change

__all__ = ["ChangeError", "job_change", "read_changes", "read_documents", "settings"]


def read_documents(file: Path) -> list[dict[str, Any]]:
    """DeepSeekJobs and GPUQueues in a YAML file (``-`` is stdin). Raises ChangeError."""
    return parse_documents(_text(file), str(file))


def read_changes(file: Path, namespace: str) -> Iterator[Change]:
    """The objects of a file as changes. Raises ChangeError with what the API server would refuse."""
    return parse_changes(_text(file), str(file), namespace)


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ChangeError(f"{file} cannot be read: {error}") from error
