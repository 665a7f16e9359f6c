"""JoinHandle: how the rest of the program waits for a task, from threads and from tasks."""

from __future__ import annotations

import concurrent.futures
import contextvars
from collections.abc import Callable, Generator
from functools import partial
from typing import Generic, Protocol, TypeVar

from ..base.durations import Duration, to_timeout
from ..base.errors import InvalidStateError, RuntimeClosed
from ..base.log import report
from . import current
from .contract import RuntimeLike
from .engine import accelerated
from .future import Pending
from .latch import LatchWait
from .outcome import Outcome

T = TypeVar("T")


class Job(Protocol):
    """What a handle of ``spawn_blocking`` stands for."""

    def give_up(self, reason: object = None) -> bool:
        """Never start. True: it has not started, and will not. Any thread, any number of times."""

    def cancel(self, reason: object = None) -> bool:
        """The same, or end early. True: it will. Any thread, any number of times."""


@accelerated
class JoinHandle(Generic[T]):
    """A task's result, to come. Returned by ``spawn``; never made by hand.

    ``handle.join()`` waits in a thread, ``await handle`` in a task; both any number of
    times, by any number of waiters, and after the end too. Dropping the handle detaches
    the task: it runs on. If it then fails, or its result is never retrieved, the error is logged.
    """

    __slots__ = ("__weakref__", "_job", "_outcome", "_runtime")

    def __init__(self, runtime: RuntimeLike, outcome: Outcome[T]) -> None:
        self._runtime = runtime
        self._outcome = outcome
        self._job: Job | None = None  # of spawn_blocking: what the task waits for

    @property
    def id(self) -> int:
        """The task's id, never used for another task of this runtime."""
        return self._outcome.id

    @property
    def name(self) -> str:
        """The task's name: as given to ``spawn``, or the coroutine's."""
        return self._outcome.name

    def cancel(self, reason: object = None) -> bool:
        """Cancel the task: its awaits raise Cancelled until it ends. False: it had ended.

        From any thread, a signal handler or a ``__del__``; never waits. A task that has not
        begun never will. If the task ends by the cancellation, join and await raise
        TaskCancelled with ``reason``; if it swallows it and returns, they return its value.

        Of ``spawn_blocking``: a job that has started cannot be interrupted, and goes on: False, or
        True if it has called ``check_cancelled`` before, which will raise Cancelled there.
        """
        if self._job is None:
            return self._runtime.cancel(self.id, reason)
        if self.done():
            return False
        # Published before it is asked: a Ctrl-C between the two must not leave a job that was
        # dropped, and a task that waits for it. Both ask the same question, and get one answer.
        self._runtime.call_on_executor(partial(self._cancel_job, reason))
        return self._job.cancel(reason)

    def _cancel_job(self, reason: object) -> None:
        """Executor's thread: if the job will not start, its task ends by the cancellation."""
        if self._job is not None and self._job.give_up(reason):
            self._runtime.cancel(self.id, reason)

    def cancelled(self) -> bool:
        """Whether the task ended by being cancelled."""
        return self._outcome.cancelled

    def done(self) -> bool:
        """Whether the task has ended, in whatever way."""
        return self._outcome.opened

    def join(self, timeout: Duration | None = None) -> T:
        """Wait in this thread for the task's end; return its value or raise its error.

        ``timeout`` in seconds (None: for ever); when it is over, TimeoutError, and the task
        runs on. So it does when Ctrl-C ends the wait, by KeyboardInterrupt. On the executor's
        thread this could not end, as that thread alone ends tasks: WouldDeadlock at once.
        RuntimeClosed if the runtime is gone. ::

            assert spawn(add(1, 2)).join() == 3
        """
        seconds = -1 if timeout is None else to_timeout(timeout, "timeout")
        if current.thread.runtime is not None or not self.done():
            current.refuse_to_block(
                "join() on the executor's thread would deadlock; in a task, await the handle, "
                "or give handle.future() to code that wants a concurrent.futures.Future",
                self._runtime,
            )
        self._check_reachable()
        if not self._outcome.wait_blocking(seconds):
            raise TimeoutError(f"task {self.name!r} has not ended within {timeout} seconds")
        try:
            return self.result()
        finally:
            del self  # see Outcome.unwrap

    def __await__(self) -> Generator[Pending, None, T]:
        """Wait in a task. Cancelling the wait leaves the awaited task running.

        A task that awaits its own handle gets RuntimeError.
        """
        self._check_awaitable()
        yield from LatchWait(self._outcome).__await__()
        try:
            return self.result()
        finally:
            del self

    def result(self) -> T:
        """The value, or the task's error raised. Never waits: InvalidStateError before the end."""
        self._check_done()
        try:
            return self._outcome.unwrap()
        finally:
            del self

    def exception(self) -> BaseException | None:
        """The task's error, or None. Never waits: InvalidStateError before the end."""
        self._check_done()
        return self._outcome.claim()

    def future(self) -> concurrent.futures.Future[T]:
        """The same as a ``concurrent.futures.Future``, for ``wait()`` and its friends.

        Its ``cancel()`` cancels the task. The task's error counts as taken.
        """
        future: concurrent.futures.Future[T] = _TaskFuture(self)
        self.add_done_callback(partial(_settle, future))
        return future

    def _check_awaitable(self) -> None:
        """RuntimeError if waiting for it in this task could never end."""
        if self._is_own():
            raise RuntimeError(f"task {self.name!r} awaits its own handle, which would never end")
        self._check_reachable()

    def _is_own(self) -> bool:
        """Whether it is the handle of the task that asks."""
        if current.thread.runtime is not self._runtime:
            return False
        task = self._runtime.executor._polling
        return task is not None and task.id == self.id

    def _check_reachable(self) -> None:
        """RuntimeClosed if it has not ended, and never will."""
        if self._runtime.gone and not self.done():
            raise RuntimeClosed(f"task {self.name!r} will never end: {self._runtime.gone}")

    def _check_done(self) -> None:
        """InvalidStateError before the end."""
        if not self.done():
            self._check_reachable()
            raise InvalidStateError(f"task {self.name!r} has not ended yet")

    def add_done_callback(self, fn: Callable[[JoinHandle[T]], object]) -> None:
        """Have ``fn(handle)`` called at the task's end, on the executor's thread.

        It runs in a copy of the task's context. If the task has ended, it is called here and
        now, in a copy of the caller's. It must not block; what it raises is logged. Callbacks are
        called in the order they were added. RuntimeClosed in a child that was forked before the
        task's end.
        """
        self._check_reachable()
        task = self._runtime.task_of(self.id)
        call = partial(self._call_back, fn, None if task is None else task._context)
        if not self._outcome.call_when_open(call, call):
            call()

    def _call_back(
        self, fn: Callable[[JoinHandle[T]], object], context: contextvars.Context | None
    ) -> None:
        """Call a done-callback. What it raises is logged."""
        try:
            copy = contextvars.copy_context() if context is None else context.copy()
            copy.run(fn, self)
        except BaseException as error:
            report("a done-callback of task %d (%s) failed", self.id, self.name, error=error)

    def __del__(self) -> None:
        try:
            outcome = self._outcome
        except AttributeError:  # it was cut off in __init__
            return
        outcome.abandoned = True
        if outcome.error is not None and outcome.abandon():
            # Not logged here: a __del__ may run while its own thread is inside of logging.
            self._runtime.publish(outcome.report_unclaimed)

    def __repr__(self) -> str:
        error = self._outcome.error
        how = "running" if not self.done() else "failed" if error is not None else "done"
        how = "cancelled" if self.cancelled() else how
        return f"<JoinHandle of task {self.id} {self.name!r} {how}>"


class _TaskFuture(concurrent.futures.Future[T]):
    """A future whose cancel() cancels the task; it is cancelled when the task has ended so."""

    def __init__(self, handle: JoinHandle[T]) -> None:
        super().__init__()
        self._handle = handle

    def cancel(self) -> bool:
        return self._handle.cancel()

    def result(self, timeout: float | None = None) -> T:
        # The base class asks whether the error is true, and a user's may be false.
        error = self.exception(timeout)
        try:
            if error is not None:
                raise error
            return super().result()
        finally:
            del self, error  # see Outcome.unwrap


def _settle(future: concurrent.futures.Future[T], handle: JoinHandle[T]) -> None:
    error = handle.exception()
    if handle.cancelled():
        concurrent.futures.Future.cancel(future)
        future.set_running_or_notify_cancel()
    elif error is not None:
        future.set_exception(error)
    else:
        future.set_result(handle.result())
