"""Mutex: one task at a time, and the value that is theirs meanwhile."""

from __future__ import annotations

import warnings
from collections import deque
from itertools import islice
from types import TracebackType
from typing import Generic, TypeVar

from .. import current
from ..future import Pending, Ready
from ..seam import Context
from .permits import Permits, PermitWait

T = TypeVar("T")


class Mutex(Generic[T]):
    """A lock for tasks around an optional value. Fair: whoever came first is next.

    ::

        counter = Mutex(0)
        async with counter as guard:
            guard.value += 1

    After trale's futures/mutex.rs, without the eventfd.
    """

    __slots__ = ("_entered", "_owner", "_permits", "_value")

    def __init__(self, value: T | None = None) -> None:
        self._value = value
        self._permits = Permits(1)
        self._owner: Context | None = None  # of the task that locked it
        self._entered: Guard[T] | None = None  # of the async with that is inside

    def locked(self) -> bool:
        return not self._permits.pile

    async def lock(self) -> Guard[T]:
        """Wait until the mutex is free and take it. Cancelled, it does not take it.

        RuntimeError if this task has locked it already and not released it.
        """
        await _MutexWait(self)
        return Guard(self, deque([None]))

    def try_lock(self) -> Guard[T] | None:
        """Take the mutex if it is free, else None. From any thread; never waits."""
        guard: Guard[T] = Guard(self, deque())
        if not _move_one(self._permits.pile, guard._permit):
            guard._released = True
            return None
        self._owner = current.thread.context
        return guard

    async def __aenter__(self) -> Guard[T]:
        guard = self._entered = await self.lock()
        return guard

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        guard, self._entered = self._entered, None
        if guard is not None:
            guard.release()

    def __repr__(self) -> str:
        state = "locked" if self.locked() else "free"
        return f"<Mutex {state} waiting={len(self._permits.waiting)}>"


class Guard(Generic[T]):
    """A locked Mutex: ``value`` is what it guards. ``release()`` it, or use it in a ``with``.

    It holds the mutex's one permit, and gives it back by one C call: released twice, by two
    threads at once or cut off by a Ctrl-C, the permit is in one place or the other.
    """

    __slots__ = ("_mutex", "_permit", "_released")

    def __init__(self, mutex: Mutex[T], permit: deque[None]) -> None:
        self._released = False
        self._permit = permit
        self._mutex = mutex

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
        """Unlock. From any thread. RuntimeError the second time, and inside ``async with``."""
        self._check()
        mutex = self._mutex
        if mutex._entered is self:
            raise RuntimeError("this guard is released by leaving its async with block")
        mutex._owner = None
        _move_one(self._permit, mutex._permits.pile)
        if mutex._permits.waiting:
            mutex._permits.home.call(mutex._permits.match)
        self._released = True

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
        if not hasattr(self, "_mutex") or self._released:  # without: cut off in __init__
            return
        try:
            if self._permit:  # without: cut off in release()
                text = f"a guard of {self._mutex!r} was dropped unreleased"
                warnings.warn(text, ResourceWarning, stacklevel=2)
        finally:
            self.release()

    def __repr__(self) -> str:
        return f"<Guard {'released' if self._released else repr(self._mutex)}>"


class _MutexWait(PermitWait):
    __slots__ = ("_mutex",)

    def __init__(self, mutex: Mutex[T]) -> None:
        super().__init__(mutex._permits)
        self._mutex = mutex

    def poll(self, cx: Context) -> Ready[None] | Pending:
        if self._mutex._owner is cx and not self.handed:
            raise RuntimeError("this task has locked this mutex already: it would wait for itself")
        step = super().poll(cx)
        if isinstance(step, Ready):
            self._mutex._owner = cx
        return step


_NEVER = object()


def _move_one(source: deque[None], target: deque[None]) -> bool:
    """Move one permit, by one C call: no signal handler sees it in neither place."""
    try:
        target.extend(islice(iter(source.pop, _NEVER), 1))
    except IndexError:  # there was none
        return False
    return True
