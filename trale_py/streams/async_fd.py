"""AsyncFd: wait for a descriptor that other code reads and writes."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from ..base.closeable import Closing
from ..base.errors import BusyResourceError, ClosedResourceError
from ..core.contract import RuntimeLike
from ..core.future import PENDING, Pending, Ready
from ..core.leaf import Operation
from ..core.registration import Interest, Registration
from ..core.waker import Context
from .descriptor import check_runtime


class HasFileno(Protocol):
    """Anything with a ``fileno()``: a socket, a pipe, a terminal."""

    def fileno(self) -> int: ...


class AsyncFd(Closing):
    """Wait until a descriptor can be read or written; do that yourself, non-blocking.

    It does not own the descriptor and never closes it. Level-triggered: while there is
    something to read, ``readable()`` returns at once. One task per direction. It may
    stand beside a stream or another AsyncFd of the same descriptor. What epoll refuses,
    as a regular file, is always ready. ::

        with AsyncFd(sock) as fd:
            await fd.readable()
            data = sock.recv(4096)

    After Tokio's `AsyncFd <https://docs.rs/tokio/latest/tokio/io/unix/struct.AsyncFd.html>`_.
    """

    def __init__(self, fd: int | HasFileno) -> None:
        if not isinstance(fd, int) and not hasattr(fd, "fileno"):
            raise TypeError(f"fd must be an int or have a fileno(), not {fd!r}")
        number = fd if isinstance(fd, int) else fd.fileno()
        if not isinstance(number, int):
            raise TypeError(f"fd.fileno() must be an int, not {number!r}: {fd!r}")
        if not 0 <= number < 2**31:
            raise ValueError(f"fd must be an open descriptor, not {fd!r}")
        self._fd = number
        self._closed = False
        self._runtime: RuntimeLike | None = None  # that first awaited it
        self._waiting: dict[Interest, _FdReady] = {}

    def fileno(self) -> int:
        """The descriptor, as it was given."""
        return self._fd

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def readable(self) -> Coroutine[Any, Any, None]:
        """Wait until a read would not block: data, the end, or an error.

        BusyResourceError if another task waits for the same, ClosedResourceError after
        ``close()``, OSError if the descriptor is not open.
        """
        return _FdReady(self, Interest.READABLE)

    def writable(self) -> Coroutine[Any, Any, None]:
        """Wait until a write would not block: room, or an error. Raises what readable() does."""
        return _FdReady(self, Interest.WRITABLE)

    def close(self) -> None:
        """Take the registrations back; a waiting task gets ClosedResourceError. Any thread."""
        self._closed = True
        for waiting in list(self._waiting.values()):
            waiting._look_again()

    def __repr__(self) -> str:
        return f"<AsyncFd {self._fd}{' closed' if self._closed else ''}>"

    def _claim(self, waiter: _FdReady, interest: Interest, runtime: RuntimeLike) -> None:
        """One task at a time waits for a direction: this one, or BusyResourceError."""
        if self._closed:
            raise ClosedResourceError(f"{self!r} was closed")
        self._runtime = self._runtime or runtime
        check_runtime(repr(self), self._runtime, runtime)
        if self._waiting.setdefault(interest, waiter) is not waiter:
            raise BusyResourceError(f"another task already waits for {self!r}, {interest.name}")

    def _unclaim(self, waiter: _FdReady, interest: Interest) -> None:
        """The wait is over: another may come."""
        if self._waiting.get(interest) is waiter:
            del self._waiting[interest]


class _FdReady(Operation[None]):
    """One wait of an AsyncFd, by one registration with the reactor."""

    __slots__ = ("_fd", "_interest", "_registration")

    def __init__(self, fd: AsyncFd, interest: Interest) -> None:
        self._fd = fd
        self._interest = interest
        self._registration: Registration | None = None
        super().__init__()

    def _advance(self, cx: Context) -> Ready[None] | Pending:
        self._fd._claim(self, self._interest, cx._runtime)
        if self._registration is not None and self._registration._fired:
            if self._registration._error is not None:
                raise self._registration._error
            self._take_back()
            return Ready(None)
        if self._registration is not None:
            self._registration.cancel()
        self._registration = cx._runtime.reactor.register_waker(
            self._fd.fileno(), cx.waker, self._interest
        )
        if self._fd.closed:  # by another thread, which did not see the registration yet
            return self._advance(cx)
        return PENDING

    def _look_again(self) -> None:
        """Have the task look again, as the AsyncFd was closed."""
        if self._registration is not None:
            self._registration._wake()

    def _take_back(self) -> None:
        if self._registration is not None:
            self._registration.cancel()
        self._fd._unclaim(self, self._interest)

    def __repr__(self) -> str:
        name = "readable" if self._interest is Interest.READABLE else "writable"
        return f"<{name} of {self._fd!r}>"
