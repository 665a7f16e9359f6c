"""Timers of the wall clock and of the clock that counts suspend; the C is in clock_timer.c.

linuxfd's timerfd cuts the seconds through a C int, which the wall clock outgrows in 2038, and it
knows no TFD_TIMER_CANCEL_ON_SET.
"""

from __future__ import annotations

import contextlib
import errno
import os

from . import library


def open_timer(clock: int) -> int:
    """A timerfd of ``clock``, as ``time.CLOCK_REALTIME``. OSError (EMFILE, ...)."""
    _, lib = library()
    return _checked(lib.trale_clock_timer_open(clock))


def set_timer(timer: int, deadline: int) -> None:
    """Have it become readable at ``deadline``, in nanoseconds (0 or more) of its clock.

    A timer of CLOCK_REALTIME also becomes readable when the clock is set.
    """
    _, lib = library()
    _checked(lib.trale_clock_timer_set(timer, *divmod(deadline, 10**9)))


def clear_timer(timer: int) -> None:
    """Take note that it has become readable, for whichever cause."""
    try:
        with contextlib.suppress(BlockingIOError):
            os.read(timer, 8)
    except OSError as error:
        if error.errno != errno.ECANCELED:  # the clock was set
            raise


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
