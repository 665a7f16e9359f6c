"""Shutdown: with a limit and without, races with it, and the restart after it."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import subprocess
import threading
import time
from collections.abc import AsyncGenerator, Callable

import pytest

from tests.support.interleave import Interleaving, everywhere
from tests.support.tasks import forever, give
from trale_py import (
    Cancelled,
    CancelScope,
    Event,
    Executor,
    JoinHandle,
    RuntimeClosed,
    TaskCancelled,
    TaskGroup,
    block_on,
    gather,
    sleep,
    spawn,
    yield_now,
)
from trale_py.core import current
from trale_py.core import shutdown as shutdown_module
from trale_py.core import task as task_module
from trale_py.core.runtime import Runtime

Script = Callable[..., "subprocess.CompletedProcess[str]"]


def begun(runtime: Runtime) -> None:
    """Return when all tasks that were spawned before have had their first turn."""
    runtime.spawn(give(0)).join(10)


# -- with a limit ---------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 0.05])
def test_a_task_that_never_ends_is_given_up(limit: float, runtime: Runtime) -> None:
    async def stubborn() -> None:
        while True:
            with contextlib.suppress(Cancelled):
                await sleep(math.inf)

    handles = [runtime.spawn(stubborn()), runtime.spawn(stubborn())]
    begun(runtime)
    start = time.monotonic()
    runtime.shutdown(limit)
    assert time.monotonic() - start < limit + 2
    for handle in handles:
        with pytest.raises(RuntimeClosed, match="had not ended"):
            handle.join(0)


def test_L3_R51_a_shutdown_that_cannot_cancel_ends_all_the_same(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve_once() -> None:
        monkeypatch.undo()
        raise MemoryError

    handle = runtime.spawn(forever())
    runtime.spawn(give(1)).join(20)
    monkeypatch.setattr(runtime, "tasks", starve_once)
    runtime.shutdown()
    with pytest.raises(RuntimeClosed):
        handle.join(20)


def test_a_shielded_task_is_waited_for_up_to_the_limit(runtime: Runtime) -> None:
    ended = []

    async def shielded(seconds: float) -> None:
        with CancelScope(shield=True):
            await sleep(seconds)
        ended.append(seconds)

    runtime.spawn(shielded(0.01))
    handle = runtime.spawn(shielded(1000))
    begun(runtime)
    runtime.shutdown(0.3)
    assert ended == [0.01]
    with pytest.raises(RuntimeClosed):
        handle.join(0)


class Stuck:
    """A task that does not give way until it is told to."""

    def __init__(self, runtime: Runtime) -> None:
        self.entered = threading.Event()
        self.leave = threading.Event()
        self.after = ""
        self.handle: JoinHandle[None] = runtime.spawn(self._run())
        assert self.entered.wait(10)

    async def _run(self) -> None:
        self.entered.set()
        self.leave.wait(20)
        try:
            await sleep(0)
        except BaseException as error:
            self.after = type(error).__name__
            raise


def test_A17_a_task_that_does_not_give_way_hangs_nobody(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> None:
        raise ValueError("nobody took me")

    waiting, failed = runtime.spawn(forever()), runtime.spawn(fails())
    begun(runtime)
    stuck = Stuck(runtime)
    queued = runtime.spawn(give(1))
    runtime.shutdown(0.01)
    for handle in (waiting, stuck.handle, queued):
        with pytest.raises(RuntimeClosed):
            handle.join(0)
    with pytest.raises(RuntimeClosed):
        runtime.spawn(give(1))
    (record,) = [record for record in caplog.records if record.name == "trale_py"]
    assert "never retrieved" in record.getMessage()
    del failed
    thread = runtime.executor._thread
    assert thread is not None
    stuck.leave.set()
    while runtime.executor._kept == []:
        time.sleep(0)
    # What ended after all is not kept; its coroutine is not resumed by then, so it did not.
    assert {task.name.split(".")[-1] for task in runtime.executor._kept} == {"forever", "_run"}


def test_R15_both_settle_at_every_line_of_the_other(runtime: Runtime) -> None:
    """See interleave.py: the executor settles at each line of the thread that gives up."""

    def attempt(at: Callable[[Callable[[], object]], Interleaving]) -> None:
        ends: list[str] = []
        handle = runtime.spawn(forever())
        begun(runtime)
        (task,) = [task for task in runtime.tasks() if task.id == handle.id]

        def on_executor() -> None:
            handle.add_done_callback(lambda handle: ends.append("end"))
            task._ended = True

            def settles() -> None:
                runtime.run_queue.remove(task)
                runtime.forget(task)
                task._settle()

            at(settles).run(lambda: runtime.abandon(task))
            settles()

        done = threading.Event()
        runtime.publish(lambda: (on_executor(), done.set()))
        assert done.wait(10)
        assert ends == ["end"]
        with contextlib.suppress(RuntimeClosed):
            handle.join(0)
        task.coro.close()

    assert everywhere(task_module, attempt) > 3


@pytest.mark.slow
def test_A16_a_limit_that_comes_in_the_midst_of_a_long_batch(runtime: Runtime) -> None:
    handles = [runtime.spawn(forever()) for _ in range(20_000)]
    begun(runtime)
    runtime.shutdown(0.001)
    assert all(handle.done() for handle in handles)
    for handle in handles:
        assert isinstance(handle.exception(), (TaskCancelled, RuntimeClosed))


def test_after_two_seconds_it_names_once_what_it_waits_for(
    runtime: Runtime, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutdown_module, "PATIENCE_SECONDS", 0.05)
    go = Event()

    async def stubborn() -> None:
        with CancelScope(shield=True):
            await go.wait()

    for _ in range(12):
        runtime.spawn(stubborn())
    begun(runtime)
    threads = [threading.Thread(target=runtime.shutdown, args=(20,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while "shutdown is waiting" not in caplog.text:
        assert time.monotonic() < deadline
    go.set()
    for thread in threads:
        thread.join(20)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "(12): task 1 (" in record.getMessage()
    assert record.getMessage().endswith("; and 2 more")


# -- what runs in the end -------------------------------------------------------------------------


def test_G12_generators_that_the_last_tasks_were_iterating_are_closed(runtime: Runtime) -> None:
    closed = []

    async def numbers(n: int) -> AsyncGenerator[int, None]:
        try:
            while True:
                yield n
        finally:
            await sleep(0.001)
            closed.append(n)

    async def consume(n: int) -> None:
        async for _ in numbers(n):
            await forever()

    for n in range(20):
        runtime.spawn(consume(n))
    begun(runtime)
    runtime.shutdown(10)
    assert sorted(closed) == list(range(20))


def test_H16_finally_blocks_that_spawn(runtime: Runtime) -> None:
    outcomes: list[str] = []

    async def cleans_up() -> None:
        try:
            await sleep(math.inf)
        finally:
            with CancelScope(shield=True):
                for attempt in (lambda: spawn(give(1)), lambda: block_gather(), in_a_group):
                    try:
                        result = attempt()
                        if not isinstance(result, JoinHandle):
                            await result
                        outcomes.append("accepted")
                    except RuntimeClosed:
                        outcomes.append("RuntimeClosed")

    async def block_gather() -> None:
        await gather(give(1), give(2))

    async def in_a_group() -> None:
        async with TaskGroup() as group:
            group.spawn(give(1))

    runtime.spawn(cleans_up())
    begun(runtime)
    runtime.shutdown(10)
    assert outcomes[:2] == ["RuntimeClosed"] * 2
    assert len(outcomes) in (2, 3)  # the group's refusal comes out in an ExceptionGroup


def test_G12_async_generators_are_closed_also_those_first_used_while_others_close(
    runtime: Runtime,
) -> None:
    closed: list[str] = []
    kept: list[AsyncGenerator[int, None]] = []

    async def inner() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await yield_now()
            closed.append("inner")

    async def outer() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            generator = inner()
            kept.append(generator)
            await anext(generator)
            closed.append("outer")

    async def main() -> None:
        generator = outer()
        kept.append(generator)
        await anext(generator)

    runtime.spawn(main()).join(10)
    runtime.shutdown(10)
    assert closed == ["outer", "inner"]


def test_G12_a_generator_whose_end_never_comes_is_bounded(runtime: Runtime) -> None:
    kept: list[AsyncGenerator[int, None]] = []

    async def stubborn() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await sleep(math.inf)

    async def main() -> None:
        kept.append(stubborn())
        await anext(kept[0])

    runtime.spawn(main()).join(10)
    start = time.monotonic()
    runtime.shutdown(0.05)
    assert time.monotonic() - start < 2


# -- several, and again ---------------------------------------------------------------------------


def test_two_shutdowns_the_shorter_limit_counts(runtime: Runtime) -> None:
    async def stubborn() -> None:
        with CancelScope(shield=True):
            await sleep(math.inf)

    runtime.spawn(stubborn())
    begun(runtime)
    patient = threading.Thread(target=runtime.shutdown)
    patient.start()
    while not runtime.closing:
        time.sleep(0)
    runtime.shutdown(0.01)
    patient.join(10)
    assert not patient.is_alive()


def test_R15_many_shutdowns_give_up_at_once(runtime: Runtime) -> None:
    others = [runtime.spawn(forever()) for _ in range(200)]
    stuck = Stuck(runtime)
    ends: list[int] = []
    for handle in others:
        handle.add_done_callback(lambda handle: ends.append(handle.id))
    failures: list[BaseException] = []

    def shut_down() -> None:
        try:
            runtime.shutdown(0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=shut_down) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert sorted(ends) == [handle.id for handle in others]
    stuck.leave.set()


def test_R11_a_shutdown_while_the_runtime_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has been asked for, and is not there yet: the shutdown waits for its end all the same."""
    own = Runtime()
    beginning, go = threading.Event(), threading.Event()
    start = own.reactor._start

    def slow() -> None:
        beginning.set()
        go.wait(20)
        start()

    monkeypatch.setattr(own.reactor, "_start", slow)
    outcomes: list[object] = []

    def spawns() -> None:
        try:
            outcomes.append(own.spawn(give(1)).join(10))
        except RuntimeClosed as error:
            outcomes.append(error)

    spawner = threading.Thread(target=spawns)
    spawner.start()
    assert beginning.wait(10)
    ender = threading.Thread(target=own.shutdown)
    ender.start()
    while not own.closing:
        time.sleep(0)
    go.set()
    ender.join(10)
    spawner.join(10)
    assert own.gone
    (outcome,) = outcomes
    assert outcome == 1 or isinstance(outcome, RuntimeClosed)
    assert own.executor._thread is not None
    assert not own.executor._thread.is_alive()


