"""map_concurrent: in scripts and in tasks, and every way out of the loop leaves nothing behind."""

from __future__ import annotations

import gc
import itertools
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from tests.support.net_helpers import TIMEOUT, executor_turn
from trale_py import (
    CancelScope,
    Event,
    TaskCancelled,
    WouldDeadlock,
    block_on,
    map_concurrent,
    spawn,
    tasks,
    yield_now,
)
from trale_py.scripts import map as map_module

both = pytest.mark.parametrize("ordered", [True, False])


async def double(n: int) -> int:
    await yield_now()
    return 2 * n


async def fail_at_five(n: int) -> int:
    await yield_now()
    if n == 5:
        raise KeyError(n)
    if n > 5:
        await Event().wait()
    return n


class Counted:
    """Counts the calls that run."""

    def __init__(self) -> None:
        self.now = self.most = self.begun = 0

    async def __call__(self, n: int) -> int:
        self.begun += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for _ in range(n % 3):
                await yield_now()
            return n
        finally:
            self.now -= 1


async def async_range(n: int) -> AsyncIterator[int]:
    for item in range(n):
        await yield_now()
        yield item


def collect(source: Any, fn: Any = double, face: str = "for", **options: Any) -> list[Any]:
    """All results, by either face."""
    if face == "for":
        return list(map_concurrent(fn, source, **options))

    async def main() -> list[Any]:
        return [result async for result in map_concurrent(fn, source, **options)]

    return block_on(main())


def assert_none_left() -> None:
    for _ in range(3):
        executor_turn()
    assert tasks() == []


@both
@pytest.mark.parametrize("face", ["for", "async for"])
@pytest.mark.parametrize("source", [range, async_range])
class TestResults:
    def test_all_come(self, source: Any, face: str, ordered: bool) -> None:
        found = collect(source(50), face=face, limit=7, ordered=ordered)
        assert sorted(found) == [2 * n for n in range(50)]
        if ordered:
            assert found == sorted(found)
        assert_none_left()

    def test_the_limit_is_of_what_has_begun_and_was_not_given_out(
        self, source: Any, face: str, ordered: bool
    ) -> None:
        calls = Counted()
        found = collect(source(40), calls, face, limit=4, ordered=ordered)
        assert sorted(found) == list(range(40))
        assert 2 <= calls.most <= 4

    def test_an_empty_source(self, source: Any, face: str, ordered: bool) -> None:
        assert collect(source(0), face=face, limit=4, ordered=ordered) == []

    def test_an_error_ends_it_with_its_traceback(
        self, source: Any, face: str, ordered: bool
    ) -> None:
        seen: list[int] = []

        async def main(loop: Any) -> None:
            async for result in loop:
                seen.append(result)  # noqa: PERF401

        loop = map_concurrent(fail_at_five, source(10), limit=4, ordered=ordered)
        with pytest.raises(KeyError) as caught:
            if face == "for":
                seen.extend(loop)  # what extend() has got before the error may be lost
            else:
                block_on(main(loop))
        assert any(entry.name == "fail_at_five" for entry in caught.traceback)
        if ordered and face == "async for":
            assert seen == [0, 1, 2, 3, 4]
        assert_none_left()
        assert list(loop) == []

    def test_errors_as_results(self, source: Any, face: str, ordered: bool) -> None:
        async def odd_fails(n: int) -> int:
            if n % 2:
                raise ValueError(n)
            return n

        found = collect(
            source(6), odd_fails, face, limit=2, ordered=ordered, return_exceptions=True
        )
        assert sorted(repr(one) for one in found) == sorted(
            repr(ValueError(n) if n % 2 else n) for n in range(6)
        )


