"""curio: a kernel for each piece of work, in a background thread; no other may spawn there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import curio
import curio.socket

from .common import CHUNK, Server, in_thread, nothing, serve_in_thread, time_sleeps


async def echo(sock: curio.io.Socket, _: Any) -> None:
    async with sock:
        while data := await sock.recv(CHUNK):
            await sock.sendall(data)


class Curio:
    def tcp_echo(self) -> Server:
        async def main(tell: Callable[[int], Any]) -> None:
            sock = curio.network.tcp_server_socket("127.0.0.1", 0)
            tell(sock.getsockname()[1])
            await curio.network.run_server(sock, echo)

        return serve_in_thread(lambda tell: curio.run(main, tell))

    def udp_echo(self) -> Server:
        async def main(tell: Callable[[int], Any]) -> None:
            sock = curio.socket.socket(curio.socket.AF_INET, curio.socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            tell(sock.getsockname()[1])
            while True:
                data, addr = await sock.recvfrom(CHUNK)
                await sock.sendto(data, addr)

        return serve_in_thread(lambda tell: curio.run(main, tell))

    def children(self, count: int, at_once: int) -> None:
        async def main() -> None:
            for _ in range(count // at_once):
                for task in [await curio.spawn(nothing) for _ in range(at_once)]:
                    await task.join()

        in_thread(curio.run, main)

    def sleepers(self, count: int, seconds: float) -> None:
        async def main() -> None:
            for task in [await curio.spawn(curio.sleep, seconds) for _ in range(count)]:
                await task.join()

        in_thread(curio.run, main)

    def short_sleeps(self, count: int, seconds: float) -> list[float]:
        return in_thread(curio.run, time_sleeps, curio.sleep, count, seconds)
