"""Durations: what users may write, checked at the call, and what the clock is given.

Users write seconds, or a timedelta. Inside, time is integer nanoseconds of
CLOCK_MONOTONIC: floats lose them after some days of uptime. Fractions are rounded up,
so that nothing is ever early.
"""

from __future__ import annotations

import math
import threading
from datetime import timedelta
from typing import Final, TypeAlias

NEVER: Final = 2**63 - 1  # a deadline, in nanoseconds, that no clock will reach

Duration: TypeAlias = float | timedelta


def to_ns(duration: Duration, argument: str) -> int:
    """``duration`` in nanoseconds, NEVER for infinity and whatever lies beyond the clock."""
    if isinstance(duration, (float, int)):  # first, as it is the usual one
        if duration == math.inf:
            return NEVER
        if duration >= 0:
            numerator, denominator = duration.as_integer_ratio()
            return min(-(-numerator * 10**9 // denominator), NEVER)
    elif not isinstance(duration, timedelta):
        raise TypeError(
            f"{argument} must be seconds (float or int) or a timedelta, not {duration!r}"
        )
    elif duration >= timedelta(0):
        return min(duration // timedelta(microseconds=1) * 1000, NEVER)
    raise ValueError(f"{argument} must be 0 or more, not {duration!r}")  # NaN too


def to_deadline(duration: Duration, argument: str, now: int) -> int:
    """The time, in nanoseconds of the clock that shows ``now``, at which ``duration`` is over."""
    return min(now + to_ns(duration, argument), NEVER)


def to_timeout(duration: Duration, argument: str) -> float:
    """``duration`` as a thread's lock takes it: seconds, -1 for ever."""
    seconds = to_ns(duration, argument) / 10**9
    return -1 if seconds > threading.TIMEOUT_MAX else seconds
