"""Condition: wait for a notification, with a mutex released meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..base.closeable import AsyncLeaving
from ..base.durations import NEVER, Duration, to_deadline
from ..core import current
from ..scopes.cancel_scope import CancelScope
from .mutex import Guard, Mutex
from .statistics import ConditionStatistics
from .waiters import (
    ReentrantGate,
    Waiter,
    Waiters,
    block,
    check_capacity,
    seconds_left,
    this_thread,
    who_asks,
)

T = TypeVar("T")


class Condition(AsyncLeaving, Generic[T]):
    """A mutex, and the waiters for a change of what it guards.

    ``mutex``: one to share; by default one of its own. Tasks and threads wait in one line. ::

        changed = Condition(Mutex([]))
        async with changed as guard:  # with, in a thread
            await changed.wait_for(lambda: guard.value)
            item = guard.value.pop()
        ...
        with changed as guard:
            guard.value.append(item)
            changed.notify()

    After Python's ``threading.Condition``.
    """

    __slots__ = ("_gate", "_mutex", "_waiters")

    def __init__(self, mutex: Mutex[T] | None = None) -> None:
        self._mutex: Mutex[T] = Mutex() if mutex is None else mutex
        self._gate = ReentrantGate()
        self._waiters = Waiters()

    async def wait(self) -> None:
        """Unlock, wait to be notified, and lock again. RuntimeError outside ``async with``.

        Cancelled, it raises when it has locked again; a notification that it had been given
        goes to the next. There are no spurious returns, but what was notified of may be gone.
        """
        cx = current.thread.context
        guard, place = self._entered(), _Place(self)
        if cx is None:  # asyncio code
            place._stand_in_line()
        else:
            place.poll(cx)
        self._mutex._leave()
        try:
            await place
        except GeneratorExit:  # it is being closed, and may not wait any more
            raise
        except BaseException:
            await self._lock_again(guard)
            raise
        await self._lock_again(guard)

    async def _lock_again(self, guard: Guard[T]) -> None:
        """After a wait: shielded, as the block needs the mutex."""
        # asyncio cancels once, and the wait is over: there is nothing to shield from.
        in_a_task = current.thread.context is not None
        with CancelScope(shield=True) if in_a_task else contextlib.nullcontext():
            await guard._lock(None)
        self._mutex._entered = guard

    def wait_blocking(self, timeout: Duration | None = None) -> None:
        """The same in a thread, inside ``with``, at most ``timeout`` seconds: then TimeoutError,
        when it has locked again."""
        guard, place = self._entered(), _Place(self)
        try:
            place._stand_in_line()
            self._mutex._leave()
            block(place, timeout)
        except BaseException:
            place.drop()
            raise
        finally:
            self._lock_again_blocking(guard)

    def _lock_again_blocking(self, guard: Guard[T]) -> None:
        """The same in a thread."""
        try:
            if not guard._held:  # R28: a Ctrl-C may have come before it was unlocked
                block(guard._lock(this_thread()), None)
            self._mutex._entered = guard
        except BaseException:
            guard._unlock()
            raise

    async def wait_for(self, predicate: Callable[[], object]) -> None:
        """``wait()`` until ``predicate()`` is true; it is asked first, with the mutex locked."""
        while not predicate():
            await self.wait()

    def wait_for_blocking(
        self, predicate: Callable[[], object], timeout: Duration | None = None
    ) -> None:
        """The same in a thread, at most ``timeout`` seconds in all: then TimeoutError."""
        deadline = (
            NEVER if timeout is None else to_deadline(timeout, "timeout", time.monotonic_ns())
        )
        while not predicate():
            self.wait_blocking(seconds_left(deadline))

    def notify(self, n: int = 1) -> None:
        """Let the first ``n`` in line through. RuntimeError without the mutex locked."""
        check_capacity(n, "n", 0)
        self._entered()
        self._gate.call(partial(self._notify, n))

    def notify_all(self) -> None:
        """Let all through that wait. RuntimeError without the mutex locked."""
        self._entered()
        self._gate.call(self._notify_all)

    def _notify(self, n: int) -> None:
        """Let the first ``n`` through. The lock is held."""
        while n and self._waiters:
            place: Any = self._waiters.first()
            if place is None:
                return
            place._wake()
            place._counted, place._result, n = True, None, n - 1
            self._waiters.pop(place, None)

    def _notify_all(self) -> None:
        """Let all through. The lock is held."""
        while (place := self._waiters.first()) is not None:
            self._waiters.grant(place, None)

    def _entered(self) -> Guard[T]:
        """The guard of the block that this task or thread is in, or RuntimeError."""
        guard = self._mutex._entered
        if guard is None or self._mutex._owner != who_asks():
            raise RuntimeError("this works only inside (async) with condition")
        return guard

    async def __aenter__(self) -> Guard[T]:
        return await self._mutex.__aenter__()

    def _leave(self) -> None:
        self._mutex._leave()

    if TYPE_CHECKING:

        def __enter__(self) -> Guard[T]: ...

        def __exit__(
            self,
            exc_type: type[BaseException] | None,
            exc: BaseException | None,
            tb: TracebackType | None,
        ) -> None: ...

    else:
        # R28: the mutex's own. Around them no bytecode is left where a Ctrl-C could come.
        __enter__ = property(lambda self: self._mutex.__enter__)
        __exit__ = property(lambda self: self._mutex.__exit__)

    def statistics(self) -> ConditionStatistics:
        """How it is at this moment."""
        return ConditionStatistics(len(self._waiters), self._mutex.statistics())

    def __repr__(self) -> str:
        return f"<Condition of {self._mutex!r} waiting={len(self._waiters)}>"


class _Place(Waiter[None]):
    __slots__ = ("_condition", "_counted")

    def __init__(self, condition: Condition[Any]) -> None:
        self._condition = condition
        self._counted = False  # it is one of the n that notify() let through
        super().__init__(condition._gate, condition._waiters)

    def _attempt(self) -> bool:
        return False

    def _keeps(self) -> bool:
        return self._result is None and not self._counted

    def _give_back(self) -> None:
        if self._counted:
            self._condition._notify(1)

    def __repr__(self) -> str:
        return f"<wait of {self._condition!r}>"
