"""BaseStream: a byte stream over a descriptor, with the calls that every message comes through.

These do what the general ones of ByteStream do. But each is an operation of its own (io.py),
which is in C on the native engine.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..core.engine import accelerated
from .byte_stream import CHUNK, ByteStream, check_count, check_writable, contiguous
from .descriptor import Descriptor
from .io import NOW_NOSIGNAL

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from .byte_stream import Data


@accelerated
class BaseStream(Descriptor, ByteStream):
    """A stream of the bytes that come and go by a descriptor."""

    def __init__(self, sock: Any) -> None:
        Descriptor.__init__(self, sock)
        ByteStream.__init__(self, self._io)

    def read(self, n: int = CHUNK) -> Coroutine[Any, Any, bytes]:
        check_count(n, "n")
        return self._io.recv(self, min(n, sys.maxsize))

    def readinto(self, buf: WriteableBuffer) -> Coroutine[Any, Any, int]:
        check_writable(buf)
        return self._io.recv_into(self, buf)

    def write(self, data: ReadableBuffer) -> Coroutine[Any, Any, int]:
        return self._io.send(self, contiguous(data, "data"))

    def write_all(self, data: Data) -> Coroutine[Any, Any, None]:
        if isinstance(data, (list, tuple)):
            return ByteStream.write_all(self, data)  # in C, super() would come back here
        return self._io.send_all(self, contiguous(data, "data"))  # type: ignore[arg-type]

    read.__doc__ = ByteStream.read.__doc__
    readinto.__doc__ = ByteStream.readinto.__doc__
    write.__doc__ = ByteStream.write.__doc__
    write_all.__doc__ = ByteStream.write_all.__doc__

    def _read_some(self, n: int) -> Coroutine[Any, Any, bytes]:
        return self._io.fill(self, n)

    def _write_some(self, data: memoryview) -> Coroutine[Any, Any, int]:
        return self._writing(partial(self._sock.send, data, NOW_NOSIGNAL))

    async def _write_parts(self, parts: Sequence[memoryview]) -> int:
        return await self._writing(partial(self._sock.sendmsg, parts, (), NOW_NOSIGNAL))
