"""CapacityLimiter: so many at once, and it knows which."""

from __future__ import annotations

import math
from collections.abc import Coroutine, Hashable
from functools import partial
from typing import Any

from ..base.closeable import AsyncLeaving
from ..base.durations import Duration
from ..base.errors import is_a
from ..core.future import Pending, Ready
from ..core.waker import Context
from ..core.with_block import WithBlock
from .statistics import CapacityLimiterStatistics
from .waiters import ReentrantGate, Waiter, Waiters, block, who_asks


class CapacityLimiter(WithBlock, AsyncLeaving):
    """A number of tokens; each task or thread that works borrows one. First come, first served.

    Unlike a Semaphore it knows its borrowers: a task that borrows twice, or returns what it has
    not borrowed, gets RuntimeError. ``total_tokens`` can be set at any time. May be made
    anywhere, before the runtime exists too. ::

        limiter = CapacityLimiter(10)
        async with limiter:  # in a task
            await fetch()
        with limiter:  # in a thread
            fetch_blocking()

    After trio's `CapacityLimiter <https://trio.readthedocs.io/en/stable/reference-core.html>`_.
    """

    __slots__ = ("_borrowers", "_gate", "_total", "_waiters")

    def __init__(self, total_tokens: float) -> None:
        self._total = _check_total(total_tokens)
        self._borrowers: dict[Hashable, None] = {}
        self._gate = ReentrantGate()
        self._waiters = Waiters()

    @property
    def total_tokens(self) -> float:
        """How many may be borrowed at once: an int, 0 or more, or ``math.inf``. To be set at any
        time, from any thread. If it is lowered, those that have borrowed go on."""
        return self._total

    @total_tokens.setter
    def total_tokens(self, total_tokens: float) -> None:
        total = _check_total(total_tokens)

        def set_total() -> None:
            self._waiters.wake_all()
            self._total = total
            self._grant()

        self._gate.call(set_total)

    @property
    def borrowed_tokens(self) -> int:
        """How many are borrowed."""
        return len(self._borrowers)

    @property
    def available_tokens(self) -> float:
        """How many are left. Below 0 if ``total_tokens`` was lowered meanwhile."""
        return self._total - len(self._borrowers)

    def acquire(self) -> Coroutine[Any, Any, None]:
        """Wait for a token and borrow it, for this task. Cancelled, it borrows none.

        RuntimeError if this task has one already.
        """
        return _Borrow(self, None)

    def acquire_on_behalf_of(self, borrower: Hashable) -> Coroutine[Any, Any, None]:
        """The same for another borrower: any object that can be a dict's key."""
        return _Borrow(self, borrower)

    def acquire_blocking(self, timeout: Duration | None = None) -> None:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        block(_Borrow(self, who_asks()), timeout)

    def try_acquire(self) -> bool:
        """Borrow a token if that needs no waiting. From any thread; never waits."""
        gate, borrower = self._gate, who_asks()
        try:
            with gate.lock:
                return self._take(borrower)
        finally:
            if gate.late:
                gate.settle()

    def release(self) -> None:
        """Return this task's or this thread's token. RuntimeError if it has none."""
        self.release_on_behalf_of(who_asks())

    def release_on_behalf_of(self, borrower: Hashable) -> None:
        """Return the token of ``borrower``. From anywhere. RuntimeError if it has none."""
        if borrower not in self._borrowers:
            raise RuntimeError(f"{borrower!r} has not borrowed a token of {self!r}")
        self._gate.call(partial(self._release, borrower))

    def statistics(self) -> CapacityLimiterStatistics:
        """How many tokens are borrowed, and how many wait."""
        return CapacityLimiterStatistics(
            len(self._borrowers), self._total, list(self._borrowers), len(self._waiters)
        )

    # The lock is held.

    def _take(self, borrower: Hashable) -> bool:
        """A token for the borrower, if one is there. The lock is held."""
        if borrower in self._borrowers:
            raise RuntimeError("this task or thread has already borrowed a token")
        if len(self._borrowers) >= self._total or self._waiters.first() is not None:
            return False
        self._borrowers[borrower] = None
        return True

    def _release(self, borrower: Hashable) -> None:
        """The borrower gives its token back. The lock is held."""
        first = self._waiters.first()
        if first is not None:
            first._wake()  # R16: cut off here, nothing has happened; after the next, it looks
        self._borrowers.pop(borrower, None)
        self._grant()

    def _grant(self) -> None:
        """Tokens for the first waiters, as far as they go. The lock is held."""
        while len(self._borrowers) < self._total:
            waiter = self._waiters.first()
            if waiter is None:
                return
            assert isinstance(waiter, _Borrow)
            waiter._wake()
            waiter._result, self._borrowers[waiter._borrower] = None, None
            self._waiters.pop(waiter, None)

    # The two kinds of with.

    def _enter(self) -> None:
        self.acquire_blocking()

    def _exit(self, exc: BaseException | None) -> None:
        self.release()

    def _exit_again(self, error: BaseException, exc: BaseException | None) -> None:
        if not is_a(error, RuntimeError):  # it was not refused
            self._gate.call(partial(self._release, who_asks()))

    async def __aenter__(self) -> None:
        await self.acquire()

    def _leave(self) -> None:
        self.release()

    def __repr__(self) -> str:
        return (
            f"<CapacityLimiter borrowed={len(self._borrowers)}/{self._total} "
            f"waiting={len(self._waiters)}>"
        )


class _Borrow(Waiter[None]):
    __slots__ = ("_borrower", "_limiter")

    def __init__(self, limiter: CapacityLimiter, borrower: Hashable) -> None:
        self._limiter = limiter
        self._borrower = borrower  # None: the task that awaits it
        super().__init__(limiter._gate, limiter._waiters)

    def _advance(self, cx: Context) -> Ready[None] | Pending:
        if self._borrower is None:
            self._borrower = cx
        return super()._advance(cx)

    def _attempt(self) -> bool:
        limiter = self._limiter
        if self._borrower in limiter._borrowers:
            raise RuntimeError("this task or thread has already borrowed a token")
        if len(limiter._borrowers) >= limiter._total:
            return False
        if limiter._waiters.first() not in (None, self):
            return False
        self._result, limiter._borrowers[self._borrower] = None, None
        if self._in_line():
            limiter._grant()  # one that was woken before its turn sleeps again
        return True

    def _in_line(self) -> bool:
        return self._waiters.pop(self, self) is None

    def _give_back(self) -> None:
        if self._result is None:
            self._limiter._release(self._borrower)

    def __repr__(self) -> str:
        return f"<acquire of {self._limiter!r}>"


def _check_total(total: object) -> float:
    if total != math.inf and (isinstance(total, bool) or not isinstance(total, int)):
        raise TypeError(f"total_tokens must be an int or math.inf, not {total!r}")
    assert isinstance(total, (int, float))
    if total < 0:
        raise ValueError(f"total_tokens must be 0 or more, not {total!r}")
    return total
