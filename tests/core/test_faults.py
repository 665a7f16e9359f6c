"""A broken engine, and threads that end by force: the runtime ends, and says so to everybody."""

from __future__ import annotations

import contextlib
import ctypes
import math
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest

import trale_py
from tests.support.interleave import Interleaving, everywhere
from trale_py import Cancelled, RuntimeClosed, block_on, sleep
from trale_py.core import executor, poller, runtime_end, wakeup_fds
from trale_py.core.latch import never_return
from trale_py.core.runtime import Runtime
from trale_py.core.runtime_end import RuntimeEnd
from trale_py.core.task import Task

Script = Callable[..., "subprocess.CompletedProcess[str]"]


async def give(value: Any) -> Any:
    return value


# -- the runtime's own descriptors are closed by somebody ---------------------------------------

HELPERS = """
import contextlib, gc, math, os, socket, threading
from trale_py import *
from trale_py.core import current

def own(kind):
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}") == f"anon_inode:[{kind}]":
                return int(fd)

async def nap(seconds):
    await sleep(seconds)
    return "slept"

def outcome_of(handle):
    try:
        return handle.join(10)
    except RuntimeClosed as error:
        assert isinstance(error.__cause__, OSError), repr(error.__cause__)
        return "RuntimeClosed"
"""

CLOSES = {
    "all": "os.closerange(3, 64)",
    "epoll": "os.close(own('eventpoll'))",
    "eventfd": "os.close(own('eventfd'))",
    "timerfd": "os.close(own('timerfd'))",
}


@pytest.mark.parametrize("which", CLOSES)
def test_R42_descriptors_that_somebody_closed(which: str, run_script: Script) -> None:
    """Nobody waits for ever, and the next spawn has another runtime."""
    source = """
        assert block_on(nap(0.001)) == "slept"
        before = current.default_runtime()
        sleeper, waits = spawn(nap(0.3)), spawn(nap(math.inf))
        block_on(nap(0.001))
        CLOSE
        assert outcome_of(sleeper) in ("slept", "RuntimeClosed")
        for n in range(20):  # what is done next finds out
            outcome_of(spawn(nap(0.01 * (20 - n))))
        if WHICH != "eventfd":  # the native engine rarely needs it
            assert outcome_of(waits) == "RuntimeClosed"
            assert current.default_runtime() is not before
        Executor.shutdown(10)
        assert waits.done()
        assert block_on(nap(0.01)) == "slept"
        assert threading.active_count() <= 6  # one may be left behind, asleep
        """
    source = source.replace("CLOSE", CLOSES[which]).replace("WHICH", repr(which))
    result = run_script(HELPERS + textwrap.dedent(source))
    assert result.returncode == 0, result.stderr
    if which != "eventfd":
        assert result.stderr.count("the runtime has failed") == 1
        assert "Bad file descriptor" in result.stderr or "Invalid argument" in result.stderr


def test_B3_numbers_that_are_anothers_by_now_stay_open(run_script: Script) -> None:
    source = """
        block_on(nap(0.001))
        numbers = [own(kind) for kind in ("eventpoll", "eventfd", "timerfd")]
        os.closerange(3, 64)
        mine = [os.open("/dev/null", os.O_RDONLY) for _ in range(16)]
        assert set(numbers) < set(mine)
        outcome_of(spawn(nap(0.01)))
        Executor.shutdown(10)
        for fd in mine:
            os.fstat(fd)
        del numbers
        import gc; gc.collect()
        for fd in mine:
            os.fstat(fd)
        """
    result = run_script(HELPERS + textwrap.dedent(source))
    assert result.returncode == 0, result.stderr


