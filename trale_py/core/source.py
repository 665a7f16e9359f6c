"""Source: a file descriptor as the reactor sees it.

The descriptor is registered with epoll once, edge-triggered, for everything. From then
on the kernel tells us of changes only, so we keep in mind what it told us: each
direction remembers whether it may be ready, until a system call says "would block".

Readiness without a lock (R3)
    The reactor's thread learns "it is ready" while the executor's thread learns "would
    block", and the newer news must win. Were readiness one flag, this would lose some::

        executor: recv() -> EAGAIN
                                         reactor: data came in; ready = True
        executor: ready = False          <- and no task will read that data

    So there are two numbers, each with one writer. The reactor counts events. The
    executor writes down which count it had seen *before* the call that said EAGAIN. The
    direction is ready while they differ.

Waiting without a lost wake (R4)
    A future that will wait stores its waker and *then* looks at ``ready`` once more. The
    reactor counts the event and *then* takes the wakers. Whichever is second sees the
    other.
"""

from __future__ import annotations

from collections.abc import Hashable

from .engine import accelerated
from .timer_heap import Wakeable


class Direction:
    """One half of a source: reading or writing.

    Invariants:
      - ``events`` and ``more`` are written by the reactor's thread, ``seen`` by the
        executor's.
      - ``waiters`` takes and gives up entries by single dict operations, so only one thread
        (the reactor to wake it, or the executor to take it back) pops an entry.
    """

    __slots__ = ("events", "more", "seen", "waiters")

    def __init__(self) -> None:
        self.events: int = 1  # a new source counts as ready: the first try will tell
        self.seen: int = 0
        self.more: bool = (
            False  # the end, an error, urgent data: a short read proves nothing any more
        )
        self.waiters: dict[Hashable, Wakeable] = {}

    @property
    def ready(self) -> bool:
        return self.events != self.seen

    def notify(self, more: bool) -> None:
        """An event has come, ``more`` than bytes or room perhaps. Reactor's thread only.

        All waiters are woken, not one: an edge does not say how much there is to take, and
        one that was woken and then cancelled would take the event with it. They try in the
        order they came; those that find nothing wait on.
        """
        if more:
            self.more = True
        self.events += 1
        self.wake_all()

    def wake_all(self) -> None:
        for key in list(self.waiters):
            waiter = self.waiters.pop(key, None)
            if waiter is not None:
                waiter.wake()


@accelerated
class Source:
    """A descriptor's place in the reactor. It belongs to a descriptor, not to its number:
    a number that was closed and used anew gets a new source.

    ``users`` counts the objects that have attached it: a stream and an AsyncFd of the same
    descriptor share one.
    """

    __slots__ = ("fd", "gone", "pollable", "read", "users", "write")

    def __init__(self, fd: int) -> None:
        self.fd: int = fd
        self.users: int = 0
        self.gone: bool = False  # it is not watched any more
        self.pollable: bool = True  # false for what epoll refuses: a regular file is always ready
        self.read: Direction = Direction()
        self.write: Direction = Direction()

    def add(self, key: Hashable, waker: Wakeable, read: bool, write: bool) -> None:
        """Have ``waker`` woken by the next event, in one direction or in either."""
        if read:
            self.read.waiters[key] = waker
        if write:
            self.write.waiters[key] = waker

    def discard(self, key: Hashable) -> None:
        """Take back what was added under ``key``."""
        self.read.waiters.pop(key, None)
        self.write.waiters.pop(key, None)

    def __repr__(self) -> str:
        return f"<Source fd={self.fd} users={self.users}>"
