"""spawn_blocking: plain functions in threads, and in the executors of concurrent.futures."""

from __future__ import annotations

import concurrent.futures
import contextvars
import gc
import math
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import nothing
from tests.core.test_thread_pool import Gate, no_threads
from tests.support.net_helpers import TIMEOUT
from trale_py import (
    Executor,
    JoinHandle,
    RuntimeClosed,
    TaskCancelled,
    TaskGroup,
    block_on,
    gather,
    race,
    sleep,
    spawn,
    spawn_blocking,
    timeout,
)
from trale_py.core import current
from trale_py.core.runtime import Runtime, default_runtime
from trale_py.core.thread_pool import BlockingPool
from trale_py.jobs import job as blocking

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def pool() -> Iterator[BlockingPool]:
    """The default runtime's, with one thread at most; every job in it has ended afterwards."""
    pool = default_runtime().jobs
    before = pool.limit
    pool.limit = 1
    yield pool
    pool.limit = before
    spawn_blocking(nothing_to_do).join(TIMEOUT)
    assert pool.queued == 0


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.leave.set()


def nothing_to_do() -> None:
    pass


def started(gate: Gate) -> JoinHandle[None]:
    handle = spawn_blocking(gate.job)
    assert gate.entered.acquire(timeout=TIMEOUT)
    return handle


def published() -> None:
    """Return when the executor has seen to all that came before."""
    block_on(nothing())


# -- the result ------------------------------------------------------------------------------------


def test_the_result_from_a_script_and_in_a_task() -> None:
    assert spawn_blocking(divmod, 7, 2).join(TIMEOUT) == (3, 1)
    assert spawn_blocking(int, "11", base=2).join(TIMEOUT) == 3

    async def task() -> tuple[int, int]:
        return await spawn_blocking(divmod, 7, 2)

    assert spawn(task()).join(TIMEOUT) == (3, 1)


def test_it_runs_in_a_daemon_thread_of_its_own() -> None:
    thread = spawn_blocking(threading.current_thread).join(TIMEOUT)
    assert thread.name == "trale-blocking"
    assert thread.daemon
    assert spawn_blocking(lambda: current.thread.runtime).join(TIMEOUT) is None


def test_the_handle_is_named_for_the_function() -> None:
    handle = spawn_blocking(nothing_to_do)
    assert handle.name == "nothing_to_do"
    handle.join(TIMEOUT)


