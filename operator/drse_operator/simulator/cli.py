"""``simulate``: commands that replay the past through the code that decides in a cluster."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from drse_operator.simulator.loop import Observer
from drse_operator.simulator.plot import Curves, draw
from drse_operator.simulator.policies.registry import POLICIES
from drse_operator.simulator.run import simulate as run_simulation
from drse_operator.simulator.scaling_command import scaling
from drse_operator.simulator.trace import TraceError, one_pool, read_jobs, read_nodes, with_estimates

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def simulate() -> None:
    """Replay the past: jobs through admission, loads through scaling."""


@simulate.command()
@click.option("--jobs", "jobs_file", type=_FILE, required=True, help="Trace of jobs, CSV or CSV.gz.")
@click.option("--nodes", "nodes_file", type=_FILE, help="Nodes of the cluster, CSV or CSV.gz.")
@click.option("--gpus", type=click.IntRange(1, 1_000_000), help="Instead of --nodes: one pool of GPUs.")
@click.option("--policy", type=click.Choice(list(POLICIES)), default="drse", show_default=True)
@click.option(
    "--estimates",
    type=click.Choice(["exact", "noisy", "learned"]),
    default="exact",
    show_default=True,
    help="What users state: the truth, the truth times a lognormal factor (sigma 1.5), or nothing.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the noise.")
@click.option("--eta", is_flag=True, help="Also measure how often 90 % ETAs hold (drse only; slower).")
@click.option("--plot", "plot_file", type=click.Path(dir_okay=False, path_type=Path), help="PNG to draw.")
@click.option("--output", type=click.Choice(["json", "text"]), default="text", show_default=True)
def trace(
    jobs_file: Path,
    nodes_file: Path | None,
    gpus: int | None,
    policy: str,
    estimates: str,
    seed: int,
    eta: bool,
    plot_file: Path | None,
    output: str,
) -> None:
    """Replay a trace of jobs under a policy and say how it went."""
    if (nodes_file is None) == (gpus is None):
        raise click.UsageError("give the cluster either by --nodes or by --gpus")
    if eta and policy != "drse":
        raise click.UsageError("--eta needs --policy drse: the other policies make no promise to measure")
    try:
        jobs = with_estimates(read_jobs(jobs_file), estimates, seed)
        nodes = read_nodes(nodes_file) if nodes_file is not None else one_pool(gpus or 0)
    except TraceError as error:
        raise click.ClickException(str(error)) from error
    curves = Curves()
    observers: tuple[Observer, ...] = () if plot_file is None else (curves,)
    measures, _ = run_simulation(jobs, nodes, policy, observers, eta=eta)
    if plot_file is not None:
        try:
            draw(curves, sum(node.capacity for node in nodes), f"{jobs_file.name}, {policy}", plot_file)
        except ImportError as error:
            raise click.ClickException("--plot needs matplotlib: pip install matplotlib") from error
    if output == "json":
        json.dump(asdict(measures), sys.stdout)
        click.echo()
        return
    for name, value in asdict(measures).items():
        click.echo(f"{name:24} {value:.4g}" if isinstance(value, float) else f"{name:24} {value}")


simulate.add_command(scaling)
