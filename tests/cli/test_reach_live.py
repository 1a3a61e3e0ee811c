"""Lasting ways to the cluster: a port forwarded to the console, a dashboard that outlives the API server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
import httpx
import pytest
import yaml
from textual.widgets import DataTable, Static

from drse_local import forwards
from drse_local.apiclient import connect as connect_local
from drse_operator.cli.access import Access
from drse_operator.cli.connect import connect
from drse_operator.cli.dash.app import Ask, Dash
from drse_operator.cli.dash.look import Sources, look
from drse_operator.cli.forwarding import PodPort, forwarded
from drse_operator.cluster import kinds
from tests.cli.conftest import Drse
from tests.operator.harness import Cluster, eventually, free_port

pytestmark = pytest.mark.cluster

NAMESPACE = "drse-system"
LABELS = {"app.kubernetes.io/part-of": "drse", "app.kubernetes.io/component": "console"}


class _Page(BaseHTTPRequestHandler):
    #: What /wait waits for.
    over = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/wait":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            self.over.wait(60)
            return
        body = b"x" * 300_000 if self.path == "/large" else b"ok"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def console(cluster: Cluster) -> Iterator[int]:
    """A simulated pod whose port leads to a server of this process; yields the port of its Service."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = free_port()
    container = {
        "name": "console",
        "image": "registry.example/console:1",
        "ports": [{"name": "http", "containerPort": 8085}],
    }
    cluster.create(
        kinds.POD,
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "console-0", "namespace": NAMESPACE, "labels": LABELS},
            "spec": {"containers": [container]},
        },
    )
    ports = [{"name": "http", "port": port, "targetPort": "http"}]
    cluster.create(
        kinds.SERVICE,
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "drse-console", "namespace": NAMESPACE, "labels": LABELS},
            "spec": {"selector": LABELS, "ports": ports},
        },
    )
    cluster.call(_lead(cluster.threaded.kubeconfig, server.server_address[1]))
    eventually(lambda: _ready(cluster), bool, 60)
    yield port
    cluster.delete(kinds.POD, "console-0", NAMESPACE, grace=0)
    cluster.delete(kinds.SERVICE, "drse-console", NAMESPACE)
    server.shutdown()


async def _lead(kubeconfig: Path, port: int) -> None:
    async with connect_local(kubeconfig) as api:
        await forwards.forward(api, NAMESPACE, "console-0", 8085, port)


def _ready(cluster: Cluster) -> bool:
    pod = cluster.get(kinds.POD, "console-0", NAMESPACE) or {}
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def test_the_console_is_reached_through_the_api_server(cluster: Cluster, console: int) -> None:
    program = "from drse_operator.cli.main import cli; cli(['console'])"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "KUBECONFIG": str(cluster.threaded.kubeconfig)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[1]
        assert url == f"http://127.0.0.1:{console}/"
        assert (
            "kubectl create token default -n drse-system"
            in process.stdout.readline() + process.stdout.readline()
        )
        with httpx.Client(trust_env=False, timeout=30) as http:
            for _ in range(3):
                assert http.get(url).text == "ok"
            assert len(http.get(f"{url}large").content) == 300_000
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


async def test_who_hangs_up_while_waiting_is_let_go(
    cluster: Cluster, console: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunnels: list[aiohttp.ClientWebSocketResponse] = []
    async with connect(Access(str(cluster.threaded.kubeconfig), None, None, NAMESPACE)) as session:
        open_websocket = session.api.open_websocket

        async def kept(path: str, query: Mapping[str, str], protocol: str) -> aiohttp.ClientWebSocketResponse:
            tunnels.append(await open_websocket(path, query, protocol))
            return tunnels[-1]

        monkeypatch.setattr(session.api, "open_websocket", kept)
        said: list[str] = []
        target = PodPort(NAMESPACE, "console-0", 8085)
        async with forwarded(session.api, target, console, said.append) as port:
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET /wait HTTP/1.1\r\n\r\n")
                assert await asyncio.to_thread(client.recv, 4) == b"HTTP"
                # As a program that is killed: nobody waits for an answer any more.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            async with asyncio.timeout(30):
                while not tunnels[0].closed:
                    await asyncio.sleep(0.05)
            _Page.over.set()
    assert said == []


def test_without_a_console_it_says_how_to_get_one(drse: Drse) -> None:
    said = drse("console", "--drse-namespace", "default")
    assert said.code == 1 and "--set console.enabled=true" in said.err


# -- the dashboard ---------------------------------------------------------------------------------------


class _Relay:
    """A loopback port that leads to the API server, until it is cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = free_port()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._target)
        for source, sink in ((reader, there[1]), (there[0], writer)):
            task = asyncio.create_task(_pump(source, sink))
            self._tasks.add(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.fixture
def relayed(cluster: Cluster, tmp_path: Path) -> tuple[_Relay, Access]:
    """A relay to the API server, and a kubeconfig that goes through it."""
    config = yaml.safe_load(Path(cluster.threaded.kubeconfig).read_text())
    server = config["clusters"][0]["cluster"]
    relay = _Relay(int(server["server"].rpartition(":")[2]))
    server["server"] = f"https://127.0.0.1:{relay.port}"
    kubeconfig = tmp_path / "relayed"
    kubeconfig.write_text(yaml.safe_dump(config))
    return relay, Access(str(kubeconfig), None, None, NAMESPACE)


async def test_the_dashboard_outlives_the_api_server(relayed: tuple[_Relay, Access]) -> None:
    relay, access = relayed

    @asynccontextmanager
    async def opened() -> AsyncIterator[Ask]:
        async with connect(access) as session:
            yield partial(look, session, Sources(NAMESPACE))

    await relay.open()
    async with opened() as ask:
        first = await ask()
    app = Dash(first, opened, 0.2)
    async with app.run_test(size=(140, 40)) as pilot:

        async def status(check: bool) -> str:
            """The status line once trouble is told, or not told any more."""
            shown = app.query_one("#status", Static)
            for _ in range(1200):
                if shown.has_class("trouble") is check:
                    break
                await pilot.pause(0.05)
            assert shown.has_class("trouble") is check
            return str(shown.render())

        await pilot.press("3")
        devices = app.query_one("#gpus", DataTable).row_count
        assert devices > 8
        await relay.cut()
        assert "does not answer" in await status(True)
        assert app.query_one("#gpus", DataTable).row_count == devices
        await relay.open()
        await pilot.press("r")
        assert "does not answer" not in await status(False)
    await relay.cut()