class Odd(BaseException):
    pass


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(3), GeneratorExit(), Odd()])
def test_the_error_comes_out_with_its_traceback(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        spawn_blocking(fail).join(TIMEOUT)
    assert caught.value is error
    assert caught.traceback[-1].name == "fail"


@pytest.mark.parametrize("by", [None, ThreadPoolExecutor])
def test_G7_stop_iteration_comes_out_as_runtime_error(
    by: Callable[[], ThreadPoolExecutor] | None,
) -> None:
    executor = by and by()
    with pytest.raises(RuntimeError) as caught:
        spawn_blocking(next, iter(()), executor=executor).join(TIMEOUT)
    assert isinstance(caught.value.__cause__, StopIteration)
    if executor is not None:
        executor.shutdown()


def test_the_handle_keeps_neither_value_nor_arguments_beside_the_outcome() -> None:
    class Thing:
        pass

    thing = Thing()
    argument = weakref.ref(thing)
    handle = spawn_blocking(id, thing)
    handle.join(TIMEOUT)
    del thing
    published()
    gc.collect()
    assert argument() is None


def test_an_error_that_was_taken_is_freed_without_the_collector() -> None:
    class Mark(Exception):
        pass

    def fail() -> None:
        raise Mark

    def take() -> weakref.ref[Mark]:
        handle = spawn_blocking(fail)
        try:
            handle.join(TIMEOUT)
        except Mark as error:
            return weakref.ref(error)
        finally:
            del handle
        raise AssertionError

    gc.collect()
    gc.disable()
    try:
        mark = take()
        published()
        assert mark() is None
    finally:
        gc.enable()


# -- what may be called ----------------------------------------------------------------------------


async def coroutine_function() -> None:
    pass


@pytest.mark.parametrize(
    ("fn", "hint"), [(coroutine_function, "use spawn"), (3, "did you pass"), (None, "fn")]
)
def test_what_is_no_function_is_refused_at_the_call(fn: Any, hint: str) -> None:
    with pytest.raises(TypeError, match=hint):
        spawn_blocking(fn)


def test_what_is_no_executor_is_refused_at_the_call() -> None:
    with pytest.raises(TypeError, match=r"executor must be a concurrent\.futures\.Executor"):
        spawn_blocking(nothing_to_do, executor=4)  # type: ignore[arg-type]


# -- inside the function ---------------------------------------------------------------------------


def test_block_on_and_spawn_work_inside() -> None:
    async def later(n: int) -> int:
        await sleep(0.001)
        return n

    def job() -> int:
        return block_on(later(1)) + spawn(later(2)).join(TIMEOUT)

    async def task() -> int:
        return await spawn_blocking(job)

    assert spawn_blocking(job).join(TIMEOUT) == 3
    assert spawn(task()).join(TIMEOUT) == 3


def test_I12_contextvars_are_the_callers_and_stay_with_the_call(pool: BlockingPool) -> None:
    def job() -> str:
        value = variable.get()
        variable.set("left behind")
        return value

    def call(value: str) -> str:
        variable.set(value)
        handle = spawn_blocking(job)
        variable.set("too late")
        return handle.join(TIMEOUT)

    assert contextvars.copy_context().run(call, "one") == "one"
    assert contextvars.copy_context().run(call, "two") == "two"
    assert contextvars.Context().run(spawn_blocking, job).join(TIMEOUT) == "unset"
    assert variable.get() == "unset"


def test_contextvars_of_a_task() -> None:
    async def task() -> str:
        variable.set("the task's")
        with ThreadPoolExecutor(1) as threads:
            first = await spawn_blocking(variable.get)
            return f"{first}, {await spawn_blocking(variable.get, executor=threads)}"

    assert spawn(task()).join(TIMEOUT) == "the task's, the task's"


# -- cancelling ------------------------------------------------------------------------------------


def test_a_job_that_has_started_cannot_be_cancelled(gate: Gate) -> None:
    handle = started(gate)
    assert handle.cancel("now") is False
    published()
    assert not handle.done()
    assert handle.future().cancel() is False
    gate.leave.set()
    assert handle.join(TIMEOUT) is None
    assert handle.cancel() is False
    assert not handle.cancelled()


def test_a_queued_job_is_dropped(pool: BlockingPool, gate: Gate) -> None:
    first = started(gate)
    ran: list[int] = []
    thing = Gate()  # anything that a weak reference can point to
    argument = weakref.ref(thing)
    second = spawn_blocking(lambda thing: ran.append(2), thing)
    del thing
    published()
    assert pool.queued == 1
    assert second.cancel("not needed") is True
    assert pool.queued == 0
    with pytest.raises(TaskCancelled, match="not needed"):
        second.join(TIMEOUT)
    assert second.cancel() is False
    gc.collect()
    assert argument() is None  # though a thread has yet to come to it
    gate.leave.set()
    first.join(TIMEOUT)
    spawn_blocking(ran.append, 3).join(TIMEOUT)
    assert ran == [3]


def test_cancelled_by_the_task_that_spawned_it_before_it_could_start() -> None:
    ran: list[int] = []

    async def task() -> tuple[bool, bool]:
        handle = spawn_blocking(ran.append, 1)
        first, second = handle.cancel("one"), handle.cancel("two")
        with pytest.raises(TaskCancelled, match="one"):
            await handle
        return first, second

    assert spawn(task()).join(TIMEOUT) == (True, True)
    spawn_blocking(nothing_to_do).join(TIMEOUT)
    assert ran == []


def test_I11_a_cancelled_waiter_stops_waiting_and_the_job_goes_on(gate: Gate) -> None:
    handle = started(gate)

    async def wait() -> None:
        await handle

    waiter = spawn(wait())
    published()
    waiter.cancel()
    with pytest.raises(TaskCancelled):
        waiter.join(TIMEOUT)
    assert not handle.done()
    gate.leave.set()
    handle.join(TIMEOUT)


def test_I11_timeout_ends_the_wait_and_the_job_goes_on(gate: Gate) -> None:
    handle = started(gate)
    with pytest.raises(TimeoutError):
        block_on(timeout(0.001, handle))
    assert not handle.done()
    gate.leave.set()
    handle.join(TIMEOUT)


def test_I11_a_task_that_is_cancelled_does_not_wait_for_the_job_and_its_result_is_freed(
    pool: BlockingPool, gate: Gate
) -> None:
    class Opened:
        def __init__(self) -> None:
            freed.append(weakref.ref(self))

    freed: list[weakref.ref[Opened]] = []

    def job() -> Opened:
        gate.job()
        return Opened()

    handle = spawn_blocking(job)
    assert gate.entered.acquire(timeout=TIMEOUT)
    handle._runtime.cancel(handle.id, "as a shutdown does")
    with pytest.raises(TaskCancelled):
        handle.join(TIMEOUT)
    gate.leave.set()
    spawn_blocking(nothing_to_do).join(TIMEOUT)  # in the same thread, so the other has ended
    assert freed[0]() is None
    assert handle.cancelled()


def test_race_and_gather_do_not_wait_for_the_job(gate: Gate) -> None:
    async def fail() -> None:
        raise ValueError("enough")

    jobs = [spawn_blocking(gate.job), spawn_blocking(gate.job)]
    assert block_on(race(sleep(0), jobs[0])) is None
    with pytest.raises(ValueError, match="enough"):
        block_on(gather(fail(), jobs[1]))
    assert not any(job.done() for job in jobs)
    gate.leave.set()
    for job in jobs:
        job.join(TIMEOUT)


def test_in_a_group(gate: Gate) -> None:
    async def wait(n: int) -> int:
        return await spawn_blocking(pow, n, 2)

    with TaskGroup() as group:
        handles = [group.spawn(wait(n)) for n in range(4)]
    assert [handle.result() for handle in handles] == [0, 1, 4, 9]


def test_cancel_from_a_signal_handler(pool: BlockingPool, gate: Gate) -> None:
    started(gate)
    queued = spawn_blocking(nothing_to_do)
    said: list[bool] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: said.append(queued.cancel()))
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert said == [True]
    with pytest.raises(TaskCancelled):
        queued.join(TIMEOUT)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_ctrl_c_in_the_midst_of_cancel_leaves_nobody_waiting(
    when: str, pool: BlockingPool, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it was published or after: the job is done, or dropped and its task told."""
    started(gate)
    queued = spawn_blocking(lambda: "done")
    published()
    publish = Runtime.call_on_executor

    def interrupted(runtime: Runtime, function: Callable[[], object]) -> None:
        if when == "after":
            publish(runtime, function)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Runtime, "call_on_executor", interrupted)
        with pytest.raises(KeyboardInterrupt):
            queued.cancel()
    published()
    gate.leave.set()
    if when == "before":
        assert queued.join(TIMEOUT) == "done"
    else:
        with pytest.raises(TaskCancelled):
            queued.join(TIMEOUT)


# -- the pool --------------------------------------------------------------------------------------


def test_I8_the_pool_has_a_limit_and_shows_its_queue(pool: BlockingPool, gate: Gate) -> None:
    assert Executor.get().blocking_pool is pool
    pool.limit = 3
    handles = [spawn_blocking(gate.job) for _ in range(10)]
    for _ in range(3):
        assert gate.entered.acquire(timeout=TIMEOUT)
    published()
    assert (pool.size, pool.queued) == (3, 7)
    assert repr(pool) == "<BlockingPool 'trale-blocking' size=3 limit=3 queued=7>"
    gate.leave.set()
    for handle in handles:
        handle.join(TIMEOUT)
    assert len(gate.threads) == 3


def test_I8_user_jobs_do_not_keep_names_from_being_looked_up(
    pool: BlockingPool, gate: Gate
) -> None:
    started(gate)
    call = blocking.BlockingCall(lambda: "looked up", default_runtime().names)
    assert spawn(call).join(TIMEOUT) == "looked up"


def test_a_higher_limit_starts_what_is_queued(pool: BlockingPool, gate: Gate) -> None:
    handles = [started(gate), *(spawn_blocking(gate.job) for _ in range(2))]
    published()
    assert (pool.size, pool.queued) == (1, 2)
    pool.limit = 3
    for _ in range(2):
        assert gate.entered.acquire(timeout=TIMEOUT)
    gate.leave.set()
    for handle in handles:
        handle.join(TIMEOUT)


def test_a_lower_limit_ends_threads_that_are_idle_or_when_they_are(runtime: Runtime) -> None:
    gate, pool = Gate(), runtime.jobs
    pool.idle_time = math.inf
    calls = [blocking.BlockingCall(gate.job, pool) for _ in range(4)]
    handles = [runtime.spawn(call) for call in calls]
    for _ in calls:
        assert gate.entered.acquire(timeout=TIMEOUT)
    threads = list(pool._workers)
    pool.limit = 3  # all are busy
    gate.leave.set()
    for handle in handles:
        handle.join(TIMEOUT)
    pool.limit = 1  # those that are left are idle, or about to be
    gone = 0
    while gone < 3:
        gone = sum(not thread.is_alive() for thread in threads)
        threads[gone % 4].join(0.001)
    assert pool.size == 1
    survivor = runtime.spawn(blocking.BlockingCall(threading.current_thread, pool)).join(TIMEOUT)
    assert survivor in threads


@pytest.mark.parametrize(
    ("limit", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_a_limit_that_is_none(pool: BlockingPool, limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="limit"):
        pool.limit = limit
    assert pool.limit == 1


def test_threads_that_are_idle_already_end_after_a_shorter_idle_time(runtime: Runtime) -> None:
    gate, pool = Gate(), runtime.jobs
    pool.idle_time = math.inf
    calls = [blocking.BlockingCall(gate.job, pool) for _ in range(3)]
    handles = [runtime.spawn(call) for call in calls]
    for _ in calls:
        assert gate.entered.acquire(timeout=TIMEOUT)
    threads = list(pool._workers)
    gate.leave.set()
    for handle in handles:
        handle.join(TIMEOUT)
    pool.idle_time = timedelta(milliseconds=1)
    assert pool.idle_time == 0.001
    for thread in threads:
        thread.join(TIMEOUT)
    assert pool.size == 0
    assert runtime.spawn(blocking.BlockingCall(lambda: "works", pool)).join(TIMEOUT) == "works"


def test_an_idle_time_that_is_none(pool: BlockingPool) -> None:
    assert pool.idle_time == 10
    for idle_time, error in ((-1, ValueError), (math.nan, ValueError), ("1", TypeError)):
        with pytest.raises(error, match="idle_time"):
            pool.idle_time = idle_time  # type: ignore[assignment]
    assert pool.idle_time == 10


def test_I9_no_thread_can_be_started(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 3.12 on that is so once the main thread has ended."""
    runtime.ensure_running()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeClosed):
            runtime.spawn(blocking.BlockingCall(nothing_to_do, runtime.jobs)).join(TIMEOUT)
        no_threads(patch)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            runtime.spawn(blocking.BlockingCall(nothing_to_do, runtime.jobs)).join(TIMEOUT)
    assert (runtime.jobs.size, runtime.jobs._idle, runtime.jobs.queued) == (0, {}, 0)


