"""Tasks: what may be spawned, how a task ends, and whose turn it is."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import gc
import logging
import pickle
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Generator
from functools import partial
from typing import Any

import pytest

from tests.support.tasks import fail, give
from trale_py import (
    PENDING,
    Cancelled,
    Context,
    Event,
    Executor,
    Future,
    Mutex,
    Notify,
    Pending,
    Ready,
    Semaphore,
    Task,
    TaskCancelled,
    Timer,
    UdpSocket,
    WouldDeadlock,
    block_on,
    channel,
    current_task,
    sleep,
    sleep_until,
    spawn,
    tasks,
    yield_now,
)
from trale_py.core.runtime import Runtime


def test_a_task_runs_by_itself_and_gives_its_result() -> None:
    assert spawn(give(3)).join(10) == 3
    assert Executor.spawn(give(4)).join(10) == 4
    assert block_on(give(5)) == 5
    assert Executor.block_on(give(6)) == 6


def test_a_future_can_be_spawned() -> None:
    class Seven(Future[int]):
        def poll(self, cx: Context) -> Ready[int] | Pending:
            return Ready(7)

    assert spawn(Seven()).join(10) == 7


def test_spawn_in_a_task_and_await() -> None:
    async def main() -> object:
        return await spawn(give("inner"))

    assert block_on(main()) == "inner"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("v"),
        SystemExit(3),
        KeyboardInterrupt("k"),
        GeneratorExit("g"),
        BaseException("b"),
        StopAsyncIteration("s"),
        MemoryError("m"),
    ],
    ids=repr,
)
def test_T3_G6_G7_whatever_a_task_raises_ends_only_that_task(error: BaseException) -> None:
    other = spawn(sleep(0.01))
    with pytest.raises(type(error)) as caught:
        spawn(fail(error)).join(10)
    assert caught.value is error
    other.join(10)

    async def awaits_it() -> str:
        try:
            await spawn(fail(error))
        except BaseException as seen:
            assert seen is error
            return "seen"
        return "lost"

    assert block_on(awaits_it()) == "seen"
    error.__traceback__ = None


def test_G7_stop_iteration_comes_out_as_runtime_error() -> None:
    stop = StopIteration("s")
    with pytest.raises(RuntimeError) as caught:
        spawn(fail(stop)).join(10)
    assert caught.value.__cause__ is stop

    class Stops(Future[None]):
        def poll(self, cx: Context) -> Ready[None] | Pending:
            raise stop

    with pytest.raises(RuntimeError) as caught:
        spawn(Stops()).join(10)
    assert caught.value.__cause__ is stop


def test_the_traceback_is_the_tasks_own_and_does_not_grow() -> None:
    async def inner() -> None:
        raise ValueError("deep")

    async def outer() -> None:
        await inner()

    handle = spawn(outer())
    lengths = []
    for _ in range(3):
        with pytest.raises(ValueError, match="deep") as caught:
            handle.join(10)
        names = [entry.name for entry in caught.traceback]
        assert names[-2:] == ["outer", "inner"]
        assert "poll" not in names
        lengths.append(len(names))
    assert len(set(lengths)) == 1


def test_T1_A14_fifo_and_fair() -> None:
    """Two tasks that only ever wake themselves leave every third turn to the others."""
    order: list[str] = []

    async def turn(name: str) -> None:
        for _ in range(4):
            order.append(name)
            await yield_now()

    async def main() -> None:
        for handle in [spawn(turn(name)) for name in "abc"]:
            await handle

    block_on(main())
    assert order == list("abc" * 4)


def test_A14_a_self_waking_task_starves_neither_timers_nor_others() -> None:
    stop = threading.Event()
    turns = 0

    async def greedy() -> None:
        nonlocal turns
        while not stop.is_set():
            turns += 1
            await yield_now()

    busy = [spawn(greedy()) for _ in range(3)]
    for _ in range(5):
        block_on(sleep_once())
    stop.set()
    for handle in busy:
        handle.join(10)
    assert turns > 5


async def sleep_once() -> None:
    await sleep(0.002)


def test_A15_a_task_gives_way_after_128_operations() -> None:
    class Instant(Future[None]):
        def poll(self, cx: Context) -> Ready[None] | Pending:
            return Ready(None)

    counts: list[int] = []
    operations = 0

    async def greedy() -> None:
        nonlocal operations
        for _ in range(1000):
            await Instant()
            operations += 1

    async def observe() -> None:
        while operations < 1000:
            counts.append(operations)
            await yield_now()

    async def main() -> None:
        handles = [spawn(greedy()), spawn(observe())]
        for handle in handles:
            await handle

    block_on(main())
    assert counts == [128 * n for n in range(1, 8)]


def test_G1_a_foreign_awaitable_is_refused_where_it_is_awaited() -> None:
    loop = asyncio.new_event_loop()
    foreign = loop.create_future()

    async def main() -> list[str]:
        said = []
        try:
            await foreign
        except RuntimeError as error:
            said.append(str(error))
        try:
            await asyncio.sleep(0)
        except RuntimeError as error:
            said.append(str(error))
        await yield_now()
        return said

    try:
        future_text, bare_text = block_on(main())
    finally:
        loop.close()
    assert "Future" in future_text
    assert "Event" in future_text
    assert "yield_now" in bare_text


def test_G16_a_foreign_awaitable_whose_repr_fails() -> None:
    class Nasty:
        def __repr__(self) -> str:
            raise ValueError("no repr")

    class Yields:
        def __await__(self) -> Generator[Any, Any, None]:
            yield Nasty()

    async def main() -> None:
        await Yields()

    with pytest.raises(RuntimeError, match="Nasty"):
        block_on(main())


def test_our_future_under_another_driver_yields_and_does_not_hang() -> None:
    """asyncio says in its own words what it makes of it, and nothing is left registered."""

    async def main() -> None:
        await sleep(1)

    with pytest.raises(RuntimeError, match="PENDING"):
        asyncio.run(main())


def test_G2_a_coroutine_runs_in_one_task() -> None:
    coro = give(1)
    first, second = spawn(coro), spawn(coro)
    assert first.join(10) == 1
    with pytest.raises(RuntimeError, match="already run"):
        second.join(10)

    gate = Notify()

    async def waits() -> str:
        await gate.wait()
        return "once"

    waiting = waits()
    first_waiting = spawn(waiting)
    with pytest.raises(RuntimeError, match="another task is running it"):
        spawn(waiting).join(10)
    gate.notify_one()
    assert first_waiting.join(10) == "once"


async def agen() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (give, "forget to call it\\?$"),
        (len, "forget to call it\\? .*spawn_blocking"),
        (agen, "async for"),
        ([give], r"gather\(\*aws\)\?"),
        (3, "async def"),
        (None, "async def"),
        ((n for n in ()), "async def"),
    ],
    ids=[
        "function",
        "plain function",
        "async generator function",
        "list",
        "int",
        "None",
        "generator",
    ],
)
def test_G5_spawn_refuses_what_is_no_coroutine(wrong: Any, hint: str) -> None:
    with pytest.raises(TypeError, match=hint):
        spawn(wrong)


def test_G5_spawn_refuses_an_async_generator() -> None:
    with pytest.raises(TypeError, match="async for"):
        spawn(agen())  # type: ignore[arg-type]


def test_H1_T4_blocking_on_the_executor_is_refused_at_once() -> None:
    async def main() -> list[str]:
        said = []
        handle = spawn(give(1))
        for attempt in (handle.join, lambda: block_on(give(1)), Executor.shutdown):
            try:
                attempt()
            except WouldDeadlock as error:
                said.append(str(error))
        await handle
        try:
            handle.join()  # ended: refused all the same
        except WouldDeadlock as error:
            said.append(str(error))
        return said

    assert len(block_on(main())) == 4


def test_G10_the_runtime_keeps_a_task_alive() -> None:
    class Gate(Future[str]):
        waker = None

        def poll(self, cx: Context) -> Ready[str] | Pending:
            if self.waker is None:
                self.waker = cx.waker
                return PENDING
            return Ready("alive")

    gate = Gate()
    done = threading.Event()

    async def main() -> None:
        assert await gate == "alive"
        done.set()

    spawn(main())
    block_on(give(None))
    gc.collect()
    assert gate.waker is not None
    gate.waker.wake()
    assert done.wait(10)


@pytest.mark.parametrize("how", ["returned", "raised"])
def test_G11_a_finished_task_is_freed_without_the_garbage_collector(how: str) -> None:
    class Marker:
        pass

    async def main(marker: Marker) -> Marker:
        await yield_now()
        if how == "raised":
            raise ValueError("with a traceback")
        return marker

    gc.collect()
    gc.disable()
    try:
        marker = Marker()
        reference = weakref.ref(marker)
        handle = spawn(main(marker))
        del marker
        try:
            handle.join(10)
        except ValueError:
            pass
        del handle
        block_on(give(None))  # so that the executor has let go of it
        assert reference() is None
    finally:
        gc.enable()


def test_G13_contextvars_are_copied_at_spawn() -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="default")

    async def main() -> tuple[str, str]:
        first = var.get()
        var.set("inside")
        await yield_now()

        async def child() -> str:
            return var.get()

        return first, await spawn(child())

    var.set("outside")
    assert block_on(main()) == ("outside", "inside")
    assert var.get() == "outside"


def test_spawn_in_a_given_context() -> None:
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var")
    context = contextvars.copy_context()

    async def main() -> None:
        var.set(5)

    spawn(main(), context=context).join(10)
    assert context[var] == 5


def test_a_context_that_is_entered_elsewhere_fails_the_task_only() -> None:
    context = contextvars.copy_context()

    def inside() -> None:
        with pytest.raises(RuntimeError, match="already entered"):
            spawn(give(1), context=context).join(10)

    context.run(inside)


def test_G14_a_deep_await_chain_fails_its_task_only() -> None:
    async def deep(n: int) -> int:
        return 0 if n == 0 else 1 + await deep(n - 1)

    assert spawn(deep(200)).join(10) == 200
    with pytest.raises(RecursionError):
        spawn(deep(5000)).join(10)
    assert spawn(give(1)).join(10) == 1


def test_current_task_and_tasks() -> None:
    gate = Notify()

    async def child() -> int | None:
        task = current_task()
        assert task is not None
        await gate.wait()
        return task.parent_id

    async def main() -> None:
        me = current_task()
        assert me is not None
        assert me.state == "running"
        handle = spawn(child(), name="the child")
        assert {task.name for task in tasks()} == {me.name, "the child"}
        (other,) = [task for task in tasks() if task is not me]
        assert other.state == "queued"
        assert other.id == handle.id
        assert other.coro.__qualname__.endswith("child")
        await yield_now()
        assert other.state == "waiting"
        assert "the child" in repr(other)
        gate.notify_one()
        assert await handle == me.id
        assert other.state == "finished"
        assert tasks() == [me]

    assert current_task() is None
    block_on(main())
    assert tasks() == []


def test_names() -> None:
    assert spawn(give(1)).name == "give"
    assert spawn(give(1), name="other").name == "other"


def test_an_operation_that_is_spawned_has_the_name_of_the_call() -> None:
    tx, rx = channel.channel(1)
    mutex = Mutex()
    with mutex, UdpSocket.bind(("127.0.0.1", 0)) as udp:
        operations: dict[str, list[Any]] = {
            "sleep": [sleep(0.01), sleep_until(0)],
            "yield_now": [yield_now()],
            "acquire": [Semaphore(1).acquire()],
            "lock": [mutex.lock()],
            "wait": [Event().wait()],
            "send": [tx.send(1)],
            "recv": [rx.recv()],
            "recv_from": [udp.recv_from()],
            "Timer": [Timer(0.01)],
        }
        for name, ones in operations.items():
            for one in ones:
                handle = spawn(one)
                assert handle.name == name
                handle.cancel()
                with contextlib.suppress(TaskCancelled):
                    handle.join(10)


def test_G12_an_async_generator_dropped_in_a_task_is_closed() -> None:
    closed = Notify()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await sleep(0.001)
            closed.notify_one()

    async def main() -> None:
        async for _ in numbers():
            break
        await closed.wait()

    spawn(main()).join(10)


def test_G12_an_async_generator_dropped_in_another_thread_is_closed() -> None:
    closed = threading.Event()
    closed_by: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await sleep(0.001)
            closed_by.append(threading.current_thread().name)
            closed.set()

    async def main() -> Any:
        generator = numbers()
        await generator.__anext__()
        return generator

    generator = spawn(main()).join(10)
    del generator
    gc.collect()
    assert closed.wait(10)
    assert closed_by == ["trale-executor"]
    block_on(give(None))


def test_G12_an_error_while_closing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise ValueError("in the generator's finally")

    async def main() -> None:
        await numbers().__anext__()

    with caplog.at_level(logging.ERROR, "trale_py"):
        spawn(main()).join(10)
        gc.collect()
        block_on(give(None))
        block_on(give(None))
    assert "in the generator's finally" in caplog.text


def test_two_runtimes_side_by_side(runtime: Runtime) -> None:
    """Each has its threads, its tasks and its ids; spawn() in a task goes to the task's own."""

    async def who() -> tuple[str, int | None]:
        async def child() -> int | None:
            me = current_task()
            return me and me.id

        return threading.current_thread().name, await spawn(child())

    async def here() -> list[str]:
        return [task.name for task in tasks()]

    default = spawn(who())
    own = runtime.spawn(who())
    assert own.join(10)[0] == "trale-executor"
    assert default.join(10)[0] == "trale-executor"
    assert runtime.spawn(here()).join(10) == ["test_two_runtimes_side_by_side.<locals>.here"]
    runtime.shutdown()
    assert runtime.gone
    assert spawn(give(1)).join(10) == 1


