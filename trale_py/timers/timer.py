"""Timers: sleep, and what is built like it.

A Timer is a leaf future: until its deadline has come, each poll leaves the task's waker
with the reactor, and a wake that comes early finds that it is early. So a timer is never
early, whatever wakes its task.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Literal

from ..base.durations import NEVER, Duration, to_deadline, to_ns
from ..base.errors import ClosedResourceError
from ..core import current
from ..core.engine import accelerated
from ..core.future import PENDING, Pending, Ready
from ..core.leaf import NEW, Leaf, Operation, yield_now
from ..core.reactor import Reactor
from ..core.timer_heap import TimerEntry
from ..core.waker import Context
from .clock_sleep import ClockSleep


def now() -> float:
    """The time on the clock of deadlines: seconds of CLOCK_MONOTONIC, see clock_gettime(2)."""
    return current.now_ns() / 1e9


def _wait_for_deadline(wait: SleepWait | Timer, cx: Context) -> Pending:
    """Leave the waker with the reactor, unless it is there."""
    if wait._entry is None or wait._entry.waker != cx.waker:
        wait._take_back()
        wait._reactor = cx._runtime.reactor
        wait._entry = wait._reactor._add_timer(wait._deadline, cx.waker)
    return PENDING


def _cancel_entry(wait: SleepWait | Timer) -> None:
    if wait._entry is not None and wait._reactor is not None:
        wait._reactor._cancel_timer(wait._entry)
        wait._entry = None


@accelerated
class SleepWait(Operation[None]):
    """Ready when the clock has reached ``deadline``, in nanoseconds. A timer for one wait."""

    __slots__ = ("_deadline", "_entry", "_reactor")

    def __init__(self, deadline: int) -> None:
        self._deadline = deadline
        self._entry: TimerEntry | None = None
        self._reactor: Reactor | None = None
        super().__init__()

    def _advance(self, cx: Context) -> Ready[None] | Pending:
        if cx._runtime.now_ns() >= self._deadline:
            self._take_back()
            return Ready(None)
        return _wait_for_deadline(self, cx)

    def _take_back(self) -> None:
        _cancel_entry(self)

    def __repr__(self) -> str:
        if self._deadline == NEVER:
            return "<sleep for ever>"
        left = max(0, self._deadline - current.now_ns()) // 10**6
        return f"<sleep, {left / 1000:.3f} s left>"


class Timer(Leaf[None]):
    """A future that is ready when ``duration`` is over, counted from its making.

    ``duration``: seconds or a timedelta; ValueError for NaN and for less than 0. One task
    at a time may await it: RuntimeError in a second one. An await that was cancelled has only
    stopped waiting, and one of a timer that has fired returns at once, until ``reset``. ::

        timer = Timer(0.5)
        timer.reset(1.0)  # no: one second from now
        await timer

    See timerfd_create(2); trale's futures/timer.rs.
    """

    __slots__ = ("_cancelled", "_deadline", "_entry", "_reactor")

    def __init__(self, duration: Duration) -> None:
        self._deadline = to_deadline(duration, "duration", current.now_ns())
        self._cancelled = False
        self._entry: TimerEntry | None = None
        self._reactor: Reactor | None = None
        super().__init__()

    @staticmethod
    def sleep(duration: Duration) -> Coroutine[Any, Any, None]:
        """The same as :func:`trale_py.sleep`."""
        return sleep(duration)

    def reset(self, duration: Duration) -> None:
        """Start over: ready when ``duration`` from now is over. A waiting task waits for that.

        In a task. On a cancelled timer: ClosedResourceError.
        """
        deadline = to_deadline(duration, "duration", current.now_ns())
        if self._cancelled:
            raise ClosedResourceError("this timer was cancelled")
        self._deadline = deadline
        self._wake_waiter()

    def cancel(self) -> None:
        """Never fire. Present and later waits get ClosedResourceError. In a task."""
        self._cancelled = True
        self._wake_waiter()

    def _advance(self, cx: Context) -> Ready[None] | Pending:
        if self._cancelled:
            raise ClosedResourceError("this timer was cancelled")
        if cx._runtime.now_ns() >= self._deadline:
            self.drop()
            return Ready(None)
        return _wait_for_deadline(self, cx)

    def _take_back(self) -> None:
        _cancel_entry(self)

    def drop(self) -> None:
        super().drop()
        self._state = NEW  # it may be awaited again

    def _wake_waiter(self) -> None:
        """Have the waiting task poll again, to see what has changed."""
        waker = None if self._entry is None else self._entry.waker
        self._take_back()
        if waker is not None:
            waker.wake()

    def __repr__(self) -> str:
        if self._cancelled:
            return "<Timer cancelled>"
        if self._deadline == NEVER:
            return "<Timer never>"
        return f"<Timer in {(self._deadline - current.now_ns()) / 1e9:.3f} s>"


def sleep(duration: Duration, *, count_suspend: bool = False) -> Coroutine[Any, Any, None]:
    """``await sleep(d)``: let ``d`` (seconds or a timedelta) pass, counted from this call.

    Never early; late by the time the threads need, usually well under a millisecond.
    ``sleep(0)`` gives way like ``yield_now()``; ``math.inf`` sleeps until cancelled. While the
    machine is suspended no time passes, unless ``count_suspend`` is true (CLOCK_BOOTTIME): such a
    sleep takes a descriptor while it waits. ValueError for NaN and less than 0, TypeError for what
    is no duration. ::

        await sleep(0.25)
    """
    ns = to_ns(duration, "duration")
    if ns == 0:
        return yield_now()
    if count_suspend:
        boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return ClockSleep(time.CLOCK_BOOTTIME, min(boot + ns, NEVER))
    return SleepWait(min(current.now_ns() + ns, NEVER))


def sleep_until(deadline: float) -> Coroutine[Any, Any, None]:
    """``await sleep_until(t)``: sleep until the clock ``now()`` shows ``t``.

    At once if that is past. ValueError for NaN, TypeError for what is no float. ::

        start = now()
        await sleep_until(start + 1.5)
    """
    if not isinstance(deadline, (int, float)):
        raise TypeError(f"deadline must be a float, as now() returns, not {deadline!r}")
    # A time before the clock's zero is past, like any other.
    return SleepWait(to_ns(deadline if not deadline < 0 else 0.0, "deadline"))


class Interval:
    """Ticks at a fixed period; made by :func:`interval`."""

    def __init__(self, period: Duration, missed: Literal["burst", "delay", "skip"]) -> None:
        self._period = to_ns(period, "period")
        if self._period == 0:
            raise ValueError("period must be more than 0, not 0")
        if missed not in ("burst", "delay", "skip"):
            raise ValueError(f"missed must be 'burst', 'delay' or 'skip', not {missed!r}")
        self._missed = missed
        self._next = current.now_ns()

    async def tick(self) -> float:
        """Wait for the next tick; return the time, on the clock ``now()``, that it was due at.

        Cancelled, it leaves the tick to the next call.
        """
        due = self._next
        await SleepWait(due)
        after = due + self._period
        late = current.now_ns()
        if self._missed == "delay":
            after = max(after, late + self._period)
        elif self._missed == "skip" and after <= late:
            after += ((late - after) // self._period + 1) * self._period
        self._next = min(after, NEVER)
        return due / 1e9

    def __aiter__(self) -> AsyncIterator[float]:
        return self

    async def __anext__(self) -> float:
        return await self.tick()

    def __repr__(self) -> str:
        return f"<Interval {self._period / 1e9} s, missed={self._missed!r}>"


def interval(period: Duration, *, missed: Literal["burst", "delay", "skip"] = "burst") -> Interval:
    """A clock that ticks every ``period`` (seconds or a timedelta, more than 0), at once first.

    ``missed`` says what follows a tick that the task was too busy to take in time:
    ``"burst"`` makes up at once for all that are past, ``"delay"`` counts the period from the
    late one on, ``"skip"`` leaves out what is past and keeps to the beat. ::

        async for due in interval(0.5):
            print("tick", due)

    After Tokio's `interval <https://docs.rs/tokio/latest/tokio/time/fn.interval.html>`_.
    """
    return Interval(period, missed)
