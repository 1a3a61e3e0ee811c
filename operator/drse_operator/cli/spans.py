"""Spans of time on the command line."""

from __future__ import annotations

import re

import click

_SPAN = re.compile(r"^-?([0-9]+)([smhd])$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Span(click.ParamType[float]):
    """A time ago, such as 30m, 12h or 7d (a leading minus is allowed); in seconds."""

    name = "span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds of the text."""
        if isinstance(value, int | float):
            return float(value)
        found = _SPAN.match(str(value))
        if found is None:
            self.fail(f"{value} is not a span of time: write 30m, 12h or 7d", param, ctx)
        return float(found.group(1)) * _SECONDS[found.group(2)]
