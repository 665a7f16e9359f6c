"""What all sockets here have in common: ownership, closing, and the one way to wait.

A socket is registered with the reactor at the first operation that is awaited. From
then on it belongs to that runtime, and only its executor's thread reads, writes and
closes: a system call on a number that another thread has just closed might reach
somebody else's file.
"""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

from .. import current
from ..errors import BusyResourceError, ClosedResourceError, RuntimeClosed
from ..future import PENDING, Future, Pending, Ready
from ..report import report
from ..source import Direction, Source
from ..waker import Context
from .address import SocketAddress, show

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ..runtime import Runtime

T = TypeVar("T")


class BaseSocket:
    """A non-blocking socket and its place in the reactor."""

    KIND: ClassVar[socket.SocketKind]

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._closed = False
        self._runtime: Runtime | None = None
        self._source: Source | None = None

    @classmethod
    def from_socket(cls, sock: socket.socket) -> Self:
        """Take over a socket of the standard library; it is set non-blocking.

        From here on it is closed by this object. ValueError if it is of another kind.
        """
        if not isinstance(sock, socket.socket):
            raise TypeError(f"sock has to be a socket, not {sock!r}")
        if sock.type != cls.KIND or sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise ValueError(f"{cls.__name__} cannot take over {sock!r}")
        if sock.fileno() < 0:
            raise ValueError(f"{sock!r} is closed")
        sock.setblocking(False)
        return cls(sock)

    @property
    def socket(self) -> socket.socket:
        """The standard library's socket underneath, to set options. Do not close it."""
        return self._sock

    @property
    def local_addr(self) -> SocketAddress:
        """The address of this end, as getsockname(2) tells it."""
        self._check_open()
        address: SocketAddress = self._sock.getsockname()
        return address

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Close the socket. Tasks that wait on it get ClosedResourceError. Twice is fine.

        Never waits. In a task the descriptor is closed when this returns. In any other
        thread, in a ``__del__`` and in a signal handler the runtime is asked to close it, as
        it may be using it at that moment; that takes as long as its next turn.
        """
        if self._closed:
            return
        self._closed = True
        # R10: we raise the flag and then look whether a runtime has the socket. The first
        # operation says which runtime has it and then looks at the flag.
        if self._runtime is None:
            self._sock.close()
        else:
            self._runtime.call_on_executor(self._close)

    def _close(self) -> None:
        """Executor's thread. Waiters are woken before the descriptor is gone."""
        if self._source is not None:
            self._source.reactor.detach(self._source)
        try:
            self._sock.close()
        except OSError as error:  # EBADF: closed behind our back. Who asked need not be here.
            report("closing a %s failed: %s", type(self).__name__, error)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedResourceError(f"this {type(self).__name__} was closed")

    def _check_runtime(self) -> None:
        """RuntimeClosed in a task of another runtime than the one that has the socket.

        Whatever an operation does without the kernel is subject to it too: a child of a fork
        has the parent's buffers and claims, and could half-close the parent's connection.
        """
        cx = current.thread.context
        if cx is not None and self._runtime not in (None, cx.runtime):
            raise RuntimeClosed(
                f"this {type(self).__name__} belongs to another runtime"
                f" ({self._runtime.gone or 'which is running'})"
            )

    def _attach(self, runtime: Runtime) -> Source:
        """The socket's source, registered if it is not yet."""
        self._check_runtime()
        self._runtime = runtime
        self._check_open()
        if self._source is None:
            self._source = runtime.reactor.attach(self._sock.fileno())
        return self._source

    def _reading(self, call: Callable[[], T], want: int = 0) -> Future[T]:
        return _Call(self, call, want, writing=False)

    def _writing(self, call: Callable[[], T], want: int = 0) -> Future[T]:
        return _Call(self, call, want, writing=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            text = f"unclosed {self!r}"
            self.close()  # first: the warning may be made an error
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        if self._closed:
            return f"<{type(self).__name__} closed>"
        try:
            where = show(self._sock.getsockname())
        except OSError as error:
            where = str(error)
        return f"<{type(self).__name__} fd={self._sock.fileno()} {where}>"


class _Call(Future[T]):
    """One non-blocking system call, tried whenever its direction is ready, until it is done.

    ``want`` is how many bytes it asks for, if it is known that getting fewer means there
    are no more just now. Then the direction is not ready any longer, and the next call
    need not find that out by an EAGAIN. Only if no end and no error was reported, though:
    those come as one event together with the last bytes, and not again. Nor if there was
    urgent data: a read stops short in front of its mark, and what follows is no new event.
    """

    __slots__ = ("_call", "_direction", "_owner", "_want", "_write")

    def __init__(
        self, owner: BaseSocket, call: Callable[[], T], want: int, *, writing: bool
    ) -> None:
        self._owner = owner
        self._call = call
        self._want = want
        self._write = writing
        self._direction: Direction | None = None

    def poll(self, cx: Context) -> Ready[T] | Pending:
        source = self._owner._attach(cx.runtime)
        direction = self._direction = source.write if self._write else source.read
        while True:
            self._owner._check_open()
            tick = direction.events
            if tick == direction.seen:
                direction.waiters[self] = cx.waker
                # The last look (R4). Also at "closed": a __del__ may close it at any point here.
                if not direction.ready and not self._owner.closed:
                    return PENDING
                continue
            try:
                result = self._call()
            except BlockingIOError:
                direction.seen = tick
                continue
            except OSError:
                self._owner._check_open()  # EBADF, as it was closed between two lines
                raise
            if self._want and _size(result) < self._want and not direction.more:
                direction.seen = tick
            self.drop()
            return Ready(result)

    def drop(self) -> None:
        if self._direction is not None:
            self._direction.waiters.pop(self, None)


def byte_view(data: ReadableBuffer, argument: str) -> memoryview:
    """``data`` as a view of single bytes; a TypeError names the argument."""
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(f"{argument} has to be bytes-like, not {type(data).__name__}") from None
    return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())


def _size(result: object) -> int:
    return result if isinstance(result, int) else len(result)  # type: ignore[arg-type]


class Claim:
    """One side of a stream is used by one task at a time: ``with claim:`` for an operation."""

    __slots__ = ("_held", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._held = False

    def __enter__(self) -> None:
        if self._held:
            raise BusyResourceError(f"another task is already {self._what} this stream")
        self._held = True

    def __exit__(self, *exc: object) -> None:
        self._held = False
