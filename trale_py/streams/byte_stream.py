"""ByteStream: the one face of every stream of bytes, whatever carries them.

A kind of stream says how to read some bytes, how to write some, and how to end the writing.
What users call is written here, once, over these.

Reads that look for something (``read_exact``, ``read_until``, ``lines``, ``peek``) gather what
comes in a buffer, and take it out only when they have all they need: cut off half-way,
they lose nothing, and the next read finds it there.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Sequence
from io import BytesIO
from itertools import accumulate, islice, takewhile
from typing import TYPE_CHECKING, Any, TypeAlias

from ..base.closeable import Closing
from ..base.errors import DelimiterNotFound, IncompleteRead
from ..core.leaf import checkpoint
from .io import LARGEST_READ, Io

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    Data: TypeAlias = ReadableBuffer | Sequence[ReadableBuffer]

CHUNK = 65536  # what one read asks for, if it is not told
PARTS = 1024  # how many buffers go in one system call: IOV_MAX, see sendmsg(2)


class ByteStream(Closing):
    """A stream of bytes. One task may read and one may write at a time.

    A subclass defines ``_read_some``, ``_write_some``, ``_end_writing``, ``close`` and
    ``_check_open``. The first three are called while this task has claimed that side, and never
    with nothing to read or write. Cancelled, they must have read or written nothing.
    """

    def __init__(self, io: Io | None = None) -> None:
        self._io = Io(-1) if io is None else io
        self._reader = Claim(self._io, writing=False)
        self._writer = Claim(self._io, writing=True)

    # -- what a kind of stream defines -----------------------------------------------------------

    def _read_some(self, n: int) -> Coroutine[Any, Any, bytes]:
        """Wait for the next 1 to ``n`` bytes, past the buffer; ``b""`` at the end."""
        raise NotImplementedError

    def _write_some(self, data: memoryview) -> Coroutine[Any, Any, int]:
        """Wait for room, and write the beginning of ``data``; returns how much."""
        raise NotImplementedError

    async def _write_parts(self, parts: Sequence[memoryview]) -> int:
        """As ``_write_some``, of 2 to PARTS buffers of 1 byte or more."""
        return await self._write_some(_beginning(parts))

    async def _end_writing(self) -> None:
        """Have the peer read to the end."""
        raise NotImplementedError

    def _check_open(self) -> None:
        """ClosedResourceError once it is closed."""
        raise NotImplementedError

    def _check_runtime(self) -> None:
        """RuntimeClosed if the stream is not for the runtime of this task."""

    # -- reading -----------------------------------------------------------------------------

    def read(self, n: int = CHUNK) -> Coroutine[Any, Any, bytes]:
        """Wait until there is something to read; return 1 to ``n`` bytes, ``b""`` at the end.

        Cancelled, it has read nothing. ValueError for ``n`` less than 1, BusyResourceError
        while another task reads, ClosedResourceError once closed, OSError
        (ConnectionResetError, ...) from the connection. See recv(2).
        """
        check_count(n, "n")
        return self._read(min(n, LARGEST_READ))

    def readinto(self, buf: WriteableBuffer) -> Coroutine[Any, Any, int]:
        """As ``read``, into ``buf``, a writable bytes-like object; returns how many bytes."""
        check_writable(buf)
        return self._readinto(buf)

    async def peek(self, n: int = CHUNK) -> bytes:
        """As ``read``, but what it returns stays readable.

        Once more called, it returns the same: it waits only while there is nothing at all.
        """
        check_count(n, "n")
        with self._side(self._reader):
            await self._no_wait()
            if not self._io.buffer:
                await self._fill()
            return bytes(memoryview(self._io.buffer)[:n])

    async def read_exact(self, n: int) -> bytes:
        """Wait for exactly ``n`` bytes. IncompleteRead, with what came, if the stream ends first.

        Cancelled, it has read nothing: what came in meanwhile is there for the next read.
        Otherwise as ``read``.
        """
        check_count(n, "n", 0)
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
        check_count(limit, "limit")
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
        check_count(limit, "limit")
        return _Lines(self, limit)

    async def _read(self, n: int) -> bytes:
        with self._side(self._reader):
            await self._no_wait()
            return self._io.take(n) if self._io.buffer else await self._read_some(n)

    async def _readinto(self, buf: WriteableBuffer) -> int:
        with memoryview(buf) as view:
            data = await self._read(min(view.nbytes, LARGEST_READ))
            return BytesIO(data).readinto(view)  # whatever its items are

    async def _fill(self) -> bool:
        """Add to the buffer what comes next. False: the stream has ended."""
        data = await self._read_some(CHUNK)
        self._io.buffer.extend(data)
        return bool(data)

    # -- writing -------------------------------------------------------------------------------

    def write(self, data: ReadableBuffer) -> Coroutine[Any, Any, int]:
        """Wait for room, and write as much of ``data`` as there is room for; returns how much.

        Cancelled, it has written nothing. BusyResourceError while another task writes,
        ClosedResourceError once closed, OSError (BrokenPipeError, ConnectionResetError, ...)
        from the connection. See send(2).
        """
        return self._write(byte_view(data, "data"))

    def write_all(self, data: Data) -> Coroutine[Any, Any, None]:
        """Write all of ``data``, waiting for room as often as it takes.

        ``data`` is a bytes-like object, or a list of such, which go out one after the other as
        if they were one. Cut off half-way (cancelled, or by an error), it leaves the peer with a
        part of the data. No write could go on from there, so every later one then raises
        BrokenPipeError, which says how much was sent. Otherwise as ``write``.
        """
        return self._write_list(views(data))

    async def shutdown(self) -> None:
        """Half-close: the peer reads to the end; this end may still read. See shutdown(2).

        BusyResourceError while another task writes. Nothing happens if the connection is gone.
        """
        with self._side(self._writer):
            await self._no_wait()
            await self._end_writing()

    async def _write(self, view: memoryview) -> int:
        with view, self._side(self._writer):
            await self._no_wait()
            self._io.check_whole()
            return await self._write_some(view) if view.nbytes else 0

    async def _write_list(self, buffers: list[memoryview]) -> None:
        with contextlib.ExitStack() as lent, self._side(self._writer):
            for view in buffers:
                lent.enter_context(view)
            await self._no_wait()
            self._io.check_whole()
            parts = deque(view for view in buffers if view.nbytes)
            total, sent = sum(view.nbytes for view in parts), 0
            try:
                while parts:
                    sent += await self._write_first(parts)
            finally:
                for view in parts:  # a traceback may keep it, and no bytearray can be resized then
                    view.release()
                if 0 < sent < total:
                    self._io.cut(sent, total)

    async def _write_first(self, parts: deque[memoryview]) -> int:
        """Write the beginning of ``parts``, and take it off."""
        if len(parts) == 1:
            written = await self._write_some(parts[0])
        else:
            written = await self._write_parts(list(islice(parts, PARTS)))
        left = written
        while left and left >= parts[0].nbytes:
            left -= parts[0].nbytes
            parts.popleft().release()
        if left:
            with parts[0] as first:
                parts[0] = first[left:]
        return written

    # -- both ------------------------------------------------------------------------------------

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
    def __init__(self, stream: ByteStream, limit: int) -> None:
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


def _beginning(parts: Sequence[memoryview]) -> memoryview:
    """The first parts as one: those that fit into a CHUNK, or else the first."""
    sizes = accumulate(part.nbytes for part in parts)
    count = sum(1 for _ in takewhile(lambda size: size <= CHUNK, sizes))
    return parts[0] if count < 2 else memoryview(b"".join(parts[:count]))


def check_count(n: int, argument: str, least: int = 1) -> None:
    if not isinstance(n, int):
        raise TypeError(f"{argument} must be an int, not {n!r}")
    if n < least:
        raise ValueError(f"{argument} must be {least} or more, not {n}")


def check_writable(buf: WriteableBuffer) -> None:
    """TypeError or ValueError if ``buf`` cannot be read into."""
    try:
        with memoryview(buf) as view:
            writable, contiguous = not view.readonly, view.c_contiguous
            check_count(view.nbytes, "the size of buf")
    except TypeError:
        raise TypeError(f"buf must be bytes-like, not {type(buf).__name__}") from None
    if not writable or not contiguous:
        raise TypeError(f"buf must be {'contiguous' if writable else 'writable'}")


def contiguous(data: ReadableBuffer, argument: str) -> ReadableBuffer:
    """``data`` as bytes or a view of single bytes; a TypeError names the argument."""
    return data if type(data) is bytes else byte_view(data, argument)


def byte_view(data: ReadableBuffer, argument: str) -> memoryview:
    """As ``contiguous``, always a view; of a copy, if it is of no use as it is."""
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(f"{argument} must be bytes-like, not {type(data).__name__}") from None
    if view.c_contiguous and view.nbytes:  # cast() takes no zero in a shape
        with contextlib.suppress(ValueError):  # nor items of another machine's kind
            return view.cast("B")
    return memoryview(view.tobytes())


def views(data: Data) -> list[memoryview]:
    """A bytes-like object, or a list or tuple of such, as views of bytes."""
    if not isinstance(data, (list, tuple)):
        return [byte_view(data, "data")]  # type: ignore[arg-type]
    return [byte_view(part, f"data[{n}]") for n, part in enumerate(data)]