# -- the end ---------------------------------------------------------------------------------------


def test_shutdown_waits_for_no_job_and_drops_the_queued(gate: Gate) -> None:
    ran: list[int] = []
    pool = Executor.get().blocking_pool
    pool.limit = 1
    first = started(gate)
    second = spawn_blocking(ran.append, 2)
    Executor.shutdown(TIMEOUT)
    for handle in (first, second):
        with pytest.raises(TaskCancelled):
            handle.join(TIMEOUT)
    threads = list(pool._workers)
    gate.leave.set()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert ran == []
    assert spawn_blocking(divmod, 7, 2).join(TIMEOUT) == (3, 1)


def test_a_pool_that_is_closed_drops_what_is_queued() -> None:
    """The runtime has given up a task in time for its own end, and nobody cancelled the job."""
    gate = Gate()
    ran: list[int] = []
    pool = BlockingPool("test", 1, lambda function: function())
    pool._submit(blocking.BlockingCall(gate.job, pool))
    assert gate.entered.acquire(timeout=TIMEOUT)
    pool._submit(blocking.BlockingCall(lambda: ran.append(1), pool))
    (thread,) = pool._workers
    pool._close()
    gate.leave.set()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    assert (pool.size, pool._idle, pool.queued, ran) == (0, {}, 0, [])


