"""Join handles: waiting from threads and tasks, results, errors, and errors nobody took."""

from __future__ import annotations

import contextvars
import gc
import logging
import os
import signal
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.net_helpers import executor_turn
from tests.support.tasks import give
from trale_py import (
    Event,
    InvalidStateError,
    JoinHandle,
    TaskGroup,
    TaskStatus,
    as_completed,
    block_on,
    gather,
    race,
    sleep,
    spawn,
    spawn_blocking,
    timeout,
    yield_now,
)


async def fail() -> None:
    raise ValueError("nobody wants me")


class Gate:
    """A task that ends when it is told to."""

    def __init__(self) -> None:
        self._open = Event()
        self.handle: JoinHandle[int] = spawn(self._run())

    async def _run(self) -> int:
        await self._open.wait()
        return 1

    def open(self) -> None:
        self._open.set()


def test_G3_many_waiters_threads_and_tasks() -> None:
    gate = Gate()
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(gate.handle.join(10))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()

    async def waits() -> int:
        return await gate.handle + await gate.handle

    awaiting = [spawn(waits()) for _ in range(5)]
    gate.open()
    for thread in threads:
        thread.join()
    assert [handle.join(10) for handle in awaiting] == [2] * 5
    assert results == [1] * 5
    assert gate.handle.join() == 1


def test_G3_a_task_that_awaits_itself() -> None:
    box: list[JoinHandle[None]] = []
    ready = Event()

    async def main() -> None:
        await ready.wait()
        await box[0]

    box.append(spawn(main()))
    ready.set()
    with pytest.raises(RuntimeError, match="own handle"):
        box[0].join(10)


def test_join_timeout_leaves_the_task_running() -> None:
    gate = Gate()
    with pytest.raises(TimeoutError, match=r"0\.01"):
        gate.handle.join(0.01)
    with pytest.raises(TimeoutError):
        gate.handle.join(0)
    gate.open()
    assert gate.handle.join(10) == 1


@pytest.mark.parametrize(
    ("timeout", "error"), [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError)]
)
def test_join_checks_its_timeout(timeout: object, error: type[Exception]) -> None:
    handle = spawn(give(1))
    with pytest.raises(error, match="timeout"):
        handle.join(timeout)  # type: ignore[arg-type]
    assert handle.join(float("inf")) == 1


def test_result_and_exception_never_wait() -> None:
    gate = Gate()
    assert not gate.handle.done()
    with pytest.raises(InvalidStateError):
        gate.handle.result()
    with pytest.raises(InvalidStateError):
        gate.handle.exception()
    gate.open()
    gate.handle.join(10)
    assert gate.handle.done()
    assert gate.handle.result() == 1
    assert gate.handle.exception() is None
    failed = spawn(fail())
    with pytest.raises(ValueError, match="wants"):
        failed.join(10)
    with pytest.raises(ValueError, match="wants"):
        failed.result()
    assert isinstance(failed.exception(), ValueError)


def test_done_callbacks_in_order_on_the_executor_and_at_once_after_the_end() -> None:
    gate = Gate()
    calls: list[tuple[str, str]] = []
    for name in "ab":
        gate.handle.add_done_callback(
            lambda handle, name=name: calls.append((name, threading.current_thread().name))
        )
    gate.open()
    gate.handle.join(10)
    block_on(give(0))
    assert calls == [("a", "trale-executor"), ("b", "trale-executor")]
    gate.handle.add_done_callback(lambda h: calls.append(("c", threading.current_thread().name)))
    assert calls[2] == ("c", "MainThread")


def test_G17_a_failing_done_callback_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()

    def broken(handle: JoinHandle[int]) -> None:
        raise SystemExit("from the callback")

    gate.handle.add_done_callback(broken)
    with caplog.at_level(logging.ERROR, "trale_py"):
        gate.open()
        assert gate.handle.join(10) == 1
        block_on(give(0))
    assert "from the callback" in caplog.text


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "trale_py"]


def flush() -> None:
    gc.collect()
    block_on(give(0))
    block_on(give(0))


def test_G9_an_error_nobody_took_is_logged_once_when_the_handle_goes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handle = spawn(fail(), name="unlucky")
    while not handle.done():
        block_on(yield_now())
    flush()
    assert errors(caplog) == []
    del handle
    flush()
    (record,) = errors(caplog)
    assert "unlucky" in record.getMessage()
    assert "test_join.py" in record.getMessage()
    assert record.threadName == "trale-executor"
    assert record.exc_info is not None


