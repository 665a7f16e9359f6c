"""Trivial tasks: what spawning, ending and joining one costs.

Measured from a script (its thread is not the loop's) and inside a task, one after the other
and a thousand at once. The tasks do nothing and never wait, so it is the runtime that is
measured; a real task costs more, and then all contenders are closer.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from harness import OURS, Measurement, Row, inside

from . import Scale

SCRIPT = [OURS, "asyncio", "uvloop", "anyio", "threads"]
TASK = [OURS, "asyncio", "uvloop", "trio", "curio", "anyio", "gevent"]


def measurements(scale: Scale) -> Iterator[Measurement]:
    yield Measurement(
        "spawn-join",
        SCRIPT,
        partial(inside, "spawn_and_join", [scale.tasks]),
        [
            Row(
                "spawn and join from a script",
                "rate",
                "tasks/s",
                at_least={"asyncio": 5, "uvloop": 4},
            )
        ],
    )
    yield Measurement(
        "spawn-round-trip",
        [*SCRIPT, "trio"],
        partial(inside, "round_trips", [scale.tasks // 2]),
        [Row("spawn().join() round trip", "us", "us", True, {"asyncio": 4, "uvloop": 4})],
    )
    for at_once, how in ((1, "one by one"), (1000, "1,000 at once")):
        yield Measurement(
            f"spawn-await-{at_once}",
            TASK,
            partial(inside, "children", [2 * scale.tasks, at_once]),
            [
                Row(
                    f"spawn and await in a task, {how}",
                    "rate",
                    "tasks/s",
                    at_least={"asyncio": 2, "uvloop": 1.5},
                )
            ],
        )
