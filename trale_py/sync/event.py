"""Event: something has happened; all that wait for it go on."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from ..base.durations import Duration
from .statistics import WaitStatistics
from .waiters import NOTHING, ReentrantGate, Waiter, Waiters, block


class Event:
    """Not set at first; once set, set for good. For another round, make another Event.

    May be made anywhere, before the runtime exists too. ::

        ready = Event()
        ...
        ready.set()            # in a thread, a task, a signal handler
        await ready.wait()     # in any number of tasks
        ready.wait_blocking()  # and threads

    After Python's ``threading.Event`` and trio's `Event
    <https://trio.readthedocs.io/en/stable/reference-core.html>`_.
    """

    __slots__ = ("_gate", "_set", "_waiters")

    def __init__(self) -> None:
        self._set = False
        self._gate = ReentrantGate()
        self._waiters = Waiters()

    def set(self) -> None:
        """Wake all waiters; later waits return at once. From anywhere."""
        if not self._set:
            self._gate.call(self._open)

    def is_set(self) -> bool:
        """Whether it is set. From anywhere; never waits."""
        # A signal handler may look that has itself set it, in the midst of another step.
        return self._set or self._open in self._gate.late

    def wait(self) -> Coroutine[Any, Any, None]:
        """Wait until the event is set. Cancelling the wait changes nothing for others."""
        return _EventWait(self)

    def wait_blocking(self, timeout: Duration | None = None) -> None:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        block(_EventWait(self), timeout)

    def _open(self) -> None:
        """Let all waiters through. The lock is held."""
        self._waiters.wake_all()
        self._set = True
        self._waiters.clear()

    def statistics(self) -> WaitStatistics:
        """How it is at this moment."""
        return WaitStatistics(len(self._waiters))

    def __repr__(self) -> str:
        return f"<Event {'set' if self.is_set() else f'waited for by {len(self._waiters)}'}>"


class _EventWait(Waiter[None]):
    __slots__ = ("_event",)

    def __init__(self, event: Event) -> None:
        self._event = event
        super().__init__(event._gate, event._waiters)

    def _attempt(self) -> bool:
        if self._event._set:
            self._result = None
        return self._event._set

    def _at_once(self) -> Any:
        return None if self._event._set else NOTHING  # once set, it stays so

    def _keeps(self) -> bool:
        return self._event.is_set()

    def __repr__(self) -> str:
        return f"<wait of {self._event!r}>"
