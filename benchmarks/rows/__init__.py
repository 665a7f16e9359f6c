"""What is measured, a file for each family; each has measurements(scale)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    seconds: float  # the window of a network measurement
    tasks: int
    sleepers: tuple[int, ...]
    sleep: float  # of the sleepers, in seconds
    idle: int  # connections


FULL = Scale(seconds=1, tasks=20_000, sleepers=(100_000, 1_000_000), sleep=1, idle=10_000)
QUICK = Scale(seconds=0.2, tasks=2_000, sleepers=(5_000,), sleep=0.1, idle=500)
