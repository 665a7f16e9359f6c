"""Async context managers and iterators of asyncio's, each in one asyncio task."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from trale_py import (
    CancelScope,
    Event,
    TaskCancelled,
    aio,
    block_on,
    blocking,
    move_on_after,
    sleep,
    spawn,
)

LIMIT = 20


class Manager:
    def __init__(self, *, swallows: bool = False, fails: Exception | None = None) -> None:
        self.tasks: list[Any] = []
        self.error: Any = None
        self.swallows, self.fails = swallows, fails

    async def __aenter__(self) -> str:
        self.tasks.append(asyncio.current_task())
        await asyncio.sleep(0)
        return "entered"

    async def __aexit__(self, exc_type: Any, exc: Any, tb: Any) -> bool:
        self.tasks.append(asyncio.current_task())
        self.error = exc
        await asyncio.sleep(0)
        if self.fails is not None:
            raise self.fails
        return self.swallows


@pytest.mark.parametrize("form", ["object", "function"])
def test_a_manager_is_entered_and_left_in_one_task(form: str) -> None:
    manager = Manager()

    async def main() -> str:
        async with aio(manager) if form == "object" else aio(lambda: manager) as value:
            await sleep(0)
        return value

    assert block_on(main()) == "entered"
    assert len(set(manager.tasks)) == 1
    assert manager.error is None


@pytest.mark.parametrize(
    "error", [ValueError("ours"), StopAsyncIteration("ours"), KeyboardInterrupt("ours")]
)
@pytest.mark.parametrize("swallows", [False, True])
def test_an_error_in_the_block_is_the_managers_to_see(error: BaseException, swallows: bool) -> None:
    manager = Manager(swallows=swallows)

    async def main() -> BaseException | None:
        try:
            async with aio(manager):
                raise error
        except BaseException as caught:
            return caught
        return None

    assert block_on(main()) is (None if swallows else error)
    assert manager.error is error


def test_what_the_manager_raises_comes_out() -> None:
    async def main() -> None:
        async with aio(Manager(fails=KeyError("theirs"))):
            raise ValueError("ours")

    with pytest.raises(KeyError, match="theirs"):
        block_on(main())


def test_an_error_at_the_entry() -> None:
    @contextlib.asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        await asyncio.sleep(0)
        raise KeyError("theirs")
        yield

    async def main() -> None:
        async with aio(manager()):
            raise AssertionError

    with pytest.raises(KeyError, match="theirs"):
        block_on(main())


def test_a_cancelled_block_is_cancelled_on_asyncios_side() -> None:
    manager = Manager()

    async def main() -> bool:
        with move_on_after(0.005) as scope:
            async with aio(manager):
                await sleep(1000)
        return scope.cancelled_caught

    assert block_on(main())
    assert isinstance(manager.error, asyncio.CancelledError)


def test_cancelled_at_the_entry_it_is_not_entered() -> None:
    manager = Manager()

    async def main() -> None:
        with CancelScope() as scope:
            scope.cancel()
            async with aio(manager):
                raise AssertionError

    block_on(main())
    assert manager.tasks == []


def test_a_manager_that_is_cancelled_itself_waits_for_the_end_of_the_block() -> None:
    async def main() -> str:
        went_on = ""
        with pytest.raises(TimeoutError):
            async with aio(asyncio.timeout, 0.001):
                await sleep(0.02)
                went_on = "to its end"
        return went_on

    assert block_on(main()) == "to its end"


def test_asyncios_task_group() -> None:
    async def main() -> int:
        async with aio(asyncio.TaskGroup()) as group:
            task = group.create_task(asyncio.sleep(0.001, 5))
            await sleep(0)
        result: int = task.result()
        return result

    assert block_on(main()) == 5


def test_what_is_no_manager() -> None:
    async def main() -> None:
        async with aio(len, "four"):  # type: ignore[attr-defined]
            pass

    with pytest.raises(TypeError, match="no async context manager"):
        block_on(main())


def test_a_manager_cannot_be_awaited() -> None:
    async def main() -> None:
        await aio(Manager())

    with pytest.raises(TypeError, match="use it with async with"):
        block_on(main())


def test_faces_in_asyncio_code_are_the_things_themselves() -> None:
    manager = Manager()

    async def theirs() -> list[int]:
        async with aio(manager):
            assert await aio(asyncio.sleep(0, 1)) == 1
            return [item async for item in aio(count(3))]

    assert block_on(aio(theirs)) == [0, 1, 2]
    assert set(manager.tasks) != set()


# -- iterators ---------------------------------------------------------------------------------

ended: list[str] = []


async def count(n: int) -> AsyncIterator[int]:
    try:
        for i in range(n):
            await asyncio.sleep(0)
            yield i
    finally:
        await asyncio.sleep(0)
        ended.append("count")


@pytest.fixture(autouse=True)
def none_has_ended() -> None:
    ended.clear()


@pytest.mark.parametrize("form", ["object", "function"])
def test_the_items_in_order(form: str) -> None:
    async def main() -> list[int]:
        return [item async for item in (aio(count(4)) if form == "object" else aio(count, 4))]

    assert block_on(main()) == [0, 1, 2, 3]
    assert ended == ["count"]


def test_it_runs_while_it_is_waited_for_only() -> None:
    made = []

    async def makes() -> AsyncIterator[int]:
        for n in range(3):
            made.append(n)
            yield n

    async def main() -> None:
        items = aiter(aio(makes()))
        assert await anext(items) == 0
        await sleep(0.005)
        assert made == [0]
        assert await anext(items) == 1
        await items.aclose()

    block_on(main())


def test_an_error_of_the_iterator() -> None:
    async def fails() -> AsyncIterator[int]:
        yield 1
        raise KeyError("theirs")

    async def main() -> list[int]:
        got = []
        items = aiter(aio(fails()))
        with pytest.raises(KeyError, match="theirs"):
            async for item in items:
                got.append(item)  # noqa: PERF401  # the error comes after some
        assert await anext(items, None) is None
        return got

    assert block_on(main()) == [1]


def test_a_break_ends_it() -> None:
    event = Event()

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            event.set()

    async def main() -> None:
        async for _ in aio(endless()):
            break
        gc.collect()
        await event.wait()

    block_on(main())


def test_a_cancelled_wait_ends_it() -> None:
    async def slow() -> AsyncIterator[int]:
        yield 1
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append("slow")
        yield 2

    async def main() -> list[int]:
        got = []
        with move_on_after(0.005):
            async for item in aio(slow()):
                got.append(item)  # noqa: PERF401  # it is cut off
        return got

    assert block_on(main()) == [1]
    assert ended == ["slow"]


def test_cancelled_by_asyncio() -> None:
    async def gives_up() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError("theirs")

    async def main() -> None:
        async for _ in aio(gives_up()):
            pass

    with pytest.raises(TaskCancelled, match="theirs"):
        block_on(main())


def test_two_tasks_at_once_are_refused() -> None:
    async def slow() -> AsyncIterator[int]:
        await asyncio.sleep(0.01)
        yield 1

    async def main() -> None:
        items = aiter(aio(slow()))
        first = spawn(anext(items))  # type: ignore[arg-type]
        await sleep(0.001)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(items)
        assert await first == 1
        await items.aclose()

    block_on(main())


# -- in a script ---------------------------------------------------------------------------------


def test_blocking_gives_them_a_plain_face() -> None:
    manager = Manager()
    with blocking(aio(lambda: manager)) as value:
        assert value == "entered"
        assert list(blocking(aio(count, 3))) == [0, 1, 2]
    assert len(set(manager.tasks)) == 1
    with pytest.raises(ValueError, match="ours"), blocking(aio(manager)):
        raise ValueError("ours")
    assert isinstance(manager.error, ValueError)
    for item in blocking(aio(count, 1000)):
        if item == 3:
            break
    while len(ended) < 2:  # the loop is cancelled, and its end not waited for
        block_on(sleep(0.001))
