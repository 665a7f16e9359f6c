"""The reactor's own two descriptors: an eventfd that wakes it and a timerfd.

Both come from linuxfd, which is old and has three faults that matter here. It never
closes a descriptor numbered 0. It cuts the seconds of a timer through a C int, and the
fraction down to a whole nanosecond. It opens without CLOEXEC unless told. They are
guarded in this file and nowhere else.
"""

from __future__ import annotations

import contextlib
import math
import os

import linuxfd

# Well inside a C int. A longer wait wakes once in between and sets the timerfd again.
LONGEST_WAIT_NS = 3600 * 10**9


class WakeupFd:
    """Interrupts epoll_wait. See eventfd(2)."""

    __slots__ = ("_eventfd",)

    def __init__(self) -> None:
        self._eventfd = linuxfd.eventfd(nonBlocking=True, closeOnExec=True)

    def fileno(self) -> int:
        return _fileno(self._eventfd)

    def notify(self) -> None:
        with contextlib.suppress(BlockingIOError):  # the counter is full: it is readable already
            self._eventfd.write()

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._eventfd.read()

    def close(self) -> None:
        _close(self._eventfd)


class TimerFd:
    """Becomes readable at a set time of CLOCK_MONOTONIC. See timerfd_create(2)."""

    __slots__ = ("_set_to", "_timerfd")

    def __init__(self) -> None:
        self._timerfd = linuxfd.timerfd(nonBlocking=True, closeOnExec=True)
        self._set_to = 0

    def fileno(self) -> int:
        return _fileno(self._timerfd)

    def set(self, deadline: int, now: int) -> None:
        """Go off at ``deadline``, in nanoseconds, at least 1; or in an hour, if that is sooner."""
        if deadline == self._set_to:
            return
        self._set_to = deadline
        seconds = min(deadline, now + LONGEST_WAIT_NS) / 10**9
        # The next float up makes up for the fraction that linuxfd cuts off. It is what keeps
        # us from going off a nanosecond early and setting it again for that nanosecond.
        self._timerfd.settime(math.nextafter(seconds, math.inf), 0, True)

    def clear(self) -> None:
        self._set_to = 0
        with contextlib.suppress(BlockingIOError):  # set anew since it went off
            self._timerfd.read()

    def close(self) -> None:
        _close(self._timerfd)


def _fileno(owner: linuxfd.eventfd | linuxfd.timerfd) -> int:
    fd = owner.fileno()
    return -1 if fd is None else fd


def _close(owner: linuxfd.eventfd | linuxfd.timerfd) -> None:
    # Forgotten first: a child that is forked while close() runs must not close that number too,
    # which another thread may have got by then.
    fd, owner._fd = owner.fileno(), -1
    if fd >= 0:
        os.close(fd)
