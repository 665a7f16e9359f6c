"""Every kind of byte stream, for the tests of the one face: two that are connected."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import tempfile
import tty
from collections.abc import Callable, Iterator
from typing import TypeAlias

from trale_py import ClosedResourceError, FdStream, Notify, TcpStream, pipe
from trale_py.streams.byte_stream import ByteStream
from trale_py.streams.io import Io

from ..support.net_helpers import raw_tcp_pair

Pair: TypeAlias = tuple[ByteStream, ByteStream]
MakePair: TypeAlias = Callable[[], contextlib.AbstractContextManager[Pair]]


class Piecemeal(ByteStream):
    """In memory, and 30 bytes at a time: it has ByteStream's general methods, and no others."""

    def __init__(self) -> None:
        super().__init__(Io(-1))
        self.peer: Piecemeal
        self.received = bytearray()
        self.ended = self.closed = False
        self.data, self.space = Notify(), Notify()
        self.room = 10

    async def _read_some(self, n: int) -> bytes:
        while not self.received and not self.ended:
            await self.data.wait()
            self._check_open()
        data = bytes(self.received[:n])
        del self.received[:n]
        self.peer.space.notify_one()
        return data

    async def _write_some(self, data: memoryview) -> int:
        while len(self.peer.received) >= self.room and not self.peer.closed:
            await self.space.wait()
            self._check_open()
        if self.peer.ended or self.peer.closed:
            raise BrokenPipeError(32, "Broken pipe")
        self.peer.received += data[:30]
        self.peer.data.notify_one()
        return min(30, len(data))

    async def _end_writing(self) -> None:
        self.peer.ended = True
        self.peer.data.notify_one()

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedResourceError("this Piecemeal was closed")

    def close(self) -> None:
        self.closed = self._io.closed = self.peer.ended = True
        for side in (self, self.peer):
            side.data.notify_one()
            side.space.notify_one()


@contextlib.contextmanager
def piecemeal() -> Iterator[Pair]:
    one, other = Piecemeal(), Piecemeal()
    one.peer, other.peer = other, one
    with one, other:
        yield one, other


@contextlib.contextmanager
def tcp() -> Iterator[Pair]:
    with raw_tcp_pair() as (a, b):
        small(a, b)
        with TcpStream.from_socket(a) as one, TcpStream.from_socket(b) as other:
            yield one, other


def small(*socks: socket.socket) -> None:
    """Small buffers, so that less than a megabyte fills them."""
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)


@contextlib.contextmanager
def pipes() -> Iterator[Pair]:
    reader, writer = pipe()
    with reader, writer:
        yield writer, reader


@contextlib.contextmanager
def fifo() -> Iterator[Pair]:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/fifo"
        os.mkfifo(path)
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with (
            FdStream.from_fd(reading) as reader,
            FdStream.from_fd(os.open(path, os.O_WRONLY)) as writer,
        ):
            yield writer, reader


@contextlib.contextmanager
def pty() -> Iterator[Pair]:
    master, terminal = os.openpty()
    tty.setraw(terminal)
    with FdStream.from_fd(master) as one, FdStream.from_fd(terminal) as other:
        yield one, other


@dataclasses.dataclass
class Kind:
    connect: MakePair
    two_way: bool = True
    ends: bool = True  # it can be half-closed


KINDS = {
    "piecemeal": Kind(piecemeal),
    "tcp": Kind(tcp),
    "pipe": Kind(pipes, two_way=False),
    "fifo": Kind(fifo, two_way=False),
    "pty": Kind(pty, ends=False),
}
