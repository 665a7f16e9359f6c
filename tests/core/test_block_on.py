"""block_on, and a Ctrl-C at every place of it."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.support.interleave import Signal, everywhere
from tests.support.net_helpers import TIMEOUT, executor_turn
from trale_py import Event, TaskCancelled, block_on, sleep, spawn, tasks, yield_now
from trale_py.core import coroutine, executor, join, latch, runtime
from trale_py.core.coroutine import is_unstarted


def has_ended(coro: Any) -> bool:
    """Within some turns of the executor."""
    for _ in range(50):
        if coro.cr_frame is None:
            return True
        executor_turn()
    return False


@pytest.mark.parametrize("module", [executor, runtime, join, latch, coroutine])
def test_H5_R25_ctrl_c_anywhere_in_block_on_leaves_no_task_behind(module: Any) -> None:
    """It ends the task, wherever it comes; or the coroutine was never taken."""

    def attempt(at: Any) -> None:
        interrupted = False

        async def work() -> str:
            for _ in range(30):
                await yield_now()
                if interrupted:
                    await sleep(math.inf)
            return "done"

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            raise KeyboardInterrupt

        coro = work()
        try:
            assert at(interrupt).run(lambda: block_on(coro)) == "done"
        except KeyboardInterrupt:
            executor_turn()
            executor_turn()
            if is_unstarted(coro):  # block_on had not begun
                assert not any(task.coro is coro for task in tasks())
                coro.close()
        assert has_ended(coro)

    places = everywhere(module, attempt, Signal)
    assert places > 0 or module is coroutine


def test_H5_R25_ctrl_c_anywhere_in_spawn_leaves_no_task_that_is_not_known() -> None:
    """What runs is among tasks(); what was not pushed is closed."""

    def attempt(at: Any) -> None:
        go_on = Event()

        async def work() -> None:
            await go_on.wait()

        coro = work()
        try:
            at(interrupt).run(lambda: spawn(coro, name="work"))
        except KeyboardInterrupt:
            executor_turn()
            executor_turn()
            executor_turn()
            runs = any(task.coro is coro for task in tasks())
            assert runs is (coro.cr_frame is not None and not is_unstarted(coro))
            if is_unstarted(coro):
                coro.close()
        go_on.set()
        assert has_ended(coro)

    def interrupt() -> None:
        raise KeyboardInterrupt

    assert everywhere(runtime, attempt, Signal) > 3


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ZeroDivisionError])
def test_H4_what_interrupts_block_on_cancels_its_task_and_does_not_wait(
    kind: type[BaseException],
) -> None:
    begun = threading.Event()
    ended: list[str] = []

    async def work() -> None:
        begun.set()
        try:
            await sleep(math.inf)
        finally:
            ended.append("cancelled")

    def handler(*_: object) -> None:
        raise kind

    def interrupt() -> None:
        assert begun.wait(TIMEOUT)
        os.kill(os.getpid(), signal.SIGUSR1)

    coro = work()
    previous = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=interrupt)
    try:
        with pytest.raises(kind):
            thread.start()
            block_on(coro)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    thread.join()
    assert has_ended(coro)
    assert ended == ["cancelled"]


def test_the_tasks_own_error_cancels_nothing_and_comes_out() -> None:
    async def fail(error: BaseException) -> None:
        raise error

    for error in (KeyError("k"), KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(error)):
            block_on(fail(error))


def test_a_coroutine_that_another_task_runs_is_left_to_it() -> None:
    async def work() -> str:
        await go_on.wait()
        return "value"

    go_on = Event()
    coro: Coroutine[Any, Any, str] = work()
    handle = spawn(coro)
    executor_turn()
    with pytest.raises(RuntimeError):
        block_on(coro)
    go_on.set()
    try:
        assert handle.join(TIMEOUT) == "value"
    except TaskCancelled:
        pytest.fail("it was cancelled")