def test_A19_a_descriptor_that_cannot_be_watched_tells(run_script: Script) -> None:
    """The await fails, and the runtime ends by the cause."""
    source = """
        waits = spawn(nap(math.inf))
        block_on(yield_now())
        ours, theirs = socket.socketpair()
        os.close(own("eventpoll"))
        handle = spawn(AsyncFd(ours).readable())
        with contextlib.suppress(OSError, RuntimeClosed):
            handle.join(10)
            raise AssertionError
        assert outcome_of(waits) == "RuntimeClosed"
        """
    result = run_script(HELPERS + textwrap.dedent(source))
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(trale_py.engine == "native", reason="there it is C")
@pytest.mark.parametrize("error", [MemoryError, OSError])
def test_R41_a_ring_that_fails_is_repeated_or_ends_the_runtime(
    error: type[BaseException], runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = runtime.spawn(sleep(math.inf))
    runtime.spawn(sleep(0.01)).join(10)
    notify, failures = wakeup_fds.WakeupFd.notify, [error]

    def fails_once(self: wakeup_fds.WakeupFd) -> None:
        if failures:
            raise failures.pop()
        notify(self)

    monkeypatch.setattr(wakeup_fds.WakeupFd, "notify", fails_once)
    first = runtime.spawn(sleep(0.02))
    if error is MemoryError:
        with pytest.raises(MemoryError):
            first.join(10)
        runtime.spawn(sleep(0.02)).join(10)
        waits.cancel()
    else:
        for handle in (first, waits):
            with pytest.raises(RuntimeClosed) as caught:
                handle.join(10)
            assert isinstance(caught.value.__cause__, OSError)
        runtime.shutdown()
        poller._lost.pop()._descriptors.close()  # they are ours still; it could not know


# -- the end is a list of steps, each in every case -----------------------------------------------

STEPS = [
    "reactor.stop",
    "names.close",
    "jobs.close",
    "leave",
    "abandon",
    "report_unclaimed",
    "_find_tasks",
    "_keep",
]


@pytest.mark.parametrize("error", [MemoryError, RecursionError, AssertionError, SystemExit])
@pytest.mark.parametrize("step", STEPS)
def test_each_step_of_the_end_may_fail(
    step: str, error: type[BaseException], runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stubborn() -> None:
        while True:
            with contextlib.suppress(Cancelled):
                await sleep(math.inf)

    handles = [runtime.spawn(stubborn()) for _ in range(3)]
    runtime.spawn(give(1)).join(10)
    failed = []

    def fails(*args: object) -> Any:
        if failed:
            return real(*args)
        failed.append(step)
        raise error

    owner, name = {
        "reactor.stop": (runtime.reactor, "_stop"),
        "names.close": (runtime.names, "_close"),
        "jobs.close": (runtime.jobs, "_close"),
        "_find_tasks": (RuntimeEnd, "_find_tasks"),
        "_keep": (RuntimeEnd, "_keep"),
    }.get(step, (runtime, step))
    real = getattr(owner, name)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fails)
        runtime.shutdown(0.01)
    assert failed
    for handle in handles:
        with pytest.raises(RuntimeClosed):
            handle.join(10)
    if step == "reactor.stop":
        runtime.reactor._stop()


@pytest.mark.parametrize("error", [MemoryError, AssertionError])
def test_one_task_that_cannot_be_abandoned_keeps_none_of_the_others(
    error: type[BaseException], runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither while all are cancelled, nor while they are given up."""
    handles = [runtime.spawn(sleep(math.inf)) for _ in range(5)]
    runtime.spawn(give(1)).join(10)
    real = Task._abandon

    def abandon(self: Task, fault: BaseException) -> None:
        if self.id == handles[2].id:
            raise error
        real(self, fault)

    def cancel(self: Task, reason: object) -> None:
        raise error

    monkeypatch.setattr(Task, "_abandon", abandon)
    monkeypatch.setattr(Task, "_cancel", cancel)
    runtime.shutdown(0.05)
    for handle in handles:
        with pytest.raises(RuntimeClosed):
            handle.join(10)


def test_an_exception_thrown_into_the_end_cuts_nothing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """At each line of it: a debugger's, or one of PyThreadState_SetAsyncExc."""

    def park() -> None:  # 3.12 crashes at the next settrace() if a parked thread is still traced
        sys.settrace(None)
        never_return()

    monkeypatch.setattr(executor, "never_return", park)

    def attempt(at: Callable[[Callable[[], object]], Interleaving]) -> None:
        runtime = Runtime()
        handles = [runtime.spawn(sleep(math.inf)) for _ in range(2)]
        runtime.spawn(give(1)).join(10)

        def thrown() -> None:
            raise SystemError

        end = runtime.executor._stop_runtime
        runtime.executor._stop_runtime = lambda: at(thrown).run(end)  # type: ignore[method-assign]
        runtime.publish(runtime.executor._stop)
        for handle in handles:
            with pytest.raises(RuntimeClosed):
                handle.join(10)
        runtime.shutdown()
        assert not runtime.reactor._thread.is_alive()  # type: ignore[union-attr]

    assert everywhere(runtime_end, attempt) > 10


# -- a thread that ends by force ------------------------------------------------------------------


def test_R40_a_tracer_that_raises_in_the_executors_thread(run_script: Script) -> None:
    """The first spawn raises; once the tracer is gone, the next one starts a runtime."""
    result = run_script(
        """
        import math, threading
        from trale_py import *
        async def give(value): return value
        threading.excepthook = lambda args: None

        for lines in range(40):
            left = [lines]
            def tracer(frame, event, arg):
                if "trale_py" not in frame.f_code.co_filename:
                    return None
                left[0] -= 1
                if left[0] < 0:
                    raise ZeroDivisionError
                return tracer
            for install in (threading.settrace, threading.setprofile):
                left[0] = lines
                install(tracer)
                try:
                    handle = spawn(give(1))
                    assert handle.join(20) == 1
                except (ZeroDivisionError, RuntimeClosed, RuntimeError):
                    pass
                finally:
                    install(None)
                    left[0] = math.inf  # the thread may have it still
                while True:  # a runtime that has just failed, or is about to
                    try:
                        assert block_on(give(2)) == 2
                        break
                    except RuntimeClosed:
                        pass
                Executor.shutdown()
        print("ok")
        """
    )
    assert result.stdout == "ok\n", result.stderr


@pytest.mark.parametrize("which", ["executor", "reactor"])
@pytest.mark.parametrize("when", ["_set_ident", "_set_native_id", "run"])
def test_R40_no_memory_for_the_first_steps_of_a_thread(
    which: str, when: str, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(threading.Thread, when)

    def fails(self: threading.Thread) -> None:
        if self.name == f"trale-{which}":
            raise MemoryError
        real(self)

    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    monkeypatch.setattr(sys, "unraisablehook", lambda args: None)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, when, fails)
        with pytest.raises((RuntimeError, MemoryError)):
            runtime.spawn(give(1)).join(20)
    assert block_on(give(1)) == 1


def test_R52_no_memory_in_the_reactors_thread_is_the_cause_that_is_told(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The executor, which goes on where a batch of its own had no memory, does not swallow it."""

    def fails(*_: object) -> None:
        raise MemoryError("of the reactor's thread")

    monkeypatch.setattr(signal, "pthread_sigmask", fails)
    with pytest.raises(RuntimeError) as caught:
        runtime.spawn(sleep(60)).join(20)
    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__
    assert str(error) == "of the reactor's thread"
    caplog.clear()


@pytest.mark.parametrize("which", ["executor"] + ["reactor"] * (trale_py.engine != "native"))
def test_A19_an_exception_thrown_into_a_thread_ends_the_runtime(
    which: str, runtime: Runtime
) -> None:
    waits = runtime.spawn(sleep(math.inf))
    runtime.spawn(give(1)).join(10)
    thread = runtime.executor._thread if which == "executor" else runtime.reactor._thread
    assert thread is not None
    ident = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemError))
    with contextlib.suppress(RuntimeClosed):
        runtime.spawn(sleep(0.01))  # they look up
    with pytest.raises(RuntimeClosed) as caught:
        waits.join(10)
    assert isinstance(caught.value.__cause__, SystemError)


# -- what cannot be -------------------------------------------------------------------------------


def test_L1_what_is_loaded_at_its_first_use_at_the_limit_of_descriptors(run_script: Script) -> None:
    result = run_script(
        """
        import errno, importlib, os, resource
        import trale_py
        from trale_py import UdpSocket, block_on
        from trale_py._linux import library

        async def main():
            with UdpSocket.bind("127.0.0.1:0") as sock:
                await sock.send_to(b"x", sock.local_addr[:2])
                used = len(os.listdir("/proc/self/fd")) - 1
                resource.setrlimit(resource.RLIMIT_NOFILE, (used, 4096))
                for use in (library, lambda: trale_py.channel):
                    try:
                        use()
                    except OSError as error:
                        assert error.errno == errno.EMFILE, error
                    else:
                        raise AssertionError(use)
                resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
                assert trale_py.channel.channel(1)
                return await sock.recv_many(1)

        print(block_on(main())[0][0])
        """
    )
    assert result.stdout == "b'x'\n", result.stderr


PATCHES = {
    "threads": "import _thread; _thread.start_new_thread = lambda *args: None",
    "epoll": "import select; del select.epoll",
    "gevent": "from gevent import monkey; monkey.patch_all()",
}


@pytest.mark.parametrize("which", PATCHES)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_patched_process_is_refused_in_a_sentence(
    which: str, when: str, run_script: Script
) -> None:
    if which == "gevent":
        pytest.importorskip("gevent")
    patch, load = PATCHES[which], "from trale_py import block_on, sleep"
    first, second = (patch, load) if when == "before" else (load, patch)
    result = run_script(
        f"""
        import faulthandler; faulthandler.cancel_dump_traceback_later()
        {first}
        try:
            {second}
            block_on(sleep(0))
        except (ImportError, RuntimeError) as error:
            print(type(error).__name__, error)
        """
    )
    kind = "ImportError" if when == "before" else "RuntimeError"
    assert result.stdout.startswith(f"{kind} trale_py needs real threads and epoll, and"), result
    assert result.stderr == ""


def test_an_import_that_failed_says_its_cause_last(run_script: Script) -> None:
    result = run_script(
        """
        import sys
        sys.modules["linuxfd"] = None
        import trale_py
        """
    )
    assert result.returncode == 1
    assert result.stderr.count("Traceback") == 1
    assert "linuxfd" in result.stderr.splitlines()[-1]
