"""Io and its operations, in Python: what a socket does again and again.

An operation is a future: one non-blocking system call, tried whenever its direction is
ready, until it is done.

When a direction stops being ready
    A call that says "would block" shows it. So does one that got fewer bytes than it asked
    for: there are no more just now, and the next call need not find that out by an EAGAIN.
    Only if no end and no error was reported, though: those come as one event together with
    the last bytes, and not again. Nor if there was urgent data: a read stops short in front
    of its mark, and what follows is no new event.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .._linux.sockaddr import SocketAddress
from ..base.errors import BusyResourceError
from ..core import leaf
from ..core.contract import RuntimeLike
from ..core.engine import accelerated
from ..core.future import PENDING, Pending, Ready
from ..core.source import Direction, Source
from ..core.waker import Context

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

T = TypeVar("T")

LARGEST_DATAGRAM = 65535  # no UDP datagram is longer


class Owner(Protocol):
    """The socket object, for its operations."""

    @property
    def socket(self) -> socket.socket:
        """The socket itself; ClosedResourceError once it is closed."""

    def _attach(self, runtime: RuntimeLike) -> Source:
        """Have the runtime watch it, from the first operation on."""

    def _check_open(self) -> None:
        """ClosedResourceError once it is closed."""


@accelerated
class Io:
    """What a socket is to its operations.

    ``closed`` is raised by any thread; all else is the executor's. ``buffer`` is what was
    read from the socket and not yet by the user. ``cut_off`` says how an earlier send_all
    ended, if not well.
    """

    __slots__ = ("buffer", "busy", "closed", "cut_off", "source")

    def __init__(self, fd: int) -> None:
        self.source: Source | None = None
        self.closed = False
        self.buffer = bytearray()
        self.cut_off = ""
        self.busy = {False: False, True: False}  # is somebody reading, is somebody writing?

    def recv(self, owner: Owner, n: int) -> Coroutine[Any, Any, bytes]:
        """1 to ``n`` bytes of the buffer, or else of the socket; ``b""`` at the end."""
        return _Recv(self, owner, partial(owner.socket.recv, n), n)

    def recv_into(self, owner: Owner, view: WriteableBuffer) -> Coroutine[Any, Any, int]:
        return _RecvInto(self, owner, view)

    def fill(self, owner: Owner, n: int) -> Coroutine[Any, Any, bytes]:
        """As ``recv``, but past the buffer, and for who has claimed the reading already."""
        return Operation(self, owner, partial(owner.socket.recv, n), n, writing=False)

    def send(self, owner: Owner, data: ReadableBuffer) -> Coroutine[Any, Any, int]:
        return _Send(self, owner, data)

    def send_all(self, owner: Owner, data: ReadableBuffer) -> Coroutine[Any, Any, None]:
        return _SendAll(self, owner, data)

    def recv_from(self, owner: Owner) -> Coroutine[Any, Any, tuple[bytes, SocketAddress]]:
        """The next datagram, whole, and its sender."""
        call = partial(owner.socket.recvfrom, LARGEST_DATAGRAM)
        return _RecvFrom(self, owner, call, 0, writing=False)

    def send_to(
        self, owner: Owner, data: ReadableBuffer, addr: object
    ) -> Coroutine[Any, Any, int] | None:
        """A datagram to an address that needs no looking up. None: go the long way.

        It is there for the native one, which sends to ("127.0.0.1", 5000) without it.
        """
        return None

    def call(
        self, owner: Owner, function: Callable[[], T], want: int, writing: bool
    ) -> Coroutine[Any, Any, T]:
        """Whatever else the socket can do. ``want`` bytes, 0 if it is not about bytes."""
        return Operation(self, owner, function, want, writing=writing)

    def take(self, n: int) -> bytes:
        """At most ``n`` bytes out of the buffer."""
        data = bytes(memoryview(self.buffer)[:n])
        del self.buffer[:n]
        return data

    def check_whole(self) -> None:
        """BrokenPipeError if nobody could go on writing, as a part of something was sent."""
        if self.cut_off:
            raise BrokenPipeError(errno.EPIPE, f"{os.strerror(errno.EPIPE)}: {self.cut_off}")

    def claim(self, writing: bool) -> None:
        """One side of a stream is used by one task at a time."""
        if self.busy[writing]:
            what = "writing to" if writing else "reading from"
            raise BusyResourceError(f"another task is already {what} this stream")
        self.busy[writing] = True

    def release(self, writing: bool) -> None:
        self.busy[writing] = False


class Operation(leaf.Operation[T]):
    """One call, with nothing before and nothing after."""

    NAME = ""  # of the user's call; else that of the function

    __slots__ = (
        "_begun",
        "_call",
        "_claimed",
        "_direction",
        "_io",
        "_owner",
        "_want",
        "_writing",
    )

    def __init__(
        self, io: Io, owner: Owner, call: Callable[[], T] | None, want: int, *, writing: bool
    ) -> None:
        self._io = io
        self._owner = owner
        self._call = call
        self._want = want
        self._writing = writing
        self._direction: Direction | None = None
        self._claimed = False
        self._begun = False
        super().__init__()

    def _advance(self, cx: Context) -> Ready[T] | Pending:
        try:
            source = self._owner._attach(cx.runtime)
            if not self._begun:
                self._begun = True
                found = self._begin()
                if found is not None:
                    self._take_back()
                    return found
            return self._try(cx, source)
        except BaseException:
            self._take_back()
            raise

    def _begin(self) -> Ready[T] | None:
        """Before the first try. A result: there is nothing to try."""
        return None

    def _try_once(self) -> T:
        assert self._call is not None, "who has none overrides this"
        return self._call()

    def _done(self, result: T) -> Ready[Any] | None:
        """After a call. None: go on."""
        return Ready(result)

    def _try(self, cx: Context, source: Source) -> Ready[T] | Pending:
        owner = self._owner
        direction = self._direction = source.write if self._writing else source.read
        while True:
            owner._check_open()
            tick = direction.events
            if tick == direction.seen:
                direction.waiters[self] = cx.waker
                # The last look (R4). Also at "closed": a __del__ may close it at any point here.
                if not direction.ready and not self._io.closed:
                    return PENDING
                continue
            want = self._want
            try:
                result = self._try_once()
            except BlockingIOError:
                direction.seen = tick
                continue
            except OSError:
                owner._check_open()  # EBADF, as it was closed between two lines
                raise
            if want and _size(result) < want and not direction.more:
                direction.seen = tick
            ready = self._done(result)
            if ready is not None:
                self._take_back()
                return ready

    def _take_back(self) -> None:
        if self._direction is not None:
            self._direction.waiters.pop(self, None)
        if self._claimed:
            self._io.release(self._writing)
        self._claimed = self._begun = False

    def _claim(self) -> None:
        self._io.claim(self._writing)
        self._claimed = True
        self._owner._check_open()

    def __repr__(self) -> str:
        return f"<{self.NAME or name_of(self._call)} of {self._owner!r}>"


class _Recv(Operation[bytes]):
    __slots__ = ()
    NAME = "read"

    def __init__(self, io: Io, owner: Owner, call: Callable[[], bytes], want: int) -> None:
        super().__init__(io, owner, call, want, writing=False)

    def _begin(self) -> Ready[bytes] | None:
        self._claim()
        return Ready(self._io.take(self._want)) if self._io.buffer else None


class _RecvFrom(Operation[T]):
    __slots__ = ()
    NAME = "recv_from"


class _RecvInto(Operation[int]):
    __slots__ = ("_view",)
    NAME = "readinto"

    def __init__(self, io: Io, owner: Owner, view: WriteableBuffer) -> None:
        self._view = memoryview(view)
        call = partial(owner.socket.recv_into, self._view)
        super().__init__(io, owner, call, len(self._view), writing=False)

    def _begin(self) -> Ready[int] | None:
        self._claim()
        if not self._io.buffer:
            return None
        data = self._io.take(self._want)
        self._view[: len(data)] = data
        return Ready(len(data))


class _Send(Operation[Any]):
    __slots__ = ("_sent", "_view")
    NAME = "write"

    def __init__(self, io: Io, owner: Owner, data: ReadableBuffer) -> None:
        self._view = memoryview(data)
        self._sent = 0
        super().__init__(io, owner, None, len(self._view), writing=True)

    def _begin(self) -> Ready[Any] | None:
        self._claim()
        self._io.check_whole()
        return None if len(self._view) else Ready(self._all_sent())

    def _try_once(self) -> int:
        # MSG_NOSIGNAL: a program may have given SIGPIPE its deadly meaning back.
        return self._owner.socket.send(self._view[self._sent :], socket.MSG_NOSIGNAL)

    def _all_sent(self) -> int | None:
        return 0


class _SendAll(_Send):
    __slots__ = ()
    NAME = "write_all"

    def _done(self, result: int) -> Ready[Any] | None:
        self._sent += result
        self._want -= result
        return Ready(None) if self._want == 0 else None

    def _all_sent(self) -> None:
        return None

    def _take_back(self) -> None:
        if 0 < self._sent < len(self._view):
            self._io.cut_off = f"an earlier write_all sent {self._sent} of {len(self._view)} bytes"
        self._sent, self._want = 0, len(self._view)
        super()._take_back()


def _size(result: object) -> int:
    return result if isinstance(result, int) else len(result)  # type: ignore[arg-type]


def name_of(function: object) -> str:
    name: str = getattr(getattr(function, "func", function), "__name__", "call")
    return name.strip("_")
