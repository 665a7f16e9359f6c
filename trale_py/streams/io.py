"""Io and its operations, in Python: what a socket does again and again.

An operation is a future: one non-blocking system call, tried whenever its direction is
ready, until it is done.

When a direction stops being ready
    A call that says "would block" shows it. So does one that read fewer bytes than it asked for:
    there are no more just now, and the next call need not find that out by an EAGAIN. Only if
    no end and no error was reported, though: those come as one event together with the last
    bytes, and not again. Nor if there was urgent data: a read stops short in front of its mark,
    and what follows is no new event. Nor on a terminal, where a read ends with a line. And only
    if it read into memory of our own. The kernel stops short in front of a page of the user's
    that is not there (EFAULT), too: a mapped file that was truncated. Then no event
    would come. So what uses a buffer of the user's is tried again until
    it says EAGAIN, or what is the matter.

Buffers of the user's
    They are let go of when the await ends, however that comes, and not when the operation is
    freed: a traceback or a handle may keep that, and a bytearray cannot be resized meanwhile.

No call waits
    O_NONBLOCK belongs to the open file, and other holders of it may clear it. So each call
    says MSG_DONTWAIT.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .._linux.sockaddr import SocketAddress
from ..base.errors import BusyResourceError
from ..core import leaf
from ..core.contract import RuntimeLike
from ..core.engine import accelerated
from ..core.future import PENDING, Pending, Ready
from ..core.simulation import CALLS, Simulation
from ..core.source import Direction, Source
from ..core.waker import Context

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

T = TypeVar("T")

NOW = socket.MSG_DONTWAIT
NOW_NOSIGNAL = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL  # SIGPIPE may have its deadly meaning back
LARGEST_READ = 1 << 20  # recv() allocates what it is asked for, whatever there is
LARGEST_DATAGRAM = 65535  # no UDP datagram is longer


class Owner(Protocol):
    """The stream or socket object, for its operations."""

    _sock: Any  # a socket, or an object with its recv, recv_into and send: see fd_stream.py

    def _attach(self, runtime: RuntimeLike) -> Source:
        """Have the runtime watch it, from the first operation on."""

    def _check_open(self) -> None:
        """ClosedResourceError once it is closed."""

    def _check_ours(self) -> None:
        """OSError (EBADF) if its number means another file; asked if others know the number."""

    def _check_eagain(self) -> None:
        """OSError if EAGAIN, which a write has said, does not mean to wait."""


@accelerated
class Io:
    """What a socket is to its operations.

    ``closed`` and ``shared`` are raised by any thread; all else is the executor's. ``shared`` says
    that others know the descriptor (R33, see descriptor.py). ``buffer`` is what was
    read from the socket and not yet by the user. ``cut_off`` says how an earlier send_all
    ended, if not well. ``plain``: it is no socket, but what read(2) and write(2) are for.
    """

    __slots__ = ("buffer", "busy", "closed", "cut_off", "plain", "shared", "source")

    def __init__(self, fd: int) -> None:
        self.source: Source | None = None
        self.closed: bool = False
        self.shared: bool = False
        self.plain: bool = False
        self.buffer: bytearray = bytearray()
        self.cut_off: str = ""
        self.busy: dict[bool, bool] = {
            False: False,
            True: False,
        }  # by ``writing``: a task is in there

    def recv(self, owner: Owner, n: int) -> Coroutine[Any, Any, bytes]:
        """1 to ``n`` bytes of the buffer, or else of the socket; ``b""`` at the end."""
        n = min(n, LARGEST_READ)
        return _Recv(self, owner, partial(owner._sock.recv, n, NOW), writing=False, want=n)

    def recv_into(self, owner: Owner, view: WriteableBuffer) -> Coroutine[Any, Any, int]:
        return _RecvInto(self, owner, view)

    def fill(self, owner: Owner, n: int) -> Coroutine[Any, Any, bytes]:
        """As ``recv``, but past the buffer, for a caller that has claimed the reading."""
        call = partial(owner._sock.recv, n, NOW)
        return _Fill(self, owner, call, writing=False, want=n)

    def send(self, owner: Owner, data: ReadableBuffer) -> Coroutine[Any, Any, int]:
        return _Send(self, owner, data)

    def send_all(self, owner: Owner, data: ReadableBuffer) -> Coroutine[Any, Any, None]:
        return _SendAll(self, owner, data)

    def recv_from(self, owner: Owner) -> Coroutine[Any, Any, tuple[bytes, SocketAddress]]:
        """The next datagram, whole, and its sender."""
        call = partial(owner._sock.recvfrom, LARGEST_DATAGRAM, NOW)
        return _RecvFrom(self, owner, call, writing=False)

    def send_to(
        self, owner: Owner, data: ReadableBuffer, addr: object
    ) -> Coroutine[Any, Any, int] | None:
        """A datagram to an address that needs no looking up. None: go the long way.

        It is there for the native one, which sends to ("127.0.0.1", 5000) without it.
        """
        return None

    def call(
        self, owner: Owner, function: Callable[[], T], writing: bool, view: memoryview | None
    ) -> Coroutine[Any, Any, T]:
        """Whatever else the socket can do. ``view``: what the function uses, until the end."""
        return Operation(self, owner, function, writing=writing, view=view)

    def take(self, n: int) -> bytes:
        """At most ``n`` bytes out of the buffer."""
        data = bytes(memoryview(self.buffer)[:n])
        del self.buffer[:n]
        return data

    def cut(self, sent: int, total: int) -> None:
        """A write of several parts was cut off: the peer has a part of it."""
        self.cut_off = f"an earlier write_all sent {sent} of {total} bytes"

    def check_whole(self) -> None:
        """BrokenPipeError if an earlier write sent only a part of its data."""
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

    _NAME = ""  # of the user's call; else that of the function

    __slots__ = (
        "_call",
        "_claimed",
        "_direction",
        "_io",
        "_owner",
        "_started_in",
        "_view",
        "_want",
        "_writing",
    )

    def __init__(
        self,
        io: Io,
        owner: Owner,
        call: Callable[[], T] | None,
        *,
        writing: bool,
        want: int = 0,
        view: memoryview | None = None,
    ) -> None:
        self._io = io
        self._owner = owner
        self._call = call
        self._writing = writing
        self._want = want  # how many bytes it reads into memory of our own at most; 0: no such call
        self._view = view  # of the user's
        self._direction: Direction | None = None
        self._claimed = False
        self._started_in: RuntimeLike | None = None
        super().__init__()

    def _advance(self, cx: Context) -> Ready[T] | Pending:
        try:
            source = self._io.source
            if source is None or self._started_in is not cx._runtime or self._io.closed:
                source = self._owner._attach(cx._runtime)  # or it refuses
            if self._started_in is None:
                self._started_in = cx._runtime
                found = self._start()
                if found is not None:
                    self._take_back()
                    return found
            return self._try(cx, source)
        except BaseException:
            self._take_back()
            raise

    def _start(self) -> Ready[T] | None:
        """Before the first try. A result: there is nothing to try."""
        return None

    def _try_once(self) -> T:
        assert self._call is not None, "override this if you have no socket"
        return self._call()

    def _try_in(self, simulation: Simulation) -> T:
        """The same, in a test that may have planned how it ends."""
        call = CALLS[call_made_by(self._call, self._writing, self._io.plain)]
        size = simulation.take(call, self._owner._sock.fileno())
        return self._try_once() if size == sys.maxsize else self._try_short(size)

    def _try_short(self, size: int) -> T:
        """For ``size`` bytes at most."""
        return self._try_once()

    def _done(self, result: T) -> Ready[Any] | None:
        """After a call. None: go on."""
        return Ready(result)

    def _try(self, cx: Context, source: Source) -> Ready[T] | Pending:
        owner = self._owner
        direction = self._direction = source.write if self._writing else source.read
        simulation = cx._runtime.run_queue.simulation
        while True:
            if self._io.closed:
                owner._check_open()
            if source.gone:  # another operation has found the number to mean another file
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            if self._io.shared:
                owner._check_ours()
            tick = direction.events
            if tick == direction.seen:
                direction.waiters[self] = cx.waker
                # The last look (R4). Also at "closed": a __del__ may close it at any point here.
                if not direction.ready and not self._io.closed:
                    return PENDING
                continue
            try:
                result = self._try_once() if simulation is None else self._try_in(simulation)
            except BlockingIOError:
                if self._writing:
                    owner._check_eagain()
                direction.seen = tick
                continue
            except OSError:
                owner._check_open()  # EBADF, as it was closed between two lines
                raise
            trusted = self._want and not direction.more and not self._io.plain and not simulation
            if trusted and len(result) < self._want:  # type: ignore[arg-type]
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
        self._claimed, self._started_in = False, None
        if self._view is not None:
            self._view.release()

    def _claim(self) -> None:
        self._io.claim(self._writing)
        self._claimed = True
        self._owner._check_open()

    def __repr__(self) -> str:
        return f"<{self._NAME or name_of(self._call)} of {self._owner!r}>"


class _Fill(Operation[bytes]):
    __slots__ = ()
    _NAME = "read"

    def _try_short(self, size: int) -> bytes:
        return self._owner._sock.recv(min(size, self._want), NOW)  # type: ignore[no-any-return]


class _Recv(_Fill):
    __slots__ = ()

    def _start(self) -> Ready[bytes] | None:
        self._claim()
        return Ready(self._io.take(self._want)) if self._io.buffer else None


class _RecvFrom(Operation[T]):
    __slots__ = ()
    _NAME = "recv_from"


class _RecvInto(Operation[int]):
    __slots__ = ()
    _NAME = "readinto"

    def __init__(self, io: Io, owner: Owner, buffer: WriteableBuffer) -> None:
        view = memoryview(buffer)
        call = partial(owner._sock.recv_into, view, 0, NOW)
        super().__init__(io, owner, call, writing=False, view=view)

    def _try_short(self, size: int) -> int:
        with memoryview(bytearray(size)) as some:
            n: int = self._owner._sock.recv_into(some, 0, NOW)
            assert self._view is not None
            return BytesIO(some[:n]).readinto(self._view)

    def _start(self) -> Ready[int] | None:
        self._claim()
        if not self._io.buffer:
            return None
        assert self._view is not None
        data = self._io.take(self._view.nbytes)
        return Ready(BytesIO(data).readinto(self._view))  # whatever its items are


class _Send(Operation[Any]):
    __slots__ = ("_sent", "_size")
    _NAME = "write"

    def __init__(self, io: Io, owner: Owner, data: ReadableBuffer) -> None:
        view = memoryview(data)
        self._size = len(view)
        self._sent = 0
        super().__init__(io, owner, None, writing=True, view=view)

    def _start(self) -> Ready[Any] | None:
        self._claim()
        self._io.check_whole()
        return None if self._size else Ready(self._all_sent())

    def _try_once(self) -> int:
        assert self._view is not None
        sent: int = self._owner._sock.send(self._view[self._sent :], NOW_NOSIGNAL)
        return sent

    def _try_short(self, size: int) -> int:
        assert self._view is not None
        return self._owner._sock.send(self._view[self._sent : self._sent + size], NOW_NOSIGNAL)  # type: ignore[no-any-return]

    def _all_sent(self) -> int | None:
        return 0


class _SendAll(_Send):
    __slots__ = ()
    _NAME = "write_all"

    def _done(self, result: int) -> Ready[Any] | None:
        self._sent += result
        return Ready(None) if self._sent == self._size else None

    def _all_sent(self) -> None:
        return None

    def _take_back(self) -> None:
        if 0 < self._sent < self._size:
            self._io.cut(self._sent, self._size)
        self._sent = 0
        super()._take_back()


def call_made_by(function: object, writing: bool, plain: bool) -> int:
    """Which of CALLS an operation makes, by its place there. ``function``: None if it has none."""
    name = name_of(function)
    if name == "accept" or name.endswith("connect"):
        return CALLS.index("accept" if name == "accept" else "connect")
    return CALLS.index(("write" if writing else "read") if plain else "send" if writing else "recv")


def name_of(function: object) -> str:
    name: str = getattr(getattr(function, "func", function), "__name__", "call")
    return name.strip("_")