@both
class TestWaysOut:
    def test_break(self, ordered: bool) -> None:
        ended = []

        async def slow(n: int) -> int:
            try:
                if n:
                    await Event().wait()
                return n
            finally:
                ended.append(n)

        for result in map_concurrent(slow, itertools.count(), limit=5, ordered=ordered):
            assert result == 0
            break
        assert 0 in ended
        assert_none_left()

    def test_a_break_waits_once_for_all_that_do_not_end(
        self, ordered: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(map_module, "_DROP_SECONDS", 0.1)
        go = Event()

        async def stubborn(n: int) -> None:
            if n:
                with CancelScope(shield=True):
                    await go.wait()

        for _ in map_concurrent(stubborn, itertools.count(), limit=50, ordered=ordered):
            start = time.monotonic()
            break
        assert time.monotonic() - start < 2.5  # and not 4.9
        go.set()
        while tasks():
            executor_turn()

    def test_an_exception_in_the_loop(self, ordered: bool) -> None:
        with pytest.raises(ZeroDivisionError):
            for _ in map_concurrent(Counted(), itertools.count(), limit=5, ordered=ordered):
                raise ZeroDivisionError
        assert_none_left()

    def test_close_and_with(self, ordered: bool) -> None:
        with map_concurrent(Counted(), itertools.count(), limit=3, ordered=ordered) as inside:
            assert next(inside) is not None
        assert list(inside) == []
        loop = map_concurrent(Counted(), itertools.count(), limit=3, ordered=ordered)
        next(loop)
        loop.close()
        assert list(loop) == []
        assert_none_left()

    def test_dropped_by_the_collector(self, ordered: bool) -> None:
        loop = map_concurrent(Counted(), itertools.count(), limit=3, ordered=ordered)
        next(loop)
        cycle = [loop]
        cycle.append(cycle)  # type: ignore[arg-type]
        del loop, cycle
        gc.collect()
        assert_none_left()

    def test_dropped_in_a_task(self, ordered: bool) -> None:
        async def main() -> None:
            async for _ in map_concurrent(Counted(), async_range(10**6), limit=3, ordered=ordered):
                break

        block_on(main())
        gc.collect()
        assert_none_left()

    def test_a_cancelled_task_ends_what_it_began(self, ordered: bool) -> None:
        ended = []

        async def forever(n: int) -> None:
            try:
                await Event().wait()
            finally:
                ended.append(n)

        async def main() -> None:
            async for _ in map_concurrent(forever, range(9), limit=3, ordered=ordered):
                pass

        handle = spawn(main())
        while len(tasks()) < 4:
            executor_turn()
        executor_turn()
        handle.cancel()
        with pytest.raises(TaskCancelled):
            handle.join(TIMEOUT)
        assert sorted(ended) == [0, 1, 2]
        assert_none_left()

    def test_async_with(self, ordered: bool) -> None:
        async def main() -> None:
            async with map_concurrent(
                fail_at_five, itertools.count(), limit=3, ordered=ordered
            ) as loop:
                async for _ in loop:
                    break
            assert len(tasks()) == 1  # this one

        block_on(main())

    def test_a_source_that_fails(self, ordered: bool) -> None:
        def source() -> Iterator[int]:
            yield from range(5)
            raise OSError("the source")

        seen = []
        with pytest.raises(OSError, match="the source"):
            for result in map_concurrent(double, source(), limit=3, ordered=ordered):
                seen.append(result)  # noqa: PERF402  # extend() would lose them
        if ordered:
            assert seen == [0, 2, 4, 6, 8]
        assert_none_left()

    def test_ctrl_c_in_the_source_ends_it(self, ordered: bool) -> None:
        def source() -> Iterator[int]:
            yield 0
            yield 1
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            for _ in map_concurrent(double, source(), limit=5, ordered=ordered):
                pass
        assert_none_left()


def test_what_fn_may_not_be() -> None:
    with pytest.raises(TypeError, match="fn must be"):
        map_concurrent(double(1), [1], limit=1)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="iterable must be"):
        map_concurrent(double, 1, limit=1)  # type: ignore[call-overload]
    for limit, error in ((0, ValueError), ("1", TypeError)):
        with pytest.raises(error, match="limit must be"):
            map_concurrent(double, [1], limit=limit)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="spawn"):
        list(map_concurrent(str, [1], limit=1))  # type: ignore[arg-type]


def test_a_slow_source_keeps_no_result_back() -> None:
    """Of input() for example: after the second item is read the first result is given out."""
    read = []

    def source() -> Iterator[int]:
        for n in range(3):
            read.append(n)
            if n:
                executor_turn()
                executor_turn()
            yield n

    loop = map_concurrent(double, source(), limit=10)
    assert next(loop) == 0
    assert len(read) == 2
    assert list(loop) == [2, 4]


def test_an_async_source_that_stalls_keeps_no_result_back() -> None:
    go = Event()

    async def source() -> AsyncIterator[int]:
        yield 1
        await go.wait()
        yield 2

    loop = map_concurrent(double, source(), limit=10)
    assert next(loop) == 2
    go.set()
    assert list(loop) == [4]


def test_a_cursor_is_read_in_the_thread_of_the_script() -> None:
    database = sqlite3.connect(":memory:")  # refuses other threads
    database.execute("create table t (n)")
    database.executemany("insert into t values (?)", [(n,) for n in range(20)])

    async def first(row: tuple[int]) -> int:
        return (await double(row[0])) // 2

    assert list(map_concurrent(first, database.execute("select n from t"), limit=3)) == list(
        range(20)
    )
    database.close()


def test_contextvars_are_the_loops() -> None:
    var: ContextVar[str] = ContextVar("var", default="?")

    async def look(_: int) -> str:
        return var.get()

    token = var.set("the script's")
    assert set(map_concurrent(look, range(3), limit=2)) == {"the script's"}
    var.reset(token)


def test_several_threads_one_loop_each_and_two_in_one() -> None:
    found: list[list[int]] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(list(map_concurrent(double, range(30), limit=4)))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert found == [[2 * n for n in range(30)]] * 4

    def source() -> Iterator[int]:
        with pytest.raises(ValueError, match="another thread or task"):
            next(loop)
        yield 1

    loop = map_concurrent(double, source(), limit=1)
    assert list(loop) == [2]


def test_a_plain_for_in_a_task_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(WouldDeadlock):
            for _ in map_concurrent(double, [1], limit=1):
                pass

    block_on(main())


@pytest.mark.parametrize("how", ["next", "body"])
def test_H4_ctrl_c_ends_it(how: str, run_script: Any) -> None:
    result = run_script(
        f"""
        import os, signal, threading
        from trale_py import *

        ended = []

        async def slow(n):
            try:
                if n == 0:
                    return n
                await sleep(1000)
            finally:
                ended.append(n)

        def interrupt():
            os.kill(os.getpid(), signal.SIGINT)

        try:
            for n in map_concurrent(slow, range(5), limit=5):
                if {how == "body"}:
                    interrupt()
                else:
                    threading.Timer(0.05, interrupt).start()
        except KeyboardInterrupt:
            print(sorted(ended), tasks())
        """
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout in ("[0, 1, 2, 3, 4] []\n", "[0, 1] []\n", "[0] []\n")
