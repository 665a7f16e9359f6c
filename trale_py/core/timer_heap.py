"""The timer heap: deadlines in order. Pure data: it knows no clock, thread or descriptor.

A binary heap gives the earliest deadline at once and takes a new one in O(log n). It
cannot take one out of its middle, so a cancelled timer stays as a dead entry until it
comes to the top; when more than half of the heap is dead, it is swept.
"""

from __future__ import annotations

import heapq
from typing import Protocol

from .engine import accelerated


class Wakeable(Protocol):
    """Whatever has a ``wake()`` that is safe to call from any thread."""

    def wake(self) -> None: ...


@accelerated
class TimerEntry:
    """One deadline and whom to wake then. ``waker`` is None once cancelled or fired."""

    __slots__ = ("deadline", "in_heap", "waker")

    def __init__(self, deadline: int, waker: Wakeable) -> None:
        self.deadline: int = deadline  # in nanoseconds
        self.waker: Wakeable | None = waker
        self.in_heap: bool = False


class TimerHeap:
    """Timers by deadline; equal deadlines in the order they were pushed.

    Invariants:
      - ``_dead`` is how many entries of ``_heap`` were discarded.
      - An entry is in ``_heap`` exactly if its ``in_heap`` is true, or it is one of those.
    """

    __slots__ = ("_dead", "_heap", "_pushed")

    SWEEP_FROM = 64  # dead entries; below that a sweep costs more than it frees

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, TimerEntry]] = []
        self._pushed = 0  # orders equal deadlines, and keeps entries from being compared
        self._dead = 0

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def push(self, entry: TimerEntry) -> None:
        entry.in_heap = True
        self._pushed += 1
        heapq.heappush(self._heap, (entry.deadline, self._pushed, entry))

    def discard(self, entry: TimerEntry) -> None:
        """Take ``entry`` out if it is in."""
        if not entry.in_heap:
            return
        entry.in_heap = False
        self._dead += 1
        if self._dead > self.SWEEP_FROM and self._dead * 2 > len(self._heap):
            self._heap = [item for item in self._heap if item[2].in_heap]
            heapq.heapify(self._heap)
            self._dead = 0

    def next_deadline(self) -> int | None:
        """The earliest deadline, or None if there is none."""
        while self._heap and not self._heap[0][2].in_heap:
            heapq.heappop(self._heap)
            self._dead -= 1
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: int, limit: int) -> list[TimerEntry]:
        """Take out, earliest first, at most ``limit`` entries that are due at ``now``."""
        due: list[TimerEntry] = []
        while len(due) < limit:
            deadline = self.next_deadline()
            if deadline is None or deadline > now:
                break
            entry = heapq.heappop(self._heap)[2]
            entry.in_heap = False
            due.append(entry)
        return due