def test_handles_of_one_runtime_are_awaited_in_another(runtime: Runtime) -> None:
    gate = Notify()

    async def waits() -> str:
        await gate.wait()
        return "across"

    inner = spawn(waits())

    async def main() -> str:
        return await inner

    outer = runtime.spawn(main())
    gate.notify_one()
    assert outer.join(10) == "across"


# -- what a task shows, and that nobody but its executor drives it ---------------------------------


def test_what_a_task_shows() -> None:
    go, line = Notify(), 0

    async def child() -> Task:
        await go.wait()
        task = current_task()
        assert task is not None
        return task

    async def main() -> None:
        nonlocal line
        handle, line = spawn(child(), name="one"), here()
        await yield_now()
        (task,) = (one for one in tasks() if one.id == handle.id)
        assert (task.name, task.parent_id) == ("one", current_id())
        assert (task.state, task.cancel_called) == ("waiting", False)
        assert task.spawned_at == f"{__file__}:{line}"
        assert task.coro.cr_frame is not None  # type: ignore[attr-defined]
        go.notify_one()
        assert await handle is task
        assert (task.state, task.cancel_called) == ("finished", False)
        assert task.spawned_at == f"{__file__}:{line}"

    block_on(main())


def here() -> int:
    return sys._getframe(1).f_lineno


