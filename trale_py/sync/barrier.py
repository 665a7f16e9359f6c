"""Barrier: all wait until the last one has come."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from ..base.durations import Duration
from .statistics import WaitStatistics
from .waiters import ReentrantGate, Waiter, Waiters, block, check_capacity


class Barrier:
    """Lets ``parties`` waiters through together, when the last of them has come; then anew.

    Tasks and threads count alike. A waiter that leaves does not count:
    the others go on waiting, and no barrier is ever broken. ::

        start = Barrier(3)
        await start.wait()      # in two tasks
        start.wait_blocking()   # and a thread

    After Python's ``threading.Barrier`` and Tokio's `Barrier
    <https://docs.rs/tokio/latest/tokio/sync/struct.Barrier.html>`_.
    """

    __slots__ = ("_gate", "_parties", "_round", "_waiters")

    def __init__(self, parties: int) -> None:
        self._parties = check_capacity(parties, "parties", 1)
        self._round = 0
        self._gate = ReentrantGate()
        self._waiters = Waiters()  # of those of this round, and they know that

    @property
    def parties(self) -> int:
        """How many it takes."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """How many have come."""
        return len(self._waiters)

    def wait(self) -> Coroutine[Any, Any, bool]:
        """Wait until all have come. True for one of them, the last: as for Tokio's leader."""
        return _BarrierWait(self)

    def wait_blocking(self, timeout: Duration | None = None) -> bool:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        return block(_BarrierWait(self), timeout)

    def statistics(self) -> WaitStatistics:
        """How it is at this moment."""
        return WaitStatistics(len(self._waiters))

    def __repr__(self) -> str:
        return f"<Barrier {len(self._waiters)} of {self._parties} are waiting>"


class _BarrierWait(Waiter[bool]):
    __slots__ = ("_barrier", "_round")

    def __init__(self, barrier: Barrier) -> None:
        self._barrier = barrier
        self._round = -1  # not in line yet
        super().__init__(barrier._gate, barrier._waiters)

    def _attempt(self) -> bool:
        barrier, waiters = self._barrier, self._waiters
        if self._round == barrier._round:
            return False
        if self._round >= 0:  # that round is over
            self._result = False
        elif len(waiters) + 1 < barrier._parties:
            self._round = barrier._round
            return False
        else:
            waiters.wake_all()
            barrier._round, self._result = barrier._round + 1, True
            waiters.clear()
        return True

    def _keeps(self) -> bool:
        return 0 <= self._round < self._barrier._round

    def __repr__(self) -> str:
        return f"<wait of {self._barrier!r}>"
