"""Timers: very many at once, and short ones.

Many sleepers: the time beyond the sleep itself, which is spent to spawn the tasks, to set their
timers and to end them, and the memory added at the peak, for each. All sleep equally long; what
is measured is the runtime's work in bulk, not its precision.

Short sleeps: one task alone, on an idle machine. How late it wakes is the kernel's part plus
the runtime's; that it wakes early is an error, and some do, whose clock is too coarse.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from harness import OURS, Measurement, Row, inside

from . import Scale

MANY = [OURS, "asyncio", "uvloop", "trio"]
SHORT = [OURS, "asyncio", "uvloop", "trio", "curio", "anyio", "gevent", "threads"]


def measurements(scale: Scale) -> Iterator[Measurement]:
    for count in scale.sleepers:
        work = f"{count:,} sleepers"
        yield Measurement(
            f"sleepers-{count}",
            MANY,
            partial(inside, "sleepers", [count, scale.sleep]),
            [
                Row(
                    f"{work}, time over the sleep", "over_s", "s", True, dict.fromkeys(MANY[1:], 3)
                ),
                Row(f"{work}, memory each", "bytes", "bytes", True, dict.fromkeys(MANY[1:], 1)),
            ],
        )
    yield Measurement(
        "sleep-short",
        SHORT,
        partial(inside, "short_sleeps", [scale.tasks // 20, 0.0002]),
        [
            Row("sleep(0.2 ms), median overshoot", "median_us", "us", True, limit=100),
            Row(
                "sleep(0.2 ms), earliest",
                "earliest_us",
                "us late",
                limit=0,
                ratios=False,
                of_rounds=min,
            ),
        ],
    )
