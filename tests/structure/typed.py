"""What the types of the public calls are: checked by mypy with all of it, and by pyright."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from typing import assert_type

from trale_py import (
    CapacityLimiter,
    Guard,
    JoinHandle,
    JoinSet,
    Mutex,
    TaskGroup,
    TaskStatus,
    block_on,
    blocking,
    check_cancelled,
    gather,
    map_concurrent,
    race,
    spawn,
    spawn_blocking,
    timeout,
)
from trale_py.channel import Receiver, watch


async def number() -> int:
    return 1


async def text() -> str:
    return ""


async def shown(n: int) -> str:
    return str(n)


async def numbers() -> AsyncIterator[int]:
    yield 1


@contextlib.asynccontextmanager
async def manager() -> AsyncIterator[bytes]:
    yield b""


def blocks(n: int, *, text: str = "") -> float:
    check_cancelled()
    return n + len(text)


async def start_none(*, task_status: TaskStatus[int]) -> None:
    task_status.started(1)


async def start_two(host: str, port: int, *, task_status: TaskStatus[str]) -> None:
    task_status.started(f"{host}:{port}")


def in_a_script() -> None:
    assert_type(spawn(number()), JoinHandle[int])
    assert_type(spawn(number()).join(), int)
    assert_type(block_on(text()), str)
    assert_type(spawn_blocking(blocks, 1), JoinHandle[float])
    assert_type(spawn_blocking(blocks, 1, limiter=CapacityLimiter(1)), JoinHandle[float])
    with ProcessPoolExecutor() as pool:
        assert_type(spawn_blocking(blocks, 1, executor=pool), JoinHandle[float])
    for one in map_concurrent(shown, [1, 2], limit=2):
        assert_type(one, str)
    for item in map_concurrent(shown, numbers(), limit=2, return_exceptions=True):
        assert_type(item, str | BaseException)
    for n in blocking(numbers()):
        assert_type(n, int)
    jobs: JoinSet[int] = JoinSet()
    for handle in jobs:
        assert_type(handle, JoinHandle[int])
    assert_type(jobs.join_next_blocking(), JoinHandle[int] | None)
    with Mutex(1) as guard:
        assert_type(guard, Guard[int])
        assert_type(guard.value, int)


async def in_a_task(rx: Receiver[int]) -> None:
    assert_type(await gather(number(), text()), tuple[int, str])
    assert_type(await gather(number(), number(), number(), number()), tuple[int, ...])
    assert_type(await race(number(), text()), int | str)
    assert_type(await timeout(1, number()), int)
    assert_type(await rx.recv(), int)
    async with TaskGroup() as group:
        assert_type(group.spawn(text()), JoinHandle[str])
        assert_type(await group.start(start_none), int)
        assert_type(await group.start(start_two, "localhost", 80), str)
    async for one in map_concurrent(shown, numbers(), limit=2):
        assert_type(one, str)
    tx, seen = watch(1)
    tx.send(2)
    assert_type(seen.borrow(), int)
