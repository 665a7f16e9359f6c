"""Blocking calls, off the executor: ``spawn_blocking``, and small pools of threads.

Some calls have no non-blocking form; reading a file is one, looking up a host name another.
They run here, or in any pool of ``concurrent.futures``, and their end wakes the task that
waits for them. A call that has begun cannot be interrupted: Python has no means for it. So
what can be cancelled is a call that has not begun, and the waiting.

The threads are daemons of our own: those of ``concurrent.futures`` are joined at the
interpreter's exit, before the program's own threads have ended, and a call that never
returns would keep the process from ending.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import inspect
import os
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, Protocol, TypeVar, cast

from . import current, lifecycle
from .coroutine import name_of
from .errors import RuntimeClosed
from .future import PENDING, Future, Pending, Ready
from .join import JoinHandle
from .seam import Context, Waker

T = TypeVar("T")
S = TypeVar("S")

NAMES_LIMIT = 8  # name servers are what is waited for, not processors
JOBS_LIMIT = 40  # trio's figure; enough to wait for many disks, few enough to share one lock
_IDLE_SECONDS = 10.0


class Pool(Protocol):
    """What ``spawn_blocking`` can send a call to: any ``concurrent.futures.Executor``."""

    def submit(
        self, fn: Callable[..., S], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[S]: ...


def spawn_blocking(
    fn: Callable[..., T], *args: Any, executor: Pool | None = None, **kw: Any
) -> JoinHandle[T]:
    """Have ``fn(*args, **kw)`` called in another thread; the handle is that of any task.

    From any thread, inside a task or not. The thread is one of the runtime's own, of which
    there are at most 40 (``Executor.get().blocking_pool`` shows and sets this); what comes
    when all are busy is queued, in order. In ``fn``, contextvars have the caller's values, and
    ``block_on`` and ``spawn`` work as in any thread.

    ``executor`` may be any ``concurrent.futures.Executor``: a ProcessPoolExecutor for
    computations, or Dask's, where one machine is not enough. It gets the call here and now,
    and what its ``submit`` raises comes out of this. Contextvars go with the call to a
    ThreadPoolExecutor only. Whether a call can be cancelled is for its executor to say: Dask
    drops the result of one that runs, and says yes.

    A call that has started cannot be interrupted: ``handle.cancel()`` returns False, and the
    call goes on. One that is still queued is dropped, and that returns True. Where a task is
    cancelled all the same (by ``timeout``, ``race``, a shutdown), it ends at once, and what
    the call will return or raise is dropped. The interpreter's exit waits for no call in the
    runtime's own threads.

    StopIteration comes out as RuntimeError, with it as the cause. RuntimeClosed while the
    runtime is being shut down, TypeError for what cannot be called. ::

        text = await spawn_blocking(Path("notes").read_text)
        with ProcessPoolExecutor() as processes:
            print(spawn_blocking(is_prime, 2**61 - 1, executor=processes).join())
    """
    if inspect.iscoroutinefunction(fn):
        raise TypeError(f"fn has to be a plain function, not {fn!r}: that is one to spawn()")
    if not callable(fn):
        raise TypeError(f"fn has to be a function, not {fn!r}: is it a call of one already?")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor has to be a concurrent.futures.Executor, not {executor!r}")
    runtime = current.runtime()
    runtime.ensure_running()
    job: BlockingCall[T] | SubmittedCall[T]
    if executor is None:
        job = BlockingCall(partial(contextvars.copy_context().run, fn, *args, **kw), runtime.jobs)
    elif isinstance(executor, concurrent.futures.ThreadPoolExecutor):
        context = contextvars.copy_context()
        job = SubmittedCall(executor.submit(context.run, fn, *args, **kw))
    else:
        job = SubmittedCall(executor.submit(fn, *args, **kw))
    try:
        handle = runtime.spawn(job, name=name_of(fn))
    except BaseException:
        job.give_up()
        raise
    handle.job = job
    if executor is not None:
        # The task may be cancelled before its first step, and then nothing of it runs.
        handle.add_done_callback(lambda _: job.give_up())
    return handle


class BlockingPool:
    """A few threads, started as they are needed; one that is idle ends after a while.

    Each is in ``_workers`` while it will look at the queue again, and in ``_idle`` while it waits
    for it. They strike themselves off, and ``_add_threads`` on the executor's thread enters them.
    What is queued is in ``_queued`` too, which knows how much of it is still wanted.
    """

    def __init__(
        self, name: str, limit: int, call_on_executor: Callable[[Callable[[], object]], object]
    ) -> None:
        self._name = name
        self._limit = limit
        self._call_on_executor = call_on_executor
        self._closed = False
        # None: nothing to do, look at limit and _closed.
        self._jobs: SimpleQueue[BlockingCall[object] | None] = SimpleQueue()
        self._queued: dict[BlockingCall[object], None] = {}
        self._workers: dict[threading.Thread, None] = {}
        self._idle: dict[threading.Thread, None] = {}

    @property
    def threads(self) -> int:
        """How many threads there are."""
        return len(self._workers)

    @property
    def idle(self) -> int:
        """How many of the threads have nothing to do."""
        return len(self._idle)

    @property
    def queued(self) -> int:
        """How many calls have not started yet."""
        return len(self._queued)

    @property
    def limit(self) -> int:
        """How many threads there may be. To be set at any time, from any thread.

        If it is lowered, a thread that is busy ends after its call.
        """
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"limit has to be an int, not {limit!r}")
        if limit < 1:
            raise ValueError(f"limit has to be at least 1, not {limit}")
        self._limit = limit
        self._call_on_executor(self._limit_changed)

    def __repr__(self) -> str:
        return (
            f"<BlockingPool {self._name!r} threads={self.threads} idle={self.idle} "
            f"limit={self.limit} queued={self.queued}>"
        )

    # -- executor's thread ---------------------------------------------------------------------

    def submit(self, job: BlockingCall[object]) -> None:
        """RuntimeError if there is no thread and none can be started."""
        self._queued[job] = None
        self._jobs.put(job)
        try:
            self._add_threads()
        except RuntimeError as error:
            if self._workers:
                return  # they will come to it
            if not job.give_up():
                return  # one that was about to leave has come to it
            if "shutdown" in str(error):  # from 3.12 on, once the main thread has ended
                raise RuntimeClosed("the interpreter is exiting") from error
            raise

    def _add_threads(self) -> None:
        """As many as are wanted and allowed. One that was just started counts as idle."""
        for _ in range(min(len(self._queued) - len(self._idle), self._limit - len(self._workers))):
            worker = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._workers[worker] = self._idle[worker] = None
            try:
                worker.start()
            except BaseException:
                del self._workers[worker], self._idle[worker]
                raise

    def _limit_changed(self) -> None:
        with contextlib.suppress(RuntimeError):  # no more threads to be had: then it is these
            self._add_threads()
        for _ in range(len(self._workers) - self._limit):
            self._jobs.put(None)

    def close(self) -> None:
        """Have the threads end when they are done with what they do; the rest is dropped."""
        self._closed = True
        for job in list(self._queued):
            job.give_up()
        for _ in list(self._workers):  # one that is idle may leave meanwhile
            self._jobs.put(None)

    # -- any thread ----------------------------------------------------------------------------

    def forget(self, job: BlockingCall[object]) -> None:
        """It is queued no more. It stays in ``_jobs``, and does nothing when its turn comes."""
        self._queued.pop(job, None)

    def _work(self) -> None:
        me = threading.current_thread()
        process = os.getpid()
        while True:
            if (self._closed or len(self._workers) > self._limit) and self._leave(me):
                return
            self._idle[me] = None
            try:
                job = self._jobs.get(timeout=_IDLE_SECONDS)
            except Empty:
                del self._idle[me]
                if self._leave(me):
                    return
                continue
            # Off the list of the idle first, off the queue second. Between the two there is one
            # thread too few on the list. The other way round there would be one too many: a
            # job that comes just then would be left to this thread, which may not come back.
            del self._idle[me]
            if job is not None:
                self.forget(job)
                job.run()
                if os.getpid() != process:
                    lifecycle.end_child(job.error)
            del job  # its result is not ours to keep

    def _leave(self, me: threading.Thread) -> bool:
        """End this thread, unless it turns out to be needed.

        R17: a job may come while the last thread leaves. We strike ourselves off first, and look
        at the queue second; submit() enters the job first, and counts the threads second. Whoever
        is second sees the other.
        """
        del self._workers[me]
        if self._closed or len(self._workers) >= self._limit or not self._queued:
            return True
        self._workers[me] = None
        return False


class BlockingCall(Future[T], Generic[T]):
    """``function()`` in a thread of a pool. If the await is cancelled, its result is dropped.

    ``_fate`` gets one entry, and dict.setdefault() is one C call: of a thread that would start
    it and one that would give it up, both learn who came first.
    """

    def __init__(self, function: Callable[[], T], pool: BlockingPool) -> None:
        self._function: Callable[[], T] | None = function
        self._pool = pool
        self._fate: dict[None, str] = {}
        self._waker: Waker | None = None
        self._ended = False
        self._unwanted = False
        self._value: T | None = None
        self.error: BaseException | None = None

    def poll(self, cx: Context) -> Ready[T] | Pending:
        submitted = self._waker is not None
        self._waker = cx.waker
        if not submitted:
            self._pool.submit(cast("BlockingCall[object]", self))
        if not self._ended:
            return PENDING
        value, self._value = self._value, None  # a handle may keep us, but not these
        error, self.error = self.error, None
        if error is None:
            return Ready(cast(T, value))
        try:
            raise error
        finally:
            del self, error  # or the error's traceback would lead back to the error

    def drop(self) -> None:
        self.give_up()
        self._unwanted = True
        self._value = self.error = None

    def give_up(self, reason: object = None) -> bool:
        """Never start. False: it has started. Any thread, any number of times."""
        if self._fate.setdefault(None, "given up") != "given up":
            return False
        self._pool.forget(cast("BlockingCall[object]", self))
        self._function = None  # and what that refers to: it may be long until its turn comes
        return True

    def run(self) -> None:
        """A worker's part: call, leave the result, and only then wake."""
        function, self._function = self._function, None
        if self._fate.setdefault(None, "started") != "started" or function is None:
            return
        try:
            self._value = function()
        except BaseException as error:
            self.error = error
        self._ended = True
        if self._unwanted:
            self._value = self.error = None
        if self._waker is not None:
            self._waker.wake()


class SubmittedCall(Future[T], Generic[T]):
    """What an executor of ``concurrent.futures`` was given, and what becomes of it."""

    def __init__(self, future: concurrent.futures.Future[T]) -> None:
        self._future = future
        self._waker: Waker | None = None
        self._reason: object = None

    def poll(self, cx: Context) -> Ready[T] | Pending:
        first = self._waker is None
        self._waker = cx.waker
        if first:
            self._future.add_done_callback(lambda _: cx.waker.wake())
        if not self._future.done():
            return PENDING
        if self._future.cancelled():
            # By give_up(), or by the executor's shutdown. So this task is cancelled too.
            task = cx.runtime.executor.polling
            assert task is not None
            task.cancel(self._reason)
            return PENDING
        try:
            return Ready(self._future.result())
        finally:
            del self  # see BlockingCall.poll

    def give_up(self, reason: object = None) -> bool:
        """Never start. False: it has started. Any thread, any number of times."""
        if self._reason is None:
            self._reason = reason
        return self._future.cancel()
