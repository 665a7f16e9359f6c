"""Event: something has happened, and everybody may know."""

from __future__ import annotations

from ..future import Future, Pending, Ready
from ..latch import Latch, LatchWait
from ..seam import Context
from .permits import Home


class Event:
    """Not set at first; once set, set for good. For another round, make another Event.

    May be made anywhere, before the runtime exists too. ::

        ready = Event()
        ...
        ready.set()         # in a thread, a task, a signal handler
        await ready.wait()  # in any number of tasks

    After trio's `Event <https://trio.readthedocs.io/en/stable/reference-core.html>`_.
    """

    __slots__ = ("_home", "_latch", "_set")

    def __init__(self) -> None:
        self._latch = Latch()
        self._home = Home()
        self._set = False

    def set(self) -> None:
        """Let everybody through who waits or will wait. From anywhere; never waits."""
        # Published first: a Ctrl-C between the two leaves an event that is about to be set.
        self._home.call(self._latch.open)
        self._set = True

    def is_set(self) -> bool:
        return self._set or self._latch.opened

    def wait(self) -> Future[None]:
        """Wait until the event is set. Cancelling the wait changes nothing for others."""
        return _EventWait(self._latch, self._home)

    def __repr__(self) -> str:
        return f"<Event {'set' if self.is_set() else f'waited for by {len(self._latch.waiters)}'}>"


class _EventWait(LatchWait):
    __slots__ = ("_home",)

    def __init__(self, latch: Latch, home: Home) -> None:
        super().__init__(latch)
        self._home = home

    def poll(self, cx: Context) -> Ready[None] | Pending:
        self._home.runtime = cx.runtime
        return super().poll(cx)
