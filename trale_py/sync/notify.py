"""Notify: a counting wake-up, trale's Event without the eventfd."""

from __future__ import annotations

from .. import current
from ..future import Future, Pending, Ready
from ..waker import Context
from .wait_queue import Waiting, WaitQueue


class Notify:
    """Each ``notify_one()`` lets one ``wait()`` through, now or later; each is counted.

    Waiters are let through in the order they came. May be made anywhere, before the
    runtime exists too. ::

        work = Notify()
        work.notify_one()  # in a thread, a task, a signal handler
        await work.wait()  # takes that one

    After trale's futures/event.rs, which is an eventfd(2) in semaphore mode; Tokio's Notify
    differs in that it keeps one notification at most.
    """

    __slots__ = ("_permits", "_queue")

    def __init__(self) -> None:
        self._permits = 0  # the executor's thread writes it
        self._queue = WaitQueue(pass_on=self._notify)

    def notify_one(self) -> None:
        """Let one waiter through, or the next that comes. From anywhere; never waits."""
        current.runtime().call_on_executor(self._notify)

    def notify_waiters(self) -> None:
        """Let all through who wait now; nothing is kept for later. From anywhere."""
        current.runtime().call_on_executor(self._notify_all)

    def wait(self) -> Future[None]:
        """Wait for a notification and take it. Cancelled, it takes none."""
        return _NotifyWait(self)

    def _notify(self) -> None:
        if not self._queue.wake_one():
            self._permits += 1

    def _notify_all(self) -> None:
        while self._queue.wake_one():
            pass

    def _take(self) -> bool:
        if self._permits == 0:
            return False
        self._permits -= 1
        return True

    def __repr__(self) -> str:
        return f"<Notify permits={self._permits} waiting={len(self._queue)}>"


class _NotifyWait(Waiting):
    __slots__ = ("_notify",)

    def __init__(self, notify: Notify) -> None:
        super().__init__(notify._queue)
        self._notify = notify

    def poll(self, cx: Context) -> Ready[None] | Pending:
        # There are permits only while nobody waits: who takes one overtakes nobody.
        if not self.handed and self._notify._take():
            return Ready(None)
        return super().poll(cx)
