"""Blocking calls, off the executor: ``spawn_blocking``.

Some calls have no non-blocking form; reading a file is one, looking up a host name another.
They run in a pool of ours (see ``core/thread_pool.py``), or in any of ``concurrent.futures``, and
their end wakes the task that waits for them. A call that has begun cannot be interrupted:
Python has no means for it. So what can be cancelled is a call that has not begun, and the
waiting.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import inspect
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from ..base.errors import Cancelled, is_a
from ..core import current
from ..core.coroutine import name_of
from ..core.future import PENDING, Future, Pending, Ready
from ..core.join import JoinHandle
from ..core.thread_pool import BlockingPool
from ..core.waker import Context, Waker

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")


class Pool(Protocol):
    """What ``spawn_blocking`` can send a call to: any ``concurrent.futures.Executor``."""

    def submit(
        self, fn: Callable[..., S], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[S]: ...


class Limiter(Protocol):
    """What bounds how many calls run at once: a ``CapacityLimiter``."""

    def acquire_on_behalf_of(self, borrower: Any) -> Coroutine[Any, Any, None]: ...
    def release_on_behalf_of(self, borrower: Any) -> None: ...


@overload
def spawn_blocking(
    fn: Callable[..., T], /, *args: Any, executor: Pool, **kw: Any
) -> JoinHandle[T]: ...
@overload
def spawn_blocking(
    fn: Callable[..., T], /, *args: Any, limiter: Limiter, **kw: Any
) -> JoinHandle[T]: ...
@overload
def spawn_blocking(fn: Callable[P, T], /, *args: P.args, **kw: P.kwargs) -> JoinHandle[T]: ...
def spawn_blocking(  # type: ignore[misc]  # a ParamSpec has no keyword of ours
    fn: Callable[..., Any],
    /,
    *args: Any,
    executor: Pool | None = None,
    limiter: Limiter | None = None,
    **kw: Any,
) -> JoinHandle[Any]:
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

    ``limiter``, a ``CapacityLimiter``, is another bound: the call waits for one of its tokens, and
    has that until it has ended. Not with ``executor``, which has its own.

    A call that has started cannot be interrupted: ``handle.cancel()`` returns False, and the
    call goes on. If it calls ``check_cancelled`` now and then, that raises Cancelled then, and
    ``cancel()`` returns True. One that is still queued is dropped, and that returns True.
    ``timeout``, ``race`` and the like only stop waiting. A shutdown does not wait for a call that
    has started: its task ends at once, and what the call returns or raises is dropped. Nor does
    the interpreter's exit wait for one in the runtime's own threads.

    StopIteration comes out as RuntimeError, with it as the cause. RuntimeClosed while the
    runtime is being shut down, TypeError for what cannot be called. ::

        text = await spawn_blocking(Path("notes").read_text)
        with ProcessPoolExecutor() as processes:
            print(spawn_blocking(is_prime, 2**61 - 1, executor=processes).join())
    """
    _check(fn, executor, limiter)
    runtime = current.runtime()
    runtime.ensure_running()
    job: BlockingCall[Any] | SubmittedCall[Any]
    if executor is None:
        job = BlockingCall(partial(contextvars.copy_context().run, fn, *args, **kw), runtime.jobs)
    elif isinstance(executor, concurrent.futures.ThreadPoolExecutor):
        context = contextvars.copy_context()
        job = SubmittedCall(executor.submit(context.run, fn, *args, **kw))
    else:
        job = SubmittedCall(executor.submit(fn, *args, **kw))
    try:
        source = job if limiter is None else _limited(limiter, cast("BlockingCall[Any]", job))
        handle: JoinHandle[Any] = runtime.spawn(source, name=name_of(fn))
    except BaseException:
        job.give_up()
        raise
    handle._job = job
    if executor is not None:
        # The task may be cancelled before its first step, and then nothing of it runs.
        handle.add_done_callback(lambda _: job.give_up())
    return handle


def _check(fn: object, executor: Pool | None, limiter: Limiter | None) -> None:
    """TypeError for what spawn_blocking() cannot take."""
    if inspect.iscoroutinefunction(fn):
        raise TypeError(
            f"fn must be a plain function, not {fn!r}: use spawn() for a coroutine function"
        )
    if not callable(fn):
        raise TypeError(f"fn must be a function, not {fn!r}: did you pass fn() instead of fn?")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor must be a concurrent.futures.Executor, not {executor!r}")
    if limiter is not None and executor is not None:
        raise TypeError("limiter bounds the calls in the runtime's own threads, not in an executor")
    if limiter is not None and not callable(getattr(limiter, "acquire_on_behalf_of", None)):
        raise TypeError(f"limiter must be a CapacityLimiter, not {limiter!r}")


async def _limited(limiter: Limiter, job: BlockingCall[T]) -> T:
    """It has a token until its thread is done with it, also if its task no longer waits."""
    await limiter.acquire_on_behalf_of(job)
    job.at_end = partial(limiter.release_on_behalf_of, job)
    try:
        return await job
    finally:
        if job.give_up() and not job.done():  # it never began; fail() has returned the token
            limiter.release_on_behalf_of(job)


