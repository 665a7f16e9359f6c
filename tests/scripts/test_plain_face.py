"""blocking(): async managers and iterators, by plain with and for, in one task."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest

from tests.support.net_helpers import TIMEOUT, executor_turn
from trale_py import (
    Cancelled,
    Event,
    Task,
    TaskCancelled,
    TaskGroup,
    WouldDeadlock,
    block_on,
    blocking,
    current_task,
    move_on_after,
    sleep,
    tasks,
    yield_now,
)


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: set[int] = set()

    def __call__(self, line: str) -> None:
        task = current_task()
        assert task is not None
        self.tasks.add(task.id)
        self.lines.append(line)


async def count(log: Log, n: int) -> AsyncIterator[int]:
    try:
        for item in range(n):
            log(f"make {item}")
            await yield_now()
            yield item
    finally:
        log("closed")
        await yield_now()


@contextlib.asynccontextmanager
async def manager(log: Log) -> AsyncIterator[str]:
    log("enter")
    try:
        await yield_now()
        yield "value"
    except ZeroDivisionError:
        log("swallow")
    finally:
        log("exit")


def assert_none_left() -> None:
    for _ in range(3):
        executor_turn()
    assert tasks() == []


class TestFor:
    def test_in_one_task_and_only_while_the_script_waits(self) -> None:
        log = Log()
        for item in blocking(count(log, 3)):
            executor_turn()
            assert log.lines[-1] == f"make {item}"
        assert log.lines == ["make 0", "make 1", "make 2", "closed"]
        assert len(log.tasks) == 1
        assert_none_left()

    @pytest.mark.parametrize("way", ["break", "error", "close", "with", "collected", "unused"])
    def test_ways_out(self, way: str) -> None:
        log = Log()
        loop = blocking(count(log, 9))
        if way == "close":
            assert next(loop) == 0
            loop.close()
            assert log.lines[-1] == "closed"
            loop.close()
            assert list(loop) == []
        elif way == "with":
            with loop as items:
                assert next(items) == 0
            assert log.lines[-1] == "closed"
        elif way == "collected":
            assert next(loop) == 0
            cycle: list[Any] = [loop]
            cycle.append(cycle)
            del loop, cycle
            gc.collect()
        elif way == "unused":
            del loop
        else:
            with contextlib.suppress(ZeroDivisionError):
                for item in loop:
                    if way == "break":
                        break
                    item / 0
            del loop
        assert_none_left()
        assert log.lines == ([] if way == "unused" else ["make 0", "closed"])

    def test_an_error_comes_with_its_traceback(self) -> None:
        async def broken() -> AsyncIterator[int]:
            yield 1
            raise KeyError("broken")

        loop = blocking(broken())
        assert next(loop) == 1
        with pytest.raises(KeyError) as caught:
            next(loop)
        assert caught.traceback[-1].name == "broken"
        assert list(loop) == []
        assert_none_left()

    def test_scopes_and_groups_inside_work(self) -> None:
        async def with_scope() -> AsyncIterator[int]:
            with move_on_after(1000):
                async with TaskGroup() as group:
                    group.spawn(sleep(0))
                    yield 1
                    await yield_now()
                    yield 2

        assert list(blocking(with_scope())) == [1, 2]

    def test_its_own_scope_is_cancelled_while_the_script_works(self) -> None:
        scopes = []

        async def with_scope() -> AsyncIterator[str]:
            with move_on_after(1000) as scope:
                scopes.append(scope)
                yield "first"
                await Event().wait()
                yield "never"
            yield "after"

        loop = blocking(with_scope())
        assert next(loop) == "first"
        scopes[0].cancel()
        for _ in range(5):
            executor_turn()
        assert list(loop) == ["after"]
        assert_none_left()

    def test_a_close_that_fails_is_raised(self) -> None:
        async def fails() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                raise KeyError("in finally")

        loop = blocking(fails())
        next(loop)
        with pytest.raises(KeyError, match="in finally"):
            loop.close()

    def test_contextvars_are_those_of_the_call(self) -> None:
        var: ContextVar[str] = ContextVar("var")

        async def look() -> AsyncIterator[str]:
            yield var.get()
            var.set("its own")
            yield var.get()

        var.set("at the call")
        loop = blocking(look())
        var.set("later")
        assert list(loop) == ["at the call", "its own"]
        assert var.get() == "later"


class TestWith:
    def test_enter_and_exit_are_in_one_task(self) -> None:
        log = Log()
        with blocking(manager(log)) as value:
            assert value == "value"
            assert log.lines == ["enter"]
        assert log.lines == ["enter", "exit"]
        assert len(log.tasks) == 1
        assert_none_left()

    def test_the_bodys_error_goes_through_it(self) -> None:
        log = Log()
        with blocking(manager(log)):
            raise ZeroDivisionError
        assert log.lines == ["enter", "swallow", "exit"]
        with pytest.raises(KeyError), blocking(manager(log)):
            raise KeyError
        assert_none_left()

    def test_an_error_on_entering(self) -> None:
        @contextlib.asynccontextmanager
        async def broken() -> AsyncIterator[None]:
            raise KeyError("enter")
            yield

        with pytest.raises(KeyError), blocking(broken()):
            raise AssertionError
        gc.collect()
        assert_none_left()

    def test_a_group_inside_whose_task_fails_while_the_script_works(self) -> None:
        go = Event()

        async def fail() -> None:
            await go.wait()
            raise OSError("child")

        @contextlib.asynccontextmanager
        async def with_group() -> AsyncIterator[TaskGroup]:
            async with TaskGroup() as group:
                group.spawn(fail())
                yield group

        done = False
        with pytest.raises(BaseExceptionGroup) as caught, blocking(with_group()):
            go.set()
            for _ in range(5):
                executor_turn()
            done = True
        assert done
        assert repr(caught.value.exceptions) == "(OSError('child'),)"
        assert_none_left()

    def test_a_deadline_inside_that_comes_while_the_script_works(self) -> None:
        heard = []

        @contextlib.asynccontextmanager
        async def limited() -> AsyncIterator[Any]:
            with move_on_after(1000) as scope:
                try:
                    yield scope
                except Cancelled:
                    heard.append("Cancelled")
                    raise

        with blocking(limited()) as scope:
            scope.cancel()
            for _ in range(5):
                executor_turn()
            assert heard == []
        assert heard == ["Cancelled"]
        assert_none_left()

    def test_a_manager_that_gives_an_iterable(self) -> None:
        log = Log()

        @contextlib.asynccontextmanager
        async def stream() -> AsyncIterator[AsyncIterator[int]]:
            log("open")
            yield count(log, 2)
            log("shut")

        with blocking(stream()) as items:
            assert list(items) == [0, 1]
        assert log.lines == ["open", "make 0", "make 1", "closed", "shut"]
        assert len(log.tasks) == 1
        assert_none_left()


def test_two_threads_at_once() -> None:
    inside = threading.Event()
    go = Event()

    async def slow() -> AsyncIterator[int]:
        inside.set()
        await go.wait()
        yield 1

    loop = blocking(slow())
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(next(loop)))
    thread.start()
    assert inside.wait(TIMEOUT)
    with pytest.raises(ValueError, match="another thread"):
        next(loop)
    go.set()
    thread.join(TIMEOUT)
    assert found == [1]
    assert list(loop) == []


def test_on_the_executor_and_of_the_wrong_thing() -> None:
    async def wrong() -> None:
        loop = blocking(count(Log(), 1))
        with pytest.raises(WouldDeadlock):
            next(loop)
        with pytest.raises(WouldDeadlock), blocking(manager(Log())):
            pass
        with pytest.raises(WouldDeadlock):
            begun.close()

    begun = blocking(count(Log(), 2))
    assert next(begun) == 0
    block_on(wrong())
    assert list(begun) == [1]
    for thing in (1, sleep(1), [1]):
        with pytest.raises(TypeError, match="x must be"):
            blocking(thing)  # type: ignore[call-overload]
    assert_none_left()


def test_its_task_is_cancelled_by_somebody() -> None:
    async def forever() -> AsyncIterator[int]:
        yield 1
        task = current_task()
        assert isinstance(task, Task)
        task._cancel("enough")
        await Event().wait()
        yield 2

    loop = blocking(forever())
    assert next(loop) == 1
    with pytest.raises(TaskCancelled):
        next(loop)
    assert_none_left()


@pytest.mark.parametrize("shielded", [False, True])
def test_C12_the_end_of_the_program_closes_it(shielded: bool, run_script: Any) -> None:
    result = run_script(
        f"""
        from trale_py import *

        async def items():
            try:
                with move_on_after(1000) as scope:
                    yield scope
                    await sleep(1000)
            finally:
                print("closed")

        loop = blocking(items())
        scope = next(loop)
        if {shielded}:
            scope.cancel()
            block_on(sleep(0.01))
        """,
        timeout=30,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "closed\n", "")


def test_H4_ctrl_c_in_next_ends_it(run_script: Any) -> None:
    result = run_script(
        """
        import os, signal, threading
        from trale_py import *

        async def items():
            try:
                yield 1
                threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
                await sleep(1000)
            finally:
                print("closed")

        try:
            for item in blocking(items()):
                pass
        except KeyboardInterrupt:
            print(tasks())
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "closed\n[]\n", "")
