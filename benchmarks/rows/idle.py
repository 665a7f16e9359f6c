"""Idle connections: the memory that the server's process takes for each of very many.

Every connection has echoed one byte and then waits in a read. Measured: what the resident set
has grown by. Not measured: the kernel's sockets, which are the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness import OURS, Figures, Measurement, Row, idle_connections, server
from work import memory

from . import Scale

CONTENDERS = [OURS, "asyncio", "uvloop", "asyncio Protocol", "uvloop Protocol", "trio"]


def measurements(scale: Scale) -> Iterator[Measurement]:
    def measure(contender: str) -> Figures:
        with server(contender, "tcp_echo") as (port, pid):
            with idle_connections(port, 50):
                pass
            before = memory("VmRSS", pid)
            with idle_connections(port, scale.idle):
                return {"bytes": (memory("VmRSS", pid) - before) / scale.idle}

    yield Measurement(
        "idle",
        CONTENDERS,
        measure,
        [
            Row(
                f"{scale.idle:,} idle connections, memory each",
                "bytes",
                "bytes",
                True,
                {"asyncio": 2, "uvloop": 2},
            )
        ],
    )
