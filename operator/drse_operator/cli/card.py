"""Facts under each other: a label to the left, the fact to its right, folded at the terminal's width."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import click

from drse_operator.cli.table import terminal_width


def card(lines: Sequence[tuple[str, str]], total: int | None = None) -> str:
    """The lines with their labels; a label that repeats is written once. ``total`` columns, the terminal's
    when left out."""
    width = max((len(label) for label, _ in lines), default=0)
    total = total or terminal_width()
    out: list[str] = []
    last = None
    for label, text in lines:
        shown = "" if label == last else label
        last = label
        folded = [text]
        if total is not None and len(click.unstyle(text)) > total - width - 2:
            folded = textwrap.wrap(text, max(40, total - width - 2), break_long_words=False) or [""]
        for i, part in enumerate(folded):
            out.append(f"{shown if i == 0 else '':<{width}}  {part}".rstrip())
    return "\n".join(out)
