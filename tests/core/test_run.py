"""Runtime(thread=False) and run: the calling thread is the executor."""

from __future__ import annotations

import contextvars
import gc
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from tests.support.interleave import Interleaving, Signal, everywhere
from tests.support.tasks import fail, forever, give
from trale_py import (
    Cancelled,
    CancelScope,
    Event,
    JoinHandle,
    Notify,
    Runtime,
    RuntimeClosed,
    TaskCancelled,
    TaskGroup,
    WouldDeadlock,
    block_on,
    blocking,
    current_task,
    map_concurrent,
    open_signal_receiver,
    run,
    serve,
    sleep,
    spawn,
    spawn_blocking,
    tasks,
    yield_now,
)

Script = Callable[..., "subprocess.CompletedProcess[str]"]


class Rung(Exception):
    """What a signal's handler raises."""


@pytest.fixture
def here() -> Iterator[Runtime]:
    with Runtime(thread=False, name="here") as runtime:
        yield runtime
    assert runtime.threads == []


@pytest.fixture
def rings() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Rung

    before = signal.signal(signal.SIGUSR1, ring)
    yield
    signal.signal(signal.SIGUSR1, before)


def kill_soon(signum: int, seconds: float = 0.05) -> threading.Timer:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signum))
    timer.start()
    return timer


def borrowed() -> tuple[object, ...]:
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return sys.get_asyncgen_hooks(), wakeup, signal.getsignal(signal.SIGINT)


# -- runs -----------------------------------------------------------------------------------------


def test_the_calling_thread_is_the_executor(here: Runtime) -> None:
    async def main(a: int, b: int) -> int:
        assert threading.current_thread() is me
        assert Runtime.current() is here
        assert me.native_id in here.threads
        await sleep(0.001)
        return a + b

    me = threading.current_thread()
    assert here.run(main, 1, 2) == 3
    assert here.run(main(3, 4)) == 7
    assert here.run(sleep(0)) is None
    assert me.native_id not in here.threads


def test_other_tasks_live_on_between_runs(here: Runtime) -> None:
    async def count() -> None:
        while True:
            seen.append(1)
            await sleep(0.001)

    async def until(n: int) -> None:
        while len(seen) < n:
            await sleep(0.001)

    seen: list[int] = []
    handle = spawn(count())
    assert not seen
    here.run(until, 3)
    so_far = len(seen)
    time.sleep(0.01)
    assert len(seen) == so_far
    here.run(until, so_far + 3)
    assert not handle.done()


async def numbers() -> AsyncGenerator[int, None]:
    yield 1


def test_between_runs_a_wait_would_deadlock(here: Runtime) -> None:
    handle, ended = spawn(forever()), spawn(give(1))
    here.run(yield_now())
    assert ended.join() == 1
    refused: list[Callable[[], object]] = [
        handle.join,
        lambda: block_on(give(1)),
        lambda: here.block_on(give(1)),
        lambda: Event().wait_blocking(),
        lambda: Notify().wait_blocking(),
        lambda: TaskGroup().__enter__(),
        lambda: next(map_concurrent(give, [1], limit=1)),
        lambda: map_concurrent(give, [1], limit=1).close(),
        lambda: next(blocking(numbers())),
        lambda: serve(give, "127.0.0.1:0").__enter__(),
    ]
    for wait in refused:
        with pytest.raises(WouldDeadlock, match=r"run\(\)"):
            wait()
    with Runtime(), pytest.raises(WouldDeadlock, match=r"run\(\)"):
        handle.join()


def test_another_thread_may_wait_and_spawn(here: Runtime) -> None:
    results: list[int] = []

    def work() -> None:
        results.append(here.block_on(give(5)))
        here.call_soon(done.set)

    done = Event()
    thread = threading.Thread(target=work)
    thread.start()
    here.run(done.wait())
    thread.join(20)
    assert results == [5]


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), Cancelled])
def test_the_error_of_main_comes_out(here: Runtime, error: Any) -> None:
    if error is Cancelled:
        error = Cancelled._with_reason("own")
    with pytest.raises(type(error)) as caught:
        here.run(fail, error)
    assert caught.value is error
    assert here.run(give, 1) == 1


def test_what_is_no_main(here: Runtime) -> None:
    with pytest.raises(TypeError, match="main"):
        here.run(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="main"):
        here.run(lambda: 3)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="args"):
        here.run(give(1), 2)  # type: ignore[arg-type]
    with Runtime() as other, pytest.raises(RuntimeError, match="thread=False"):
        other.run(give, 1)


