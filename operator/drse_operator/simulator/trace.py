"""Reading traces of GPU jobs and descriptions of clusters.

A trace is a CSV file (``.gz`` or not) with a header; columns used are ``job_id, submit_s, duration_s, gpus,
group, task_type, priority, gpu_type`` (seconds; the last four may be empty or missing). A cluster file has
``node, gpus, gpu_type, gpu_mem_gib``.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from drse_operator.admission.snapshot import Node
from drse_operator.api.enums import DeviceSelection, Vendor
from drse_operator.sizing import accelerators
from drse_operator.sizing.shapes import AcceleratorKind

_GIB = 2**30
#: Words of a QoS class and the priority they stand for.
_QOS = {"LS": 2, "Guaranteed": 2, "Burstable": 1, "BE": 0}


class TraceError(ValueError):
    """A file cannot be replayed; the message says where and why."""


@dataclass(frozen=True, slots=True)
class TraceJob:
    """A job of a trace: seconds from the trace's start, whole GPUs, and the flow it belongs to.

    ``estimate`` is the duration that the user states (seconds); None leaves it to be learned.
    """

    uid: str
    submit: float
    duration: float
    gpus: int
    flow: str
    priority: int = 0
    gpu_type: str = ""
    estimate: float | None = None


def read_jobs(path: Path) -> list[TraceJob]:
    """The jobs of a trace by submission. Rows without GPUs or duration never ran and are left out."""
    jobs = []
    for line, row in _rows(path, ("job_id", "submit_s", "duration_s", "gpus")):
        try:
            submit, duration = float(row["submit_s"] or "nan"), float(row["duration_s"] or "nan")
            gpus = math.ceil(float(row["gpus"] or 0))
        except ValueError as error:
            raise TraceError(
                f"{path.name}, line {line}: {error}; submit_s, duration_s and gpus must be numbers"
            ) from error
        if not math.isfinite(submit) or not duration > 0 or not math.isfinite(duration) or gpus <= 0:
            continue
        flow = "/".join(filter(None, (row.get("group"), row.get("task_type")))) or "all"
        priority = row.get("priority") or ""
        number = _QOS.get(priority, int(priority) if priority.lstrip("-").isdigit() else 0)
        jobs.append(
            TraceJob(
                row["job_id"] or f"row-{line}",
                submit,
                duration,
                gpus,
                flow,
                number,
                row.get("gpu_type") or "",
            )
        )
    if not jobs:
        raise TraceError(f"{path.name} has no job with submit_s, duration_s and gpus: nothing to replay")
    if len({job.uid for job in jobs}) < len(jobs):
        raise TraceError(f"{path.name}: job_id must be unique")
    return sorted(jobs, key=lambda j: (j.submit, j.uid))


def read_nodes(path: Path) -> tuple[Node, ...]:
    """The nodes of a cluster file that have GPUs."""
    rows = []
    for line, row in _rows(path, ("node", "gpus")):
        try:
            gpus, memory = int(float(row["gpus"] or 0)), int(float(row.get("gpu_mem_gib") or 80))
        except ValueError as error:
            raise TraceError(
                f"{path.name}, line {line}: {error}; gpus and gpu_mem_gib must be numbers"
            ) from error
        if gpus > 0:
            rows.append((row["node"], gpus, row.get("gpu_type") or "GPU", memory))
    if not rows:
        raise TraceError(f"{path.name} has no node with GPUs")
    return _nodes(rows)


def one_pool(gpus: int) -> tuple[Node, ...]:
    """A cluster in which only the number of GPUs counts: one node that has them all."""
    return _nodes([("pool", gpus, "GPU", 80)])


def uniform(nodes: int, gpus: int) -> tuple[Node, ...]:
    """``nodes`` equal nodes."""
    return _nodes([(f"node-{i:05}", gpus, "GPU", 80) for i in range(nodes)])


def _nodes(rows: list[tuple[str, int, str, int]]) -> tuple[Node, ...]:
    kinds = {}
    for product, memory in {(product, memory) for _, _, product, memory in rows}:
        counts = [gpus for _, gpus, p, m in rows if (p, m) == (product, memory)]
        facts = accelerators.lookup(product)
        kinds[product, memory] = AcceleratorKind(
            vendor=Vendor.NVIDIA,
            product=product,
            memory=memory * _GIB,
            tflops=0 if facts is None else facts.tflops,
            max_per_node=max(counts),
            total=sum(counts),
        )
    return tuple(
        Node(name, kinds[product, memory], DeviceSelection.COUNT_ONLY, gpus, gpus, resource="nvidia.com/gpu")
        for name, gpus, product, memory in rows
    )


def with_estimates(jobs: Iterable[TraceJob], kind: str, seed: int, sigma: float = 1.5) -> list[TraceJob]:
    """The jobs with what their users say about duration.

    ``exact``: the truth; ``noisy``: the truth times a lognormal factor with median 1; ``learned``: nothing.
    """
    chance = Random(seed)
    made = []
    for job in jobs:
        estimate: float | None = job.duration
        if kind == "noisy":
            estimate = max(1.0, job.duration * chance.lognormvariate(0.0, sigma))
        elif kind == "learned":
            estimate = None
        made.append(
            TraceJob(
                job.uid, job.submit, job.duration, job.gpus, job.flow, job.priority, job.gpu_type, estimate
            )
        )
    return made


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise TraceError(f"{path} cannot be read: {error}") from error
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in needed if name not in (reader.fieldnames or ())]
    if missing:
        raise TraceError(f"{path.name} has no column {', '.join(missing)}: give it a header with these names")
    yield from enumerate(reader, start=2)
