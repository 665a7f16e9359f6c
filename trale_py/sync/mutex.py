"""Mutex: one at a time, task or thread, and the value that is theirs meanwhile."""

from __future__ import annotations

from typing import Generic, TypeVar

from .guard import BaseGuard, warn_held
from .lock_core import GuardCore, LockCore
from .statistics import LockStatistics
from .waiters import name_owner, who_asks

T = TypeVar("T")


class Mutex(LockCore["Guard[T]"], Generic[T]):
    """A lock around an optional value. Fair: first come, first served.

    Tasks and threads wait in one line. May be made anywhere, before the runtime exists too. ::

        counter = Mutex(0)
        async with counter as guard:  # in a task
            guard.value += 1
        with counter as guard:  # in a thread
            guard.value += 1

    After trale's futures/mutex.rs, without the eventfd.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T | None = None) -> None:
        super().__init__(Guard)
        self._value = value

    def locked(self) -> bool:
        """Whether it is locked."""
        return self._owner is not None

    def try_lock(self) -> Guard[T] | None:
        """Take the mutex if it is free, else None. From any thread; never waits."""
        guard: Guard[T] = Guard(self)
        return guard if guard._try_lock(who_asks()) else None

    def statistics(self) -> LockStatistics:
        """How it is at this moment."""
        return LockStatistics(self.locked(), len(self._waiters))

    def __repr__(self) -> str:
        owner = self._owner
        state = "free" if owner is None else f"locked by {name_owner(owner)}"
        return f"<Mutex {state} waiting={len(self._waiters)}>"


class Guard(GuardCore, BaseGuard, Generic[T]):
    """A locked Mutex: ``value`` is what it guards. ``release()`` it, or use it in a ``with``."""

    __slots__ = ()
    _mutex: Mutex[T]

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
        if self._mutex._entered is self and self._held:
            raise RuntimeError("leave the with block to release this guard")
        super().release()

    def _dropped(self, stacklevel: int) -> None:
        warn_held(self._mutex, stacklevel + 1)

    def __repr__(self) -> str:
        return f"<Guard {repr(self._mutex) if self._held else 'released'}>"
