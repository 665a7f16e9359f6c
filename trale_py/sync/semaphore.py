"""Semaphore and BoundedSemaphore: so many at once."""

from __future__ import annotations

from .semaphore_core import SemaphoreCore
from .statistics import WaitStatistics
from .waiters import check_capacity


class Semaphore(SemaphoreCore):
    """``value`` permits; when none is left, acquire waits. First come, first served.

    Tasks and threads wait in one line. May be made anywhere, before the runtime exists
    too. Released more often than acquired, it grows; a BoundedSemaphore refuses. ``acquire(n)``
    takes several permits at once. ::

        at_once = Semaphore(3)
        async with at_once:  # in a task
            await fetch()
        with at_once:  # in a thread
            fetch_blocking()

    After Python's ``threading.Semaphore`` and Tokio's `Semaphore
    <https://docs.rs/tokio/latest/tokio/sync/struct.Semaphore.html>`_.
    """

    __slots__ = ()

    def __init__(self, value: int) -> None:
        super().__init__(check_capacity(value, "value", 0))

    @property
    def value(self) -> int:
        """How many permits are left."""
        return self._count

    def statistics(self) -> WaitStatistics:
        """How it is at this moment."""
        return WaitStatistics(len(self._waiters))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} permits={self._count} waiting={len(self._waiters)}>"


class BoundedSemaphore(Semaphore):
    """A Semaphore that never has more permits than at first.

    ``release`` raises ValueError then: it was called without an ``acquire``. So does an
    ``acquire(n)`` of more than that, which could never end.

    After Python's ``threading.BoundedSemaphore``.
    """

    __slots__ = ()

    def __init__(self, value: int) -> None:
        SemaphoreCore.__init__(self, check_capacity(value, "value", 0), value)
