"""Notify: a counting wake-up, trale's Event without the eventfd."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from ..base.durations import Duration
from .statistics import WaitStatistics
from .waiters import ReentrantGate, Waiter, Waiters, block


class Notify:
    """Each ``notify_one()`` lets one wait through, now or later; each is counted.

    Tasks and threads are let through in the order they came. May be made anywhere, before
    the runtime exists too. ::

        work = Notify()
        work.notify_one()  # in a thread, a task, a signal handler
        await work.wait()  # takes that one

    After trale's futures/event.rs, which is an eventfd(2) in semaphore mode; Tokio's Notify
    differs in that it keeps one notification at most.
    """

    __slots__ = ("_count", "_gate", "_waiters")

    def __init__(self) -> None:
        self._count = 0  # notifications that are kept; more than 0 means no waiters
        self._gate = ReentrantGate()
        self._waiters = Waiters()

    def notify_one(self) -> None:
        """Let one waiter through, or the next that comes. From anywhere."""
        self._gate.call(self._notify_one)

    def notify_waiters(self) -> None:
        """Wake all present waiters; nothing is kept for later. From anywhere."""
        self._gate.call(self._notify_waiters)

    def wait(self) -> Coroutine[Any, Any, None]:
        """Wait for a notification and take it. Cancelled, it takes none."""
        return _NotifyWait(self)

    def wait_blocking(self, timeout: Duration | None = None) -> None:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        block(_NotifyWait(self), timeout)

    def _notify_one(self) -> None:
        """Let the first waiter through, or count it for the next. The lock is held."""
        waiter = self._waiters.first()
        if waiter is None:
            self._count += 1
        else:
            assert isinstance(waiter, _NotifyWait)
            waiter._wake()
            waiter._counted, waiter._result = True, None
            self._waiters.pop(waiter, None)

    def _notify_waiters(self) -> None:
        """Let all through that wait. The lock is held."""
        while (waiter := self._waiters.first()) is not None:
            self._waiters.grant(waiter, None)

    def statistics(self) -> WaitStatistics:
        """How it is at this moment."""
        return WaitStatistics(len(self._waiters))

    def __repr__(self) -> str:
        return f"<Notify permits={self._count} waiting={len(self._waiters)}>"


class _NotifyWait(Waiter[None]):
    __slots__ = ("_counted", "_notify")

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._counted = False  # it was notify_one() that let this through
        super().__init__(notify._gate, notify._waiters)

    def _attempt(self) -> bool:
        notify = self._notify
        if not notify._count:
            return False
        notify._count, self._counted, self._result = notify._count - 1, True, None
        return True

    def _keeps(self) -> bool:
        return self._result is None and not self._counted

    def _give_back(self) -> None:
        if self._counted:
            self._notify._notify_one()

    def __repr__(self) -> str:
        return f"<wait of {self._notify!r}>"