def test_G9_an_error_of_a_detached_task_is_logged_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    event = Event()

    async def main() -> None:
        await event.wait()
        raise ValueError("detached")

    spawn(main())
    flush()
    event.set()
    flush()
    assert len(errors(caplog)) == 1


@pytest.mark.parametrize("how", ["join", "await", "result", "exception"])
def test_G9_an_error_that_was_taken_is_not_logged(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    handle = spawn(fail())
    while not handle.done():
        block_on(yield_now())

    async def awaits(handle: JoinHandle[None]) -> None:
        with pytest.raises(ValueError, match="wants"):
            await handle

    if how == "await":
        block_on(awaits(handle))
    elif how == "exception":
        handle.exception()
    else:
        with pytest.raises(ValueError, match="wants"):
            getattr(handle, how)()
    del handle
    flush()
    assert errors(caplog) == []


def test_R8_join_races_with_the_end() -> None:
    """The task ends at every moment of join(): none of 3,000 joins is missed."""
    for n in range(3000):
        assert spawn(give(n)).join(10) == n


@pytest.mark.parametrize("spins", [0, 10, 100, 1_000, 100_000])
def test_H4_ctrl_c_ends_a_join_at_once_and_leaves_the_task_running(spins: int) -> None:
    gate = Gate()
    outcome = gate.handle._outcome
    sent_at = 0.0

    def interrupt() -> None:
        nonlocal sent_at
        while not outcome.waiters:  # the main thread is about to wait, or waits already
            time.sleep(0)
        for _ in range(spins):
            pass
        sent_at = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt):
        thread.start()
        gate.handle.join(20)
    assert time.monotonic() - sent_at < 2  # at once, and not when the join is over
    thread.join()
    assert outcome.waiters == {}
    gate.open()
    assert gate.handle.join(10) == 1


def test_another_exception_of_a_signal_handler_leaves_the_task_running() -> None:
    gate = Gate()
    outcome = gate.handle._outcome

    def handler(*_: object) -> None:
        raise ZeroDivisionError

    def interrupt() -> None:
        while not outcome.waiters:
            time.sleep(0)
        os.kill(os.getpid(), signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=interrupt)
    try:
        with pytest.raises(ZeroDivisionError):
            thread.start()
            gate.handle.join(20)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    thread.join()
    assert outcome.waiters == {}
    gate.open()
    assert gate.handle.join(10) == 1


