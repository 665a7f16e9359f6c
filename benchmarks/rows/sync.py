"""Between tasks, and from a thread to a task: queues, and locks that nobody else wants.

A message goes from one task to another and back, through two queues with room for one. A lock or
a permit is taken and given back where nobody waits, which is the common case. A thread puts many
items into a queue with room for 1,000 and a task takes them out; asyncio needs janus for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from harness import OURS, Measurement, Row, inside

from . import Scale

PEERS = [OURS, "asyncio", "uvloop", "trio"]


def measurements(scale: Scale) -> Iterator[Measurement]:
    for what, text in (
        ("ping_pong", "queue between two tasks, there and back"),
        ("mutex", "mutex that nobody else wants"),
        ("semaphore", "semaphore that nobody else wants"),
    ):
        yield Measurement(
            f"sync-{what}",
            PEERS,
            partial(inside, "sync", [what, 2 * scale.tasks]),
            [Row(text, "rate", "/s", at_least={"asyncio": 2})],
        )
    yield Measurement(
        "sync-thread-to-task",
        [OURS, "asyncio"],
        partial(inside, "sync", ["thread_to_task", 2 * scale.tasks]),
        [Row("queue from a thread to a task", "rate", "items/s", at_least={"asyncio": 3})],
    )
