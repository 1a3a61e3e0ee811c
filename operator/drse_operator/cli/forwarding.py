"""A loopback port that leads to a port of a pod, through the API server, with the caller's own rights.

What ``kubectl port-forward`` does, over the WebSocket form of the same subresource: for each connection one
WebSocket, on which the server numbers two channels, data and errors, and opens each with the port's number.
(kubelet: portforward/websocket.go, protocol v4.channel.k8s.io.)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, ApiUnreachable, KubeApi

LOOPBACK = "127.0.0.1"
_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = b"\x00", b"\x01"
_CHUNK = 32 * 1024


@dataclass(frozen=True, slots=True)
class PodPort:
    """A port of a pod."""

    namespace: str
    pod: str
    port: int


@asynccontextmanager
async def forwarded(
    api: KubeApi, target: PodPort, port: int, say: Callable[[str], None]
) -> AsyncIterator[int]:
    """While open, a loopback port leads to the pod's: ``port``, or a free one where that is taken. Yields it.

    ``say`` is told why a connection could not be made.
    """

    open_: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_.add(task)
        task.add_done_callback(open_.discard)
        try:
            await _serve(api, target, reader, writer)
        except (ApiError, ApiUnreachable) as error:
            say(f"{target.namespace}/{target.pod} is not reached: {error}")
        except (ConnectionError, aiohttp.ClientError):
            pass  # one of the ends has hung up
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(serve, LOOPBACK, port)
    except OSError:
        server = await asyncio.start_server(serve, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        # A page that waits for news keeps its connection as long as it is let.
        for task in tuple(open_):
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)


async def _serve(
    api: KubeApi, target: PodPort, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One connection, until either end is through with it."""
    path = kinds.POD.path(target.namespace, target.pod, "portforward")
    socket = await api.open_websocket(path, {"ports": str(target.port)}, _PROTOCOL)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(socket.close)
        up = asyncio.create_task(_send(reader, socket))
        down = asyncio.create_task(_receive(socket, writer))
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            if up.done():
                up.result()  # raises where the client is gone: nobody waits for an answer
            # A client that has said all may still be waiting for one.
            await down
        finally:
            up.cancel()
            down.cancel()


async def _send(reader: asyncio.StreamReader, socket: aiohttp.ClientWebSocketResponse) -> None:
    while data := await reader.read(_CHUNK):
        try:
            await socket.send_bytes(_DATA + data)
        except (ConnectionError, aiohttp.ClientError):
            return  # the server has hung up, and what is received says why


async def _receive(socket: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter) -> None:
    opened: set[bytes] = set()
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.BINARY:
            continue
        channel, data = message.data[:1], message.data[1:]
        if channel not in opened:
            opened.add(channel)
            data = data[2:]
        if channel == _ERROR and data:
            raise ApiUnreachable(data.decode(errors="replace"))
        if channel == _DATA and data:
            writer.write(data)
            await writer.drain()
