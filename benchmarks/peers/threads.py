"""Plain threads: one for each connection, and for tasks a pool of the standard library."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any

from .common import CHUNK, Server, in_thread, serve_in_thread


def echo(sock: socket.socket) -> None:
    with sock:
        while data := sock.recv(CHUNK):
            sock.sendall(data)


def serve(tell: Callable[[int], Any]) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    tell(listener.getsockname()[1])
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Thread(target=echo, args=(sock,), daemon=True).start()


def serve_datagrams(tell: Callable[[int], Any]) -> None:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    tell(sock.getsockname()[1])
    while True:
        data, addr = sock.recvfrom(CHUNK)
        sock.sendto(data, addr)


def do_nothing() -> None:
    pass


class Threads:
    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor()

    def tcp_echo(self) -> Server:
        return serve_in_thread(serve)

    def udp_echo(self) -> Server:
        return serve_in_thread(serve_datagrams)

    def spawn_and_join(self, count: int) -> None:
        for future in [self.pool.submit(do_nothing) for _ in range(count)]:
            future.result()

    def round_trips(self, count: int) -> None:
        for _ in range(count):
            self.pool.submit(do_nothing).result()

    def short_sleeps(self, count: int, seconds: float) -> list[float]:
        def main() -> list[float]:
            took = []
            for _ in range(count):
                start = time.perf_counter()
                time.sleep(seconds)
                took.append(time.perf_counter() - start)
            return took

        return in_thread(main)
