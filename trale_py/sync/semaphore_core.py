"""SemaphoreCore, in Python: the permits of a Semaphore, and the waiters for one.

A ReentrantGate and Waiters, see waiters.py. While a permit is there, there are no waiters, but for
those that wait for more.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from functools import partial
from types import TracebackType
from typing import Any

from ..base.closeable import AsyncLeaving
from ..base.durations import Duration
from ..core.engine import accelerated
from .waiters import NOTHING, ReentrantGate, Waiter, Waiters, block, check_capacity


def check_permits(n: int = 1) -> int:
    return check_capacity(n, "n", 1)


@accelerated
class SemaphoreCore(AsyncLeaving):
    """A number of permits, and the waiters for some. ``bound``: how many there may be.

    One that waits for several is first in line until all of them are there; so permits may be
    there while it waits.
    """

    __slots__ = ("_bound", "_count", "_gate", "_waiters")

    def __init__(self, count: int, bound: int = sys.maxsize) -> None:
        self._count = count
        self._bound = bound
        self._gate = ReentrantGate()
        self._waiters = Waiters()

    def acquire(self, n: int = 1) -> Coroutine[Any, Any, None]:
        """Wait for ``n`` permits and take them, all at once. Cancelled, it takes none.

        Those that come later wait behind it, even if there are enough for them.
        """
        return _Acquire(self, check_permits(n))

    def try_acquire(self, n: int = 1) -> bool:
        """Take ``n`` permits if that needs no waiting. From any thread; never waits."""
        return self._try_acquire(check_permits(n))

    def _try_acquire(self, n: int) -> bool:
        gate = self._gate
        try:
            with gate.lock:
                if self._count < n or (self._waiters and self._waiters.first() is not None):
                    return False
                self._count -= n
                return True
        finally:
            if gate.late:
                gate.settle()

    def acquire_blocking(self, timeout: Duration | None = None, *, n: int = 1) -> None:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        block(self.acquire(n), timeout)

    def release(self, n: int = 1) -> None:
        """Give ``n`` permits to those in line, or to the next that come. From anywhere.

        ValueError if there would be more than there may be.
        """
        self._give([check_permits(n)])

    def _give(self, permits: list[int]) -> None:
        """``permits``: how many are still to be given. It may be called again, if it is cut off."""
        refused: list[bool] = []
        self._gate.call(partial(self._release, permits, refused))
        if refused:
            raise ValueError(f"released more often than acquired: {self!r}")

    def _release(self, permits: list[int], refused: list[bool]) -> None:
        """Give the permits to waiters, or keep them. The lock is held."""
        n = permits[0]
        if n > self._bound - self._count:
            refused.append(True)
            return
        # R16. First all are woken that will have theirs, so that they look again. Second the first
        # has its own, in the statement that takes it from what is given. If that is the end, the
        # next takes its own when it looks, and serves those behind it: see _Acquire._attempt.
        first = self._waiters.first() if self._waiters else None
        assert first is None or isinstance(first, _Acquire)
        if first is None or first._n > self._count + n:
            self._count, permits[0] = self._count + n, 0
            return
        self._wake_next(self._count + n)
        self._count, first._result, permits[0] = self._count + n - first._n, None, 0
        self._waiters.pop(first, None)
        self._grant()

    def _wake_next(self, left: int) -> None:
        """All for whom so many permits are enough."""
        for waiter in self._waiters:
            assert isinstance(waiter, _Acquire)
            if waiter._result is NOTHING:
                left -= waiter._n
                if left < 0:
                    return
                waiter._wake()

    def _grant(self) -> None:
        """Give what is there to those in line."""
        if self._waiters and self._count:
            self._wake_next(self._count)
            while (waiter := self._next()) is not None:
                self._count, waiter._result = self._count - waiter._n, None
                self._waiters.pop(waiter, None)

    def _next(self) -> _Acquire | None:
        """The first in line, if there is enough for it."""
        waiter = self._waiters.first()
        assert waiter is None or isinstance(waiter, _Acquire)
        return waiter if waiter is not None and waiter._n <= self._count else None

    # In a thread. R28: a Ctrl-C may come at each call in here, and before __exit__ has begun.

    def __enter__(self) -> None:
        wait = self.acquire()
        try:
            block(wait, None)
        except BaseException:
            wait.close()
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        permits = [1]
        try:
            self._give(permits)
        except ValueError:
            raise
        except BaseException:
            if permits[0]:
                self._give(permits)
            raise

    async def __aenter__(self) -> None:
        await _Acquire(self)

    def _leave(self) -> None:
        self.release()


class _Acquire(Waiter[None]):
    __slots__ = ("_n", "_permits")

    def __init__(self, permits: SemaphoreCore, n: int = 1) -> None:
        self._permits = permits
        self._n = n
        super().__init__(permits._gate, permits._waiters)

    def _attempt(self) -> bool:
        permits = self._permits
        if permits._count < self._n:
            return False
        if permits._waiters and permits._waiters.first() not in (None, self):
            return False
        permits._count, self._result = permits._count - self._n, None
        if permits._waiters:
            permits._waiters.pop(self, None)
            permits._grant()
        return True

    def _at_once(self) -> Any:
        return None if self._permits._try_acquire(self._n) else NOTHING

    def _give_back(self) -> None:
        permits = self._permits
        if self._result is None:
            permits._count, self._result = permits._count + self._n, NOTHING
        permits._grant()  # also if it had none: it stood before others

    def __repr__(self) -> str:
        return f"<acquire of {self._permits!r}>"