def current_id() -> int:
    task = current_task()
    assert task is not None
    return task.id


def test_a_task_shows_that_it_was_told_to_end() -> None:
    async def goes_on() -> Task:
        task = current_task()
        assert task is not None
        try:
            await sleep(1000)
        except Cancelled:
            return task
        raise AssertionError

    async def main() -> None:
        handle = spawn(goes_on())
        await yield_now()
        (task,) = (one for one in tasks() if one.id == handle.id)
        assert not task.cancel_called
        handle.cancel()
        assert task.cancel_called
        assert await handle is task
        assert task.cancel_called

    block_on(main())


@pytest.mark.parametrize(
    "name", ["name", "id", "parent_id", "coro", "state", "spawned_at", "cancel_called"]
)
def test_what_a_task_shows_is_read_only(name: str) -> None:
    async def main() -> None:
        task = current_task()
        before = getattr(task, name)
        with pytest.raises(AttributeError):
            setattr(task, name, 1)
        with pytest.raises(AttributeError):
            delattr(task, name)
        assert getattr(task, name) == before

    block_on(main())


def test_G4_a_task_that_polls_itself_gets_an_error_and_goes_on() -> None:
    async def main() -> str:
        task = current_task()
        assert task is not None
        executor = task._runtime.executor
        for poll in (task._poll, partial(executor._poll, task), task._settle):
            with pytest.raises(RuntimeError, match=r"polled by|has not ended"):
                poll()
            await yield_now()
        return "done"

    assert block_on(main()) == "done"