def check_cancelled() -> None:
    """In a function that ``spawn_blocking`` calls: raise Cancelled if its task was cancelled.

    By ``cancel()`` of its handle, or by a shutdown; a scope or a timeout around the await only
    ends the wait. Let it go on: then the handle is ``cancelled()``. RuntimeError elsewhere, and in
    the threads of another executor. ::

        def compute(rows):
            for row in rows:
                check_cancelled()
                ...

    After trio's `from_thread.check_cancelled
    <https://trio.readthedocs.io/en/stable/reference-core.html>`_.
    """
    job: BlockingCall[Any] | None = getattr(_here, "job", None)
    if job is None:
        raise RuntimeError("call check_cancelled() in a function that spawn_blocking() calls")
    # R75: cancel() may come at this moment. It leaves its request first and reads ``listens``
    # second, we do the reverse, so the later one sees the other. Else cancel() could return False,
    # and the call go on without having heard of it.
    job.listens = True
    if job.asked:
        raise Cancelled._with_reason(job.asked[None])


_here = threading.local()  # .job: what this thread of the pool is at
_GIVEN_UP = object()


class BlockingCall(Future[T], Generic[T]):
    """``function()`` in a thread of a pool. If the await is cancelled, its result is dropped.

    ``_fate`` gets one entry, and dict.setdefault() is one C call: of threads that would start it
    and one that would give it up, all learn which was first.
    """

    def __init__(self, function: Callable[[], T], pool: BlockingPool) -> None:
        self._function: Callable[[], T] | None = function
        self._pool = pool
        self._fate: dict[None, object] = {}  # _GIVEN_UP, or the call of run() that has begun
        self._waker: Waker | None = None
        self._ended = False
        self._unwanted = False
        self._value: T | None = None
        self.error: BaseException | None = None
        self.asked: dict[None, object] = {}  # to end, with the reason; setdefault() is one C call
        self._obeyed = False  # it has ended by that
        self.listens = False  # it has called check_cancelled()
        self.at_end: Callable[[], object] | None = None

    def poll(self, cx: Context) -> Ready[T] | Pending:
        submitted = self._waker is not None
        self._waker = cx.waker
        if not submitted:
            self._pool._submit(self)
        if not self._ended:
            return PENDING
        value, self._value = self._value, None  # a handle may keep us, but not these
        error, self.error = self.error, None
        if error is None:
            return Ready(cast(T, value))
        if self.asked and is_a(error, Cancelled):
            task = cx._runtime.executor._polling
            assert task is not None
            self._obeyed = True
            task._cancel(self.asked[None])
            return PENDING
        try:
            raise error
        finally:
            del self, error  # or the error's traceback would lead back to the error

    def _delivered(self) -> bool:
        return self._ended and not self._obeyed and not (self.asked and is_a(self.error, Cancelled))

    def __repr__(self) -> str:
        state = "ended" if self._ended else "running" if self._fate else "queued"
        return f"<call in a thread of {self._pool!r}, {state}>"

    def drop(self) -> None:
        self._unwanted = True
        if not self.give_up():
            self.asked.setdefault(None, "its task no longer waits for this call")
            self._pool._abandon(self)
        self._value = self.error = None

    def give_up(self, reason: object = None) -> bool:
        """Never start. False: it has started. Any thread, any number of times."""
        if self._fate.setdefault(None, _GIVEN_UP) is not _GIVEN_UP:
            return False
        self._pool._forget(self)
        self._function = None  # and what that refers to: it may be long until its turn comes
        return True

    def cancel(self, reason: object = None) -> bool:
        """Never start, or end at the next check_cancelled(). False: it does not look."""
        if self.give_up():
            return True
        self.asked.setdefault(None, reason)
        return self.listens

    def fail(self, error: BaseException) -> None:
        if self.give_up():
            self.error = error
            self._finish()

    def run(self) -> None:
        """A worker's part: call, leave the result, and only then wake."""
        me = object()
        try:
            if self._fate.setdefault(None, me) is not me:
                return
            self._pool._forget(self)
            function, self._function = self._function, None
            assert function is not None
            _here.job = self
            try:
                self._value = function()
            finally:
                _here.job = None
        except BaseException as error:
            if self._fate.get(None) is not me:  # it was thrown in, and we have not begun
                raise
            self.error = error
        self._finish()

    def done(self) -> bool:
        return self._ended

    def cut_off(self) -> None:
        if self._fate.get(None, _GIVEN_UP) is _GIVEN_UP:
            return
        if not self._ended and self._value is None and self.error is None:
            self.error = RuntimeError("the thread of this call was terminated")
        self._finish()  # again perhaps: it may have been cut off before the wake

    def _finish(self) -> None:
        self._ended = True
        if self._unwanted:
            self._value = self.error = None
        at_end, self.at_end = self.at_end, None
        if at_end is not None:
            at_end()
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
            task = cx._runtime.executor._polling
            assert task is not None
            task._cancel(self._reason)
            return PENDING
        error = self._future.exception()  # result() asks whether it is true, and it may be false
        try:
            if error is not None:
                raise error
            return Ready(self._future.result())
        finally:
            del self, error  # see BlockingCall.poll

    def _delivered(self) -> bool:
        return self._future.done() and not self._future.cancelled()

    def __repr__(self) -> str:
        return f"<call in an executor, {self._future!r}>"

    def give_up(self, reason: object = None) -> bool:
        """Never start. False: it has started. Any thread, any number of times."""
        if self._reason is None:
            self._reason = reason
        return self._future.cancel()

    def cancel(self, reason: object = None) -> bool:
        return self.give_up(reason)