def test_while_the_runtime_is_shut_down_it_is_refused() -> None:
    submitted: list[object] = []

    class Refusing(ThreadPoolExecutor):
        def submit(self, *args: Any, **kw: Any) -> Any:
            submitted.append(args)

    runtime = default_runtime()
    runtime.closing = True
    try:
        for executor in (None, Refusing()):
            with pytest.raises(RuntimeClosed):
                spawn_blocking(nothing_to_do, executor=executor)
    finally:
        runtime.closing = False
    assert submitted == []


def test_I10_the_exit_waits_for_no_job(run_script: Callable[..., Any]) -> None:
    result = run_script(
        """
        import threading
        from trale_py import spawn_blocking

        entered = threading.Event()

        def job():
            entered.set()
            threading.Event().wait()

        handle = spawn_blocking(job)
        entered.wait()
        print("bye")
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "bye\n", "")


def test_ctrl_c_in_a_join_leaves_the_job(run_script: Callable[..., Any]) -> None:
    result = run_script(
        """
        import os, signal, threading
        from trale_py import spawn_blocking

        go_on = threading.Event()

        def job():
            os.kill(os.getpid(), signal.SIGINT)
            assert go_on.wait(20)
            return "done"

        handle = spawn_blocking(job)
        try:
            handle.join()
        except KeyboardInterrupt:
            print("interrupted")
        go_on.set()
        print(handle.join())
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "interrupted\ndone\n", "")


