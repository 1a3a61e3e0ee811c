"""A click group that imports a command when it is called, and none of them for its own help."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem


class LazyGroup(click.Group):
    """``commands_by_name`` maps a command's name to ("module:attribute", one line of help)."""

    def __init__(
        self,
        *args: Any,
        commands_by_name: Mapping[str, tuple[str, str]],
        hidden_by_name: Mapping[str, str],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._by_name = commands_by_name
        self._hidden = hidden_by_name

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the map, which is that of a person's questions."""
        return list(self._by_name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        place = self._by_name[cmd_name][0] if cmd_name in self._by_name else self._hidden.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands with their lines of help, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._by_name.items()])

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Names of commands, without importing them."""

        return [
            CompletionItem(name, help=text)
            for name, (_, text) in self._by_name.items()
            if name.startswith(incomplete)
        ]
