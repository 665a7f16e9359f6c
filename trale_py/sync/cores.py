"""SemaphoreCore and LockCore, in Python: what Semaphore and Mutex are to the tasks that await them.

Both are a ReentrantGate and Waiters, see waiters.py. While a permit is there, or the lock is free,
nobody waits.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar

from ..base.durations import Duration
from ..core import current
from ..core.engine import accelerated
from ..core.future import Pending, Ready
from ..core.waker import Context
from .waiters import NOTHING, ReentrantGate, Waiter, Waiters, block, this_thread

H = TypeVar("H", bound="GuardCore")


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
            waiter.wake()
            waiter.result, permit[0] = None, False
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

    def attempt(self) -> bool:
        permits = self._permits
        if not permits._count:
            return False
        permits._count, self.result = permits._count - 1, None
        return True

    def at_once(self) -> Any:
        return None if self._permits.try_acquire() else NOTHING

    def give_back(self) -> None:
        if self.result is None:
            self._permits._release()

    def __repr__(self) -> str:
        return f"<acquire of {self._permits!r}>"


@accelerated
class GuardCore:
    """Base of Guard. If garbage-collected while locked, it warns and releases."""

    __slots__ = ("_held", "_mutex")

    def __init__(self, mutex: LockCore[Any]) -> None:
        self._held = False
        self._mutex = mutex

    def _lock(self, who: object) -> Waiter[Any]:
        """A wait for the lock. ``who``: None for the task that will await this."""
        return _Lock(self, who)

    def _try_lock(self, who: object) -> bool:
        mutex, gate = self._mutex, self._mutex._gate
        try:
            with gate.lock:
                if mutex._owner is not None:
                    return False
                mutex._owner, self._held = who, True
                return True
        finally:
            if gate.late:
                gate.settle()

    def _unlock(self) -> None:
        """The second time it does nothing. From anywhere."""
        self._mutex._gate.call(self._pass_on)

    def _pass_on(self) -> None:
        mutex = self._mutex
        if not self._held:
            return
        waiter = mutex._waiters.first() if mutex._waiters else None
        if waiter is None:
            mutex._owner, self._held = None, False
            return
        assert isinstance(waiter, _Lock)
        waiter.wake()
        self._held, mutex._owner, waiter.hold._held, waiter.result = (
            False, waiter.who, True, waiter.hold,
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
class LockCore(Generic[H]):
    """What one hold has at a time. ``make`` makes them."""

    __slots__ = ("_entered", "_gate", "_make", "_owner", "_waiters")

    def __init__(self, make: Callable[[LockCore[H]], H]) -> None:
        self._make = make
        self._owner: object = None  # the context of the task, or what stands for the thread
        self._entered: H | None = None  # of the with or async with that is inside
        self._gate = ReentrantGate()
        self._waiters = Waiters()

    def lock(self) -> Coroutine[Any, Any, H]:
        """Wait until the mutex is free and take it. Cancelled, it does not take it.

        RuntimeError if this task has locked it already and not released it.
        """
        return self._make(self)._lock(None)

    def lock_blocking(self, timeout: Duration | None = None) -> H:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread, RuntimeError if this
        thread has locked it already.
        """
        hold = self._make(self)
        block(hold._lock(this_thread()), timeout)
        return hold

    # In a thread. R28: a Ctrl-C may come at each call in here, and before __exit__ has begun.

    def __enter__(self) -> H:
        hold = self._make(self)
        try:
            self._entered = block(hold._lock(this_thread()), None)
            return hold
        except BaseException:
            hold._unlock()
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        hold, self._entered = self._entered, None
        if hold is None:
            return
        try:
            hold._unlock()
        except BaseException:
            hold._unlock()
            raise

    async def __aenter__(self) -> H:
        hold = self._entered = await self.lock()
        return hold

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        hold, self._entered = self._entered, None
        if hold is not None:  # None: a wait for a condition was closed in there
            hold._unlock()


class _Lock(Waiter[Any]):
    __slots__ = ("hold", "who")

    def __init__(self, hold: GuardCore, who: object) -> None:
        self.hold = hold
        self.who = who
        super().__init__(hold._mutex._gate, hold._mutex._waiters)

    def _advance(self, cx: Context) -> Ready[Any] | Pending:
        self.who = cx
        return super()._advance(cx)

    def attempt(self) -> bool:
        mutex, hold = self.hold._mutex, self.hold
        if mutex._owner is not None:
            if mutex._owner is self.who:
                raise RuntimeError("this task already holds the mutex")
            return False
        mutex._owner, hold._held, self.result = self.who, True, hold
        return True

    def at_once(self) -> Any:
        return self.hold if self.hold._try_lock(current.thread.context) else NOTHING

    def give_back(self) -> None:
        self.hold._pass_on()

    def __repr__(self) -> str:
        return f"<lock of {self.hold._mutex!r}>"
