"""The entry point: one program under two names, with commands that are imported when they are called."""

from __future__ import annotations

import os
import sys

import click

from drse_operator.cli.access import access_options, remember_access
from drse_operator.cli.lazy import LazyGroup

COMMANDS = {
    "submit": ("drse_operator.cli.commands.submit:submit", "Create jobs, and say what becomes of them."),
    "queue": ("drse_operator.cli.commands.queue:queue", "Who waits, why, and until when."),
    "why": ("drse_operator.cli.commands.why:why", "Why a job waits, and what would let it start."),
    "gpus": ("drse_operator.cli.commands.gpus:gpus", "Which job holds which GPU."),
    "nodes": ("drse_operator.cli.commands.gpus:nodes", "What each node has and what is free."),
    "share": ("drse_operator.cli.commands.share:share", "What each queue holds against what it is due."),
    "prio": ("drse_operator.cli.commands.share:prio", "By which numbers a job is ordered."),
    "forecast": ("drse_operator.cli.commands.forecast:forecast", "Load, forecast, and what scaling does."),
    "decisions": ("drse_operator.cli.commands.decisions:decisions", "What was decided, with the numbers."),
    "whatif": ("drse_operator.cli.commands.whatif:whatif", "What would happen if; nothing is created."),
    "report": ("drse_operator.cli.commands.report:report", "GPU-hours by queue, user, model, ..."),
    "hold": ("drse_operator.cli.commands.change:hold", "Free a job's GPUs and keep it from queueing."),
    "release": ("drse_operator.cli.commands.change:release", "Let a held job queue again."),
    "requeue": ("drse_operator.cli.commands.change:requeue", "Send a job back to the end of its queue."),
    "bump": ("drse_operator.cli.commands.bump:bump", "Raise a job in its queue, by its priority."),
    "cordon": ("drse_operator.cli.commands.cordon:cordon", "Let no waiting job of a queue start."),
    "uncordon": ("drse_operator.cli.commands.cordon:uncordon", "Let a cordoned queue go on."),
    "top": ("drse_operator.cli.commands.top:top", "The cluster, live."),
    "dash": ("drse_operator.cli.commands.dash:dash", "The cluster on the whole terminal, with keys."),
    "console": (
        "drse_operator.cli.commands.console:console",
        "The web pages: their address, or a port forwarded to them.",
    ),
    "doctor": (
        "drse_operator.cli.commands.doctor:doctor",
        "Is DRSE healthy? What is not, and what to do.",
    ),
    "simulate": ("drse_operator.simulator.cli:simulate", "Replay the past through the admission engine."),
    "completion": (
        "drse_operator.cli.commands.completion:completion",
        "Completion for the shell, and for kubectl drse.",
    ),
    "version": ("drse_operator.cli.commands.version:version", "Versions of the client and of the cluster."),
}
#: Commands that kubectl's completion calls; nobody types them.
HIDDEN = {"__complete": "drse_operator.cli.commands.completion:complete"}


@click.command(
    cls=LazyGroup,
    commands_by_name=COMMANDS,
    hidden_by_name=HIDDEN,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@access_options
def cli(**access: str | None) -> None:
    """GPUs for everyone, fairly: who holds them, who waits, why, and until when.

    Reads the cluster with your own kubeconfig and rights. Exit status: 0 all right, 1 an error, 2 wrong
    usage, 3 the job would not run.
    """
    remember_access(access)


def main() -> None:
    """Run as ``drse``, or as ``kubectl drse`` when called as the plugin."""
    called = os.path.basename(sys.argv[0])
    cli(prog_name="kubectl drse" if called.startswith("kubectl-") else "drse")


if __name__ == "__main__":
    main()
