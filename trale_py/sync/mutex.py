"""Mutex: one at a time, task or thread, and the value that is theirs meanwhile."""

from __future__ import annotations

import threading
import warnings
from functools import partial
from types import TracebackType
from typing import Generic, TypeVar

from .. import current
from ..durations import Duration
from .wait_queue import Gate, Line, Wait, can_go_on

T = TypeVar("T")


class Mutex(Generic[T]):
    """A lock around an optional value. Fair: whoever came first is next.

    Tasks and threads wait in one line. May be made anywhere, before the runtime exists too. ::

        counter = Mutex(0)
        async with counter as guard:  # in a task
            guard.value += 1
        with counter as guard:  # in a thread
            guard.value += 1

    After trale's futures/mutex.rs, without the eventfd.
    """

    __slots__ = ("_entered", "_gate", "_line", "_locked", "_owner", "_value")

    def __init__(self, value: T | None = None) -> None:
        self._value = value
        self._locked = False
        self._owner: object = None  # the context of the task, or what stands for the thread
        self._entered: Guard[T] | None = None  # of the with or async with that is inside
        self._gate = Gate()
        self._line = Line()

    def locked(self) -> bool:
        return self._locked

    async def lock(self) -> Guard[T]:
        """Wait until the mutex is free and take it. Cancelled, it does not take it.

        RuntimeError if this task has locked it already and not released it.
        """
        guard = Guard(self)
        cx = current.thread.context
        if self._locked or not can_go_on(cx) or not self._try(guard, cx):
            await _Lock(guard, cx)
        return guard

    def lock_blocking(self, timeout: Duration | None = None) -> Guard[T]:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread, RuntimeError if this
        thread has locked it already.
        """
        guard = Guard(self)
        _Lock(guard, this_thread()).block(timeout)
        return guard

    def try_lock(self) -> Guard[T] | None:
        """Take the mutex if it is free, else None. From any thread; never waits."""
        guard = Guard(self)
        return guard if self._try(guard, who_asks()) else None

    def _try(self, guard: Guard[T], who: object) -> bool:
        gate = self._gate
        try:
            with gate.lock:
                if self._locked:
                    return False
                self._owner, self._locked, guard._held = who, True, True
                return True
        finally:
            if gate.late:
                gate.settle()

    def _release(self, guard: Guard[T]) -> None:
        gate = self._gate
        if gate.lock._is_owned():  # type: ignore[attr-defined]
            gate.late.append(partial(self._unlock, guard))
            return
        try:
            with gate.lock:
                self._unlock(guard)
        finally:
            if gate.late:
                gate.settle()

    def _unlock(self, guard: Guard[T]) -> None:
        """Lock of the gate held. Once a guard is unlocked, this does nothing more."""
        if not guard._held:
            return
        waiter = self._line.first() if self._line else None
        if waiter is None:
            self._owner, self._locked, guard._held = None, False, False
            return
        assert isinstance(waiter, _Lock)
        waiter.wake()
        guard._held, self._owner, waiter.guard._held, waiter.result = False, waiter.who, True, None
        self._line.pop(waiter, None)

    async def __aenter__(self) -> Guard[T]:
        guard = Guard(self)
        cx = current.thread.context
        if self._locked or not can_go_on(cx) or not self._try(guard, cx):
            await _Lock(guard, cx)
        self._entered = guard
        return guard

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._leave()

    def __enter__(self) -> Guard[T]:
        guard = self._entered = self.lock_blocking()
        return guard

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        guard, self._entered = self._entered, None
        if guard is not None:  # None: a wait for a condition was closed in there
            self._release(guard)

    def __repr__(self) -> str:
        state = "locked" if self.locked() else "free"
        return f"<Mutex {state} waiting={len(self._line)}>"


class Guard(Generic[T]):
    """A locked Mutex: ``value`` is what it guards. ``release()`` it, or use it in a ``with``."""

    __slots__ = ("_held", "_mutex")

    def __init__(self, mutex: Mutex[T]) -> None:
        self._held = False
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
            raise RuntimeError("this guard is released by leaving its with block")
        mutex._release(self)

    def _check(self) -> None:
        if not self._held:
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
        if not getattr(self, "_held", False):  # without: cut off in __init__
            return
        mutex = self._mutex
        try:
            text = f"a guard of {mutex!r} was dropped unreleased"
            warnings.warn(text, ResourceWarning, stacklevel=2)
        finally:
            mutex._release(self)

    def __repr__(self) -> str:
        return f"<Guard {repr(self._mutex) if self._held else 'released'}>"


class _Lock(Wait[None]):
    __slots__ = ("guard", "who")

    def __init__(self, guard: Guard[T], who: object) -> None:
        super().__init__(guard._mutex._gate, guard._mutex._line)
        self.guard = guard
        self.who = who

    def attempt(self) -> bool:
        mutex, guard = self.guard._mutex, self.guard
        if mutex._locked:
            if mutex._owner == self.who:
                raise RuntimeError("this mutex is locked already by who would wait for it")
            return False
        mutex._owner, mutex._locked, guard._held, self.result = self.who, True, True, None
        return True

    def give_back(self) -> None:
        self.guard._mutex._unlock(self.guard)


def lock_again(guard: Guard[T], who: object) -> Wait[None]:
    """A wait to lock its mutex anew for a guard that was released."""
    return _Lock(guard, who)


def who_asks() -> object:
    """The task that is being polled, or the thread: who would wait for itself."""
    return current.thread.context or this_thread()


_here = threading.local()


def this_thread() -> object:
    """What stands for it. Not its ident: when it has ended, another is given that."""
    return _here.__dict__.setdefault("me", object())
