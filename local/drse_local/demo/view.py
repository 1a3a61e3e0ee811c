"""The live view: one scene as text for a terminal of 80 columns or more.

What does not fit into the height is left out: all but the newest events, then whole sections, the chart
first. Colours only repeat what words say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from drse_local.demo.chart import chart
from drse_local.demo.documents import JobSeen
from drse_local.demo.load import expected_crossing
from drse_local.demo.scene import Scene, Service
from drse_operator.api.enums import DeviceSelection, Phase
from drse_operator.api.status import Assignment

_CHART_ROWS, _CHART_LINES = 8, 10
#: From this many columns on there is room for what kubectl also tells.
_WIDE = 120
_FEWEST_EVENTS, _MOST_EVENTS = 3, 10
_HINT_LINES = 3
_HEAD = "bold"
_PHASE_STYLES = {
    Phase.RUNNING: "green",
    Phase.SUCCEEDED: "green",
    Phase.STARTING: "cyan",
    Phase.QUEUED: "yellow",
    Phase.SUSPENDED: "yellow",
    Phase.FAILED: "red",
}


@dataclass(frozen=True, slots=True)
class _Section:
    """lines: height, with the empty line below it. rank: sections of higher rank are left out first."""

    content: RenderableType
    lines: int
    rank: int


def view(scene: Scene, width: int, height: int) -> RenderableType:
    """The whole screen: at most `height` lines (but never fewer than fifteen) of `width` cells."""
    sections = _sections(scene, width)
    room = height - _HINT_LINES - (2 + _FEWEST_EVENTS)
    while sum(section.lines for section in sections) > room and any(each.rank for each in sections):
        sections.remove(max(sections, key=lambda each: each.rank))
    left = height - _HINT_LINES - sum(section.lines for section in sections) - 2
    events = _events(scene, max(_FEWEST_EVENTS, min(_MOST_EVENTS, left)))
    shown = [part for section in sections for part in (section.content, Text())]
    return Group(*shown, events, Text(), *_hints(scene))


def _sections(scene: Scene, width: int) -> list[_Section]:
    gpus = _gpu_rows(scene.jobs)
    sections = [
        _Section(_headline(scene), 2, 0),
        _Section(_queues(scene), len(scene.queues) + 2, 2),
        _Section(_jobs(scene, width), len(scene.jobs) + 2, 0),
        _Section(_gpus(gpus), len(gpus) + 2, 3),
    ]
    if scene.service is not None:
        told = _service_lines(scene.service, scene.now)
        drawn = chart(scene.service, scene.now, width, _CHART_ROWS)
        sections.append(_Section(Group(*told), len(told) + 1, 1))
        sections.append(_Section(drawn, _CHART_LINES + 1, 4))
    return sections


def _headline(scene: Scene) -> Text:
    line = Text("DRSE demo ", "bold", no_wrap=True, overflow="ellipsis")
    line.append(f"{_clock(scene.elapsed)}   ", "bold cyan")
    line.append(f"{scene.nodes} nodes, {scene.gpus} GPUs, {scene.held} held, ")
    line.append(f"{scene.doubly_held} held twice", "bold red" if scene.doubly_held else "green")
    return line.append("   Ctrl-C stops all", "dim")


def _queues(scene: Scene) -> Table:
    table = _table("QUEUE", "WEIGHT", "GUARANTEED", "LIMIT", "HELD", "JOBS RUNNING", "WAITING")
    for queue in scene.queues:
        jobs = [job for job in scene.jobs if job.spec.queue == queue.name and not job.finished]
        table.add_row(
            queue.name,
            str(queue.spec.weight),
            str(queue.spec.guaranteed),
            "-" if queue.spec.limit is None else str(queue.spec.limit),
            str(sum(job.status.gpus for job in jobs)),
            str(sum(bool(job.status.assignments) for job in jobs)),
            str(sum(not job.status.assignments for job in jobs)),
        )
    return table


def _jobs(scene: Scene, width: int) -> Table:
    kind = ("TYPE",) if width >= _WIDE else ()
    table = _table("JOB", "QUEUE", *kind, "STATE", "GPUS", "READY", last="WHY")
    for job in scene.jobs:
        phase = job.status.phase
        state = Text(phase or "New", _PHASE_STYLES.get(phase, "") if phase else "")
        name = f"{job.key.namespace}/{job.key.name}"
        gpus, ready = (str(job.status.gpus), job.status.ready) if job.status.assignments else ("-", "-")
        task = (job.spec.task_type,) if kind else ()
        table.add_row(name, job.spec.queue, *task, state, gpus, ready, _why(job))
    return table


def _why(job: JobSeen) -> Text:
    """The one thing worth knowing about a job now."""
    status = job.status
    if status.queue is not None and not status.assignments and not job.finished:
        return Text(f"{status.queue.reason}: ", "yellow").append(status.queue.message, "default")
    if job.scales and status.scaling is not None:
        return Text(status.scaling.message)
    told = {condition.type: condition.message for condition in status.conditions}
    return Text(told.get("Complete" if job.finished else "Admitted", ""))


def _gpu_rows(jobs: Iterable[JobSeen]) -> list[tuple[str, str, str, str]]:
    """Job, node, product and devices, one row for each job on each node."""
    held: defaultdict[tuple[str, str, str], list[Assignment]] = defaultdict(list)
    for job in jobs:
        for each in job.status.assignments:
            held[job.key.name, each.node, each.product].append(each)
    return [(job, node, _short_product(kind), _devices(group)) for (job, node, kind), group in held.items()]


def _devices(assignments: list[Assignment]) -> str:
    if any(each.device_selection is DeviceSelection.COUNT_ONLY for each in assignments):
        return f"{sum(each.count for each in assignments)}, picked by the node's device plugin"
    return " ".join(_short_uuid(device.uuid) for each in assignments for device in each.devices)


def _gpus(rows: list[tuple[str, str, str, str]]) -> Table:
    table = _table("HOLDER", "NODE", "PRODUCT", last="GPUS BY UUID")
    for row in rows:
        table.add_row(*row)
    return table


def _service_lines(service: Service, now: float) -> list[Text]:
    lines = [_load_line(service), _forecast_line(service), _replica_line(service, now)]
    if service.first is not None:
        lines.append(_first_line(service, now))
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines


def _load_line(service: Service) -> Text:
    line = Text(str(service.job.key), _HEAD).append("   load now ", "default")
    if service.load is None:
        return line.append("not measured yet", "yellow")
    line.append(f"{service.load:.1f}", "bold cyan")
    held = service.job.status.gpus
    return line.append(
        f" of {held} GPUs ({service.load / held:.0%})" if held else " GPU-equivalents", "default"
    )


def _forecast_line(service: Service) -> Text:
    forecast = service.forecast
    if forecast is None:
        return Text("forecast: the forecaster knows nothing of it yet", "yellow")
    point = forecast.at(10)
    if not forecast.ready or point is None:
        return Text(f"forecast: {forecast.reason}", "yellow")
    line = Text("in 10 min ").append(f"P50 {point.p50:.1f}  P90 {point.p90:.1f}", "bold blue")
    line.append(f"   says {forecast.model}", "default")
    if forecast.skill is not None:
        line.append(f", its error {forecast.skill:.2f} of the last value's", "default")
    if forecast.coverage is not None:
        line.append(f", P90 kept {forecast.coverage:.0%}", "default")
    return line


def _replica_line(service: Service, now: float) -> Text:
    job = service.job
    line = Text(f"replicas wanted {job.wanted_replicas}, granted {service.granted_replicas}, ")
    line.append(f"ready {job.status.ready_replicas}")
    line.append(f"   grows above {service.threshold:.1f} GPUs", "yellow")
    if service.forecast is None or service.load is None:
        return line
    when = expected_crossing(service.forecast, service.threshold)
    if service.load > service.threshold:
        return line.append(", and the load is there", "default")
    return line.append(
        ", not expected within the horizon" if when is None else f", load there in {_clock(when - now)}",
        "default",
    )


def _first_line(service: Service, now: float) -> Text:
    first = service.first
    assert first is not None
    decision = first.decision
    line = Text("grew ", "bold green").append(f"{decision.before} → {decision.after} ", "bold green")
    line.append(f"at {_time(decision.at)}", "default")
    if first.load is not None:
        line.append(f" with load {first.load:.1f} of {decision.capacity} GPUs", "default")
    if first.lead is not None:
        return line.append(f", {_clock(first.lead)} before it passed {decision.threshold:.1f}", "bold green")
    when = expected_crossing(service.forecast, decision.threshold) if service.forecast else None
    if when is None:
        return line
    return line.append(f"; it passes {decision.threshold:.1f} in about {_clock(when - now)}", "bold yellow")


def _events(scene: Scene, rows: int) -> Table:
    table = _table("TIME", "JOB", "DECISION", last="WITH")
    for event in scene.events[-rows:]:
        style = "yellow" if event.warning else "default"
        table.add_row(_time(event.at), event.job, Text(event.reason, style), event.note)
    return table


def _hints(scene: Scene) -> list[Text]:
    service = scene.service
    if scene.shows_everything:
        text = "Seen: all that fits runs, the rest says why, and the service grew before its load came."
    elif service is None or service.first is None:
        text = "Look at: the forecast. It rises before the load does; then wanted replicas rise."
    elif service.first.crossed_at is None:
        text = (
            "Look at: GPUs held (━) stepped up while the load (█) is still low; it arrives at the countdown."
        )
    else:
        text = "Look at: the load has arrived, on GPUs that were ready for it."
    look = f"export KUBECONFIG={scene.kubeconfig}; kubectl get dsj -A"
    return [Text(line, "italic dim", no_wrap=True, overflow="ellipsis") for line in (text, look)]


def _table(*columns: str, last: str | None = None) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style=_HEAD, expand=last is not None)
    for column in columns:
        table.add_column(column, no_wrap=True)
    if last is not None:
        table.add_column(last, no_wrap=True, overflow="ellipsis", ratio=1)
    return table


def _short_uuid(uuid: str) -> str:
    return uuid.removeprefix("GPU-")[:4]


def _short_product(product: str) -> str:
    return product.replace("-", " ").removeprefix("NVIDIA ").removesuffix(" HBM3")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02}"


def _time(epoch: float) -> str:
    return datetime.fromtimestamp(epoch).strftime("%H:%M:%S")
