"""Sleeps on other clocks than that of deadlines: the wall clock, and the one that counts suspend.

The reactor's timerfd knows CLOCK_MONOTONIC only. A sleep on another clock is rare, so it has a
timerfd of its own while it waits.

The wall clock may be set to another time while a task sleeps. The kernel then moves the end of an
absolute timer along, and tells of it (TFD_TIMER_CANCEL_ON_SET). Whatever has woken the task, it
reads the clock: if that shows the time or a later one, the sleep is over, else it sets the timer
anew. So a sleep that begins or wakes while the clock is being set is never early by the new time.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from .._linux import clock_timer
from ..core.contract import RuntimeLike
from ..core.future import PENDING, Pending, Ready
from ..core.leaf import Operation
from ..core.registration import Interest, Registration
from ..core.waker import Context

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAMES: Final = {
    time.CLOCK_REALTIME: "sleep_until_wall",
    time.CLOCK_BOOTTIME: "sleep, suspend counted",
}


def sleep_until_wall(when: datetime) -> Coroutine[Any, Any, None]:
    """``await sleep_until_wall(t)``: sleep until the wall clock shows ``t``, an aware datetime.

    At once if that is past. It follows the wall clock (CLOCK_REALTIME): if the clock is set,
    or the machine was suspended, what counts is the time that the clock then shows. Never early by
    that clock. It takes a descriptor while it waits: OSError (EMFILE) if there is none.

    ValueError for a naive datetime, which could mean any time zone; TypeError for another type. ::

        tomorrow = datetime.now().astimezone() + timedelta(days=1)
        await sleep_until_wall(tomorrow.replace(hour=6, minute=0))

    See timerfd_create(2), TFD_TIMER_CANCEL_ON_SET.
    """
    if not isinstance(when, datetime):
        raise TypeError(f"when must be a datetime, not {when!r}")
    if when.utcoffset() is None:
        raise ValueError(
            f"when must have a time zone, not {when!r}: when.astimezone() gives it the local one"
        )
    deadline = (when - _EPOCH) // timedelta(microseconds=1) * 1000
    return ClockSleep(time.CLOCK_REALTIME, deadline)


class ClockSleep(Operation[None]):
    """Ready when ``clock`` has reached ``deadline``, in nanoseconds."""

    __slots__ = ("_clock", "_deadline", "_registration", "_runtime", "_timer")

    _runtime: RuntimeLike

    def __init__(self, clock: int, deadline: int) -> None:
        self._clock = clock
        self._deadline = deadline
        self._timer: int | None = None
        self._registration: Registration | None = None
        super().__init__()

    def _advance(self, cx: Context) -> Ready[None] | Pending:
        error = None if self._registration is None else self._registration._error
        if error is not None:
            raise error
        if time.clock_gettime_ns(self._clock) >= self._deadline:
            self._take_back()
            return Ready(None)
        if self._timer is None:
            self._runtime = cx._runtime
            self._timer = clock_timer.open_timer(self._clock)
        # In this order: what happens after the set is told to the registration.
        clock_timer.clear_timer(self._timer)
        clock_timer.set_timer(self._timer, self._deadline)
        if self._registration is not None:
            self._registration.cancel()
        self._registration = cx._runtime.reactor.register_waker(
            self._timer, cx.waker, Interest.READABLE
        )
        return PENDING

    def _take_back(self) -> None:
        if self._registration is not None:
            self._registration.cancel()
        timer, self._timer = self._timer, None
        if timer is None:
            return
        left = [timer]  # popped once

        def close() -> None:
            with contextlib.suppress(IndexError):
                os.close(left.pop())

        # After what cancel() does, in whatever thread this is.
        self._runtime.call_on_executor(close)
        if self._runtime.gone:  # now or just before: nothing published would be called
            close()

    def __repr__(self) -> str:
        left = max(0, self._deadline - time.clock_gettime_ns(self._clock)) // 10**6
        return f"<{_NAMES[self._clock]}, {left / 1000:.3f} s left>"