def test_H2_join_in_a_signal_handler() -> None:
    results: list[int] = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: results.append(spawn(give(7)).join(10)))
    try:
        gate = Gate()
        poke = threading.Timer(0.01, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        poke.start()
        with pytest.raises(TimeoutError):
            gate.handle.join(0.2)
        poke.join()
        gate.open()
        assert gate.handle.join(10) == 1
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert results == [7]


def test_a_waiter_whose_coroutine_is_closed_leaves_no_entry() -> None:
    gate = Gate()

    async def main() -> int:
        async def waits() -> int:
            return await gate.handle

        coro = waits()
        coro.send(None)
        assert len(gate.handle._outcome.waiters) == 1
        coro.close()
        return len(gate.handle._outcome.waiters)

    assert block_on(main()) == 0
    gate.open()
    assert gate.handle.join(10) == 1


def test_repr() -> None:
    gate = Gate()
    assert "running" in repr(gate.handle)
    gate.open()
    gate.handle.join(10)
    assert "done" in repr(gate.handle)
    block_on(sleep_a_little())


async def sleep_a_little() -> None:
    await sleep(0)


def test_H4_R13_a_signal_that_came_just_before_the_wait_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wait itself is made deaf: what remains is that the main thread comes up by itself."""
    gate = Gate()
    entered = threading.Event()

    class Deaf:
        """A lock whose acquire() hears of no signal; the first one finds it just before."""

        def __init__(self) -> None:
            self._lock = lock()
            self.release = self._lock.release

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            if blocking and self._lock.locked() and not entered.is_set():
                entered.set()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                return self._lock.acquire(blocking, timeout)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    lock = threading.Lock
    monkeypatch.setattr("trale_py.core.latch.threading.Lock", Deaf)
    with pytest.raises(KeyboardInterrupt):
        gate.handle.join(20)
    monkeypatch.undo()
    gate.open()
    assert gate.handle.join(10) == 1


# -- done-callbacks and contextvars ---------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")


@pytest.mark.parametrize("by_thread", [True, False])
def test_a_done_callback_runs_in_a_copy_of_the_tasks_context(by_thread: bool) -> None:
    seen: list[str] = []
    go_on, ended = Event(), threading.Event()

    async def work() -> None:
        await go_on.wait()
        variable.set("the task's")

    def look(_: object) -> None:
        seen.append(variable.get())
        variable.set("a callback's")

    async def add(handle: JoinHandle[None]) -> None:
        variable.set("another's")
        for _ in range(2):
            handle.add_done_callback(look)
        handle.add_done_callback(lambda _: ended.set())

    handle = spawn(work())
    if by_thread:
        contextvars.copy_context().run(handle.add_done_callback, look)
        handle.add_done_callback(look)
        handle.add_done_callback(lambda _: ended.set())
    else:
        block_on(add(handle))
    go_on.set()
    assert ended.wait(10)
    assert seen == ["the task's", "the task's"]
    assert variable.get() == "nobody's"


def test_a_done_callback_of_a_task_that_has_ended_runs_in_a_copy_of_the_callers_context() -> None:
    seen: list[str] = []

    def look(_: object) -> None:
        seen.append(variable.get())
        variable.set("a callback's")

    def add() -> None:
        variable.set("the caller's")
        handle.add_done_callback(look)
        assert variable.get() == "the caller's"

    handle = spawn(give(1))
    handle.join(10)
    contextvars.copy_context().run(add)
    assert seen == ["the caller's"]


# -- errors that are false ------------------------------------------------------------------------


class FalsyByBool(Exception):
    def __bool__(self) -> bool:
        return False


class FalsyByLen(Exception):
    def __len__(self) -> int:
        return 0


FALSY = pytest.mark.parametrize("kind", [FalsyByBool, FalsyByLen])


@FALSY
@pytest.mark.parametrize(
    "how",
    ["join", "await", "group", "script group", "gather", "race", "timeout", "as_completed",
     "blocking", "executor", "future", "start"],
)  # fmt: skip
def test_an_error_that_is_false_is_an_error(kind: type[Exception], how: str) -> None:
    async def fail() -> None:
        raise kind

    def fail_blocking() -> None:
        raise kind

    async def fail_in_start(*, task_status: TaskStatus[None]) -> None:
        raise kind

    async def main() -> None:
        if how == "await":
            await spawn(fail())
        elif how == "group":
            async with TaskGroup() as group:
                group.spawn(fail())
                group.spawn(sleep(1000))
        elif how == "gather":
            await gather(fail(), sleep(1000))
        elif how == "race":
            await race(fail(), sleep(1000))
        elif how == "timeout":
            await timeout(1000, fail())
        elif how == "as_completed":
            async for handle in as_completed([fail()]):
                handle.result()
        elif how == "blocking":
            await spawn_blocking(fail_blocking)
        elif how == "executor":
            with ThreadPoolExecutor(1) as pool:
                await spawn_blocking(fail_blocking, executor=pool)
        elif how == "start":
            async with TaskGroup() as group:
                await group.start(fail_in_start)
        else:
            await fail()

    with pytest.raises((kind, ExceptionGroup)) as caught:
        if how == "script group":
            with TaskGroup() as group:
                group.spawn(fail())
                group.spawn(sleep(1000))
        elif how == "future":
            spawn(main()).future().result(10)
        else:
            spawn(main()).join(10)
    error = caught.value
    if isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, kind)
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert any(name.startswith("fail") for name in names)


@FALSY
def test_an_error_that_is_false_is_logged_with_its_traceback(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    async def fail_unseen() -> None:
        raise kind("unseen")

    def callback(_: object) -> None:
        raise kind("in a callback")

    spawn(give(1)).add_done_callback(callback)
    spawn(fail_unseen())
    executor_turn()
    executor_turn()
    assert caplog.text.count("Traceback") == 2
    assert "in fail_unseen" in caplog.text
    assert "in callback" in caplog.text