def test_H9_a_fork_in_a_job(run_script: Callable[..., Any]) -> None:
    """The child ends when the function does, and its status says how."""
    result = run_script(
        """
        import os, warnings
        from trale_py import block_on, spawn_blocking, yield_now

        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of any such fork

        async def give_way():
            await yield_now()
            return "a runtime of its own"

        def job(end):
            child = os.fork()
            if child == 0:
                print(block_on(give_way()), flush=True)
                return end()
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        print(spawn_blocking(job, lambda: None).join())
        print(spawn_blocking(job, lambda: exit(7)).join())
        """
    )
    own = "a runtime of its own\n"
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{own}0\n{own}7\n"


# -- executors of concurrent.futures ---------------------------------------------------------------


def test_a_thread_pool_executor() -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="theirs") as threads:
        handle = spawn_blocking(threading.current_thread, executor=threads)
        assert handle.join(TIMEOUT).name.startswith("theirs")
        assert spawn_blocking(int, "11", base=2, executor=threads).join(TIMEOUT) == 3
        with pytest.raises(ZeroDivisionError):
            spawn_blocking(divmod, 1, 0, executor=threads).join(TIMEOUT)


def test_a_process_pool_executor(run_script: Callable[..., Any]) -> None:
    result = run_script(
        """
        import multiprocessing, os, sys
        from concurrent.futures import ProcessPoolExecutor
        from trale_py import spawn, spawn_blocking

        async def task(processes):
            return await spawn_blocking(os.getpid, executor=processes)

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as processes:
                print(spawn(task(processes)).join() not in (0, os.getpid()))
                for call in [(divmod, 1, 0), (lambda: 1,)]:
                    try:
                        spawn_blocking(*call, executor=processes).join()
                    except Exception as error:
                        print(error)
        """
    )
    assert (result.returncode, result.stderr) == (0, "")
    said = result.stdout.splitlines()
    assert said[:2] == ["True", "integer division or modulo by zero"]
    assert "pickle" in said[2]


