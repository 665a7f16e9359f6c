"""Mutex: one task at a time, and the value that is theirs meanwhile."""

from __future__ import annotations

import threading
import warnings
from types import TracebackType
from typing import Generic, TypeVar

from .. import current
from ..future import Pending, Ready
from ..waker import Context, Waker
from .wait_queue import Waiting, WaitQueue

T = TypeVar("T")


class Mutex(Generic[T]):
    """A lock for tasks around an optional value. Fair: whoever came first is next.

    ::

        counter = Mutex(0)
        async with counter as guard:
            guard.value += 1

    After trale's futures/mutex.rs, without the eventfd.
    """

    __slots__ = ("_entered", "_lock", "_queue", "_value", "owner")

    def __init__(self, value: T | None = None) -> None:
        self._value = value
        # Locked while the mutex is. While tasks wait it is never unlocked but handed on.
        self._lock = threading.Lock()
        self._queue = WaitQueue(pass_on=self._unlock)
        self.owner: Waker | None = None  # of the task that locked it
        self._entered: dict[Waker | None, Guard[T]] = {}  # by which task's async with

    def locked(self) -> bool:
        return self._lock.locked()

    async def lock(self) -> Guard[T]:
        """Wait until the mutex is free and take it. Cancelled, it does not take it.

        RuntimeError if this task holds it already: that would never end.
        """
        await _MutexWait(self)
        return Guard(self)

    def try_lock(self) -> Guard[T] | None:
        """Take the mutex if it is free, else None. From any thread; never waits."""
        return Guard(self) if self._lock.acquire(blocking=False) else None

    def _unlock(self) -> None:
        """Hand the mutex to who is next. Executor's thread only."""
        self.owner = None
        if not self._queue.wake_one():
            self._lock.release()

    async def __aenter__(self) -> Guard[T]:
        guard = await self.lock()
        self._entered[self.owner] = guard
        return guard

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        cx = current.thread.context
        self._entered.pop(None if cx is None else cx.waker).release()

    def __repr__(self) -> str:
        state = "locked" if self.locked() else "free"
        return f"<Mutex {state} waiting={len(self._queue)}>"


class Guard(Generic[T]):
    """A locked Mutex: ``value`` is what it guards. ``release()`` it, or use it in a ``with``."""

    __slots__ = ("_mutex", "_released")

    def __init__(self, mutex: Mutex[T]) -> None:
        self._mutex = mutex
        self._released = False

    @property
    def value(self) -> T:
        """What the mutex guards; may be read and set until the guard is released."""
        self._check()
        return self._mutex._value  # type: ignore[return-value]  # None is a T if it was left out

    @value.setter
    def value(self, value: T) -> None:
        self._check()
        self._mutex._value = value

    def release(self) -> None:
        """Unlock. From any thread. RuntimeError the second time."""
        self._check()
        self._released = True
        current.runtime().call_on_executor(self._mutex._unlock)

    def _check(self) -> None:
        if self._released:
            raise RuntimeError("this guard has been released")

    def __enter__(self) -> Guard[T]:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release()

    def __del__(self) -> None:
        if not self._released:
            warnings.warn(f"a guard of {self._mutex!r} was dropped unreleased", ResourceWarning, 2)
            self.release()

    def __repr__(self) -> str:
        return f"<Guard {'released' if self._released else repr(self._mutex)}>"


class _MutexWait(Waiting):
    __slots__ = ("_mutex",)

    def __init__(self, mutex: Mutex[T]) -> None:
        super().__init__(mutex._queue)
        self._mutex = mutex

    def poll(self, cx: Context) -> Ready[None] | Pending:
        mutex = self._mutex
        if mutex.owner == cx.waker and not self.handed:
            raise RuntimeError("this task has locked this mutex already: it would wait for itself")
        # Never free while others wait: who takes it overtakes nobody.
        if self.handed or mutex._lock.acquire(blocking=False):
            mutex.owner = cx.waker
            return Ready(None)
        return super().poll(cx)
