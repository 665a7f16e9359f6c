"""OpenFile: a descriptor, and the threads that use it.

A call on a file that a thread has begun cannot be interrupted, and ``close()`` does not wait for
it. So the descriptor is closed when the last of the threads has done with it.

R86: a call may begin while the file is closed::

    a thread: is it closed? no
                                    the task: close(2)
                                    another: open(2)     <- the same number
    the thread: write(2)            <- into another file

The thread enters itself and then looks at ``closing``; the task raises ``closing`` and then looks
whether a thread is entered. The second of the two sees the other. If both do, both would close:
the number itself is taken out of a list, which one of them finds empty.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TypeVar

from ..base.errors import ClosedResourceError

T = TypeVar("T")


class OpenFile:
    """Owns ``fd``. Dropped, it closes it: the task that opens a file may be cancelled meanwhile."""

    __slots__ = ("_fds", "_users", "closing", "fd")

    def __init__(self, fd: int) -> None:
        self.fd: int = fd
        self.closing: bool = False
        self._fds = [fd]  # popped once: by the one that closes it
        self._users: dict[object, None] = {}

    def use(self, function: Callable[..., T], *args: object) -> T:
        """``function(fd, *args)``. Any thread. ClosedResourceError once it is closed."""
        me = object()
        self._users[me] = None
        try:
            if self.closing:
                raise ClosedResourceError("this File was closed")
            return function(self.fd, *args)
        finally:
            del self._users[me]
            if self.closing:
                with contextlib.suppress(OSError):  # close() has not waited for this
                    self._close_unused()

    def close(self) -> None:
        """Close it, now or when the last thread has done with it. Any thread. OSError."""
        self.closing = True
        self._close_unused()

    def _close_unused(self) -> None:
        if not self._users:
            with contextlib.suppress(IndexError):
                os.close(self._fds.pop())

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, IndexError, OSError):
            os.close(self._fds.pop())