def test_H19_start_and_stop_again_and_again(run_script: Script) -> None:
    result = run_script(
        """
        import os, threading
        from trale_py import Executor, block_on, sleep, spawn
        async def give(value): return value
        for n in range(300):
            live = spawn(sleep(1000))
            assert block_on(give(n)) == n
            Executor.shutdown(5)
            assert live.done()
        assert threading.active_count() == 1
        assert len(os.listdir("/proc/self/fd")) <= 4
        print("ok")
        """
    )
    assert (result.stdout, result.stderr) == ("ok\n", "")


def test_the_next_spawn_after_a_shutdown_that_gave_up_starts_a_fresh_runtime(
    run_script: Script,
) -> None:
    result = run_script(
        """
        import threading
        from trale_py import *
        async def give(value): return value
        entered, leave = threading.Event(), threading.Event()
        async def stuck():
            entered.set(); leave.wait()
        handle = spawn(stuck())
        entered.wait()
        Executor.shutdown(0.01)
        assert block_on(give(7)) == 7
        leave.set()
        print("ok")
        """
    )
    assert (result.stdout, result.stderr) == ("ok\n", "")


def test_H5_ctrl_c_at_any_line_of_a_shutdown(run_script: Script) -> None:
    """Whatever it cuts off, the next shutdown ends it, and the next spawn works."""
    result = run_script(
        """
        import os, sys, threading
        from trale_py import *
        from trale_py.core import current
        async def give(value): return value
        package = os.path.dirname(sys.modules["trale_py"].__file__)
        left = 0

        def trace(frame, event, arg):
            global left
            if not frame.f_code.co_filename.startswith(package): return None
            if event == "line":
                left -= 1
                if left < 0:
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return trace

        n = 0
        while True:
            live = spawn(sleep(1000))
            left = n
            sys.settrace(trace)
            try:
                Executor.shutdown()
                sys.settrace(None)
                break
            except KeyboardInterrupt:
                pass
            Executor.shutdown(20)
            assert live.done(), n
            assert block_on(give(n)) == n
            n += 1
        assert n > 15, n
        print("ok")
        """
    )
    assert (result.stdout, result.stderr) == ("ok\n", "")


