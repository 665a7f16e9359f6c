"""JoinSet: handles in the order of their end, and nothing left behind."""

from __future__ import annotations

import gc
import threading
from functools import partial
from typing import Any

import pytest

from tests.support.interleave import everywhere
from tests.support.net_helpers import TIMEOUT, executor_turn, parked
from trale_py import (
    Event,
    JoinHandle,
    JoinSet,
    TaskCancelled,
    WouldDeadlock,
    block_on,
    spawn,
    tasks,
    yield_now,
)
from trale_py.scripts import join_set


async def value(n: int) -> int:
    return n


async def forever() -> None:
    await Event().wait()


def test_handles_come_in_the_order_of_their_end() -> None:
    jobs: JoinSet[int] = JoinSet()
    events = [Event() for _ in range(3)]

    async def after(n: int) -> int:
        await events[n].wait()
        return n

    for n in range(3):
        jobs.spawn(after(n), name=f"job {n}")
    assert len(jobs) == 3
    for n in (1, 2, 0):
        events[n].set()
        handle = jobs.join_next_blocking(TIMEOUT)
        assert handle is not None
        assert (handle.result(), handle.name) == (n, f"job {n}")
    assert jobs.join_next_blocking(TIMEOUT) is None
    assert len(jobs) == 0


def test_iteration_in_scripts_and_in_tasks_also_of_what_comes_meanwhile() -> None:
    jobs: JoinSet[int] = JoinSet()
    jobs.spawn(value(0))
    seen = []
    for handle in jobs:
        seen.append(handle.result())
        if len(seen) < 4:
            jobs.spawn(value(len(seen)))
    assert seen == [0, 1, 2, 3]

    async def main() -> list[int]:
        for n in range(3):
            jobs.spawn(value(n))
        return sorted([handle.result() async for handle in jobs])

    assert block_on(main()) == [0, 1, 2]


def test_all_that_wait_hear_that_it_is_empty() -> None:
    jobs: JoinSet[int] = JoinSet()
    go = Event()
    jobs.spawn(forever_until(go))
    waiting = [parked(jobs.join_next()) for _ in range(3)]
    go.set()
    ended = [handle.join(TIMEOUT) for handle in waiting]
    assert sum(handle is not None for handle in ended) == 1


async def forever_until(event: Event) -> int:
    await event.wait()
    return 1


@pytest.mark.parametrize("way", ["with", "async with", "close", "drop", "error"])
def test_what_is_left_is_cancelled(way: str) -> None:
    jobs: JoinSet[None] = JoinSet()
    handles = [jobs.spawn(forever()) for _ in range(3)]

    async def in_task() -> None:
        async with jobs:
            pass

    if way == "with":
        with jobs:
            pass
    elif way == "error":
        with pytest.raises(KeyError), jobs:
            raise KeyError
    elif way == "async with":
        block_on(in_task())
    elif way == "close":
        jobs.close()
        coro = forever()
        with pytest.raises(RuntimeError, match="closed"):
            jobs.spawn(coro)
        assert len(list(jobs)) == 3
    else:
        del jobs
        gc.collect()
    for handle in handles:
        with pytest.raises(TaskCancelled):
            handle.join(TIMEOUT)
    assert tasks() == []


def test_C4_a_cancelled_wait_takes_nothing_out() -> None:
    jobs: JoinSet[int] = JoinSet()

    async def main() -> None:
        waiting = spawn(jobs.join_next())
        go = Event()
        jobs.spawn(forever_until(go))
        await yield_now()
        go.set()
        await yield_now()
        waiting.cancel()
        handle = await jobs.join_next()
        while not waiting.done():
            await yield_now()
        rest = [one for one in (handle, None if waiting.cancelled() else waiting.result()) if one]
        assert len(rest) == 1

    block_on(main())


def test_spawn_from_threads_and_wait_on_the_executor() -> None:
    jobs: JoinSet[int] = JoinSet()
    threads = [
        threading.Thread(target=lambda: [jobs.spawn(value(n)) for n in range(50)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert sum(handle.result() for handle in jobs) == 4 * sum(range(50))

    async def wrong() -> None:
        with pytest.raises(WouldDeadlock):
            jobs.join_next_blocking()

    block_on(wrong())
    executor_turn()


def test_R74_a_spawn_and_a_close_that_meet() -> None:
    """The task is refused, or cancelled: it is not left running in a set that is closed."""

    def attempt(at: Any, spawn_is_met: bool) -> None:
        jobs: JoinSet[None] = JoinSet()
        handles: list[JoinHandle[None]] = []

        def add() -> None:
            try:
                handles.append(jobs.spawn(forever()))
            except RuntimeError:
                assert jobs._closed

        interleaving = at(jobs.close if spawn_is_met else add)
        interleaving.run(add if spawn_is_met else jobs.close)
        if not interleaving.happened:
            jobs.close()
        for handle in handles:
            with pytest.raises(TaskCancelled, match="JoinSet was closed"):
                handle.join(TIMEOUT)

    assert everywhere(join_set, partial(attempt, spawn_is_met=True)) > 5
    assert everywhere(join_set, partial(attempt, spawn_is_met=False)) > 1
