"""The console over a constructed cluster: the real pages, server and browser side, no API server behind."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from drse_forecaster.contract import ForecastList, ForecastPoint, ForecastState, JobForecast
from drse_operator.api.keys import JobKey
from drse_operator.observe.console.access import Viewer
from drse_operator.observe.console.figures import Figures
from drse_operator.observe.console.look import Look, Series, Source, Surroundings
from drse_operator.observe.console.pages.job import EventRow
from drse_operator.observe.console.render import Renderer
from drse_operator.observe.console.stage import Stage
from drse_operator.observe.console.watch import draw
from drse_operator.observe.console.web import Web
from drse_operator.observe.http import Server
from drse_operator.observe.views.base import instant
from drse_operator.outside.alerts import Alert
from tests.console.stagehand import NOW, Cluster, measured

ADMINISTRATOR = Viewer("", None)


class OpenGate:
    """Lets in whoever it is told to."""

    def __init__(self, viewer: Viewer = ADMINISTRATOR) -> None:
        self.who = viewer

    async def viewer(self, request: HTTPConnection) -> Viewer:
        """Whoever that is."""
        return self.who


def surroundings(cluster: Cluster) -> Surroundings:
    """What Prometheus, the forecaster and the operator's books would say of a cluster."""
    use = measured(cluster)
    services = [j for j in cluster.world.all_jobs() if j.status.scaling is not None and j.status.assignments]
    loads, forecasts = {}, []
    for n, job in enumerate(services):
        now = float(job.status.scaling.load or 0) if job.status.scaling is not None else 0.0
        key = (job.key.namespace, job.key.name)
        loads[key] = Series(_minutes(120), {"Load": tuple(_wave(now, i, n) for i in range(-120, 1))})
        forecasts.append(_forecast(job.key, now, n))
    total = sum(row.count for row in cluster.picture.fleet.gpus)
    held = sum(a.count for j in cluster.world.all_jobs() for a in j.status.assignments)
    steps = range(289)
    lines = {
        "All": tuple(float(total) for _ in steps),
        "Held": tuple(
            min(total, held * (0.35 + 0.65 * math.tanh(i / 90)) + 3 * math.sin(i / 9)) for i in steps
        ),
        "Used": tuple(held * (0.22 + 0.42 * math.tanh(i / 90)) + 4 * math.sin(i / 5) for i in steps),
        "Waiting": tuple(max(0.0, (i - 120) / 3 + 8 * math.sin(i / 14)) for i in steps),
    }
    names = ("accounts", "lease", "prometheus", "forecaster")
    return Surroundings(
        sources=tuple(Source(name, f"http://{name}.example", answered=NOW - 4) for name in names),
        leader="drse-operator-7c9f",
        leader_renewed=NOW - 2,
        books=(("drse-decisions", "1"),),
        records=cluster.journal.latest,
        periods=cluster.accounts.periods,
        use=use,
        history=Series(tuple(NOW - 86_400 + 300 * i for i in steps), lines),
        loads=loads,
        forecasts=ForecastList(generated_at=datetime.fromtimestamp(NOW - 9, UTC), forecasts=tuple(forecasts)),
        alerts=(Alert("DRSEJobWaitsTooLong", "warning", "queue training"),),
        trends={
            name: Series(
                tuple(NOW - 300 * (72 - i) for i in range(73)), {name: tuple(at(i) for i in range(73))}
            )
            for name, at in (
                ("plan_p99_seconds", lambda i: 0.018 + 0.004 * math.sin(i / 5)),
                ("fairness_bound_used_ratio", lambda i: min(0.41, 0.1 + i / 200)),
            )
        },
        versions=("0.1.0",),
        metrics={
            "plan_p99_seconds": 0.018,
            "last_plan_age_seconds": 3.0,
            "double_assignments": 0.0,
            "assignment_mismatches": 0.0,
            "api_errors_per_hour": 1.0,
            "fairness_bound_used_ratio": 0.41,
            "eta_coverage_ratio": 0.91,
            "gpus_without_metrics": 0.0,
        },
    )


def _minutes(count: int) -> tuple[float, ...]:
    return tuple(NOW - 60 * (count - i) for i in range(count + 1))


def _wave(now: float, minute: int, shift: int) -> float:
    return max(
        0.0, now * (1 + 0.25 * math.sin((minute + 17 * shift) / 14) - 0.25 * math.sin(17 * shift / 14))
    )


def _forecast(key: JobKey, now: float, n: int) -> JobForecast:
    if n % 5 == 4:
        reason = "the newest sample is 9 minutes old: look at the exporter"
        return JobForecast(
            namespace=key.namespace, name=key.name, state=ForecastState.STALE, reason=reason, load=now
        )
    points = tuple(
        ForecastPoint(minutes=m, p50=_wave(now, m, n), p90=_wave(now, m, n) + 0.12 * now * math.sqrt(m))
        for m in (*range(1, 11), 15, 20, 30)
    )
    return JobForecast(
        namespace=key.namespace,
        name=key.name,
        state=ForecastState.READY,
        reason="it may be acted upon",
        as_of=datetime.fromtimestamp(NOW - 20, UTC),
        load=now,
        points=points,
        model="blend",
        skill=round(0.62 + 0.13 * (n % 4), 2),
        coverage=0.91,
        samples=2016,
        history_seconds=7 * 86_400,
    )


def look_of(cluster: Cluster, around: Surroundings | None = None, version: int = 1) -> Look:
    """A look at a constructed cluster."""
    look, _ = draw(cluster.world, cluster.picture, around or surroundings(cluster), NOW, version)
    return look


class Served:
    """The web application over a stage that tests set."""

    def __init__(self, cluster: Cluster, viewer: Viewer = ADMINISTRATOR) -> None:
        self.cluster = cluster
        self.stage = Stage()
        self.gate = OpenGate(viewer)
        self.age = 0.0
        self.around = surroundings(cluster)
        self._version = 0
        renderer = Renderer("lab", "0.1.0")
        self.web = Web(
            self.stage, self.gate, renderer, Figures("0.1.0"), self._events, lambda: None, lambda: self.age
        )
        self.show()

    def show(self) -> None:
        """A new look at the cluster as it is."""
        self._version += 1
        look, marks = draw(
            self.cluster.world, self.cluster.picture, self.around, self.cluster.now, self._version
        )
        look.seen_by(None).warm()
        self.stage.show(look, marks)

    async def _events(self, key: JobKey) -> tuple[EventRow, ...]:
        note = "WaitingForTurn: others go first, by priority and order in the queue"
        return (EventRow(at=instant(NOW - 240), reason="Waiting", note=note, warning=False),)

    def application(self) -> Starlette:
        """The application."""
        return self.web.application()


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Listening:
    """A web application on a loopback port, served by a thread of its own."""

    def __init__(self, app: Starlette, port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = Server(app, "127.0.0.1", self.port)
        self._server.config.timeout_graceful_shutdown = 1
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._server.serve())

    def __enter__(self) -> Listening:
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the server did not start")
            threading.Event().wait(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        """End it as the end of a process would: connections break."""

        def stop() -> None:
            self._server.should_exit = True
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()

        self.call(stop)
        self._thread.join(10)

    def call(self, work: Callable[[], None]) -> None:
        """Do something on the server's loop, where looks are shown."""
        done = threading.Event()

        def work_and_tell() -> None:
            try:
                work()
            finally:
                done.set()

        self._loop.call_soon_threadsafe(work_and_tell)
        if not done.wait(20):
            raise TimeoutError("the server's loop is stuck")
