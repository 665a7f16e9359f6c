"""SemaphoreCore, in Python: the permits of a Semaphore, and the waiters for one.

A ReentrantGate and Waiters, see waiters.py. While a permit is there, there are no waiters.
"""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from types import TracebackType
from typing import Any

from ..base.durations import Duration
from ..core.engine import accelerated
from .waiters import NOTHING, ReentrantGate, Waiter, Waiters, block


@accelerated
class SemaphoreCore:
    """A number of permits, and the waiters for one."""

    __slots__ = ("_count", "_gate", "_waiters")

    def __init__(self, count: int) -> None:
        self._count = count
        self._gate = ReentrantGate()
        self._waiters = Waiters()

    def acquire(self) -> Coroutine[Any, Any, None]:
        """Wait for a permit and take it. Cancelled, it takes none."""
        return _Acquire(self)

    def try_acquire(self) -> bool:
        """Take a permit if there is one. From any thread; never waits."""
        gate = self._gate
        try:
            with gate.lock:
                if not self._count:
                    return False
                self._count -= 1
                return True
        finally:
            if gate.late:
                gate.settle()

    def acquire_blocking(self, timeout: Duration | None = None) -> None:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        block(self.acquire(), timeout)

    def release(self) -> None:
        """Give a permit to the first in line, or to the next that comes. From anywhere."""
        self._gate.call(self._release)

    def _release(self) -> None:
        self._release_once([True])

    def _release_once(self, permit: list[bool]) -> None:
        """``permit``: whether there is still one to be given."""
        if not permit[0]:
            return
        waiter = self._waiters.first() if self._waiters else None
        if waiter is None:
            self._count, permit[0] = self._count + 1, False
        else:
            waiter._wake()
            waiter._result, permit[0] = None, False
            self._waiters.pop(waiter, None)

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
        permit = [True]
        try:
            self._gate.call(partial(self._release_once, permit))
        except BaseException:
            self._gate.call(partial(self._release_once, permit))
            raise

    async def __aenter__(self) -> None:
        await _Acquire(self)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release()


class _Acquire(Waiter[None]):
    __slots__ = ("_permits",)

    def __init__(self, permits: SemaphoreCore) -> None:
        self._permits = permits
        super().__init__(permits._gate, permits._waiters)

    def _attempt(self) -> bool:
        permits = self._permits
        if not permits._count:
            return False
        permits._count, self._result = permits._count - 1, None
        return True

    def _at_once(self) -> Any:
        return None if self._permits.try_acquire() else NOTHING

    def _give_back(self) -> None:
        if self._result is None:
            self._permits._release()

    def __repr__(self) -> str:
        return f"<acquire of {self._permits!r}>"
