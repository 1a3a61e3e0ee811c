"""The command `drse-local`: parse, wire, print."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click

from drse_local.binaries import ensure_binaries
from drse_local.errors import LocalClusterError
from drse_local.instance import DEFAULT_NAME, Instance, InstanceRecord, components_of
from drse_local.processes import tail
from drse_local.tools import CLIENT_TOOLS, CONTROL_PLANE_TOOLS, PROMETHEUS_TOOLS

_STOP_SECONDS = 60.0
_RELEASE_SECONDS = 120.0
_START_SECONDS = 45 * 60.0
_POLL_SECONDS = 0.2

name_option = click.option(
    "--name", default=None, help="Name of the instance. A named one keeps its data between runs."
)


class _Group(click.Group):
    """Shows expected errors as one message, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except LocalClusterError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A Kubernetes control plane with simulated GPU nodes, on this machine.

    etcd, kube-apiserver, kube-controller-manager, kube-scheduler and Prometheus are the real programs; only
    nodes and the GPUs on them are simulated. Nothing listens outside of loopback and nothing needs root or
    containers.

    \b
    drse-local up                      start, print how to reach it, run until Ctrl-C
    drse-local up --name dev --detach  start one that keeps its data, in the background
    drse-local status --name dev
    drse-local down --name dev
    drse-local demo                    everything at once, with something to look at

    DRSE is installed on it as on any cluster, by helm; real processes stand in for the pods of the release,
    and Prometheus answers them as http://prometheus-operated.monitoring.svc:9090.

    The first start builds the programs with Go, which takes minutes; they are then kept in ~/.cache/drse. Set
    DRSE_LOCAL_BIN to a folder that has them to use those instead.
    """


@cli.command()
@click.option("--fleet", default="default", show_default=True, help="Fleet file, or `default` or `small`.")
@name_option
@click.option("--no-prometheus", is_flag=True, help="Neither Prometheus nor GPU metrics.")
@click.option(
    "--scenario", type=click.Path(path_type=Path), help="Scenario file: the load of the jobs over time."
)
@click.option(
    "--rules", multiple=True, type=click.Path(path_type=Path), help="Prometheus rule file; repeatable."
)
@click.option("--detach", is_flag=True, help="Return once it is up; it runs until `drse-local down`.")
def up(
    fleet: str,
    name: str | None,
    no_prometheus: bool,
    scenario: Path | None,
    rules: tuple[Path, ...],
    detach: bool,
) -> None:
    """Start a cluster.

    Without --name its data lives in a temporary folder and goes when it stops. Several instances run side by
    side under different names; each has ports of its own.
    """
    instance = Instance(name or DEFAULT_NAME)
    if detach:
        _print_up(_start_detached(instance))
        return
    # Imported late: the Kubernetes client takes half a second, and no other command needs it.
    from drse_local.cluster import LocalCluster
    from drse_local.fleet import load_fleet
    from drse_local.foreground import run_until_stopped
    from drse_local.monitoring import MonitoringOptions
    from drse_local.scenario import Scenario, load_scenario
    from drse_local.standins import Running, Standins

    options = None
    if not no_prometheus:
        script = load_scenario(scenario) if scenario else Scenario()
        options = MonitoringOptions(script, tuple(str(each.resolve()) for each in rules))
    nodes = load_fleet(fleet)
    with instance.hold():
        last = instance.last_record() if name else None
        ports = last.ports if last else None
        cluster = LocalCluster(instance.data if name else None, nodes, options, ports)

        def on_up() -> None:
            record = InstanceRecord.of(cluster)
            instance.save(record)
            _print_up(record)
            click.echo("Ctrl-C stops it.")

        def publish(running: Running) -> None:
            update = {
                "programs": dict(running.urls),
                "deployments": dict(running.deployments),
                "components": components_of(cluster),
            }
            instance.save(instance.running().model_copy(update=update))

        standins = Standins(cluster, click.echo, publish)
        asyncio.run(run_until_stopped(cluster, on_up, standins.follow))


@cli.command()
@name_option
@click.option("--purge", is_flag=True, help="Also remove what a named instance has kept.")
def down(name: str | None, purge: bool) -> None:
    """Stop a cluster that runs in the background or in another terminal."""
    instance = Instance(name or DEFAULT_NAME)
    stopped = instance.stop(_STOP_SECONDS)
    click.echo(f"Instance {instance.name} is {'stopped' if stopped else 'not running'}.")
    if purge:
        shutil.rmtree(instance.folder, ignore_errors=True)


@cli.command()
@name_option
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def status(name: str | None, output: str) -> None:
    """Show a running cluster: address, programs, ports, logs. Exits 1 when it does not run."""
    record = Instance(name or DEFAULT_NAME).running()
    if output == "json":
        click.echo(record.model_dump_json(indent=2))
        return
    click.echo(
        f"{record.server}  {record.nodes} nodes, {record.gpus} GPUs, "
        f"up {time.time() - record.started_at:.0f} s"
    )
    click.echo(f"{'PROGRAM':26}{'PID':>8}{'PORT':>8}  LOG")
    for each in record.components:
        port = str(record.ports.get(each.name, ""))
        click.echo(f"{each.name:26}{each.pid:>8}{port:>8}  {each.log}")


@cli.command()
@name_option
@click.option(
    "--wait",
    is_flag=True,
    help="Until DRSE has been installed with helm, and programs run as its Deployments say now.",
)
def env(name: str | None, wait: bool) -> None:
    """Print what a shell needs to use a running cluster.

    \b
    eval "$(drse-local env)"
    """
    instance = Instance(name or DEFAULT_NAME)
    if wait:
        asyncio.run(_wait_for_release(instance))
    for variable, value in instance.running().exports().items():
        click.echo(f'export {variable}="{value}"')


@cli.command()
@name_option
@click.option("--content", is_flag=True, help="Print the file itself instead of its path.")
def kubeconfig(name: str | None, content: bool) -> None:
    """Print where the administrator's kubeconfig of a running cluster is."""
    path = Instance(name or DEFAULT_NAME).running().kubeconfig
    click.echo(path.read_text(encoding="utf-8") if content else str(path), nl=not content)