def test_a_run_in_a_task_would_deadlock(here: Runtime) -> None:
    async def main() -> None:
        with pytest.raises(WouldDeadlock):
            here.run(give, 1)
        with pytest.raises(WouldDeadlock):
            run(give, 1)
        with pytest.raises(WouldDeadlock):
            here.shutdown()
        with pytest.raises(WouldDeadlock, match=r"handle\.future\(\)"):
            spawn(give(1)).join()

    here.run(main)


def test_two_threads_do_not_run_one(here: Runtime) -> None:
    async def main() -> None:
        def second() -> None:
            with pytest.raises(RuntimeError, match="another thread"):
                here.run(give, 1)

        await spawn_blocking(second)

    here.run(main)


def test_a_run_in_a_thread_that_is_not_the_main_one() -> None:
    async def main() -> int:
        await sleep(0.001)
        return threading.get_ident()

    results: list[object] = []

    def plain() -> None:
        with Runtime(thread=False) as own:
            results.append(own.run(main) == threading.get_ident())

    thread = threading.Thread(target=plain)
    thread.start()
    thread.join(20)
    assert results == [True]


def test_the_default_one_that_runs_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"spawn\(main\(\)\)\.join\(\)"):
        run(give, 1)
    with pytest.raises(RuntimeError, match=r"spawn\(main\(\)\)\.join\(\)"):
        run(give(1))


def test_its_end_cancels_and_waits(here: Runtime) -> None:
    async def work() -> None:
        try:
            await forever()
        finally:
            with CancelScope(shield=True):
                await sleep(0.001)
            ended.append(1)

    async def half_way() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await yield_now()
            ended.append(2)

    async def iterate() -> None:
        await anext(generator)

    ended: list[int] = []
    generator = half_way()
    handle = spawn(work())
    here.run(yield_now())
    here.run(iterate)
    here.shutdown()
    assert ended == [1, 2]
    with pytest.raises(TaskCancelled):
        handle.join()
    with pytest.raises(RuntimeClosed):
        here.run(give, 1)
    with pytest.raises(RuntimeClosed):
        spawn(give(1))
    assert not [one for one in threading.enumerate() if one.name.startswith("here")]


def test_one_that_never_ran_ends(here: Runtime) -> None:
    handle = spawn(forever())
    here.shutdown()
    with pytest.raises(TaskCancelled):
        handle.join()


def test_a_shutdown_has_a_limit(here: Runtime) -> None:
    async def stubborn() -> None:
        while True:
            try:
                await forever()
            except Cancelled:
                pass

    handle = spawn(stubborn())
    here.run(yield_now())
    begin = time.monotonic()
    here.shutdown(0.05)
    assert time.monotonic() - begin < 5
    with pytest.raises(RuntimeClosed):
        handle.join()


def test_R61_a_shutdown_by_another_thread_ends_the_run(here: Runtime) -> None:
    thread = threading.Thread(target=here.shutdown)
    here.call_soon(thread.start)
    with pytest.raises(TaskCancelled):
        here.run(forever)
    thread.join(20)
    assert not thread.is_alive()


def test_R61_a_shutdown_at_any_line_of_the_end_of_a_run() -> None:
    def attempt(at: Callable[[Callable[[], object]], Interleaving]) -> None:
        own = Runtime(thread=False)
        own.spawn(forever())
        threads: list[threading.Thread] = []

        def shut_down() -> None:
            threads.append(threading.Thread(target=own.shutdown))
            threads[0].start()
            while not own._runtime.closing:
                time.sleep(0.0001)

        try:
            at(shut_down).run(lambda: own.run(give, 1))
        except TaskCancelled:
            pass
        except RuntimeClosed:
            pass
        own.shutdown()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()

    from trale_py.core import run_here

    assert everywhere(run_here, attempt) > 20


def test_nothing_is_left_of_many_runs() -> None:
    with Runtime(thread=False) as own:
        own.run(give, 1)
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(100):
            own.run(give, 1)
        gc.collect()
        assert len(gc.get_objects()) < before + 100


# -- what is borrowed -----------------------------------------------------------------------------


def test_what_is_borrowed_is_put_back(here: Runtime) -> None:
    async def main() -> None:
        assert borrowed() != before
        variable.set(2)

    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=1)
    before = borrowed()
    here.run(main)
    assert borrowed() == before
    assert variable.get() == 1
    with pytest.raises(KeyError):
        here.run(fail, KeyError())
    assert borrowed() == before


