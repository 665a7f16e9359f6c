"""The pool of threads for calls that have no non-blocking form."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

import pytest

from tests.support.interleave import Interleaving, everywhere
from tests.support.net_helpers import TIMEOUT, CutOff, GaveUp, awaiting, parked
from trale_py import TcpStream, block_on, move_on_after, spawn
from trale_py.core import thread_pool
from trale_py.core.runtime import Runtime, default_runtime
from trale_py.core.thread_pool import NAMES_LIMIT, BlockingPool
from trale_py.jobs import job as job_module
from trale_py.jobs.job import BlockingCall

T = TypeVar("T")


def call_in(runtime: Runtime, function: Callable[[], T]) -> BlockingCall[T]:
    return BlockingCall(function, runtime.names)


def test_the_result_comes_out_of_the_await() -> None:
    assert block_on(call_in(default_runtime(), lambda: 42)) == 42
    assert block_on(call_in(default_runtime(), lambda: None)) is None


def test_it_runs_in_another_thread() -> None:
    thread = block_on(call_in(default_runtime(), threading.current_thread))
    assert thread.name == "trale-names"
    assert thread.daemon


class Odd(BaseException):
    pass


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(3), KeyboardInterrupt(), Odd()])
def test_the_error_comes_out_of_the_await(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        block_on(call_in(default_runtime(), fail))
    assert caught.value is error
    assert block_on(call_in(default_runtime(), lambda: "alive")) == "alive"


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_G7_stop_iteration_hangs_nothing(kind: type[Exception]) -> None:
    def stop() -> None:
        raise kind("x")

    with pytest.raises((RuntimeError, StopAsyncIteration)) as caught:
        block_on(call_in(default_runtime(), stop))
    if kind is StopIteration:
        assert isinstance(caught.value, RuntimeError)
        assert isinstance(caught.value.__cause__, StopIteration)


class Gate:
    """Jobs that wait until the test lets them go, and that count how many run at once."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.leave = threading.Event()
        self.threads: set[int] = set()

    def job(self) -> None:
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.leave.wait(TIMEOUT)


def test_at_most_eight_at_once_and_the_rest_in_their_turn(runtime: Runtime) -> None:
    gate = Gate()
    handles = [runtime.spawn(call_in(runtime, gate.job)) for _ in range(20)]
    for _ in range(8):
        assert gate.entered.acquire(timeout=TIMEOUT)
    assert len(runtime.names._workers) == 8
    assert not gate.entered.acquire(blocking=False)
    gate.leave.set()
    for handle in handles:
        handle.join(TIMEOUT)
    assert len(gate.threads) <= 8


def test_jobs_are_done_in_order(runtime: Runtime) -> None:
    runtime.names.limit = 1
    done: list[int] = []
    handles = [runtime.spawn(call_in(runtime, partial(done.append, n))) for n in range(50)]
    for handle in handles:
        handle.join(TIMEOUT)
    assert done == list(range(50))


def test_an_idle_thread_ends_and_a_new_one_is_started(runtime: Runtime) -> None:
    runtime.names.idle_time = 0.01
    for _ in range(10):
        thread = runtime.spawn(call_in(runtime, threading.current_thread)).join(TIMEOUT)
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert runtime.names._workers == {}


def test_R17_a_job_comes_as_the_last_thread_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread has struck itself off, a job is queued, no new thread can be started."""
    monkeypatch.setattr(thread_pool, "_IDLE_SECONDS", 0.01)
    pool, ran = BlockingPool("test", 8, lambda function: function()), threading.Event()

    class Job:
        def run(self) -> None:
            pool._forget(self)  # type: ignore[arg-type]
            ran.set()

    job: Any = Job()

    class Workers(dict[Any, None]):
        handed_in = False

        def __delitem__(self, key: Any) -> None:
            super().__delitem__(key)
            if not self.handed_in:
                self.handed_in = True
                pool._queued[job] = None  # what _submit() does, on a machine with no thread left
                pool._jobs.put(job)

    pool._workers = Workers()
    pool._submit(Job())  # type: ignore[arg-type]
    assert ran.wait(TIMEOUT)
    ran.clear()
    assert ran.wait(TIMEOUT)
    for worker in list(pool._workers):
        worker.join(TIMEOUT)
    assert pool._workers == {}


def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


def test_I9_no_thread_can_be_started(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error for who asked, and the job that was refused is not done later after all."""
    done: list[str] = []
    runtime.ensure_running()
    with monkeypatch.context() as patch:
        no_threads(patch)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            runtime.spawn(call_in(runtime, lambda: done.append("refused"))).join(TIMEOUT)
    runtime.spawn(call_in(runtime, lambda: done.append("accepted"))).join(TIMEOUT)
    assert done == ["accepted"]


