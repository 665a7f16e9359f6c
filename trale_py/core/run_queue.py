"""The run-queue (tasks to poll) and the wait-queue (tasks that sleep until a wake).

A task that is neither running nor finished is in exactly one of two places: on its
way to the executor (the run-queue), or in ``waiting`` under its id (the wait-queue).

The run-queue is where threads meet. Anyone may push to it: the reactor, a thread that
spawns, a signal handler, a ``__del__`` that the garbage collector runs at the worst
possible moment. Everything else here belongs to the executor's thread.

Why there is no lock and no condition variable to be seen (R1)
    trale guards a Vec with a Mutex and sleeps on a Condvar. Written in Python, that
    deadlocks: while a thread holds the lock between two bytecodes, a signal handler or
    a ``__del__`` may run *in the same thread*, call wake(), and wait for ever for the
    lock that its own thread holds. A re-entrant lock would let it in, to see an update
    half done. And whatever takes two steps (append, then notify) can lose the second
    to a Ctrl-C between them.

    So what is shared is one ``queue.SimpleQueue``. Its C code *is* the lock and the
    condition variable, its put() is documented as re-entrant, and no Python code can run
    inside. From that follows the law of the whole package: **publish with one C call;
    only the executor's thread writes task state.**
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Generic, NoReturn, TypeVar

from ..base.errors import is_a
from ..base.log import report
from . import current
from .contract import RuntimeLike, TaskLike
from .engine import accelerated
from .simulation import Simulation
from .waker import Context, Waker

T = TypeVar("T", bound=TaskLike)

ASYNCIO = "asyncio"  # as sys.modules has it


class Fault:
    """A call like the others, but what it raises is not reported: it ends the executor."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self) -> NoReturn:
        raise self._error


