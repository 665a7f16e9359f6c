"""RwLock: many that read, or one that writes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..base.closeable import AsyncLeaving
from ..base.durations import Duration
from ..base.errors import is_a
from ..core.with_block import Releasable, WithBlock
from .guard import BaseGuard, warn_held
from .statistics import RwLockStatistics
from .waiters import NOTHING, ReentrantGate, Waiter, Waiters, block, name_owner, who_asks

T = TypeVar("T")


class RwLock(Generic[T]):
    """A lock around an optional value, for any number of readers or for one writer.

    Fair: first come, first served. A waiting writer holds up the readers behind it.
    Tasks and threads wait in one line. A task that holds it and asks again may wait for itself. ::

        config = RwLock({})
        async with config.read() as guard:  # with, in a thread
            print(guard.value)
        async with config.write() as guard:
            guard.value = {"debug": True}

    After Tokio's `RwLock <https://docs.rs/tokio/latest/tokio/sync/struct.RwLock.html>`_.
    """

    __slots__ = ("_gate", "_readers", "_value", "_waiters", "_writing")

    def __init__(self, value: T | None = None) -> None:
        self._value = value
        self._readers = 0
        self._writing: object = None  # who_asks() of the one that writes
        self._gate = ReentrantGate()
        self._waiters = Waiters()

    def read(self) -> Locking[T]:
        """``await`` it for a guard, or enter it by ``async with``, or ``with`` in a thread.

        Cancelled, it has not locked.
        """
        return Locking(RwGuard(self, writes=False))

    def write(self) -> Locking[T]:
        """As ``read()``, for writing."""
        return Locking(RwGuard(self, writes=True))

    def read_blocking(self, timeout: Duration | None = None) -> RwGuard[T]:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        return block(self.read(), timeout)

    def write_blocking(self, timeout: Duration | None = None) -> RwGuard[T]:
        """As ``read_blocking()``, for writing."""
        return block(self.write(), timeout)

    def try_read(self) -> RwGuard[T] | None:
        """A guard if that needs no waiting, else None. From any thread."""
        return self.read()._now()

    def try_write(self) -> RwGuard[T] | None:
        """A guard if that needs no waiting, else None. From any thread."""
        return self.write()._now()

    def _fits(self, guard: RwGuard[T], readers: int, writing: object) -> bool:
        """Whether the guard may be held beside those that are."""
        return writing is None and not (guard._writes and readers)

    def _release(self, guard: RwGuard[T]) -> None:
        """The guard is released: grant the lock to the first waiter that fits. The lock is held."""
        if not guard._held:
            return
        readers = self._readers - (not guard._writes)
        waiter: Any = self._waiters.first()
        # The first is granted in the same statement; those after it may also wait for the next.
        if waiter is not None and self._fits(waiter._guard, readers, None):
            first = waiter._guard
            waiter._wake()
            guard._held, first._held, self._readers, self._writing, waiter._result = (
                False, True, readers + (not first._writes), waiter._owner, first,
            )  # fmt: skip
            self._waiters.pop(waiter, None)
            self._match()
        else:
            guard._held, self._readers, self._writing = False, readers, None

    def _match(self) -> None:
        """Grant it to the first waiters, as far as they fit together. The lock is held."""
        while True:
            waiter: Any = self._waiters.first()
            if waiter is None or not self._fits(waiter._guard, self._readers, self._writing):
                return
            waiter._wake()
            waiter._take_it()
            self._waiters.pop(waiter, None)

    def statistics(self) -> RwLockStatistics:
        """How it is at this moment."""
        return RwLockStatistics(self._readers, bool(self._writing), len(self._waiters))

    def __repr__(self) -> str:
        writer = self._writing
        state = f"readers={self._readers}" if writer is None else f"written by {name_owner(writer)}"
        return f"<RwLock {state} waiting={len(self._waiters)}>"


class RwGuard(Releasable, BaseGuard, Generic[T]):
    """A locked RwLock: ``value`` is what it guards. ``release()`` it, or use it in a ``with``."""

    __slots__ = ("_held", "_lock", "_writes")

    def __init__(self, lock: RwLock[T], *, writes: bool) -> None:
        self._held = False
        self._lock = lock
        self._writes = writes

    @property
    def value(self) -> T:
        """What the lock guards. It may be set by a guard for writing only."""
        self._check()
        return self._lock._value  # type: ignore[return-value]  # None is a T if it was left out

    @value.setter
    def value(self, value: T) -> None:
        self._check()
        if not self._writes:
            raise RuntimeError("this guard is for reading; use write()")
        self._lock._value = value

    def _unlock(self) -> None:
        self._lock._gate.call(partial(self._lock._release, self))

    def _dropped(self) -> None:
        try:
            warn_held(self._lock, 3)
        finally:
            self._unlock()

    def __repr__(self) -> str:
        how = "writing" if self._writes else "reading"
        return f"<RwGuard {f'{how} {self._lock!r}' if self._held else 'released'}>"


class Locking(Waiter[RwGuard[T]], WithBlock, AsyncLeaving):
    """What ``read()`` and ``write()`` return: await it, or enter it, once."""

    __slots__ = ("_guard", "_owner")

    def __init__(self, guard: RwGuard[T]) -> None:
        self._guard = guard
        self._owner: object = None  # of one that writes: who_asks()
        super().__init__(guard._lock._gate, guard._lock._waiters)

    def _attempt(self) -> bool:
        lock = self._guard._lock
        if self._guard._writes:
            self._owner = who_asks()
        if lock._waiters.first() not in (None, self):
            return False
        if not lock._fits(self._guard, lock._readers, lock._writing):
            return False
        self._take_it()
        return True

    def _take_it(self) -> None:
        lock, guard = self._guard._lock, self._guard
        readers = lock._readers + (not guard._writes)
        lock._readers, lock._writing, guard._held, self._result = readers, self._owner, True, guard

    def _give_back(self) -> None:
        self._guard._lock._release(self._guard)
        self._guard._lock._match()  # a writer that went away had perhaps held up readers

    def _at_once(self) -> Any:
        self._gate.call(self._attempt)
        return self._guard if self._guard._held else NOTHING

    def _now(self) -> RwGuard[T] | None:
        self._use()
        found = self._at_once()
        return None if found is NOTHING else self._guard

    async def __aenter__(self) -> RwGuard[T]:
        return await self

    def _leave(self) -> None:
        self._guard.release()

    if TYPE_CHECKING:

        def __enter__(self) -> RwGuard[T]: ...

    def _enter(self) -> RwGuard[T]:
        return block(self, None)

    def _exit(self, exc: BaseException | None) -> None:
        self._guard.release()

    def _exit_again(self, error: BaseException, exc: BaseException | None) -> None:
        if is_a(error, RuntimeError):  # it was refused
            return
        self.drop()  # it may be in line, or be granted and not have returned
        self._guard._unlock()

    def __repr__(self) -> str:
        return f"<{'write' if self._guard._writes else 'read'} of {self._guard._lock!r}>"
