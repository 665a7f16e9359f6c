"""What all sockets and pipes here have in common: ownership, closing, and the one way to wait.

A descriptor is registered with the reactor at the first operation that is awaited. From
then on it belongs to that runtime, and only its executor's thread reads, writes and
closes: a system call on a number that another thread has just closed might reach
another file.

Descriptors that others have too (R33)
    ``from_socket`` leaves the caller with the socket, ``socket`` hands it out, and with it the
    number of the descriptor. Closed there, behind the stream's back, the number may soon mean
    another file::

        a task: await stream.read()
                                        another: os.close(stream.socket.fileno())
                                        another: socket.create_connection(...)  <- the same number
        the task: recv(2)               <- reads what is not for it

    So from the moment that other code may know the number, each call is preceded by a look
    whether it still means the same file. A descriptor that was never handed out does without.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..base.closeable import Closing
from ..base.errors import ClosedResourceError, RuntimeClosed
from ..base.log import report
from ..core import current
from ..core.contract import RuntimeLike
from ..core.source import Source
from .io import Io

T = TypeVar("T")


class Descriptor(Closing):
    """A non-blocking descriptor and its place in the reactor.

    ``sock`` is a socket, or an object that has a socket's methods for another kind of file.
    """

    _sock: Any

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._io = Io(sock.fileno())
        self._runtime: RuntimeLike | None = None

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._io.closed

    def close(self) -> None:
        """Close the descriptor. Tasks that wait on it get ClosedResourceError. Twice is fine.

        Never waits. In a task the descriptor is closed when this returns. In any other
        thread, in a ``__del__`` and in a signal handler the runtime is asked to close it, as
        it may be using it at that moment; that takes as long as its next turn.
        """
        if self._io.closed:
            return
        self._io.closed = True
        # R10: we raise the flag and then look whether a runtime has the descriptor. The first
        # operation says which runtime has it and then looks at the flag.
        if self._runtime is None:
            self._close_now()
        else:
            self._runtime.call_on_executor(self._close)

    def _close(self) -> None:
        """Executor's thread. Waiters are woken before the descriptor is gone."""
        if self._io.source is not None and self._runtime is not None:
            self._runtime.reactor._detach(self._io.source)
            self._io.source = None
        try:
            self._close_now()
        except OSError as error:  # EBADF: closed behind our back. The caller may be gone.
            report("closing a %s failed: %s", type(self).__name__, error)

    def _close_now(self) -> None:
        """close(2), without a wait, and of no file but ours."""
        if self._io.shared and file_of(self._sock.fileno()) != self._file:
            self._sock.detach()
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._before_close()
        self._sock.close()

    def _before_close(self) -> None:
        """What a kind of file needs just before its close(2)."""

    def _share(self) -> None:
        """From now on other code knows the descriptor, see R33 above."""
        if not self._io.shared:
            self._file = file_of(self._sock.fileno())
            self._io.shared = True

    def _check_ours(self) -> None:
        """Before a call on a descriptor that is shared. OSError (EBADF): it was closed (R33)."""
        if file_of(self._sock.fileno()) != self._file:
            raise OSError(
                errno.EBADF,
                f"{os.strerror(errno.EBADF)}: that of this {type(self).__name__}"
                " was closed elsewhere",
            )

    def _check_open(self) -> None:
        """ClosedResourceError once it was closed."""
        if self._io.closed:
            raise ClosedResourceError(f"this {type(self).__name__} was closed")

    def _check_runtime(self) -> None:
        """RuntimeError in a task of another runtime than the one that has the descriptor.

        Whatever an operation does without the kernel is subject to it too: a child of a fork
        has the parent's buffers and claims, and could half-close the parent's connection.
        """
        cx = current.thread.context
        if cx is not None and self._runtime is not None:
            check_runtime(f"this {type(self).__name__}", self._runtime, cx._runtime)

    def _attach(self, runtime: RuntimeLike) -> Source:
        """The descriptor's source, registered if it is not yet."""
        self._check_runtime()
        self._runtime = runtime
        self._check_open()
        if self._io.source is None:
            if self._io.shared:
                self._check_ours()
            self._io.source = runtime.reactor._attach(self._sock.fileno())
        return self._io.source

    def _reading(self, call: Callable[[], T]) -> Coroutine[Any, Any, T]:
        """``call`` as an operation, tried whenever it may be readable."""
        return self._io.call(self, call, False, None)

    def _writing(
        self, call: Callable[[], T], view: memoryview | None = None
    ) -> Coroutine[Any, Any, T]:
        """``call`` as an operation, tried whenever it may be writable."""
        return self._io.call(self, call, True, view)

    def _check_eagain(self) -> None:
        """A write has said EAGAIN. OSError if that does not mean to wait."""

    def _where(self) -> str:
        """What the repr shows of it. OSError: what it shows instead."""
        return ""

    def __del__(self) -> None:
        if hasattr(self, "_io") and not self._io.closed:
            text = f"unclosed {self!r}"
            self.close()  # first: the warning may be made an error
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        if self._io.closed:
            return f"<{type(self).__name__} closed>"
        try:
            where = self._where()
        except OSError as error:
            where = str(error)
        return f"<{type(self).__name__} fd={self._sock.fileno()} {where}>".replace(" >", ">")


def check_runtime(what: str, owner: RuntimeLike, user: RuntimeLike) -> None:
    """RuntimeError if they are two; RuntimeClosed if the owner is gone. Of what tasks await."""
    if owner is user:
        return
    if owner.gone:
        raise RuntimeClosed(f"{what} belongs to another runtime ({owner.gone})")
    raise RuntimeError(
        f"{what} belongs to {current.shown(owner)}, which first awaited it: "
        f"a task of {current.shown(user)} cannot use it"
    )


def file_of(fd: int) -> tuple[int, int] | None:
    """Which open file a number means; None if it means none."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino
