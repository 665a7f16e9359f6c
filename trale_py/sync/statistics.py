"""What ``statistics()`` of the objects here and of channels returns: how it is at this moment.

The names are trio's. What waits is a task or a thread.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple


class WaitStatistics(NamedTuple):
    """Of an Event, a Notify, a Barrier, a Semaphore, a StopToken."""

    tasks_waiting: int


class LockStatistics(NamedTuple):
    """Of a Mutex."""

    locked: bool
    tasks_waiting: int


class ConditionStatistics(NamedTuple):
    """Of a Condition."""

    tasks_waiting: int
    lock_statistics: LockStatistics


class RwLockStatistics(NamedTuple):
    """Of a RwLock."""

    readers: int
    written: bool
    tasks_waiting: int


class CapacityLimiterStatistics(NamedTuple):
    """Of a CapacityLimiter."""

    borrowed_tokens: int
    total_tokens: float
    borrowers: list[Hashable]
    tasks_waiting: int
