"""What is trale_py's, awaited in asyncio code."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.core.test_leaf import ALL, World, give_back
from trale_py import (
    CancelScope,
    Context,
    Event,
    Executor,
    Future,
    Mutex,
    Ready,
    Semaphore,
    TaskCancelled,
    TaskGroup,
    aio,
    as_completed,
    block_on,
    channel,
    fail_after,
    gather,
    sleep,
    spawn,
    spawn_blocking,
    yield_now,
)


@pytest.fixture
def world(guest_ends: None) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        yield World(stack)


@pytest.mark.parametrize("name", ALL)
def test_each_is_awaited_or_refused_by_name(name: str, world: World) -> None:
    """What needs a group or a scope around it is refused, and "await spawn(...)" is the way."""

    async def theirs() -> str:
        with contextlib.suppress(OSError):  # of its own: there is no such file, and no TLS there
            give_back(await asyncio.wait_for(ALL[name](world), 20))
        return "ended"

    async def spawns() -> str:
        with contextlib.suppress(OSError):
            await spawn(_await(ALL[name](world)))
        return "spawned"

    try:
        assert block_on(aio(theirs)) == "ended"
    except RuntimeError as error:
        assert "await spawn(...)" in str(error)
        assert block_on(aio(spawns)) == "spawned"


@pytest.mark.parametrize("enter", [CancelScope, lambda: fail_after(1)])
def test_scopes_are_refused_by_name(enter: Callable[[], Any]) -> None:
    async def theirs() -> None:
        with enter():
            pass

    with pytest.raises(RuntimeError, match=r"await spawn\(\.\.\.\)"):
        block_on(aio(theirs))


def test_a_group_is_refused_by_name() -> None:
    async def theirs() -> None:
        async with TaskGroup():
            pass

    with pytest.raises(RuntimeError, match=r"await spawn\(\.\.\.\)"):
        block_on(aio(theirs))


def test_handles_of_tasks_and_of_jobs() -> None:
    async def ours() -> int:
        await sleep(0.001)
        return 1

    async def theirs() -> list[Any]:
        handle = spawn(ours())
        both = await asyncio.gather(handle, spawn_blocking(len, "four"))
        return [*both, await handle]

    assert block_on(aio(theirs)) == [1, 4, 1]


def test_a_cancelled_task_of_ours_is_task_cancelled() -> None:
    async def theirs() -> None:
        handle = spawn(sleep(1000))
        handle.cancel("ours")
        with pytest.raises(TaskCancelled, match="ours"):
            await handle

    block_on(aio(theirs))


def test_a_failed_task_of_ours_fails_the_await() -> None:
    async def ours() -> None:
        await yield_now()
        raise ValueError("ours")

    async def theirs() -> None:
        await spawn(ours())

    with pytest.raises(ValueError, match="ours"):
        block_on(aio(theirs))


def test_a_cancelled_await_of_a_handle_only_stops_waiting() -> None:
    async def theirs() -> str:
        event = Event()

        async def ours() -> str:
            await event.wait()
            return "went on"

        handle = spawn(ours())
        waiting = asyncio.create_task(_await(handle))
        await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        event.set()
        return await handle

    assert block_on(aio(theirs)) == "went on"


async def _await(awaitable: Any) -> Any:
    return await awaitable


@pytest.mark.parametrize("how", ["cancel", "timeout", "wait_for", "group"])
def test_asyncios_means_of_cancelling(how: str) -> None:
    """What is cancelled did not happen: the permit is there for the next."""

    async def theirs() -> None:
        permits = Semaphore(0)
        with contextlib.suppress(TimeoutError, asyncio.CancelledError, ExceptionGroup):
            if how == "timeout":
                async with asyncio.timeout(0.001):
                    await permits.acquire()
            elif how == "wait_for":
                await asyncio.wait_for(permits.acquire(), 0.001)
            elif how == "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(_await(permits.acquire()))
                    await asyncio.sleep(0.001)
                    raise ValueError
            else:
                task = asyncio.create_task(_await(permits.acquire()))
                await asyncio.sleep(0.001)
                task.cancel()
                await task
        permits.release()
        assert permits.try_acquire()

    block_on(aio(theirs))


def test_shield_over_a_handle() -> None:
    async def theirs() -> str:
        async def ours() -> str:
            await sleep(0.005)
            return "kept"

        handle = spawn(ours())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(_await(handle)), 0.001)
        return await handle

    assert block_on(aio(theirs)) == "kept"


def test_a_composite_that_is_cancelled_cancels_its_task() -> None:
    ended = []

    async def ours() -> None:
        try:
            await sleep(1000)
        finally:
            ended.append(True)

    async def theirs() -> None:
        task = asyncio.create_task(gather(ours(), ours()))
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [True, True]

    block_on(aio(theirs))


def test_a_value_nevertheless_is_the_outcome_of_a_composite() -> None:
    async def ours() -> str:
        with CancelScope(shield=True):
            await sleep(0.005)
        return "nevertheless"

    async def theirs() -> tuple[str, ...]:
        task = asyncio.create_task(gather(ours()))
        await asyncio.sleep(0.001)
        task.cancel()
        return await task

    assert block_on(aio(theirs)) == ("nevertheless",)


def test_as_completed_in_asyncio_code() -> None:
    async def ours(n: int) -> int:
        await sleep(n * 0.003)
        return n

    async def theirs() -> list[int]:
        return [handle.result() async for handle in as_completed([ours(2), ours(1)])]

    assert block_on(aio(theirs)) == [1, 2]


def test_no_item_is_lost_at_a_cancel() -> None:
    async def theirs() -> None:
        sender, receiver = channel.channel(None)
        received: list[int] = []

        async def receive() -> None:
            received.append(await receiver.recv())

        for n in range(100):
            task = asyncio.create_task(receive())
            await asyncio.sleep(0)
            if n % 3:
                sender.try_send(n)
            if n % 2:
                task.cancel()
            await asyncio.wait([task], timeout=0 if not n % 3 and not n % 2 else None)
            task.cancel()
            await asyncio.wait([task])
        left = []
        with contextlib.suppress(Exception):
            while True:
                left.append(receiver.try_recv())
        assert sorted(received + left) == [n for n in range(100) if n % 3]

    block_on(aio(theirs))


def test_a_mutex_belongs_to_the_asyncio_task_that_has_it() -> None:
    async def theirs() -> None:
        mutex = Mutex(0)

        async def count() -> None:
            for _ in range(20):
                async with mutex as guard:
                    before = guard.value
                    await asyncio.sleep(0)
                    guard.value = before + 1

        await asyncio.gather(*(count() for _ in range(5)), spawn(count_ours(mutex)))
        async with mutex as guard:
            assert guard.value == 120
            with pytest.raises(RuntimeError):
                await mutex.lock()

    async def count_ours(mutex: Mutex[int]) -> None:
        for _ in range(20):
            async with mutex as guard:
                before = guard.value
                await yield_now()
                guard.value = before + 1

    block_on(aio(theirs))


def test_a_users_future() -> None:
    class Countdown(Future[str]):
        def __init__(self) -> None:
            self.n = 3
            self.dropped = False

        def poll(self, cx: Context) -> Any:
            from trale_py import PENDING

            self.n -= 1
            cx.waker.wake()
            return PENDING if self.n else Ready("lift-off")

        def drop(self) -> None:
            self.dropped = True

    async def theirs() -> str:
        countdown = Countdown()
        result = await countdown
        assert not countdown.dropped
        return result

    assert block_on(aio(theirs)) == "lift-off"


def test_a_users_future_is_dropped_at_a_cancel() -> None:
    dropped = []

    class Never(Future[None]):
        def poll(self, cx: Context) -> Any:
            from trale_py import PENDING

            return PENDING

        def drop(self) -> None:
            dropped.append(True)

    async def theirs() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(Never(), 0.001)

    block_on(aio(theirs))
    assert dropped == [True]


def test_operations_that_never_wait_give_way_now_and_then() -> None:
    """128 in a turn, as a task of ours."""

    async def theirs() -> list[str]:
        order = []

        async def busy() -> None:
            for _ in range(1000):
                await Event_set.wait()
            order.append("busy")

        async def other() -> None:
            await asyncio.sleep(0)
            order.append("other")

        await asyncio.gather(busy(), other())
        return order

    Event_set = Event()
    Event_set.set()
    assert block_on(aio(theirs)) == ["other", "busy"]


def test_companions_end_with_their_tasks() -> None:
    async def theirs() -> None:
        async def sleeps(seconds: float) -> None:
            await sleep(seconds)

        tasks = [asyncio.create_task(sleeps(n * 1e-5)) for n in range(50)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    block_on(aio(theirs))
    runtime = Executor.get()._runtime
    block_on(sleep(0))
    assert runtime.guest._companions == {}
    assert len(runtime._services) == 1  # the guest's own
    assert runtime.tasks() == []


def test_outside_of_all_loops_pending_is_yielded() -> None:
    operation = sleep(0)
    assert "PENDING" in repr(operation.send(None))
    operation.close()
    loop = asyncio.new_event_loop()
    with pytest.raises(RuntimeError, match="PENDING"):
        loop.run_until_complete(_await(sleep(0)))
    loop.close()
