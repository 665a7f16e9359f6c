"""What the network tests share: peers, wakers that tell, awaits that are cut off."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from tests.conftest import nothing, settle_reactor
from trale_py import (
    PENDING,
    Context,
    Future,
    JoinHandle,
    Pending,
    Reactor,
    Ready,
    TcpStream,
    block_on,
    spawn,
)
from trale_py.core import current

T = TypeVar("T")

TIMEOUT = 20.0


def run(coro: Any) -> Any:
    return spawn(coro).join(TIMEOUT)


def fill(sock: socket.socket) -> None:
    """Send until a non-blocking socket has no room."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(65536))


class Flag:
    """A waker that counts its wakes."""

    def __init__(self) -> None:
        self.count = 0
        self._event = threading.Event()

    def wake(self) -> None:
        self.count += 1
        self._event.set()

    def wait(self) -> None:
        assert self._event.wait(TIMEOUT), "nobody called wake()"


class GaveUp(Exception):
    """What comes out of a CutOff that was cut off."""


class CutOff(Future[T]):
    """Awaits a coroutine until ``cut()`` is called, from wherever; then closes it, half done.

    What a cancellation does to the coroutine, by the means of the poll protocol.
    """

    def __init__(self, awaitable: Coroutine[Any, Any, T] | Future[T]) -> None:
        self._coro = awaiting(awaitable) if isinstance(awaitable, Future) else awaitable
        self._cut = False
        self._waker: Flag | Any = Flag()

    def cut(self) -> None:
        self._cut = True
        self._waker.wake()

    def poll(self, cx: Context) -> Ready[T] | Pending:
        self._waker = cx.waker
        if self._cut:
            self._coro.close()
            raise GaveUp
        try:
            self._coro.send(None)
        except StopIteration as stop:
            return Ready(stop.value)
        return PENDING


async def awaiting(future: Future[T]) -> T:
    """A future as a coroutine."""
    return await future


def executor_turn() -> None:
    """Return when the executor has done all that was in its queue before."""
    block_on(nothing())


def settle() -> None:
    """Return when reactor and executor have seen to all events that came before."""
    settle_reactor(current.default_runtime())
    executor_turn()


def parked(coro: Coroutine[Any, Any, T] | Future[T]) -> JoinHandle[T]:
    """Spawn, and return when the task has been polled: if it has to wait, it waits."""
    handle = spawn(coro)
    executor_turn()
    return handle


@contextlib.contextmanager
def raw_tcp_pair(host: str = "127.0.0.1") -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected TCP sockets of the standard library, closed at the end."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        one = socket.create_connection(server.getsockname()[:2], timeout=TIMEOUT)
        other, _ = server.accept()
    other.settimeout(TIMEOUT)
    with one, other:
        yield one, other


@contextlib.contextmanager
def stream_and_peer() -> Iterator[tuple[TcpStream, socket.socket]]:
    """A TcpStream, and a blocking socket at its other end."""
    with raw_tcp_pair() as (ours, peer), TcpStream.from_socket(ours) as stream:
        yield stream, peer


# The kernel gives away the ports from 32768 on to whoever asks for any: one of those, found free,
# may be another's a moment later. Below, a process id keeps apart the suites that run at once.
_ports = itertools.count(10_000 + os.getpid() % 20_000)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody has, and that nobody gets who did not ask for it."""
    for port in _ports:
        with socket.socket(type=kind) as sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("an endless count has ended")


class Events:
    """Counts what the default runtime's reactor has taken from epoll, whatever it was about."""

    def __init__(self) -> None:
        self._before = self._count()

    @staticmethod
    def _count() -> int:
        return Reactor.get()._poller.counts()["events"]

    def wait(self) -> None:
        """Return when there was one since this was made, or since the last wait."""
        pause, deadline = threading.Event(), time.monotonic() + TIMEOUT
        while self._count() == self._before:
            assert time.monotonic() < deadline, "no event"
            pause.wait(0.0005)
        self._before = self._count()


def reset(sock: socket.socket) -> None:
    """Close a TCP socket with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def receive_all(sock: socket.socket) -> bytes:
    """All that comes until the end of the stream, in the calling thread."""
    parts = []
    while data := sock.recv(1 << 20):
        parts.append(data)
    return b"".join(parts)