def test_I9_no_thread_can_be_started_and_one_that_left_has_taken_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then it is not refused: it has run, or runs."""
    pool = BlockingPool("test", 8, lambda function: function())
    ran: list[int] = []
    call = BlockingCall(lambda: ran.append(1), pool)
    with monkeypatch.context() as patch:
        no_threads(patch)
        call.run()  # what the last worker does, before submit() looks who is there
        pool._submit(call)
    assert ran == [1]


def test_I9_no_further_thread_can_be_started(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that run take the jobs."""
    gate = Gate()
    first = runtime.spawn(call_in(runtime, gate.job))
    assert gate.entered.acquire(timeout=TIMEOUT)
    with monkeypatch.context() as patch:
        no_threads(patch)
        second = runtime.spawn(call_in(runtime, lambda: "done"))
        gate.leave.set()
        assert second.join(TIMEOUT) == "done"
    first.join(TIMEOUT)


def test_the_waiter_is_cut_off_and_the_result_dropped(runtime: Runtime) -> None:
    gate = Gate()
    cut: CutOff[None] = CutOff(awaiting(call_in(runtime, gate.job)))
    handle = runtime.spawn(cut)
    assert gate.entered.acquire(timeout=TIMEOUT)
    cut.cut()
    with pytest.raises(GaveUp):
        handle.join(TIMEOUT)
    gate.leave.set()
    assert runtime.spawn(call_in(runtime, lambda: 1)).join(TIMEOUT) == 1


def test_other_tasks_run_meanwhile() -> None:
    gate = Gate()
    waiting = parked(call_in(default_runtime(), gate.job))
    assert gate.entered.acquire(timeout=TIMEOUT)

    async def quick() -> str:
        return "quick"

    assert spawn(quick()).join(TIMEOUT) == "quick"
    assert not waiting.done()
    gate.leave.set()
    waiting.join(TIMEOUT)


def test_the_threads_end_with_the_runtime(runtime: Runtime) -> None:
    calls: list[Callable[[], threading.Thread]] = [threading.current_thread] * 5
    threads = {runtime.spawn(call_in(runtime, call)).join(TIMEOUT) for call in calls}
    runtime.shutdown(TIMEOUT)
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def test_a_thread_goes_idle_while_the_pool_is_closed() -> None:
    """It strikes itself off the list that close() is walking along."""
    pool = BlockingPool("test", 8, lambda function: function())
    workers: dict[Any, None] = dict.fromkeys(range(3))
    told: list[Any] = []

    class Jobs:
        def put(self, job: Any) -> None:
            told.append(job)
            workers.popitem()

    pool._workers, pool._jobs = workers, Jobs()  # type: ignore[assignment]
    pool._close()
    assert told == [None] * 3


def test_a_thread_that_has_just_taken_a_job_is_not_counted_as_idle() -> None:
    """It has the job in its hands and has not struck itself off the idle list: a second job
    needs a second thread, as the first may wait for it."""
    pool = BlockingPool("test", 8, lambda function: function())
    second, done = threading.Event(), threading.Event()
    answered: list[bool] = []

    def first() -> None:
        answered.append(second.wait(TIMEOUT))
        done.set()

    class Idle(dict[Any, None]):
        def __delitem__(self, key: Any) -> None:
            if pool._queued and not handed_in:
                handed_in.append(True)
                pool._submit(BlockingCall(second.set, pool))
            super().__delitem__(key)

    handed_in: list[bool] = []
    pool._idle = Idle()
    pool._submit(BlockingCall(first, pool))
    assert done.wait(TIMEOUT)
    workers = list(pool._workers)
    pool._close()
    for worker in workers:
        worker.join(TIMEOUT)
    assert answered == [True]


# -- threads that are ended by force, and jobs that nobody waits for ------------------------------


class Late(Exception):
    """Thrown into a thread by PyThreadState_SetAsyncExc, as stopit and debuggers do."""


def throw_into(ident: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Late))


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)


@pytest.mark.usefixtures("quiet")
def test_H21_an_idle_thread_that_was_killed_is_replaced_and_its_job_done(runtime: Runtime) -> None:
    async def job(function: Callable[[], T]) -> T:
        return await BlockingCall(function, runtime.names)

    for n in range(3):
        throw_into(runtime.spawn(job(threading.get_ident)).join(10))
        assert runtime.spawn(job(lambda n=n: n)).join(10) == n  # type: ignore[misc]


