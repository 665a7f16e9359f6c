"""Executor: the one thread that polls tasks.

    while True:
        for task in next_batch():      # sleeps while there is nothing to do
            put it on the wait-queue   # before the poll, not after: R2
            poll it
            if it has finished, take it off again

That is all there is to it; the rest of this file is how the loop starts and stops.

In the C engine this thread also looks at epoll itself, between two batches, as long as it is
busy: see "Which thread sits in epoll" in native/engine/engine.h. Here only the reactor does.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
from collections.abc import Coroutine
from typing import Any, NoReturn, Self, TypeVar

from ..base.durations import Duration
from ..base.errors import RuntimeClosed, TaskCancelled, WouldDeadlock, is_a
from ..base.threads import Thread
from . import current, process_exit
from .contract import RuntimeLike
from .coroutine import as_coroutine, close_refused
from .engine import accelerated
from .future import Future
from .join import JoinHandle
from .latch import never_return
from .run_queue import ASYNCIO, share_thread
from .runtime_end import go_on_ending
from .task import Task
from .thread_pool import BlockingPool

T = TypeVar("T")


@accelerated
def spawn(
    coro: Coroutine[Any, Any, T] | Future[T],
    *,
    name: str | None = None,
    context: contextvars.Context | None = None,
) -> JoinHandle[T]:
    """Have a coroutine, or a trale_py Future, run as a task; it starts by itself.

    From any thread, a signal handler or a ``__del__``. In a task it goes to that task's
    runtime, elsewhere to the default one, which is started at the first call; only that
    waits, a moment. The runtime keeps the task alive until it ends. ``context`` is what its
    contextvars are in, a copy of the caller's if left out.

    TypeError for what is neither ("did you forget to call it?"), RuntimeClosed while the
    runtime is being shut down, OSError if it cannot start. ::

        handle = spawn(fetch("a"), name="fetch a")
        ...
        result = handle.join()  # in a task: await handle
    """
    handle: JoinHandle[T] = current.runtime().spawn(coro, name=name, context=context)
    return handle


def block_on(coro: Coroutine[Any, Any, T] | Future[T]) -> T:
    """Run a coroutine as a task and wait for it: ``spawn(coro).join()``.

    From any thread but an executor's (WouldDeadlock there; await the coroutine instead). An
    exception that ends the wait, as Ctrl-C does, also cancels the task, and does not wait for
    its end.
    """
    return block_on_in(current.runtime(), coro)


def block_on_in(runtime: RuntimeLike, coro: Coroutine[Any, Any, T] | Future[T]) -> T:
    try:
        current.refuse_to_block(
            "block_on() on the executor's thread would deadlock; in a task, use await", runtime
        )
    except WouldDeadlock:
        close_refused(coro)
        raise
    coro = as_coroutine(coro)
    handle: JoinHandle[T] | None = None
    try:
        handle = runtime.spawn(coro)
        return handle.join()
    except BaseException as error:
        reason = "Ctrl-C" if is_a(error, KeyboardInterrupt) else "block_on() was interrupted"
        if handle is not None:
            handle.cancel(reason)  # if it has not ended
        else:
            # R25: a Ctrl-C may come when the task was pushed and its handle is in no variable
            # yet. Then it is found by its coroutine.
            runtime.cancel_task_of(coro, reason)
        raise
    finally:
        del handle  # see Outcome.unwrap


def in_a_task(coro: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
    """For a coroutine of the library that needs a task of ours, as it spawns or uses scopes.

    Called in asyncio code it runs in one of its own, which is cancelled if the wait for it is.
    """
    if current.thread.context is not None or current.thread.runtime is None:
        return coro
    return _in_its_own_task(coro)


async def _in_its_own_task(coro: Coroutine[Any, Any, T]) -> T:
    handle = spawn(coro)
    try:
        return await handle
    except GeneratorExit:  # it is being closed, and may not wait any more
        handle.cancel()
        raise
    except BaseException as error:
        if handle.done() and handle.exception() is error:
            raise
        handle.cancel(error.args[0] if error.args else None)
        with contextlib.suppress(TaskCancelled):
            return await handle  # a value or an error nevertheless is the outcome
        raise
    finally:
        del handle


# How often the end of a runtime goes on after an exception. What other threads throw in comes a few
# times; what comes each time would keep this thread busy for ever.
_END_TRIES = 100


@accelerated
class Executor:
    """The executor of a runtime; ``Executor.get()`` is the default runtime's.

    ``Executor.spawn`` and ``Executor.block_on`` are the plain functions, by trale's names.
    """

    spawn = staticmethod(spawn)
    block_on = staticmethod(block_on)

    _runtime: RuntimeLike
    _polling: Task | None

    def __new__(cls, runtime: RuntimeLike) -> Self:
        self = object.__new__(cls)
        self._runtime = runtime
        self._polling = None  # written by the executor's thread
        return self

    def __init__(self, runtime: RuntimeLike) -> None:
        self._claim: dict[None, threading.Thread] = {}  # of the thread that is the executor (R7)
        self._stopping = False  # any thread
        self._paused = False  # a run is over
        self._reserved = False  # there will be a run
        self._fault: BaseException | None = None
        self._has_ended = False
        self._thread: threading.Thread | None = None
        self._kept: list[Task] = []  # at the end, the tasks that have begun and not ended

    @staticmethod
    def get() -> Executor:
        """The executor of the default runtime, which is started. In a task: of that task's."""
        runtime = current.runtime()
        runtime.ensure_running()
        executor: Executor = runtime.executor
        return executor

    @staticmethod
    def shutdown(timeout: Duration | None = None) -> None:
        """End the default runtime and wait for its end, at most ``timeout`` seconds if given.

        New work is refused from here on (RuntimeClosed). Every task is cancelled, so that its
        ``finally`` blocks run; then the async generators are closed, both threads end and every
        descriptor of the runtime is closed. The next spawn starts a fresh runtime.

        After 2 s it logs, once, which tasks it waits for. The logging handlers have up to 2 s for
        the reports that wait. Handles of tasks that have not ended when the time is over fail
        with RuntimeClosed; their coroutines are kept as they are, with the executor's thread, until
        the process ends. Two at once wait for the same end. In a task: WouldDeadlock.
        """
        current.runtime().shutdown(timeout)

    @property
    def blocking_pool(self) -> BlockingPool:
        """The threads of ``spawn_blocking``: how many there are and may be, how much is queued."""
        pool: BlockingPool = self._runtime.jobs
        return pool

    def __repr__(self) -> str:
        return f"<Executor polling={self._polling!r} tasks={len(self._runtime.tasks())}>"

    def _stop(self) -> None:
        """End the loop when it next looks. Any thread."""
        self._stopping = True

    @property
    def _claimed(self) -> bool:
        """Whether a thread is the executor, or was."""
        return bool(self._claim) or self._reserved

    def _start_thread(self) -> None:
        """Start a thread that becomes the executor, unless there is one. Any thread.

        R7: any number of threads, and a signal handler in the middle of one of them, may
        find that nothing runs yet and come here. A lock of ours around "look, then start" could
        be held by the very thread that a signal handler interrupts; and a Ctrl-C between two
        steps would leave the second undone for ever. So anyone may start a thread, and the
        threads decide among themselves, where no signal handler runs: the first one to take
        the claim is the executor, and the others end. (What is left is a lock of Python's own:
        a handler that interrupts Thread.start() itself cannot start another thread.)
        """
        Thread(self._run, f"{self._runtime.name}-executor", self._died).start()

    def _join_thread(self) -> None:
        """Wait for the thread's end, when ``runtime.stop`` is over."""
        if self._thread is not None and not self._kept:
            self._thread.join()

    def _run(self) -> None:
        """The thread, from its first call to its last."""
        me = threading.current_thread()
        if self._claim.setdefault(None, me) is not me:
            return
        try:
            current.thread.runtime = self._runtime
            self._thread = me
            if self._runtime.closing:  # R60: its shutdown has not seen us
                self._runtime.start_shutdown()
            self._runtime.start()
            self._loop()
        except BaseException as fault:  # the runtime's, not a task's: all handles must hear of it
            self._fault = fault
        self._stop_runtime()

    def _stop_runtime(self) -> None:
        """Go on with the end of the runtime until it is done, whatever is raised."""
        for _ in range(_END_TRIES):
            try:
                self._runtime.stop(self._fault)
                break
            except BaseException as error:  # thrown in between two of its steps: it goes on there
                if self._fault is None:  # not whether it is true: its class may be the user's
                    self._fault = error
        self._has_ended = True
        if self._kept and self._runtime.threaded:
            never_return()
        if self._kept:
            process_exit.keep_for_ever(self._kept)
        current.thread.runtime = None

    def _died(self, me: Thread) -> None:
        """R40: a thread may end before it has become the executor, or at any point after that: by
        a tracer, by an exception that was thrown into it. A spawn or a join that has found it
        alive would wait for ever. So its last call ends the runtime, if that has not been done.
        """
        if self._claim.setdefault(None, me) is me and not self._has_ended:
            if self._fault is None:
                self._fault = RuntimeError("the executor's thread was terminated")
            self._stop_runtime()

    # -- on the calling thread: see run_here.py -----------------------------------------------

    def _take(self) -> bool:
        me = threading.current_thread()
        return self._claim.setdefault(None, me) is me

    def _release(self) -> None:
        if self._claim.get(None) is threading.current_thread():
            current.thread.runtime = self._thread = None
            self._claim.pop(None, None)

    def _arrive(self) -> None:
        """This thread has the claim: be the executor."""
        current.thread.runtime = self._runtime
        self._thread = threading.current_thread()
        self._runtime.start()
        if ASYNCIO in sys.modules:
            share_thread()

    def _pause(self) -> None:
        """End the run, after this batch. A shutdown that is under way goes on."""
        self._paused = not self._runtime.closing

    def _end_turn(self) -> None:
        """End a turn of an end, after this batch."""
        self._paused = True

    def _stay(self, *, in_turn: bool = False) -> None:
        """Poll until the run, the turn or the runtime is over."""
        while True:
            self._loop()
            self._paused = False
            if self._stopping:
                self._stop_runtime()
                return
            if in_turn or not self._runtime.closing:
                return
            go_on_ending(self._runtime)  # R61: the shutdown came with the end of the run

    def _loop(self) -> None:
        """Poll what is ready, batch by batch, until it is told to stop.

        R52: it looks as if an exception here could only be a fault, which ends the runtime. But
        memory may be short for a moment, just when a batch is made, and then every task would end
        by RuntimeClosed. A batch that was not made has taken nothing, so the next look finds it.
        """
        while True:
            try:
                batch = self._runtime.run_queue.next_batch()
            except MemoryError:  # R52: nothing was taken out of the queue
                batch = ()
            for task in batch:
                self._poll(task)
                del task  # or it would be kept until the next one comes
                if self._stopping:
                    break
            del batch
            # Not a function of its own: with one task in a turn, that would be a twentieth of it.
            if self._runtime.forked:  # by a done-callback, or a call that the queue had for us
                process_exit.end_child(None)
            if self._stopping or self._paused:
                return

    def _poll(self, task: Task) -> None:
        """One turn of one task."""
        if self._polling is not None:
            raise RuntimeError(f"{task!r} is polled by its executor only, one task at a time")
        run_queue = self._runtime.run_queue
        # It looks odd to put a task to sleep that is about to run (R2). But while it runs, it
        # gives its waker to others, and they may call it before poll() is back here: a wake
        # that does not find the task in the wait-queue is dropped, and no other would come.
        run_queue.put_to_wait(task)
        thread = current.thread
        thread.context = task._cx
        self._polling = task
        task._turn = True
        try:
            ended = task._poll()
        finally:
            self._polling = thread.context = None
        if self._runtime.forked:
            self._end_child(task, ended)
        if ended:
            run_queue.remove(task)
            self._runtime.forget(task)
            task._settle()

    def _end_child(self, task: Task, ended: bool) -> NoReturn:
        """The task has forked, and this is the child: it goes on to its end, alone."""
        while not ended:
            task._throw_in(RuntimeClosed(self._runtime.gone))
            task._turn = True
            ended = task._poll()
        process_exit.end_child(task._error)
