"""``drse completion``, and the hidden command that kubectl's completion calls.

kubectl completes a plugin by running an executable named ``kubectl_complete-NAME`` with the words typed so
far; it prints one candidate a line, and at last a number that says what the shell may add (the protocol of
spf13/cobra).
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.shell_completion import ShellComplete, get_completion_class

#: The shell completes no file names (cobra's ShellCompDirectiveNoFileComp).
_NO_FILES = 4
_SCRIPT = """#!/bin/sh
exec kubectl drse __complete "$@"
"""
_SCRIPT_NAME = "kubectl_complete-drse"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish", "kubectl"]))
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"For kubectl: folder on PATH to write {_SCRIPT_NAME} into; printed when left out.",
)
def completion(shell: str, directory: Path | None) -> None:
    """Print the completion script for SHELL.

    \b
    bash:     source <(drse completion bash)
    zsh:      source <(drse completion zsh)
    fish:     drse completion fish | source
    kubectl:  drse completion kubectl --directory ~/.local/bin
    """
    if shell == "kubectl":
        _for_kubectl(directory)
        return
    if directory is not None:
        raise click.UsageError("--directory is for kubectl; redirect the output of the others")
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(_cli(), {}, "drse", "_DRSE_COMPLETE").source())


def _for_kubectl(directory: Path | None) -> None:
    if directory is None:
        click.echo(_SCRIPT, nl=False)
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / _SCRIPT_NAME
        file.write_text(_SCRIPT, encoding="utf-8")
        file.chmod(0o755)
    except OSError as error:
        raise click.ClickException(f"{_SCRIPT_NAME} cannot be written: {error}") from error
    click.echo(f"wrote {file}")


@click.command(
    hidden=True,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def complete(words: tuple[str, ...]) -> None:
    """Candidates for the last of WORDS, as kubectl asks for them."""
    *before, last = words or ("",)
    completer = ShellComplete(_cli(), {}, "drse", "_DRSE_COMPLETE")
    for item in completer.get_completions(list(before), last):
        click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    click.echo(f":{_NO_FILES}")
    sys.stdout.flush()


def _cli() -> click.Command:
    from drse_operator.cli.main import cli

    return cli
