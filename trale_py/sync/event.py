"""Event: something has happened, and everybody may know."""

from __future__ import annotations

from .. import current
from ..future import Future
from ..latch import Latch, LatchWait


class Event:
    """Not set at first; once set, set for good. For another round, make another Event.

    May be made anywhere, before the runtime exists too. ::

        ready = Event()
        ...
        ready.set()         # in a thread, a task, a signal handler
        await ready.wait()  # in any number of tasks

    After trio's `Event <https://trio.readthedocs.io/en/stable/reference-core.html>`_.
    """

    __slots__ = ("_latch", "_set")

    def __init__(self) -> None:
        self._latch = Latch()
        self._set = False

    def set(self) -> None:
        """Let everybody through who waits or will wait. From anywhere; never waits."""
        # Published first: a Ctrl-C between the two leaves an event that is about to be set.
        if not self._set:
            current.runtime().call_on_executor(self._latch.open)
            self._set = True

    def is_set(self) -> bool:
        return self._set or self._latch.opened

    def wait(self) -> Future[None]:
        """Wait until the event is set. Cancelling the wait changes nothing for others."""
        return LatchWait(self._latch)

    def __repr__(self) -> str:
        return f"<Event {'set' if self.is_set() else f'waited for by {len(self._latch.waiters)}'}>"
