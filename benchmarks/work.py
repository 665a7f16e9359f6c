"""What is measured inside a contender's own process: tasks and timers.

Every peer has methods that do the work, in the words its users would use; here they are
warmed up and timed. All are called in the main thread and return when the work is done.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def rate(work: Callable[[int], None], count: int) -> dict[str, float]:
    work(count // 10 + 1)
    start = time.perf_counter()
    work(count)
    return {"rate": count / (time.perf_counter() - start)}


def spawn_and_join(peer: Any, count: int) -> dict[str, float]:
    """A script spawns many trivial tasks, then joins them."""
    return rate(peer.spawn_and_join, count)


def round_trips(peer: Any, count: int) -> dict[str, float]:
    """A script spawns a trivial task and joins it, one after the other."""
    return {"us": 1e6 / rate(peer.round_trips, count)["rate"]}


def children(peer: Any, count: int, at_once: int) -> dict[str, float]:
    """A task spawns trivial tasks, so many at once, and awaits them."""
    return rate(lambda n: peer.children(n, at_once), count)


def sync(peer: Any, what: str, count: int) -> dict[str, float]:
    """``count`` rounds of ``what``, see rows/sync.py."""
    return rate(getattr(peer, what), count)


def memory(field: str, pid: int | str = "self") -> int:
    """VmRSS, or VmHWM for its peak, in bytes; rusage would have the parent's peak in it."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    assert match
    return 1024 * int(match[1])


def sleepers(peer: Any, count: int, seconds: float) -> dict[str, float]:
    """A task spawns tasks that sleep, all at the same time, and awaits them."""
    peer.sleepers(100, 0.001)
    before = memory("VmRSS")
    start = time.perf_counter()
    peer.sleepers(count, seconds)
    over = time.perf_counter() - start - seconds
    return {"over_s": over, "bytes": (memory("VmHWM") - before) / count}


def short_sleeps(peer: Any, count: int, seconds: float) -> dict[str, float]:
    """One task sleeps for a short time, again and again."""
    over = [1e6 * (took - seconds) for took in peer.short_sleeps(count, seconds)]
    return {"median_us": statistics.median(over), "earliest_us": min(over)}