@cli.command()
@click.option("--once", is_flag=True, help="Unattended: stop once everything has been seen, or at --timeout.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the numbers are printed at the end; json prints one object as the last line.",
)
@click.option("--keep", is_flag=True, help="With --once: leave all running after that, until Ctrl-C.")
@click.option(
    "--timeout", type=click.FloatRange(30), default=345.0, show_default=True, help="Seconds, for --once."
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --once: write the live view as it stood at the end into this SVG file.",
)
@click.pass_context
def demo(
    ctx: click.Context, once: bool, output: str, keep: bool, timeout: float, picture: Path | None
) -> None:
    """Watch DRSE work: the examples, on real control plane programs, under a load that is about to rise.

    Starts a cluster with 104 simulated GPUs and a week of recorded load in Prometheus, installs the chart
    with helm, runs the real operator and forecaster, and applies manifests/examples. Two minutes in, the load
    of the chat service begins to rise fivefold; the forecaster has learnt from seven such mornings, and the
    service grows before the load is there.

    \b
    What to look at:
      QUEUE, JOB    who holds how many GPUs; who waits, with reason and numbers
      HOLDER        which GPUs, by UUID; no GPU is ever in two hands
      serving/chat  load, forecast, and the countdown to the load's arrival
      chart         the GPUs held step up before the load does

    With --once it exits 0 only if no GPU was ever assigned twice, every job that fits runs or has run, every
    other one says why it waits, and a service was scaled up while its load was below the threshold that it
    then crossed. All numbers come from the API server and from Prometheus.

    \b
    drse-local demo                         live view, until Ctrl-C
    drse-local demo --once --output json    unattended, about five minutes
    """
    if (keep or picture) and not once:
        raise click.UsageError("--keep and --picture go with --once; the live view runs until Ctrl-C anyway.")
    from drse_local.demo.command import run_demo
    from drse_local.demo.session import Options

    ctx.exit(run_demo(Options(once, keep, timeout, picture), output == "json"))


async def _wait_for_release(instance: Instance) -> None:
    """Until the Deployments of all releases are run as they are now, and there is one at least."""
    from drse_local.apiclient import connect
    from drse_local.standins import present

    deadline = time.monotonic() + _RELEASE_SECONDS
    async with connect(instance.running().kubeconfig) as api:
        while True:
            wanted = {name: n for each in await present(api) for name, n in each.deployments.items()}
            if wanted and wanted == instance.running().deployments:
                return
            if time.monotonic() > deadline:
                raise LocalClusterError(
                    f"No release runs on {instance.name} yet as it is installed: see helm list -A, and "
                    f"{instance.log}."
                )
            await asyncio.sleep(_POLL_SECONDS)


def _start_detached(instance: Instance) -> InstanceRecord:
    if instance.holder() is not None:
        raise instance.already_running()
    instance.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
    with instance.log.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "drse_local", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return _wait_up(instance, process)
    except BaseException:
        process.terminate()
        raise


@cli.command()
def binaries() -> None:
    """Build or fetch all programs now, so that later starts take seconds; print where they are."""
    names = (*CONTROL_PLANE_TOOLS, *CLIENT_TOOLS, *PROMETHEUS_TOOLS)
    found = ensure_binaries(names)
    for name in names:
        click.echo(f"{name:24} {found[name]}")


def _wait_up(instance: Instance, process: subprocess.Popen[bytes]) -> InstanceRecord:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        record = instance.last_record()
        if record is not None and record.pid == process.pid:
            return record
        if process.poll() is not None:
            raise LocalClusterError(f"Instance {instance.name} did not start:\n{tail(instance.log, 30)}")
        time.sleep(_POLL_SECONDS)
    raise LocalClusterError(f"Instance {instance.name} did not come up in time; see {instance.log}.")


def _print_up(record: InstanceRecord) -> None:
    click.echo(f"The cluster is up: {record.nodes} nodes, {record.gpus} GPUs. To use it from a shell:")
    for variable, value in record.exports().items():
        click.echo(f"  export {variable}={value}")


def main() -> None:
    """Entry point of `drse-local`."""
    cli(prog_name="drse-local")
