"""What all sockets here have in common: ownership, closing, and the one way to wait.

A socket is registered with the reactor at the first operation that is awaited. From
then on it belongs to that runtime, and only its executor's thread reads, writes and
closes: a system call on a number that another thread has just closed might reach
somebody else's file.
"""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from .._linux.sockaddr import SocketAddress
from ..base.closeable import Closing
from ..base.errors import ClosedResourceError, RuntimeClosed
from ..base.log import report
from ..core import current
from ..core.contract import RuntimeLike
from ..core.source import Source
from .address import show
from .plain_io import Io

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


T = TypeVar("T")


class BaseSocket(Closing):
    """A non-blocking socket and its place in the reactor."""

    KIND: ClassVar[socket.SocketKind]

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._io = Io(sock.fileno())
        self._runtime: RuntimeLike | None = None

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
        return self._io.closed

    def close(self) -> None:
        """Close the socket. Tasks that wait on it get ClosedResourceError. Twice is fine.

        Never waits. In a task the descriptor is closed when this returns. In any other
        thread, in a ``__del__`` and in a signal handler the runtime is asked to close it, as
        it may be using it at that moment; that takes as long as its next turn.
        """
        if self._io.closed:
            return
        self._io.closed = True
        # R10: we raise the flag and then look whether a runtime has the socket. The first
        # operation says which runtime has it and then looks at the flag.
        if self._runtime is None:
            self._sock.close()
        else:
            self._runtime.call_on_executor(self._close)

    def _close(self) -> None:
        """Executor's thread. Waiters are woken before the descriptor is gone."""
        if self._io.source is not None and self._runtime is not None:
            self._runtime.reactor.detach(self._io.source)
            self._io.source = None
        try:
            self._sock.close()
        except OSError as error:  # EBADF: closed behind our back. Who asked need not be here.
            report("closing a %s failed: %s", type(self).__name__, error)

    def _check_open(self) -> None:
        if self._io.closed:
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

    def _attach(self, runtime: RuntimeLike) -> Source:
        """The socket's source, registered if it is not yet."""
        self._check_runtime()
        self._runtime = runtime
        self._check_open()
        if self._io.source is None:
            self._io.source = runtime.reactor.attach(self._sock.fileno())
        return self._io.source

    def _reading(self, call: Callable[[], T], want: int = 0) -> Coroutine[Any, Any, T]:
        return self._io.call(self, call, want, False)

    def _writing(self, call: Callable[[], T], want: int = 0) -> Coroutine[Any, Any, T]:
        return self._io.call(self, call, want, True)

    def __del__(self) -> None:
        if hasattr(self, "_io") and not self._io.closed:
            text = f"unclosed {self!r}"
            self.close()  # first: the warning may be made an error
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        if self._io.closed:
            return f"<{type(self).__name__} closed>"
        try:
            where = show(self._sock.getsockname())
        except OSError as error:
            where = str(error)
        return f"<{type(self).__name__} fd={self._sock.fileno()} {where}>"


def contiguous(data: ReadableBuffer, argument: str) -> ReadableBuffer:
    """``data`` as bytes or a view of single bytes; a TypeError names the argument."""
    return data if type(data) is bytes else byte_view(data, argument)


def byte_view(data: ReadableBuffer, argument: str) -> memoryview:
    """As ``contiguous``, always a view."""
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(f"{argument} has to be bytes-like, not {type(data).__name__}") from None
    return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
