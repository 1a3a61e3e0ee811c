"""``drse gpus`` and ``drse nodes``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

import click

from drse_operator.cli import wording
from drse_operator.cli.access import complete_nodes
from drse_operator.cli.answer import Sheet, answer
from drse_operator.cli.connect import Session
from drse_operator.cli.load import load_scene, shortcomings, where
from drse_operator.cli.output import Request, reading
from drse_operator.cli.prometheus import prometheus_option, utilisation
from drse_operator.cli.table import Column
from drse_operator.observe.views import gpus as view
from drse_operator.observe.views.conflicts import conflicts
from drse_operator.observe.views.gpus import GpuRow, GpuState
from drse_operator.observe.views.nodes import NodeRow
from drse_operator.observe.views.nodes import nodes as nodes_view
from drse_operator.outside.prometheus import PrometheusSettings

_STATE_COLOURS: Mapping[GpuState, str] = {GpuState.FREE: "green", GpuState.OUT_OF_SERVICE: "red"}


#: What a node publishes before the product's own name; device plugins put - or _ for spaces.
_MAKER = re.compile(r"^(NVIDIA|AMD[ _-]Instinct|AMD)[ _-]")


@click.command()
@click.option("--node", metavar="NODE", shell_complete=complete_nodes, help="Of one node.")
@click.option("--uuid", metavar="UUID", help="One GPU, by its UUID or a part of it.")
@click.option("--free", is_flag=True, help="Only GPUs that nobody holds.")
@click.option(
    "--conflicts",
    "twice",
    is_flag=True,
    help="Only GPUs promised to two jobs; status 1 if any is.",
)
@prometheus_option
@reading(selector=True)
def gpus(
    request: Request,
    node: str | None,
    uuid: str | None,
    free: bool,
    twice: bool,
    prometheus: PrometheusSettings | None,
) -> None:
    """Which job holds which GPU, since when, and until when.

    Of the whole cluster; -n and -l keep the GPUs of some jobs. Where a node's device plugin picks the GPUs,
    a row counts them by holder.
    """

    async def ask(session: Session) -> Sheet:
        use = await utilisation(prometheus)
        scene = await load_scene(session)
        if twice:
            report = conflicts(scene)
        else:
            report = view.gpus(scene, await where(session, request, scoped=False), node, free, use)
        if uuid is not None:
            found = tuple(row for row in report.items if row.uuid is not None and _is(row.uuid, uuid))
            if not found and not twice:
                raise click.ClickException(_no_gpu(uuid, scene.complete))
            report = report.model_copy(update={"items": found})
        names = [f"deepseekjob.drse.dev/{row.job}" for row in report.items if row.job is not None]
        return Sheet(
            report,
            report.items,
            columns(report.as_of, request.wide or uuid is not None, use is not None, twice),
            names=names,
            empty="no GPU is promised to two jobs" if twice else "no such GPU",
            notes=shortcomings(scene),
        )

    sheet = answer(request, ask)
    if twice and sheet.rows:
        raise click.exceptions.Exit(1)


def _is(uuid: str, stated: str) -> bool:
    """Whether a UUID is the one stated, in full or in part, with ``GPU-`` before it or without."""
    return stated.lower().removeprefix("gpu-") in uuid.lower()


def _no_gpu(uuid: str, complete: bool) -> str:
    among = "that the cluster publishes" if complete else "that your jobs hold"
    return f"no GPU {among} has {uuid} in its UUID: drse gpus -o wide lists them"


def columns(today: datetime, full: bool, measured: bool, detailed: bool = False) -> list[Column[GpuRow]]:
    """Columns of the GPUs; UTIL where it is measured, UUIDs in ``full``, DETAIL also where asked for."""
    return [
        Column("NODE", lambda r: r.node),
        Column("GPU", lambda r: r.gpu or f"{r.count} x"),
        Column("UUID", lambda r: wording.short_uuid(r.uuid, full)),
        Column("MODEL", lambda r: model(r.product)),
        Column("MEM", lambda r: wording.gib(r.memory_bytes), right=True, order=lambda r: r.memory_bytes),
        Column(
            "UTIL",
            lambda r: wording.percent(r.utilisation_ratio),
            right=True,
            wide=not measured,
            order=lambda r: r.utilisation_ratio,
        ),
        Column("STATE", lambda r: r.state, colour=lambda r: _STATE_COLOURS.get(r.state)),
        Column("JOB", lambda r: "-" if r.job is None else f"{r.namespace}/{r.job}"),
        Column("WORKER", lambda r: "-" if r.job is None else f"{r.replica}/{r.worker}", wide=True),
        Column("QUEUE", lambda r: r.queue or "-"),
        Column("SINCE", lambda r: wording.clock(r.since, today), order=lambda r: r.since),
        Column("FREE-AT", lambda r: wording.clock(r.free_at, today), order=lambda r: r.free_at),
        Column("DETAIL", lambda r: r.detail, wide=not detailed),
    ]


def model(product: str) -> str:
    """A product's name without its maker's."""
    return _MAKER.sub("", product)


@click.command()
@prometheus_option
@reading()
def nodes(request: Request, prometheus: PrometheusSettings | None) -> None:
    """What each node has, what is free there, and whether it takes work.

    RESERVED is how many of the free GPUs are kept for jobs that wait, LARGEST how many one worker of another
    job could be given there now: free, and not reserved.
    """

    async def ask(session: Session) -> Sheet:
        use = await utilisation(prometheus)
        scene = await load_scene(session)
        report = nodes_view(scene, use)
        return Sheet(
            report,
            report.items,
            node_columns(use is not None),
            names=[f"node/{row.node}" for row in report.items],
            empty="no node publishes GPUs: drse doctor looks for the cause",
            notes=shortcomings(scene),
        )

    answer(request, ask)


def node_columns(measured: bool) -> list[Column[NodeRow]]:
    """Columns of the nodes."""
    return [
        Column("NODE", lambda r: r.node),
        Column("MODEL", lambda r: model(r.product)),
        Column("GPUS", lambda r: str(r.gpus), right=True, order=lambda r: r.gpus),
        Column("FREE", lambda r: str(r.free), right=True, order=lambda r: r.free),
        Column("RESERVED", lambda r: str(r.reserved), right=True, order=lambda r: r.reserved),
        Column(
            "LARGEST",
            lambda r: str(r.largest_block_gpus),
            right=True,
            order=lambda r: r.largest_block_gpus,
        ),
        Column("HELD", lambda r: str(r.held), right=True, order=lambda r: r.held),
        Column(
            "HELD-IDLE",
            lambda r: wording.number(r.held_idle),
            right=True,
            wide=not measured,
            order=lambda r: r.held_idle,
        ),
        Column("FOREIGN", lambda r: str(r.foreign), right=True, order=lambda r: r.foreign),
        Column("OUT", lambda r: str(r.out_of_service), right=True, order=lambda r: r.out_of_service),
        Column("JOBS", lambda r: str(r.jobs), right=True, order=lambda r: r.jobs),
        Column("RACK", lambda r: r.rack or "-"),
        Column("ZONE", lambda r: r.zone or "-"),
        Column("NVLINK", lambda r: r.nvlink_domain or "-", wide=True),
        Column("STATE", lambda r: r.state, colour=lambda r: None if r.state == "Ready" else "red"),
    ]