@accelerated
class RunQueue(Generic[T]):
    """A FIFO of things for the executor to look at, and the table of sleeping tasks.

    Invariants:
      - ``waiting`` is written by the executor's thread only; anyone may ask ``id in waiting``.
      - A task is in ``waiting`` from just before each poll until the wake that follows it.
      - Ids are never used twice, so a waker that outlived its task finds nothing.
    """

    __slots__ = ("_inbox", "_left_behind", "_shared", "_simulation", "fire_timers", "waiting")

    def __init__(self) -> None:
        # An int is a wake for the task of that id, a Task is new, all else is to be called.
        self._inbox: SimpleQueue[int | T | Callable[[], object]] = SimpleQueue()
        self.waiting: dict[int, T] = {}
        self._left_behind = False
        self._shared = False  # asyncio has been told that this thread is an executor's
        self._simulation: Simulation | None = None
        # In a simulation: what fires the timers on this thread, and returns the next deadline.
        self.fire_timers: Callable[[], int | None] = _no_timers

    @property
    def simulation(self) -> Simulation | None:
        """What a test puts in the place of clock, order and kernel. Set once, before the start."""
        return self._simulation

    @simulation.setter
    def simulation(self, simulation: Simulation) -> None:
        if not isinstance(simulation, Simulation):
            raise TypeError(f"simulation must be a Simulation, not {simulation!r}")
        if self._simulation is not None:
            raise RuntimeError("it has a simulation")
        self._simulation = simulation

    def context(self, task_id: int, runtime: RuntimeLike) -> Context:
        """A context to poll the task of that id with, and in it its waker."""
        return Context(Waker(self, task_id), runtime)

    def push(self, task: T) -> None:
        """Hand over a new task. Any thread, any time. ValueError if it is not new."""
        if task._cx._pushed:
            raise ValueError(f"{task!r} was pushed already")
        self._inbox.put(task)
        task._cx._pushed = True

    def wake(self, task_id: int) -> None:
        """Have a task polled again. Any thread, any time, any number of times.

        An id that is not in ``waiting`` needs nothing: its task has finished, or it is
        queued already, and the poll that is still to come will see whatever this wake
        is about. That look is only to save work: a task woken twice before the executor
        takes its next batch stands in the queue twice, and next_batch() drops the second.
        """
        if task_id in self.waiting:
            self._inbox.put(task_id)

    def call(self, function: Callable[[], object]) -> None:
        """Have ``function`` called on the executor's thread. Any thread, any time."""
        self._inbox.put(function)

    def fail(self, fault: BaseException) -> None:
        """Have ``next_batch`` raise ``fault``: the engine is broken. Any thread, any time."""
        self._inbox.put(Fault(fault))

    def next_batch(self) -> Iterator[T]:
        """Wait until something is in the queue; then the tasks that are ready, in order.

        Executor's thread only. The batch is what was in the queue when it began: a task that
        wakes itself comes into the next one, behind all that were waiting meanwhile.
        It is empty if all there was to do were calls, or wakes that came too late.
        """
        if self._simulation is not None:
            self._begin_simulated(self._simulation)
        batch: deque[T | Callable[[], object]] = deque()
        try:
            # Only this thread takes from the queue, so what qsize() counts will be there.
            for _ in range(self._inbox.qsize() or 1):
                item = self._inbox.get()
                if not isinstance(item, int):
                    batch.append(item)
                elif (task := self.waiting.pop(item, None)) is not None:
                    batch.append(task)
            if not self._shared and ASYNCIO in sys.modules:
                self._shared = share_thread()
            if self._simulation is not None and self._simulation.seeded:
                _shuffle(batch, self._simulation)
            while batch and not self._left_behind:
                following = batch.popleft()
                if callable(following):
                    if isinstance(following, Fault):
                        self._inbox.put(following)  # what is broken stays so
                        following()
                    make_published(following)
                else:
                    yield following
                del following  # or it would be kept until the next one comes
        finally:  # broken off: the rest has no turn any more, and is looked for here
            for item in batch:
                if callable(item):
                    self._inbox.put(item)
                else:
                    self.waiting[item._id] = item

    def _begin_simulated(self, simulation: Simulation) -> None:
        """Fire what is due; while nothing is ready, let the test set the clock."""
        while True:
            deadline = self.fire_timers()
            if self._inbox.qsize() or simulation.on_idle is None:
                return
            if not simulation.on_idle(deadline):
                return

    def put_to_wait(self, task: T) -> None:
        """From now on a wake queues the task. Executor's thread only. ValueError: it has ended."""
        if not task._cx._end:
            raise ValueError(f"{task!r} is in the queue, or has ended")
        self.waiting[task._id] = task

    def remove(self, task: T) -> None:
        """The task has ended: from now on a wake does nothing. Executor's thread only.

        It may still be in the queue.
        """
        self.waiting.pop(task._id, None)

    def is_waiting(self, task: T) -> bool:
        """Whether a wake would queue the task. Any thread."""
        return task._id in self.waiting

    def live(self) -> list[T]:
        """The tasks that wait, and perhaps others that were pushed and have not ended."""
        return list(self.waiting.values())

    def after_fork_in_child(self) -> None:
        """This process is a fork, and what is in here is the parent's."""
        self._left_behind = True

    def drain(self) -> list[T]:
        """When no executor is left: make the calls that are still due, return the new tasks.

        Any thread; of several at once, each gets some.
        """
        tasks: list[T] = []
        with contextlib.suppress(Empty):
            while True:
                item = self._inbox.get_nowait()
                if isinstance(item, int | Fault):
                    continue
                if callable(item):
                    make_call(item)
                else:
                    tasks.append(item)
        return tasks


def _no_timers() -> int | None:
    return None


def _shuffle(batch: deque[Any], simulation: Simulation) -> None:
    """Have the tasks change places. Calls keep theirs, and tasks do not pass them: a thread that
    publishes a call counts on what it has pushed before."""
    begin = 0
    for end in (*(n for n, item in enumerate(batch) if callable(item)), len(batch)):
        for i in range(end - 1, begin, -1):
            j = begin + simulation.random() % (i - begin + 1)
            batch[i], batch[j] = batch[j], batch[i]
        begin = end + 1


def make_call(call: Callable[[], object]) -> None:
    """Call it; what goes wrong is reported and does not end the executor."""
    try:
        call()
    except BaseException as error:
        report("%r, called on the executor's thread, failed", call, error=error)


def share_thread() -> bool:
    """Tell asyncio, which is imported, that this thread is an executor's. False: ask again."""
    return current.thread.runtime is not None and current.foreign_loop.take_thread()


def make_published(call: Callable[[], object]) -> None:
    """The same, of what was published.

    On the main thread, that is in a run, the exception may be a signal handler's, which has
    interrupted the call. That one comes out. Of our own calls only a lack of memory comes through.
    """
    try:
        call()
    except BaseException as error:
        lack = is_a(error, MemoryError) or is_a(error, RecursionError)
        if not lack and current.thread.runtime is not None and is_main_thread():
            raise
        report("%r, called on the executor's thread, failed", call, error=error)


def is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