def test_a_shutdown_while_threads_join_groups_and_tasks() -> None:
    """Whoever waits for anything when the runtime ends comes out of it."""
    own = Runtime()
    outcomes: list[str] = []
    release = Event()

    def joins(handle: JoinHandle[None]) -> None:
        try:
            handle.join(20)
        except (TaskCancelled, RuntimeClosed) as error:
            outcomes.append(type(error).__name__)

    async def awaits(handle: JoinHandle[None]) -> None:
        await handle

    handles = [own.spawn(forever()) for _ in range(5)]
    handles += [own.spawn(awaits(handle)) for handle in handles]
    threads = [threading.Thread(target=joins, args=(handle,)) for handle in handles]
    for thread in threads:
        thread.start()
    own.shutdown(20)
    for thread in threads:
        thread.join(20)
    assert outcomes == ["TaskCancelled"] * 10
    release.set()


def test_a_group_in_a_script_while_another_thread_shuts_down(run_script: Script) -> None:
    result = run_script(
        """
        import math, threading
        from trale_py import *
        def in_a_thread():
            with TaskGroup() as group:
                group.spawn(sleep(math.inf))
                inside.set()
            print("left")
        inside = threading.Event()
        thread = threading.Thread(target=in_a_thread)
        thread.start()
        inside.wait()
        Executor.shutdown()
        thread.join()
        """
    )
    assert (result.stdout, result.stderr) == ("left\n", "")


