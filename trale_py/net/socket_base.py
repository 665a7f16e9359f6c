"""What all sockets here have in common: ownership, closing, and the one way to wait.

A socket is registered with the reactor at the first operation that is awaited. From
then on it belongs to that runtime, and only its executor's thread reads, writes and
closes: a system call on a number that another thread has just closed might reach
somebody else's file.

Sockets that others have too (R33)
    ``from_socket`` leaves the caller with the socket, ``socket`` hands it out, and with it the
    number of the descriptor. Closed there, behind the stream's back, the number may soon mean
    another file::

        a task: await stream.read()
                                        another: os.close(stream.socket.fileno())
                                        another: socket.create_connection(...)  <- the same number
        the task: recv(2)               <- reads what is not for it

    So from the moment that somebody else may know the number, each call is preceded by a look
    whether it still means the same file. A socket that was never handed out does without.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
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
from .io import Io

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


T = TypeVar("T")

# What a class of sockets may do in a way of its own (ssl.SSLSocket does), and we would not.
_CALLS = (
    "accept",
    "recv",
    "recv_into",
    "recvfrom",
    "recvfrom_into",
    "recvmsg",
    "recvmsg_into",
    "send",
    "sendall",
    "sendmsg",
    "sendto",
)
_LINGER = struct.Struct("ii")  # a struct linger; see socket(7)


class BaseSocket(Closing):
    """A non-blocking socket and its place in the reactor."""

    _KIND: ClassVar[socket.SocketKind]

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._io = Io(sock.fileno())
        self._runtime: RuntimeLike | None = None

    @classmethod
    def from_socket(cls, sock: socket.socket) -> Self:
        """Take over a socket of the standard library; it is set non-blocking.

        From here on it is closed by this object. TypeError for a class that sends or receives in
        a way of its own, as ``ssl.SSLSocket``; ValueError for a socket of another kind.
        """
        if not isinstance(sock, socket.socket):
            raise TypeError(f"sock must be a socket, not {sock!r}")
        own = [name for name in _CALLS if getattr(type(sock), name) is not _plain(name)]
        if own:
            raise TypeError(
                f"sock must be a plain socket, not {sock!r}: its own {own[0]}() would not be called"
            )
        if sock.type != cls._KIND or sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise ValueError(f"{cls.__name__} cannot take over {sock!r}")
        if sock.fileno() < 0:
            raise ValueError(f"{sock!r} is closed")
        sock.setblocking(False)
        taken = cls(sock)
        taken._share()
        return taken

    @property
    def socket(self) -> socket.socket:
        """The standard library's socket underneath, to set options. Do not close it.

        If it is closed all the same, operations raise OSError (EBADF). A task that waits already
        is told when a socket of the runtime gets the number; the kernel does not say it.
        """
        self._share()
        return self._sock

    def _share(self) -> None:
        """From now on somebody else knows the descriptor, see R33 above."""
        if not self._io.shared:
            self._file = _file_of(self._sock.fileno())
            self._io.shared = True

    def _check_ours(self) -> None:
        """Before a call of a socket that is shared. OSError (EBADF): it was closed (R33)."""
        if _file_of(self._sock.fileno()) != self._file:
            raise OSError(
                errno.EBADF,
                f"{os.strerror(errno.EBADF)}: {type(self).__name__}.socket was closed elsewhere",
            )
        if self._sock.gettimeout() != 0.0:  # Python would wait for that long, in poll(2)
            self._sock.setblocking(False)

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
            self._close_socket()
        else:
            self._runtime.call_on_executor(self._close)

    def _close(self) -> None:
        """Executor's thread. Waiters are woken before the descriptor is gone."""
        if self._io.source is not None and self._runtime is not None:
            self._runtime.reactor._detach(self._io.source)
            self._io.source = None
        try:
            self._close_socket()
        except OSError as error:  # EBADF: closed behind our back. The caller may be gone.
            report("closing a %s failed: %s", type(self).__name__, error)

    def _close_socket(self) -> None:
        """close(2), without a wait, and of no file but ours."""
        if self._io.shared and _file_of(self._sock.fileno()) != self._file:
            self._sock.detach()
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self._KIND == socket.SOCK_STREAM:
            with contextlib.suppress(OSError):
                _do_not_linger(self._sock)
        self._sock.close()

    def _check_open(self) -> None:
        if self._io.closed:
            raise ClosedResourceError(f"this {type(self).__name__} was closed")

    def _check_runtime(self) -> None:
        """RuntimeClosed in a task of another runtime than the one that has the socket.

        Whatever an operation does without the kernel is subject to it too: a child of a fork
        has the parent's buffers and claims, and could half-close the parent's connection.
        """
        cx = current.thread.context
        if cx is not None and self._runtime not in (None, cx._runtime):
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
            if self._io.shared:
                self._check_ours()
            self._io.source = runtime.reactor._attach(self._sock.fileno())
        return self._io.source

    def _reading(self, call: Callable[[], T]) -> Coroutine[Any, Any, T]:
        return self._io.call(self, call, False, None)

    def _writing(
        self, call: Callable[[], T], view: memoryview | None = None
    ) -> Coroutine[Any, Any, T]:
        return self._io.call(self, call, True, view)

    def _check_eagain(self) -> None:
        """A write has said EAGAIN. OSError if that does not mean to wait."""

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


def _plain(name: str) -> object:
    return getattr(socket.socket, name)


def _file_of(fd: int) -> tuple[int, int] | None:
    """Which open file a number means; None if it means none."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _do_not_linger(sock: socket.socket) -> None:
    """Have close(2) return at once, whatever SO_LINGER says.

    With a time set there, close(2) waits until the peer has everything, or for that time, and a
    non-blocking socket is no exception (socket(7)). It does nothing else in that time: whether
    it has waited or not, the kernel goes on sending afterwards. So the wait would be of use to
    nobody here. A time of 0 is another matter: it has close(2) reset the connection.
    """
    on, seconds = _LINGER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size))
    if on and seconds:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(0, 0))


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
