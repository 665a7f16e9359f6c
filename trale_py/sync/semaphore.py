"""Semaphore: so many at once."""

from __future__ import annotations

from types import TracebackType

from .. import current
from ..durations import Duration
from .wait_queue import Gate, Line, Wait, can_go_on, check_capacity


class Semaphore:
    """``value`` permits; who finds none left waits for one, in the order of coming.

    Tasks and threads wait in one line. May be made anywhere, before the runtime exists
    too. Released more often than acquired, it grows. ::

        at_once = Semaphore(3)
        async with at_once:  # in a task
            await fetch()
        with at_once:  # in a thread
            fetch_blocking()

    After Python's ``threading.Semaphore`` and Tokio's `Semaphore
    <https://docs.rs/tokio/latest/tokio/sync/struct.Semaphore.html>`_.
    """

    __slots__ = ("_count", "_gate", "_line")

    def __init__(self, value: int) -> None:
        self._count = check_capacity(value, "value", 0)  # while it is not 0 nobody waits
        self._gate = Gate()
        self._line = Line()

    @property
    def value(self) -> int:
        """How many permits are left."""
        return self._count

    async def acquire(self) -> None:
        """Wait for a permit and take it. Cancelled, it takes none."""
        cx = current.thread.context
        if self._count and can_go_on(cx) and self.try_acquire():
            return
        await _Acquire(self)

    def acquire_blocking(self, timeout: Duration | None = None) -> None:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        _Acquire(self).block(timeout)

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

    def release(self) -> None:
        """Give a permit to the first in line, or to the next that comes. From anywhere."""
        self._gate.call(self._release)

    def _release(self) -> None:
        waiter = self._line.first() if self._line else None
        if waiter is None:
            self._count += 1
        else:
            self._line.grant(waiter, None)

    async def __aenter__(self) -> None:
        cx = current.thread.context
        if self._count and can_go_on(cx) and self.try_acquire():
            return
        await _Acquire(self)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release()

    def __enter__(self) -> None:
        self.acquire_blocking()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Semaphore permits={self._count} waiting={len(self._line)}>"


class _Acquire(Wait[None]):
    __slots__ = ("_semaphore",)

    def __init__(self, semaphore: Semaphore) -> None:
        super().__init__(semaphore._gate, semaphore._line)
        self._semaphore = semaphore

    def attempt(self) -> bool:
        semaphore = self._semaphore
        if not semaphore._count:
            return False
        semaphore._count, self.result = semaphore._count - 1, None
        return True

    def give_back(self) -> None:
        if self.result is None:
            self._semaphore._release()
