"""Notify: a counting wake-up, trale's Event without the eventfd."""

from __future__ import annotations

from ..future import Future
from .permits import Permits, PermitWait


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

    __slots__ = ("_permits",)

    def __init__(self) -> None:
        self._permits = Permits(0)

    def notify_one(self) -> None:
        """Let one waiter through, or the next that comes. From anywhere; never waits."""
        self._permits.give()

    def notify_waiters(self) -> None:
        """Let all through who wait now; nothing is kept for later. From anywhere."""
        self._permits.home.call(self._wake_all)

    def wait(self) -> Future[None]:
        """Wait for a notification and take it. Cancelled, it takes none."""
        return PermitWait(self._permits)

    def _wake_all(self) -> None:
        for waiter in list(self._permits.waiting):
            waiter.let_through(permit=False)

    def __repr__(self) -> str:
        permits = self._permits
        return f"<Notify permits={len(permits.pile)} waiting={len(permits.waiting)}>"
