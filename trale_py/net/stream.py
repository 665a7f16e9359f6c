"""Streams of bytes: reading and writing, whole and in parts.

Reads that look for something (``read_exact``, ``read_until``, ``lines``) gather what
comes in a buffer, and take it out only when they have all they need: cut off half-way,
they lose nothing, and the next read finds it there.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import DelimiterNotFound, IncompleteRead
from ..future import checkpoint
from .base import BaseSocket, Claim, byte_view

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_CHUNK = 65536


class BaseStream(BaseSocket):
    """A connected stream socket. One task may read and one may write at a time."""

    KIND = socket.SOCK_STREAM

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._buffer = bytearray()  # read from the socket, not yet by the user
        self._reader = Claim("reading from")
        self._writer = Claim("writing to")
        self._cut_off = ""  # how an earlier write_all ended, if not well

    # -- reading -----------------------------------------------------------------------------

    async def read(self, n: int = _CHUNK) -> bytes:
        """Wait until there is something to read; return 1 to ``n`` bytes, ``b""`` at the end.

        Cancelled, it has read nothing. ValueError for ``n`` less than 1, BusyResourceError
        while another task reads, ClosedResourceError once closed, OSError
        (ConnectionResetError, ...) from the connection. See recv(2).
        """
        _check_count(n)
        with self._side(self._reader):
            if self._buffer:
                await self._no_wait()
                return self._take(n)
            return await self._reading(partial(self._sock.recv, n), n)

    async def readinto(self, buf: WriteableBuffer) -> int:
        """As ``read``, into ``buf``, a writable bytes-like object; returns how many bytes."""
        view = byte_view(buf, "buf")
        if view.readonly:
            raise TypeError("buf has to be writable")
        _check_count(len(view))
        with self._side(self._reader):
            if self._buffer:
                await self._no_wait()
                data = self._take(len(view))
                view[: len(data)] = data
                return len(data)
            return await self._reading(partial(self._sock.recv_into, view), len(view))

    async def read_exact(self, n: int) -> bytes:
        """Wait for exactly ``n`` bytes. IncompleteRead, with what came, if the stream ends first.

        Cancelled, it has read nothing: what came in meanwhile is there for the next read.
        Otherwise as ``read``.
        """
        _check_count(n)
        with self._side(self._reader):
            await self._no_wait()
            while len(self._buffer) < n:
                if not await self._fill():
                    raise IncompleteRead(self._take(n), n)
            return self._take(n)

    async def read_until(self, sep: ReadableBuffer, *, limit: int = _CHUNK) -> bytes:
        """Read up to and including ``sep``; at the end of the stream, what there is left.

        So a result that does not end with ``sep`` is the last, and ``b""`` says that there
        was nothing more. DelimiterNotFound if more than ``limit`` bytes would be needed:
        they stay readable. Cancelled, it has read nothing. Otherwise as ``read``. ::

            line = await stream.read_until(b"\\r\\n", limit=1024)
        """
        delimiter = bytes(byte_view(sep, "sep"))
        if not delimiter:
            raise ValueError("sep is empty; it has to have at least one byte")
        _check_count(limit)
        with self._side(self._reader):
            await self._no_wait()
            searched = 0
            while True:
                found = self._buffer.find(delimiter, searched)
                size = len(self._buffer) if found < 0 else found + len(delimiter)
                if size > limit:
                    raise DelimiterNotFound(f"no {delimiter!r} within {limit} bytes")
                if found >= 0:
                    return self._take(size)
                searched = max(0, len(self._buffer) - len(delimiter) + 1)
                if not await self._fill():
                    return self._take(size)

    def lines(self, *, limit: int = _CHUNK) -> AsyncIterator[bytes]:
        """``async for line in stream.lines()``: until the end, without the line ends.

        Lines end in ``\\n`` or ``\\r\\n``; the last may lack it. DelimiterNotFound for one of
        more than ``limit`` bytes, its end included.
        """
        _check_count(limit)
        return _Lines(self, limit)

    async def _fill(self) -> bool:
        """Add to the buffer what comes next. False: the stream has ended."""
        data = await self._reading(partial(self._sock.recv, _CHUNK), _CHUNK)
        self._buffer += data
        return bool(data)

    def _take(self, n: int) -> bytes:
        data = bytes(memoryview(self._buffer)[:n])
        del self._buffer[:n]
        return data

    # -- writing -------------------------------------------------------------------------------

    async def write(self, data: ReadableBuffer) -> int:
        """Wait for room, and write as much of ``data`` as there is room for; returns how much.

        Cancelled, it has written nothing. BusyResourceError while another task writes,
        ClosedResourceError once closed, OSError (BrokenPipeError, ConnectionResetError, ...)
        from the connection. See send(2).
        """
        view = byte_view(data, "data")
        with self._side(self._writer):
            return await self._send(view)

    async def write_all(self, data: ReadableBuffer) -> None:
        """Write all of ``data``, waiting for room as often as it takes.

        Cut off half-way (cancelled, or by an error), it leaves the peer with a part of the
        data. Nobody could go on from there, so every later write then raises
        BrokenPipeError, which says how much was sent. Otherwise as ``write``.
        """
        view = byte_view(data, "data")
        sent = 0
        with self._side(self._writer):
            try:
                while True:
                    sent += await self._send(view[sent:])
                    if sent == len(view):
                        return
            except BaseException:
                if sent > 0:
                    self._cut_off = f"an earlier write_all sent {sent} of {len(view)} bytes"
                raise

    async def _send(self, view: memoryview) -> int:
        self._check_open()
        if self._cut_off:
            raise BrokenPipeError(errno.EPIPE, f"{os.strerror(errno.EPIPE)}: {self._cut_off}")
        if not view:
            await self._no_wait()
            return 0
        # MSG_NOSIGNAL: a program may have given SIGPIPE its deadly meaning back.
        return await self._writing(partial(self._sock.send, view, socket.MSG_NOSIGNAL), len(view))

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


def _check_count(n: int) -> None:
    if not isinstance(n, int):
        raise TypeError(f"the number of bytes has to be an int, not {n!r}")
    if n < 1:
        raise ValueError(f"the number of bytes is {n}; it has to be 1 or more")