def test_an_executor_that_refuses_says_so_at_the_call() -> None:
    threads = ThreadPoolExecutor(1)
    threads.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        spawn_blocking(nothing_to_do, executor=threads)


def test_cancelling_in_an_executor(gate: Gate) -> None:
    ran: list[int] = []
    with ThreadPoolExecutor(1) as threads:
        first = spawn_blocking(gate.job, executor=threads)
        second = spawn_blocking(ran.append, 2, executor=threads)
        assert gate.entered.acquire(timeout=TIMEOUT)
        assert first.cancel() is False
        assert second.cancel("why not") is True
        with pytest.raises(TaskCancelled, match="why not"):
            second.join(TIMEOUT)
        assert not first.done()
        gate.leave.set()
        first.join(TIMEOUT)
    assert ran == []


def test_a_cancelled_task_takes_its_call_out_of_the_executor(gate: Gate) -> None:
    """Both before its first step and when it waits."""
    ran: list[int] = []

    async def at_once() -> None:
        handle = spawn_blocking(ran.append, 1, executor=threads)
        handle._runtime.cancel(handle.id, None)

    with ThreadPoolExecutor(1) as threads:
        first = spawn_blocking(gate.job, executor=threads)
        assert gate.entered.acquire(timeout=TIMEOUT)
        block_on(at_once())
        waiting = spawn_blocking(ran.append, 2, executor=threads)
        published()
        waiting._runtime.cancel(waiting.id, None)
        with pytest.raises(TaskCancelled):
            waiting.join(TIMEOUT)
        gate.leave.set()
        first.join(TIMEOUT)
    assert ran == []


def test_an_executor_that_drops_its_calls_cancels_their_tasks(gate: Gate) -> None:
    threads = ThreadPoolExecutor(1)
    first = spawn_blocking(gate.job, executor=threads)
    assert gate.entered.acquire(timeout=TIMEOUT)
    second = spawn_blocking(nothing_to_do, executor=threads)
    published()
    threads.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(concurrent.futures.CancelledError):
        second.join(TIMEOUT)
    assert second.cancelled()
    gate.leave.set()
    first.join(TIMEOUT)
    threads.shutdown()


def test_a_spawn_that_fails_takes_its_call_back(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeClosed("just now")

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(gate.job)
        assert gate.entered.acquire(timeout=TIMEOUT)
        with monkeypatch.context() as patch:
            patch.setattr(Runtime, "spawn", refuse)
            with pytest.raises(RuntimeClosed):
                spawn_blocking(ran.append, 1, executor=threads)
        gate.leave.set()
        first.result(TIMEOUT)
    assert ran == []


@pytest.mark.parametrize(
    "form", ["spawn_blocking(int)", "spawn(TcpStream.connect(('localhost', 1)))"]
)
def test_H16_a_call_on_the_last_line_of_a_script(form: str, run_script: Callable[..., Any]) -> None:
    """From 3.12 on the thread that it needs may not start any more."""
    result = run_script(
        f"""
        from trale_py import *
        Executor.get()
        {form}
        """
    )
    assert result.returncode == 0
    assert "exiting" not in result.stderr
    assert "RuntimeClosed" not in result.stderr
