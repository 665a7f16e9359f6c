"""LockCore and GuardCore, in Python: what Mutex and Guard are to the tasks and threads that lock.

A ReentrantGate and Waiters, see waiters.py. While the lock is free, there are no waiters.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, TypeVar

from ..base.closeable import AsyncLeaving
from ..base.durations import Duration
from ..core import current
from ..core.engine import accelerated
from ..core.future import Pending, Ready
from ..core.waker import Context
from .waiters import NOTHING, ReentrantGate, Waiter, Waiters, block, this_thread

G = TypeVar("G", bound="GuardCore")


@accelerated
class GuardCore:
    """Base of Guard. If garbage-collected while locked, it warns and releases."""

    __slots__ = ("_held", "_mutex")

    def __init__(self, mutex: LockCore[Any]) -> None:
        self._held = False
        self._mutex = mutex

    def _lock(self, owner: object) -> Waiter[Any]:
        """A wait for the lock. ``owner``: None for the task that will await this."""
        return _Lock(self, owner)

    def _try_lock(self, owner: object) -> bool:
        """Lock if that needs no wait. False: it is locked."""
        mutex, gate = self._mutex, self._mutex._gate
        try:
            with gate.lock:
                if mutex._owner is not None:
                    return False
                mutex._owner, self._held = owner, True
                return True
        finally:
            if gate.late:
                gate.settle()

    def _unlock(self) -> None:
        """The second time it does nothing. From anywhere."""
        self._mutex._gate.call(self._pass_on)

    def _pass_on(self) -> None:
        """The first waiter has the lock now, or it is free. The lock of the gate is held."""
        mutex = self._mutex
        if not self._held:
            return
        waiter = mutex._waiters.first() if mutex._waiters else None
        if waiter is None:
            mutex._owner, self._held = None, False
            return
        assert isinstance(waiter, _Lock)
        waiter._wake()
        self._held, mutex._owner, waiter._guard._held, waiter._result = (
            False, waiter._owner, True, waiter._guard,
        )  # fmt: skip
        mutex._waiters.pop(waiter, None)

    def _dropped(self, stacklevel: int) -> None:
        """Warn that it was not released. Afterwards it is released."""
        raise NotImplementedError

    def __del__(self) -> None:
        try:
            held = self._held
        except AttributeError:  # it was cut off in __init__
            return
        if held:
            try:
                self._dropped(3)
            finally:
                self._unlock()


@accelerated
class LockCore(AsyncLeaving, Generic[G]):
    """A lock that one guard can hold at a time. ``make`` is the guard class."""

    __slots__ = ("_entered", "_gate", "_make", "_owner", "_waiters")

    def __init__(self, make: Callable[[LockCore[G]], G]) -> None:
        self._make = make
        self._owner: object = None  # the context of the task, or what stands for the thread
        self._entered: G | None = None  # of the with or async with that is inside
        self._gate = ReentrantGate()
        self._waiters = Waiters()

    def lock(self) -> Coroutine[Any, Any, G]:
        """Wait until the mutex is free and take it. Cancelled, it does not take it.

        RuntimeError if this task has locked it already and not released it.
        """
        return self._make(self)._lock(None)

    def lock_blocking(self, timeout: Duration | None = None) -> G:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread, RuntimeError if this
        thread has locked it already.
        """
        guard = self._make(self)
        block(guard._lock(this_thread()), timeout)
        return guard

    # In a thread. R28: a Ctrl-C may come at each call in here, and before __exit__ has begun.

    def __enter__(self) -> G:
        guard = self._make(self)
        try:
            self._entered = block(guard._lock(this_thread()), None)
            return guard
        except BaseException:
            guard._unlock()
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        guard, self._entered = self._entered, None
        if guard is None:
            return
        try:
            guard._unlock()
        except BaseException:
            guard._unlock()
            raise

    async def __aenter__(self) -> G:
        guard = self._entered = await self.lock()
        return guard

    def _leave(self) -> None:
        """The end of a block: release the guard that it had."""
        guard, self._entered = self._entered, None
        if guard is not None:  # None: a wait for a condition was closed in there
            guard._unlock()


class _Lock(Waiter[Any]):
    __slots__ = ("_guard", "_owner")

    def __init__(self, guard: GuardCore, owner: object) -> None:
        self._guard = guard
        self._owner = owner
        super().__init__(guard._mutex._gate, guard._mutex._waiters)

    def _advance(self, cx: Context) -> Ready[Any] | Pending:
        self._owner = cx
        return super()._advance(cx)

    def _attempt(self) -> bool:
        mutex, guard = self._guard._mutex, self._guard
        if mutex._owner is not None:
            if mutex._owner is self._owner:
                raise RuntimeError("this task already holds the mutex")
            return False
        mutex._owner, guard._held, self._result = self._owner, True, guard
        return True

    def _at_once(self) -> Any:
        return self._guard if self._guard._try_lock(current.thread.context) else NOTHING

    def _give_back(self) -> None:
        self._guard._pass_on()

    def __repr__(self) -> str:
        return f"<lock of {self._guard._mutex!r}>"