def test_G9_errors_nobody_took_are_logged_once_by_a_shutdown(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> None:
        raise ValueError("left behind")

    handle = runtime.spawn(fails())
    begun(runtime)
    with caplog.at_level(logging.ERROR, "trale_py"):
        runtime.shutdown(10)
    assert caplog.text.count("left behind") > 0
    assert len([r for r in caplog.records if r.name == "trale_py"]) == 1
    del handle
    gc.collect()


def test_shutdown_in_a_task_is_refused() -> None:
    async def main() -> None:
        Executor.shutdown()

    with pytest.raises(RuntimeError, match="would deadlock"):
        block_on(main())
    assert current.default_runtime().gone == ""


# -- services -------------------------------------------------------------------------------------


def test_a_service_ends_after_the_tasks_and_before_the_generators(runtime: Runtime) -> None:
    order: list[str] = []

    async def note(name: str) -> None:
        try:
            await forever()
        finally:
            for _ in range(3):
                with CancelScope(shield=True):
                    await yield_now()
            order.append(name)

    async def half_way() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            order.append("generator")

    async def iterate(generator: AsyncGenerator[int, None]) -> None:
        await anext(generator)

    generator = half_way()
    runtime.spawn(iterate(generator)).join(20)
    services: list[JoinHandle[None]] = []
    runtime.call_on_executor(lambda: services.append(runtime._start_service(note("service"), "s")))
    runtime.spawn(note("task"))
    begun(runtime)
    assert [task.name for task in runtime.tasks()] == [note.__qualname__]
    runtime.shutdown()
    assert order == ["task", "service", "generator"]
    with pytest.raises(TaskCancelled):
        services[0].join(0)


def test_a_service_that_has_ended_is_forgotten(runtime: Runtime) -> None:
    services: list[JoinHandle[int]] = []
    runtime.call_on_executor(lambda: services.append(runtime._start_service(give(1), "s")))
    begun(runtime)
    assert services[0].join(20) == 1
    begun(runtime)
    assert runtime._services == {}
    assert not services[0].cancel()


def test_a_service_that_never_ends_is_given_up(runtime: Runtime) -> None:
    async def stubborn() -> None:
        while True:
            with contextlib.suppress(Cancelled):
                await forever()

    services: list[JoinHandle[None]] = []
    runtime.call_on_executor(lambda: services.append(runtime._start_service(stubborn(), "s")))
    begun(runtime)
    runtime.shutdown(0)
    with pytest.raises(RuntimeClosed):
        services[0].join(0)


def test_G12_two_shutdowns_at_once_let_the_generators_end(runtime: Runtime) -> None:
    ended: list[int] = []

    async def half_way() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await yield_now()
            await sleep(0.001)
            ended.append(1)

    async def iterate() -> None:
        await anext(generator)

    generator = half_way()
    runtime.spawn(iterate()).join(20)
    runtime.start_shutdown()
    runtime.shutdown()
    assert ended == [1]