def test_H8_the_bytes_of_the_wakeup_fd_are_passed_on(here: Runtime) -> None:
    async def main() -> None:
        kill_soon(signal.SIGUSR1)
        await event.wait()
        await sleep(0.01)

    event = Event()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(20)
        theirs.setblocking(False)
        before = signal.signal(signal.SIGUSR1, lambda *_: event.set())
        previous = signal.set_wakeup_fd(theirs.fileno())
        try:
            here.run(main)
            assert ours.recv(10) == bytes([signal.SIGUSR1])
            assert signal.set_wakeup_fd(previous) == theirs.fileno()
        finally:
            signal.set_wakeup_fd(previous)
            signal.signal(signal.SIGUSR1, before)


def test_H8_a_wakeup_fd_or_handler_that_others_set_meanwhile_stays(here: Runtime) -> None:
    async def main() -> None:
        signal.set_wakeup_fd(theirs.fileno())
        signal.signal(signal.SIGINT, handler)

    def handler(*_: object) -> None:
        pass

    _, wakeup, sigint = borrowed()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        here.run(main)
        try:
            assert signal.set_wakeup_fd(wakeup) == theirs.fileno()  # type: ignore[arg-type]
            assert signal.getsignal(signal.SIGINT) is handler
        finally:
            signal.signal(signal.SIGINT, sigint)  # type: ignore[arg-type]


def test_the_running_loop_of_a_jupyter_cell_is_put_back() -> None:
    import asyncio

    async def cell() -> None:
        async def main() -> str:
            await sleep(0.001)
            with pytest.raises(RuntimeError, match="aio"):
                await asyncio.sleep(0)
            return "done"

        loop = asyncio.get_running_loop()
        hooks = sys.get_asyncgen_hooks()
        with Runtime(thread=False) as own:
            for _ in range(2):
                assert own.run(main) == "done"
                assert asyncio.get_running_loop() is loop
                assert sys.get_asyncgen_hooks() == hooks
        await asyncio.sleep(0)

    asyncio.run(cell())


# -- signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGALRM])
def test_a_handler_runs_while_nothing_is_ready(here: Runtime, signum: int) -> None:
    def handler(*_: object) -> None:
        took.append(time.monotonic() - sent[-1])
        event.set()

    def send() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), signum)

    took: list[float] = []
    sent: list[float] = []
    before = signal.signal(signum, handler)
    try:
        for _ in range(5):
            event = Event()
            threading.Timer(0.05, send).start()
            here.run(event.wait())
    finally:
        signal.signal(signum, before)
    assert min(took) < 0.1
    assert max(took) < 1  # the machine may be busy


def test_H4_a_ctrl_c_cancels_main(here: Runtime) -> None:
    async def main() -> None:
        kill_soon(signal.SIGINT)
        try:
            await forever()
        except Cancelled as cancelled:
            seen.append(cancelled.reason)
            raise

    seen: list[object] = []
    with pytest.raises(KeyboardInterrupt):
        here.run(main)
    assert seen == ["Ctrl-C"]
    assert here.run(give, 1) == 1


def test_H4_main_that_makes_something_of_the_ctrl_c(here: Runtime) -> None:
    async def main() -> int:
        kill_soon(signal.SIGINT)
        try:
            await forever()
        except Cancelled:
            pass
        return 5

    assert here.run(main) == 5


def test_H4_a_second_ctrl_c_stops_the_waiting(here: Runtime) -> None:
    async def main() -> None:
        kill_soon(signal.SIGINT)
        while True:
            try:
                await forever()
            except Cancelled:
                kill_soon(signal.SIGINT, 0)
                await yield_now_shielded()

    async def yield_now_shielded() -> None:
        with CancelScope(shield=True):
            await sleep(math.inf)

    other = spawn(forever())
    with pytest.raises(KeyboardInterrupt):
        here.run(main)
    with pytest.raises(RuntimeClosed):
        other.join()


def test_H4_a_second_ctrl_c_ends_a_task_that_spins(here: Runtime) -> None:
    async def main() -> None:
        signal.raise_signal(signal.SIGINT)
        kill_soon(signal.SIGINT)
        while True:
            pass

    with pytest.raises(KeyboardInterrupt):
        here.run(main)


def test_a_receiver_has_the_ctrl_c_to_itself(here: Runtime) -> None:
    async def main() -> int:
        with open_signal_receiver(signal.SIGINT) as signals:
            kill_soon(signal.SIGINT)
            async for signum in signals:
                return signum
        return 0

    before = signal.getsignal(signal.SIGINT)
    assert here.run(main) == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before
    with open_signal_receiver(signal.SIGINT) as signals:
        kill_soon(signal.SIGINT)
        assert here.run(signals.__anext__) == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before


