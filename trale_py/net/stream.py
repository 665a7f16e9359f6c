"""Streams of bytes: reading and writing, whole and in parts.

Reads that look for something (``read_exact``, ``read_until``, ``lines``) gather what
comes in a buffer, and take it out only when they have all they need: cut off half-way,
they lose nothing, and the next read finds it there.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any

from ..base.errors import DelimiterNotFound, IncompleteRead
from ..core.engine import accelerated
from ..core.leaf import checkpoint
from .io import Io
from .socket_base import BaseSocket, byte_view, contiguous

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

CHUNK = 65536  # what one read asks for, if it is not told


@accelerated
class BaseStream(BaseSocket):
    """A connected stream socket. One task may read and one may write at a time."""

    _KIND = socket.SOCK_STREAM

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._reader = Claim(self._io, writing=False)
        self._writer = Claim(self._io, writing=True)

    # -- reading -----------------------------------------------------------------------------

    def read(self, n: int = CHUNK) -> Coroutine[Any, Any, bytes]:
        """Wait until there is something to read; return 1 to ``n`` bytes, ``b""`` at the end.

        Cancelled, it has read nothing. ValueError for ``n`` less than 1, BusyResourceError
        while another task reads, ClosedResourceError once closed, OSError
        (ConnectionResetError, ...) from the connection. See recv(2).
        """
        _check_count(n, "n")
        return self._io.recv(self, min(n, sys.maxsize))

    def readinto(self, buf: WriteableBuffer) -> Coroutine[Any, Any, int]:
        """As ``read``, into ``buf``, a writable bytes-like object; returns how many bytes."""
        try:
            with memoryview(buf) as view:
                writable, contiguous = not view.readonly, view.c_contiguous
                _check_count(view.nbytes, "the size of buf")
        except TypeError:
            raise TypeError(f"buf must be bytes-like, not {type(buf).__name__}") from None
        if not writable or not contiguous:
            raise TypeError(f"buf must be {'contiguous' if writable else 'writable'}")
        return self._io.recv_into(self, buf)

    async def read_exact(self, n: int) -> bytes:
        """Wait for exactly ``n`` bytes. IncompleteRead, with what came, if the stream ends first.

        Cancelled, it has read nothing: what came in meanwhile is there for the next read.
        Otherwise as ``read``.
        """
        _check_count(n, "n", 0)
        with self._side(self._reader):
            await self._no_wait()
            while len(self._io.buffer) < n:
                if not await self._fill():
                    raise IncompleteRead(self._io.take(n), n)
            return self._io.take(n)

    async def read_until(self, sep: ReadableBuffer, *, limit: int = CHUNK) -> bytes:
        """Read up to and including ``sep``; at the end of the stream, what there is left.

        So a result that does not end with ``sep`` is the last, and ``b""`` says that there
        was nothing more. DelimiterNotFound if more than ``limit`` bytes would be needed:
        they stay readable. Cancelled, it has read nothing. Otherwise as ``read``. ::

            line = await stream.read_until(b"\\r\\n", limit=1024)
        """
        delimiter = bytes(byte_view(sep, "sep"))
        if not delimiter:
            raise ValueError("sep must have 1 byte or more, not 0")
        _check_count(limit, "limit")
        with self._side(self._reader):
            await self._no_wait()
            searched = 0
            while True:
                found = self._io.buffer.find(delimiter, searched)
                size = len(self._io.buffer) if found < 0 else found + len(delimiter)
                if size > limit:
                    raise DelimiterNotFound(f"no {delimiter!r} within {limit} bytes")
                if found >= 0:
                    return self._io.take(size)
                searched = max(0, len(self._io.buffer) - len(delimiter) + 1)
                if not await self._fill():
                    return self._io.take(size)

    def lines(self, *, limit: int = CHUNK) -> AsyncIterator[bytes]:
        """``async for line in stream.lines()``: until the end, without the line ends.

        Lines end in ``\\n`` or ``\\r\\n``; the last may lack it. DelimiterNotFound for one of
        more than ``limit`` bytes, its end included.
        """
        _check_count(limit, "limit")
        return _Lines(self, limit)

    async def _fill(self) -> bool:
        """Add to the buffer what comes next. False: the stream has ended."""
        data = await self._io.fill(self, CHUNK)
        self._io.buffer.extend(data)
        return bool(data)

    # -- writing -------------------------------------------------------------------------------

    def write(self, data: ReadableBuffer) -> Coroutine[Any, Any, int]:
        """Wait for room, and write as much of ``data`` as there is room for; returns how much.

        Cancelled, it has written nothing. BusyResourceError while another task writes,
        ClosedResourceError once closed, OSError (BrokenPipeError, ConnectionResetError, ...)
        from the connection. See send(2).
        """
        return self._io.send(self, contiguous(data, "data"))

    def write_all(self, data: ReadableBuffer) -> Coroutine[Any, Any, None]:
        """Write all of ``data``, waiting for room as often as it takes.

        Cut off half-way (cancelled, or by an error), it leaves the peer with a part of the
        data. Nobody could go on from there, so every later write then raises
        BrokenPipeError, which says how much was sent. Otherwise as ``write``.
        """
        return self._io.send_all(self, contiguous(data, "data"))

    async def shutdown(self) -> None:
        """Half-close: the peer reads to the end; this end may still read. See shutdown(2).

        BusyResourceError while another task writes. Nothing happens if the connection is gone.
        """
        with self._side(self._writer):
            await self._no_wait()
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                if error.errno != errno.ENOTCONN:
                    raise

    def _side(self, claim: Claim) -> Claim:
        self._check_runtime()
        return claim

    async def _no_wait(self) -> None:
        """What an operation awaits that may find all it needs without the kernel."""
        await checkpoint()
        self._check_open()


class Claim:
    """``with claim:`` for an operation of several parts: no other task comes between."""

    __slots__ = ("_io", "_writing")

    def __init__(self, io: Io, *, writing: bool) -> None:
        self._io = io
        self._writing = writing

    def __enter__(self) -> None:
        self._io.claim(self._writing)

    def __exit__(self, *exc: object) -> None:
        self._io.release(self._writing)


class _Lines:
    def __init__(self, stream: BaseStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    def __anext__(self) -> Coroutine[Any, Any, bytes]:
        return self._next()

    async def _next(self) -> bytes:
        line = await self._stream.read_until(b"\n", limit=self._limit)
        if not line:
            raise StopAsyncIteration
        return line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line


def _check_count(n: int, argument: str, least: int = 1) -> None:
    if not isinstance(n, int):
        raise TypeError(f"{argument} must be an int, not {n!r}")
    if n < least:
        raise ValueError(f"{argument} must be {least} or more, not {n}")
