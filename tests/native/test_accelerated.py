"""Classes of which a part is in C (see core/engine.py): that part, used by hand, and wrongly.

What they do is tested where they belong; the whole suite runs on both.
"""

from __future__ import annotations

import contextvars
import gc
import inspect
import sys
import weakref
from functools import partial
from typing import Any

import pytest

import trale_py
from tests.conftest import nothing
from trale_py import (
    JoinHandle,
    TaskCancelled,
    block_on,
    current_task,
    sleep,
    spawn,
    yield_now,
)
from trale_py.core import current
from trale_py.core.latch import Latch, LatchWait
from trale_py.core.runtime import Runtime
from trale_py.core.task import Task

pytestmark = pytest.mark.skipif(trale_py.engine == "python", reason="there is no native engine")


def test_the_order_of_a_latch_is_that_of_the_coming() -> None:
    latch, called = Latch(), list[int]()
    keys = [object() for _ in range(5)]
    for n, key in enumerate(keys):
        assert latch.call_when_open(key, partial(called.append, n))
    assert latch.call_when_open(keys[0], partial(called.append, 10))  # keeps its place
    latch.forget(keys[1])
    latch.forget(keys[1])
    assert set(latch.waiters) == {*keys} - {keys[1]}
    latch.open()
    assert called == [10, 2, 3, 4]
    assert latch.opened
    assert latch.waiters == {}
    assert not latch.call_when_open("late", list)


def test_what_a_latch_calls_may_forget_others_and_fail() -> None:
    latch, called = Latch(), list[str]()

    def first() -> None:
        called.append("first")
        latch.forget("second")

    latch.call_when_open("first", first)
    latch.call_when_open("second", lambda: called.append("second"))
    latch.call_when_open("third", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        latch.open()
    assert called == ["first"]
    assert latch.waiters == {}


def test_wrong_calls() -> None:
    latch = Latch()
    runtime = current.default_runtime()
    wrong: list[Any] = [
        lambda: latch.call_when_open("key", None),  # type: ignore[arg-type]
        lambda: Latch(1),  # type: ignore[call-arg]
        lambda: LatchWait(7),  # type: ignore[arg-type]
        lambda: object.__new__(JoinHandle),
        lambda: object.__new__(Task),
        lambda: JoinHandle(runtime, 7),  # type: ignore[arg-type]
        lambda: Task(runtime, 7, 7, 7, 7),  # type: ignore[arg-type]
        lambda: setattr(runtime, "run_queue", 7),
        lambda: runtime.executor._poll(7),  # type: ignore[arg-type]
        spawn,
        lambda: spawn(nothing),  # type: ignore[arg-type]
        lambda: spawn(1, 2),  # type: ignore[call-arg, arg-type]
    ]
    for call in wrong:
        with pytest.raises(TypeError):
            call()
    assert latch.waiters == {}


class Trap(Exception):
    """An error to which a weak reference may be had."""


def test_G5_an_error_that_refers_to_its_handle_is_collected() -> None:
    async def fail() -> None:
        raise Trap

    async def main() -> weakref.ref[Trap]:
        handle = spawn(fail())
        try:
            await handle
        except Trap as error:
            kept = [error, handle]  # the frame is in the error's traceback
            return weakref.ref(kept[0])  # type: ignore[arg-type]
        raise AssertionError

    reference = block_on(main())
    gc.collect()
    assert reference() is None


class Holder:
    """A value that refers to the handle it came from."""

    handle: JoinHandle[Holder] | None = None


def test_G5_a_value_that_refers_to_its_handle_is_collected() -> None:
    async def make() -> Holder:
        return Holder()

    handle = spawn(make())
    holder = handle.join()
    holder.handle = handle
    reference = weakref.ref(holder)
    del handle, holder
    gc.collect()
    assert reference() is None


def test_G5_a_context_that_refers_to_its_task_goes_with_it() -> None:
    mine = contextvars.ContextVar[object]("mine")

    async def main() -> weakref.ref[Holder]:
        holder = Holder()
        mine.set((current_task(), holder))
        await yield_now()
        return weakref.ref(holder)

    reference = block_on(main())
    block_on(nothing())
    gc.collect()
    assert reference() is None


def test_G5_tasks_that_wait_for_each_other_are_collected() -> None:
    """Of a runtime of their own, whose threads never were."""
    runtime = Runtime()
    handles: list[JoinHandle[None]] = []

    async def wait(n: int) -> None:
        await handles[n]

    runtime._started.open()
    current.thread.runtime = runtime
    try:
        handles += [spawn(wait(1)), spawn(wait(0))]
    finally:
        current.thread.runtime = None
    tasks = runtime.run_queue.drain()
    reference = weakref.ref(handles[0])
    for task in tasks:
        task.coro.close()
    runtime._tasks.clear()
    handles.clear()
    del task, tasks, runtime
    gc.collect()
    assert reference() is None


def test_nothing_is_left_of_many_tasks() -> None:
    async def fail() -> None:
        raise Trap

    async def main(count: int) -> None:
        for _ in range(count):
            assert await spawn(nothing()) is None
            handle = spawn(sleep_forever())
            await yield_now()
            handle.cancel()
            with pytest.raises(TaskCancelled):
                await handle
            with pytest.raises(Trap):
                await spawn(fail())
            spawn(nothing())

    async def sleep_forever() -> None:
        await sleep(1000)

    block_on(main(100))
    gc.collect()
    before = sys.getallocatedblocks()
    block_on(main(300))
    gc.collect()
    assert sys.getallocatedblocks() - before < 150


def test_where_a_spawn_stands() -> None:
    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    handle = spawn(nothing())
    assert handle._outcome.spawned_at() == f"{__file__}:{line}"
    assert handle.name == "nothing"
    handle.join()

    async def main() -> tuple[int | None, int]:
        child = spawn(current_parent())
        return await child, child.id

    async def current_parent() -> int | None:
        task = trale_py.current_task()
        assert task is not None
        return task.parent_id

    handle2 = spawn(main())
    parent, child = handle2.join()
    assert parent == handle2.id
    assert child != parent