def test_G4_nobody_polls_a_task_but_its_executor() -> None:
    go = Notify()

    async def waits() -> str:
        await go.wait()
        return "done"

    async def polls(task: Task) -> None:
        for poll in (task._poll, partial(task._runtime.executor._poll, task)):
            with pytest.raises(RuntimeError, match="polled by"):
                poll()

    async def main() -> Task:
        (task,) = (one for one in tasks() if one.id == handle.id)
        await polls(task)  # here another one is polled
        return task

    handle = spawn(waits())
    task = block_on(main())
    with pytest.raises(RuntimeError, match="polled by"):
        task._poll()
    with pytest.raises(RuntimeError, match="not ended"):
        task._settle()
    go.notify_one()
    assert handle.join() == "done"
    with pytest.raises(RuntimeError, match="polled by"):
        task._poll()


@pytest.mark.parametrize(
    "way", [copy.copy, copy.deepcopy, pickle.dumps, partial(pickle.dumps, protocol=0)]
)
def test_G4_what_belongs_to_a_runtime_is_not_copied(way: Any) -> None:
    async def main() -> None:
        task = current_task()
        assert task is not None
        for one in (task, task._cx, task._cx.waker, spawn(give(1)), Mutex(), Semaphore(1)):
            with pytest.raises(TypeError, match="copied or pickled"):
                way(one)

    block_on(main())
