"""gevent: greenlets on a hub of a background thread; no other thread may spawn there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.server

from .common import CHUNK, Server, in_thread, serve_in_thread


def echo(sock: Any, _: Any) -> None:
    with sock:
        while data := sock.recv(CHUNK):
            sock.sendall(data)


def serve(server: Any, tell: Callable[[int], Any]) -> None:
    server.start()
    tell(server.server_port)
    server.serve_forever()


def do_nothing() -> None:
    pass


class Gevent:
    def tcp_echo(self) -> Server:
        return serve_in_thread(
            lambda tell: serve(gevent.server.StreamServer(("127.0.0.1", 0), echo), tell)
        )

    def udp_echo(self) -> Server:
        class Echo(gevent.server.DatagramServer):
            def handle(self, data: bytes, addr: Any) -> None:
                self.sendto(data, addr)

        return serve_in_thread(lambda tell: serve(Echo(("127.0.0.1", 0)), tell))

    def children(self, count: int, at_once: int) -> None:
        def main() -> None:
            for _ in range(count // at_once):
                gevent.joinall([gevent.spawn(do_nothing) for _ in range(at_once)])

        in_thread(main)

    def short_sleeps(self, count: int, seconds: float) -> list[float]:
        def main() -> list[float]:
            took = []
            for _ in range(count):
                start = time.perf_counter()
                gevent.sleep(seconds)
                took.append(time.perf_counter() - start)
            return took

        return in_thread(main)
