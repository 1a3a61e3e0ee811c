"""What `drse-local demo` prints, and how it exits."""

from __future__ import annotations

import asyncio
import sys

import click
from rich.console import Console

from drse_local.demo.progress import Progress
from drse_local.demo.screen import Screen
from drse_local.demo.session import Demo, Options, Outcome


def run_demo(options: Options, json: bool) -> int:
    """Run it and print what came out. Returns the exit status."""
    console = Console()
    screen = None if json or not console.is_terminal else Screen(console)
    outcome = asyncio.run(Demo(options, Progress(), screen).run())
    _explain(outcome, options)
    if json:
        click.echo(outcome.result.model_dump_json())
    else:
        for name, value in outcome.result:
            click.echo(f"{name.replace('_', ' '):48} {'not known' if value is None else value}")
    return _status(outcome, options)


def _explain(outcome: Outcome, options: Options) -> None:
    if outcome.stopped and options.once:
        print("Failed: stopped before everything had been seen.", file=sys.stderr)
    for failure in outcome.failures:
        print(f"Failed: {failure.message}", file=sys.stderr)
    for name, text in outcome.logs.items():
        print(f"The end of the log of {name}:\n{text or '(empty)'}", file=sys.stderr, flush=True)


def _status(outcome: Outcome, options: Options) -> int:
    """Unattended, all conditions count. A person may stop at any time, but two holders are never right."""
    if outcome.failures or outcome.result.double_assignments:
        return 1
    return 1 if options.once and outcome.stopped else 0
