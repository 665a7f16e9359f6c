"""What several peers need."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

CHUNK = 262144  # the most that an echo server reads at once: it is what uvloop's Protocol does
ACK_EVERY = 64  # datagrams of a flood; see load.c
ACK = b"."  # asyncio sends no empty datagrams

Server = tuple[int, Callable[[], Any]]  # its port, and what waits for its end


async def nothing() -> None:
    pass


async def time_sleeps(
    sleep: Callable[[float], Awaitable[Any]], count: int, seconds: float
) -> list[float]:
    took = []
    for _ in range(count):
        start = time.perf_counter()
        await sleep(seconds)
        took.append(time.perf_counter() - start)
    return took


def in_thread(fn: Callable[..., Any], *args: Any) -> Any:
    """Run it in a background thread, wait there, and have its result."""
    results: SimpleQueue[Any] = SimpleQueue()
    thread = Thread(target=lambda: results.put(fn(*args)), daemon=True)
    thread.start()
    thread.join()
    return results.get_nowait()


def serve_in_thread(serve: Callable[[Callable[[int], Any]], Any]) -> Server:
    """Run a server in a background thread; it is given what to tell its port to."""
    ports: SimpleQueue[int] = SimpleQueue()
    thread = Thread(target=serve, args=(ports.put,), daemon=True)
    thread.start()
    return ports.get(), thread.join
