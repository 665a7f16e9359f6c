"""Simulation: what a test puts in the place of the clock, the order of a batch, and the kernel.

A runtime has none (``run_queue.simulation`` is None), unless a test gives it one before it starts:
``runtime.simulate(simulation)``. It is in the same engine then, with three things changed as the
test wishes.

The clock
    All deadlines of tasks are read on it, by ``runtime.now_ns()`` and ``current.now_ns()``. While
    it is set, the timers are the executor's to fire, before each batch, and no thread waits for
    one. When nothing is ready, ``on_idle(deadline)`` is called, with the first deadline that is
    left: it may set the clock, and then returns True. What threads wait for, by ``join(timeout)``
    and the like, the system measures.

The order of a batch
    With a seed, the tasks of each batch change places. The same seed and the same batches give
    the same order, on every version of Python.

System calls
    ``CALLS`` are all that are made for tasks, or in the loop. Each may be planned to fail, or to be
    about fewer bytes than it was asked for. Plans are data and not functions, as in C the calls are
    made where no Python code can run.

In C: native/simulation.c, native/engine_simulation.h.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from .engine import accelerated

CALLS: Final = (
    "recv",  # and recv_into, recvfrom: what reads from a socket
    "send",  # and sendto, sendmsg
    "read",  # and readv: from what is no socket
    "write",
    "accept",
    "connect",  # and the question how it has ended
    "epoll_ctl",
    "epoll_wait",
    "timerfd_settime",
    "eventfd_write",  # it interrupts epoll_wait
)

_WORD = (1 << 64) - 1


class _Plan:
    __slots__ = ("after", "call", "error", "fd", "size", "times")

    def __init__(self, call: str, error: int, size: int, fd: int, after: int, times: int) -> None:
        self.call = call
        self.error = error
        self.size = size
        self.fd = fd
        self.after = after
        self.times = times


@accelerated
class Simulation:
    """A clock, a seed and planned system calls. Real in all that is not set."""

    __slots__ = ("_lock", "_made", "_now", "_plans", "_random", "on_idle", "seeded")

    def __init__(self) -> None:
        self._now: int | None = None
        self._random = 0
        self._plans: list[_Plan] = []
        self._made = dict.fromkeys(CALLS, 0)
        self._lock = threading.Lock()
        self.seeded: bool = False
        self.on_idle: Callable[[int | None], bool] | None = None

    # -- the clock

    @property
    def has_clock(self) -> bool:
        """Whether the clock is set."""
        return self._now is not None

    def set_now(self, ns: int | None) -> None:
        """The clock of deadlines shows this until the next call; None: it is the kernel's.

        On the executor's thread. What is due then fires before its next batch.
        """
        self._now = ns

    def now_ns(self) -> int:
        """The time on the clock of deadlines, in nanoseconds. Any thread."""
        now = self._now
        return time.monotonic_ns() if now is None else now

    # -- the order

    def seed(self, seed: int) -> None:
        """From now on the tasks of each batch change places."""
        self._random = seed & _WORD
        self.seeded = True

    def random(self) -> int:
        """The next of the numbers that follow from the seed: 64 bits, by SplitMix64."""
        z = self._random = (self._random + 0x9E3779B97F4A7C15) & _WORD
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _WORD
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _WORD
        return z ^ z >> 31

    # -- system calls

    def plan(
        self,
        call: str,
        *,
        error: int = 0,
        size: int = sys.maxsize,
        fd: int = -1,
        after: int = 0,
        times: int = 1,
    ) -> None:
        """Let ``after`` calls on ``fd`` (-1: any) be as they are; then have ``times`` fail with
        errno ``error`` or, if that is 0, be about ``size`` bytes at most. Any thread.

        What was planned first comes first. EINTR is invisible, as it is everywhere: the call is
        made again. ValueError for a call that is not in ``CALLS``.
        """
        _check(call)
        with self._lock:
            self._plans.append(_Plan(call, error, size, fd, after, times))

    def take(self, call: str, fd: int, size: int = sys.maxsize) -> int:
        """A call is about to be made, for ``size`` bytes; returns for how many to make it.

        OSError: it was planned to fail.
        """
        _check(call)
        with self._lock:
            error = errno.EINTR
            while error == errno.EINTR:
                error, size = self._outcome(call, fd, size)
        if error:
            raise OSError(error, os.strerror(error))
        return size

    def _outcome(self, call: str, fd: int, size: int) -> tuple[int, int]:
        self._made[call] += 1
        for plan in self._plans:
            if plan.call == call and plan.fd in (-1, fd) and plan.times > 0:
                if plan.after == 0:
                    plan.times -= 1
                    return plan.error, min(size, plan.size)
                plan.after -= 1
        return 0, size

    def left(self) -> int:
        """How many calls are planned that have not come. Any thread."""
        with self._lock:
            return sum(plan.times for plan in self._plans)

    def made(self, call: str) -> int:
        """How many have come, planned or not. Any thread."""
        _check(call)
        return self._made[call]


def _check(call: str) -> None:
    if call not in CALLS:
        raise ValueError(f"call must be one of {', '.join(CALLS)}, not {call!r}")