def test_a_handler_that_raises_in_a_task_is_its_error(here: Runtime, rings: None) -> None:
    async def spin() -> None:
        while True:
            pass

    async def main() -> None:
        handle = spawn(spin())
        kill_soon(signal.SIGUSR1)
        with pytest.raises(Rung):
            await handle

    here.run(main)
    assert here.run(give, 1) == 1


def test_a_handler_that_raises_while_nothing_is_ready_ends_the_run(
    here: Runtime, rings: None
) -> None:
    async def clean() -> None:
        try:
            await forever()
        finally:
            with CancelScope(shield=True):
                await sleep(0.001)
            cleaned.append(1)

    cleaned: list[int] = []
    other = spawn(clean())
    kill_soon(signal.SIGUSR1)
    with pytest.raises(Rung):
        here.run(clean)
    assert cleaned == [1, 1]
    with pytest.raises(TaskCancelled):
        other.join()
    with pytest.raises(RuntimeClosed):
        here.run(give, 1)


class AtLine(Interleaving):
    """Raises there, as a signal's handler does, and leaves it to Python to end the tracing."""

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(self._file):
            return None
        if event == "line" and not self.happened:
            self._left -= 1
            if self._left < 0:
                self.happened = True
                raise Rung
        return self._trace


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Interleaving, Signal])
def test_A11_a_handler_that_wakes_and_spawns_anywhere_in_a_run(kind: type[Interleaving]) -> None:
    """In the executor's own frames too: no deadlock, and neither the wake nor the task is lost."""
    import trale_py.core as core

    def attempt(at: Callable[[Callable[[], object]], Interleaving]) -> None:
        async def wait() -> int:
            await event.wait()
            return 1

        async def ends() -> list[int]:
            return [await one for one in handles]

        def ring() -> None:
            event.set()
            handles.append(own.spawn(give(2)))

        event = Event()
        with Runtime(thread=False) as own:
            handles = [own.spawn(wait())]
            place = at(ring)
            place.run(lambda: own.run(sleep, 0.0001))
            if place.happened:
                assert own.run(ends) == [1, 2]

    assert everywhere(core, attempt, kind) > 30


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of coroutines whose spawn was cut off
@pytest.mark.parametrize("kind", [AtLine, Signal])
def test_H5_R62_a_handler_that_raises_anywhere_in_a_run(
    kind: type[Interleaving], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends in order, whichever line it cuts off: each handle is settled, all is put back.

    The exception is the run's, or the task's in whose code it came, or it is logged. In a
    ``__del__`` Python prints it and goes on.
    """
    printed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: printed.append(unraisable))
    import trale_py.core as core

    async def child() -> int:
        await yield_now()
        return 1

    async def main() -> int:
        one = spawn(child())
        handles.append(one)
        return await one

    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    wakeup = signal.set_wakeup_fd(theirs.fileno())
    handles: list[JoinHandle[Any]] = []
    before = borrowed()

    def attempt(at: Callable[[Callable[[], object]], Interleaving]) -> None:
        def ring() -> None:
            raise Rung

        caplog.clear()
        printed.clear()
        handles.clear()
        own = Runtime(thread=False, exit_grace=0.05)
        waiting = own.spawn(forever())
        handles.append(own.spawn(child()))
        place = at(ring)
        raised = False
        try:
            place.run(lambda: own.run(main))
        except Rung:
            raised = True
        finally:
            sys.settrace(None)
        own.shutdown(5)
        assert borrowed() == before
        assert own.threads == []
        for handle in (waiting, *handles):
            assert handle.done()
            error = handle.exception()
            raised = raised or isinstance(error, Rung) or "Rung" in str(error)
        told = raised or printed or "Rung" in caplog.text
        assert told or not place.happened

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.disable()  # on Python 3.11 it may free the tracer, if traced frames are cut off
        try:
            assert everywhere(core, attempt, kind) > 30
        finally:
            gc.enable()
            gc.collect()
            signal.set_wakeup_fd(wakeup)
            ours.close()
            theirs.close()


# -- the process ----------------------------------------------------------------------------------


def test_run_is_the_default_one_while_it_lasts(run_script: Script) -> None:
    result = run_script(
        """
        import threading
        from trale_py import Runtime, block_on, run, sleep, spawn, spawn_blocking, tasks

        async def main(text):
            def other():
                assert Runtime.current() is mine
                assert block_on(add(1, 2)) == 3
            mine = Runtime.current()
            thread = threading.Thread(target=other)
            thread.start()
            await spawn_blocking(thread.join)
            try: run(add, 1, 2)
            except RuntimeError: pass
            spawn(late())
            await sleep(0)
            return text
        async def late():
            try: await sleep(1000)
            finally: print("cleaned")
        async def add(a, b): return a + b

        for _ in range(3):
            assert run(main, "x") == "x"
            names = [thread.name for thread in threading.enumerate()]
            assert names == ["MainThread"], names
        assert tasks() == []
        assert block_on(add(3, 4)) == 7
        try: run(add, 1, 2)
        except RuntimeError as error: print(error)
        """
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == (
        "cleaned\n" * 3 + "the default runtime already runs: use spawn(main()).join()\n"
    )
    assert result.stderr == ""


@pytest.mark.slow
def test_an_idle_run_wakes_never(run_script: Script) -> None:
    result = run_script(
        """
        import threading, time
        from pathlib import Path
        from trale_py import Event, Runtime, run

        def looks(runtime):
            status = (Path(f"/proc/self/task/{one}/status").read_text() for one in runtime.threads)
            return [line for text in status for line in text.splitlines() if "ctxt" in line]

        def watch(runtime):
            time.sleep(0.5)
            before = looks(runtime)
            time.sleep(10)
            print(len(before), before == looks(runtime))
            done.set()

        async def main():
            threading.Thread(target=watch, args=(Runtime.current(),)).start()
            await done.wait()

        done = Event()
        run(main)
        """
    )
    assert result.stdout == "4 True\n", result.stderr  # executor and reactor: no switch at all


def test_sigterm_without_a_handler_ends_the_process(run_script: Script) -> None:
    result = run_script(
        """
        import os, signal
        from trale_py import run, sleep
        async def main():
            os.kill(os.getpid(), signal.SIGTERM)
            await sleep(1000)
        run(main)
        """
    )
    assert result.returncode == -signal.SIGTERM


def test_a_ctrl_c_that_nobody_takes_is_the_exit_status(run_script: Script) -> None:
    result = run_script(
        """
        import os, signal
        from trale_py import run, sleep
        async def main():
            os.kill(os.getpid(), signal.SIGINT)
            try: await sleep(1000)
            finally: print("cleaned")
        run(main)
        """
    )
    assert result.returncode == -signal.SIGINT
    assert result.stdout == "cleaned\n"


def test_H9_a_fork_in_a_run(run_script: Script) -> None:
    result = run_script(
        """
        import os, signal
        from trale_py import RuntimeClosed, run, sleep, spawn
        async def give(n): return n
        async def main():
            pid = os.fork()
            if pid == 0:
                assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
                assert signal.set_wakeup_fd(-1) == -1
                assert spawn(give(4)).join(20) == 4
                try: await sleep(1)
                except RuntimeClosed: os.write(1, b"child ends\\n")
                raise SystemExit(7)
            await sleep(0.1)
            status = os.waitpid(pid, 0)[1]
            os.kill(os.getpid(), signal.SIGUSR1)
            await sleep(0.01)
            return os.waitstatus_to_exitcode(status)
        signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"parent hears\\n"))
        print(run(main))
        """
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "child ends\nparent hears\n7\n"


def test_H9_a_handler_that_forks_while_nothing_is_ready(run_script: Script) -> None:
    result = run_script(
        """
        import os, signal, threading
        from trale_py import Event, run
        pids = []
        def handler(*_):
            pids.append(os.fork())
            if pids[0]: event.set()
        async def main():
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            await event.wait()
            return os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1])
        event = Event()
        signal.signal(signal.SIGUSR1, handler)
        print(run(main))
        """
    )
    assert result.stdout == "0\n", result.stderr


def test_H14_between_two_runs_the_exit_cleans_up(run_script: Script) -> None:
    result = run_script(
        """
        from trale_py import Runtime, sleep, yield_now
        async def main():
            try: await sleep(1000)
            finally: print("cleaned")
        runtime = Runtime(thread=False)
        runtime.spawn(main())
        runtime.run(yield_now())
        """
    )
    assert result.returncode == 0, result.stderr
    assert (result.stdout, result.stderr) == ("cleaned\n", "")


def test_H14_a_run_in_a_daemon_thread_at_the_exit(run_script: Script) -> None:
    result = run_script(
        """
        import threading
        from trale_py import Runtime, sleep
        async def main():
            begun.set()
            try: await sleep(1000)
            finally: print("cleaned")
        begun = threading.Event()
        def work():
            with Runtime(thread=False) as runtime:
                runtime.run(main)
        threading.Thread(target=work, daemon=True).start()
        begun.wait()
        """
    )
    assert result.returncode == 0, result.stderr
    assert (result.stdout, result.stderr) == ("cleaned\n", "")


def test_tasks_and_current_task_in_a_run(here: Runtime) -> None:
    async def main() -> None:
        assert tasks() == [current_task()]

    here.run(main)
