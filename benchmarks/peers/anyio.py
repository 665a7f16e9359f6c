"""anyio on asyncio, through its blocking portal, which runs the loop in a background thread."""

from __future__ import annotations

from typing import Any

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.from_thread import start_blocking_portal

from .common import CHUNK, Server, nothing, time_sleeps


async def echo(stream: SocketStream) -> None:
    async with stream:
        while True:
            try:
                data = await stream.receive(CHUNK)
            except anyio.EndOfStream:
                return
            await stream.send(data)


class Anyio:
    def __init__(self) -> None:
        self.context = start_blocking_portal("asyncio")
        self.portal = self.context.__enter__()

    def tcp_echo(self) -> Server:
        async def listen() -> Any:
            return await anyio.create_tcp_listener(local_host="127.0.0.1")

        listener = self.portal.call(listen)
        serving = self.portal.start_task_soon(listener.serve, echo)
        return listener.extra(SocketAttribute.local_port), serving.result

    def udp_echo(self) -> Server:
        async def serve(sock: anyio.abc.UDPSocket) -> None:
            async for data, (host, port) in sock:
                await sock.sendto(data, host, port)

        async def bind() -> anyio.abc.UDPSocket:
            return await anyio.create_udp_socket(local_host="127.0.0.1")

        sock = self.portal.call(bind)
        serving = self.portal.start_task_soon(serve, sock)
        return sock.extra(SocketAttribute.local_port), serving.result

    def spawn_and_join(self, count: int) -> None:
        start = self.portal.start_task_soon
        for future in [start(nothing) for _ in range(count)]:
            future.result()

    def round_trips(self, count: int) -> None:
        for _ in range(count):
            self.portal.call(nothing)

    def children(self, count: int, at_once: int) -> None:
        async def main() -> None:
            for _ in range(count // at_once):
                async with anyio.create_task_group() as group:
                    for _ in range(at_once):
                        group.start_soon(nothing)

        self.portal.call(main)

    def short_sleeps(self, count: int, seconds: float) -> list[float]:
        return self.portal.call(time_sleeps, anyio.sleep, count, seconds)
