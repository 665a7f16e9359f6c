"""EventFd: a Notify that other processes can use. See eventfd(2)."""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Coroutine
from typing import Any

import linuxfd

from ..base.closeable import Closing
from ..base.durations import Duration, to_timeout
from ..base.errors import ClosedResourceError
from ..core.future import PENDING, Pending, Ready
from ..core.leaf import Operation
from ..core.registration import Interest, Registration
from ..core.waker import Context
from .waiters import refuse_on_executor

_MOST = 2**64 - 2  # see eventfd(2)


class EventFd(Closing):
    """Each ``notify_one()`` lets one wait through, in this process or another; each is counted.

    The count is the kernel's, so a process that has the descriptor takes part: one that was
    forked, or that was given it (``pass_fds``, a Unix socket). The first one to read is the
    kernel's choice. ::

        done = EventFd()
        if os.fork() == 0:
            work()
            done.notify_one()
            os._exit(0)
        await done.wait()  # in a task; in a thread: done.wait_blocking()

    ``initial``: notifications that are there at the beginning. OSError if there is no descriptor
    left. After trale's futures/event.rs.
    """

    def __init__(self, initial: int = 0) -> None:
        if not isinstance(initial, int):
            raise TypeError(f"initial must be an int, not {initial!r}")
        if not 0 <= initial <= _MOST:
            raise ValueError(f"initial must be 0 to 2**64 - 2, not {initial}")
        self._eventfd = linuxfd.eventfd(0, semaphore=True, nonBlocking=True, closeOnExec=True)
        self._closed = False
        self._waiting: dict[_EventFdWait, Registration] = {}
        # eventfd(2) takes 32 bits of the count, write(2) takes all.
        self._eventfd.write(initial)

    def fileno(self) -> int:
        """The descriptor. ClosedResourceError after ``close()``."""
        if self._closed:
            raise ClosedResourceError("this EventFd was closed")
        fd: int = self._eventfd.fileno()
        return fd

    def notify_one(self) -> None:
        """Let one waiter through, or the next that comes. From any thread; one system call.

        BlockingIOError if 2**64 - 2 notifications are there.
        """
        self.fileno()
        self._eventfd.write(1)

    def wait(self) -> Coroutine[Any, Any, None]:
        """Wait for a notification and take it. Cancelled, it takes none.

        ClosedResourceError if it is closed, also meanwhile.
        """
        return _EventFdWait(self)

    def try_wait(self) -> bool:
        """Take a notification if there is one. From any thread; one system call."""
        self.fileno()
        try:
            self._eventfd.read()
        except BlockingIOError:
            return False
        return True

    def wait_blocking(self, timeout: Duration | None = None) -> None:
        """``wait()`` in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread. Not to be closed meanwhile.
        """
        seconds = math.inf if timeout is None else to_timeout(timeout, "timeout")
        refuse_on_executor()
        deadline = time.monotonic() + (math.inf if seconds < 0 else seconds)
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        while not self.try_wait():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"timed out after {timeout} seconds")
            # Now and then it comes up: a signal may come before poll() and after the last look.
            poll.poll(math.ceil(min(left, 0.1) * 1000))

    def close(self) -> None:
        """Close the descriptor; tasks that wait get ClosedResourceError. From anywhere."""
        if self._closed:
            return
        self._closed = True
        for registration in list(self._waiting.values()):
            registration._wake()
            registration.cancel()
        fd, self._eventfd._fd = self._eventfd.fileno(), None
        if fd is not None:
            os.close(fd)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def __repr__(self) -> str:
        return f"<EventFd {'closed' if self._closed else self.fileno()}>"


class _EventFdWait(Operation[None]):
    __slots__ = ("_event",)

    def __init__(self, event: EventFd) -> None:
        self._event = event
        super().__init__()

    def _advance(self, cx: Context) -> Ready[None] | Pending:
        self._take_back()
        if self._event.try_wait():
            return Ready(None)
        # Level-triggered: a notification that has come since wakes at once.
        registration = cx._runtime.reactor.register_waker(
            self._event.fileno(), cx.waker, Interest.READABLE
        )
        self._event._waiting[self] = registration
        if self._event.closed:  # by another thread, which did not see this one
            return self._advance(cx)
        return PENDING

    def _take_back(self) -> None:
        registration = self._event._waiting.pop(self, None)
        if registration is not None:
            registration.cancel()

    def __repr__(self) -> str:
        return f"<wait of {self._event!r}>"