@pytest.mark.usefixtures("quiet")
def test_H21_several_threads_killed_with_a_full_queue(runtime: Runtime) -> None:
    gate, idents = threading.Event(), list[int]()

    def block() -> None:
        idents.append(threading.get_ident())
        gate.wait(20)

    async def job(function: Callable[[], T]) -> T:
        return await BlockingCall(function, runtime.names)

    blocked = [runtime.spawn(job(block)) for _ in range(8)]
    queued = [runtime.spawn(job(lambda n=n: n)) for n in range(50)]  # type: ignore[misc]
    while len(idents) < 8:
        time.sleep(0.001)
    for ident in idents:
        throw_into(ident)  # in the job, or as soon as it is over
    gate.set()
    for handle in blocked:
        with contextlib.suppress(Late):
            handle.join(10)
    assert [handle.join(10) for handle in queued] == list(range(50))


@pytest.mark.usefixtures("quiet")
def test_H21_a_thread_that_is_killed_at_any_line_loses_no_job(runtime: Runtime) -> None:
    """See interleave.py: each line of the pool's and the job's part in a worker's life."""

    def attempt_in(module: ModuleType) -> int:
        def attempt(at: Callable[[Callable[[], object]], Interleaving]) -> None:
            pool = BlockingPool("pool", 1, runtime.call_on_executor)
            work = pool._work

            def thrown() -> None:
                raise Late

            pool._work = lambda: at(thrown).run(work)  # type: ignore[method-assign]

            async def job(n: int) -> int:
                return await BlockingCall(lambda: n, pool)

            results = []
            for n in range(3):
                with contextlib.suppress(Late, RuntimeError):  # it may be in the midst of the job
                    results.append(runtime.spawn(job(n)).join(10))
                pool._work = work  # type: ignore[method-assign]
            assert results in ([0, 1, 2], [0, 1], [0, 2], [1, 2])
            runtime.call_on_executor(pool._close)

        return everywhere(module, attempt)

    monkeypatched = thread_pool._IDLE_SECONDS
    thread_pool._IDLE_SECONDS = 0.01
    try:
        assert attempt_in(thread_pool) > 5
        assert attempt_in(job_module) > 5
    finally:
        thread_pool._IDLE_SECONDS = monkeypatched


def test_I9_a_thread_is_killed_and_none_can_be_started(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "excepthook", lambda args: None)

    async def job(function: Callable[[], T]) -> T:
        return await BlockingCall(function, runtime.names)

    ident = runtime.spawn(job(threading.get_ident)).join(10)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        throw_into(ident)
        with pytest.raises(RuntimeError, match="can't start"):
            runtime.spawn(job(int)).join(10)
    assert runtime.spawn(job(int)).join(10) == 0


def test_I11_given_up_look_ups_block_no_other_name(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, real = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **kw: Any) -> Any:
        if host == "never.example" and threading.current_thread().name == "trale-names":
            gate.wait(20)
        return real("localhost", *args, **kw)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> int:
        for _ in range(3 * NAMES_LIMIT):
            with move_on_after(0.001):
                await TcpStream.connect(("never.example", 1))
        with pytest.raises(OSError, match="refused"):
            await TcpStream.connect(("localhost", port))
        return runtime.names.size

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    try:
        assert runtime.spawn(main()).join(20) <= NAMES_LIMIT
    finally:
        gate.set()


def test_R39_a_job_is_given_up_while_it_ends(runtime: Runtime) -> None:
    """See interleave.py: the next job is done, whichever of the two has the thread."""

    def attempt(at: Callable[[Callable[[], object]], Interleaving]) -> None:
        pool = BlockingPool("pool", 1, runtime.call_on_executor, forgives=True)
        work, calls = pool._work, list[BlockingCall[int]]()

        def abandon() -> None:
            pool._abandon(calls[0])

        pool._work = lambda: at(abandon).run(work)  # type: ignore[method-assign]

        async def job(n: int) -> int:
            calls.append(BlockingCall(lambda: n, pool))
            return await calls[-1]

        assert runtime.spawn(job(1)).join(10) == 1
        pool._work = work  # type: ignore[method-assign]
        assert runtime.spawn(job(2)).join(10) == 2
        runtime.call_on_executor(pool._close)

    monkeypatched = thread_pool._IDLE_SECONDS
    thread_pool._IDLE_SECONDS = 0.01
    try:
        assert everywhere(thread_pool, attempt) > 5
    finally:
        thread_pool._IDLE_SECONDS = monkeypatched
