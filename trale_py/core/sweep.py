"""Sweep: finds the descriptors that other code has closed while tasks wait for them.

epoll forgets a descriptor with its last close, and says nothing (R56)::

    a task: await stream.read()               <- waits
                                              another thread: os.close(number)
    epoll: (nothing more, for ever)

No call tells of such a close, so the kernel must be asked, by number. ``EPOLL_CTL_ADD`` answers
EEXIST if the number still means the file that is watched, and changes nothing then. Each source is
asked once a minute, as long as there is any. All are asked at once when one was found in another
way, as a loop that closes numbers seldom closes one. A batch is asked in each turn of the executor,
in about a tenth of a millisecond.

A source that is lost is not watched any more, and its waiters are woken: they find it gone, and
raise EBADF.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Final, Protocol

from .contract import RuntimeLike
from .poller import BATCH, Poller
from .source import Source
from .timer_heap import TimerEntry

# Seldom enough to cost an idle process nothing that can be seen.
PERIOD_NS: Final = 60 * 10**9


class Watching(Protocol):
    """A Reactor, for its sweep."""

    _runtime: RuntimeLike
    _poller: Poller

    def _detach(self, source: Source) -> None:
        """Stop watching, and wake all waiters."""


class Sweep:
    """The sweeps of one reactor. Executor's thread, but for ``wake``."""

    def __init__(self, reactor: Watching) -> None:
        self._reactor = reactor
        self._timer: TimerEntry | None = None  # of the next one, while there are sources

    def plan(self) -> None:
        """If there are sources, the next sweep is in a minute, unless one is planned.

        A simulation has none: its clock, once nothing is ready, jumps from deadline to deadline.
        """
        if self._reactor._runtime.run_queue.simulation is not None:
            return
        if self._timer is None and self._reactor._poller.sources:
            due = time.monotonic_ns() + PERIOD_NS
            self._timer = self._reactor._poller.add_timer(due, self)

    def stop(self) -> None:
        """There are no sources."""
        if self._timer is not None:
            self._reactor._poller.cancel_timer(self._timer)
            self._timer = None

    def wake(self) -> None:
        """The minute is over."""
        self._reactor._runtime.publish(self._begin_planned)

    def _begin_planned(self) -> None:
        if self._timer is not None:
            self._timer = None
            self.begin()
            self.plan()

    def begin(self) -> None:
        """Ask about all sources there are."""
        self._ask(list(self._reactor._poller.sources.values()))

    def _ask(self, sources: list[Source]) -> None:
        poller = self._reactor._poller
        for source in sources[:BATCH]:
            if poller.sources.get(source.fd) is source and not poller.watches(source):
                self._reactor._detach(source)
        if len(sources) > BATCH:
            self._reactor._runtime.publish(partial(self._ask, sources[BATCH:]))
