"""Runtime: all that lives, in one object. There is one by default, never by construction.

It holds the run-queue, the executor, the reactor and the table of tasks, and it knows
the order in which they begin and end. A fresh Runtime is inert: no thread, no
descriptor. The first spawn starts it.
"""

from __future__ import annotations

import contextvars
import itertools
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Self, TypeVar, cast

from ..base import supported
from ..base.durations import Duration
from ..base.errors import RuntimeClosed
from . import current, process_exit
from .async_generators import AsyncGenerators
from .coroutine import as_coroutine, caller, close_refused, is_unstarted, name_of
from .engine import accelerated
from .executor import Executor
from .future import Future
from .join import JoinHandle
from .latch import Latch
from .outcome import Outcome, name_outcomes
from .reactor import Reactor
from .run_queue import RunQueue, make_call
from .runtime_end import RuntimeEnd, go_on_ending, start_ending
from .shutdown import shut_down, take_turn
from .simulation import Simulation
from .task import Task
from .thread_pool import FILES_LIMIT, JOBS_LIMIT, NAMES_LIMIT, BlockingPool

T = TypeVar("T")


@accelerated
class Runtime:
    """An executor and its reactor, their tasks, their beginning and their end.

    Invariants:
      - A live task is in ``_tasks`` from before its push until its end.
      - ``gone`` goes from "" to the reason, once. When ``_ended`` opens, no thread serves the
        queue any more.
    """

    run_queue: RunQueue[Task]
    unclaimed: dict[int, Outcome[object]]
    _tasks: dict[int, Task]
    _next_id: Callable[[], int]
    _started: Latch
    _ended: Latch
    closing: bool
    forked: bool

    def __new__(cls, *_: object, **__: object) -> Self:  # what it is given is for __init__
        """What each spawn, poll and end looks at."""
        self = object.__new__(cls)
        self.run_queue = RunQueue()
        self.unclaimed = {}  # errors that are not yet retrieved
        self._tasks = {}
        self._next_id = itertools.count(1).__next__
        self._started = Latch()
        self._ended = Latch()
        self.closing = False
        self.forked = False
        return self

    def __init__(
        self,
        name: str = "trale",
        exit_grace: float = process_exit.GRACE_SECONDS,
        *,
        threaded: bool = True,
    ) -> None:
        self.name = name
        self.threaded = threaded  # else the executor is the thread that is in run()
        self.home: int = 0  # the ident of the thread whose ``with`` block it is, if not threaded
        self.exit_grace = exit_grace
        self.now_ns: Callable[[], int] = time.monotonic_ns  # the clock of deadlines
        self.executor: Executor = Executor(self)
        self.reactor: Reactor = Reactor(self)
        # Three pools: jobs that block for hours must not keep a task from looking up a name, nor
        # from a file.
        self.names: BlockingPool = self._pool("names", NAMES_LIMIT, forgives=True)
        self.files: BlockingPool = self._pool("files", FILES_LIMIT, forgives=True)
        self.jobs: BlockingPool = self._pool("blocking", JOBS_LIMIT)
        self.guest: Any = None  # asyncio's loop; _asyncio puts it here
        self.face: Callable[[], object] = _no_face  # a reference to the public object, see face.py
        self.gone: str = ""
        self._generators = AsyncGenerators(self)
        self._services: dict[int, Task] = {}  # not in _tasks; executor's thread writes
        self.given_up: list[Task] = []  # see shutdown()
        self.left: list[Outcome[Any]] = []  # of the tasks that had not ended when the runtime did
        self._fault: BaseException | None = None  # what kept it from starting, or ended it
        self._end: RuntimeEnd | None = None
        self.told_patience = False
        self.has_cancelled = False  # all tasks, for the end

    def _pool(self, name: str, limit: int, *, forgives: bool = False) -> BlockingPool:
        return BlockingPool(
            f"{self.name}-{name}", limit, self.call_on_executor, forgives=forgives, runtime=self
        )

    @property
    def pools(self) -> tuple[BlockingPool, ...]:
        return self.names, self.files, self.jobs

    @property
    def is_ending(self) -> bool:
        """Whether the executor has come to its end, or has ended."""
        return self._end is not None

    def simulate(self, simulation: Simulation) -> None:
        """For tests, before the start: live with this clock, order and kernel."""
        self.run_queue.simulation = simulation
        self.now_ns = simulation.now_ns

    # -- spawning: any thread --------------------------------------------------------------

    def spawn(
        self,
        coro: Coroutine[Any, Any, T] | Future[T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        adopt: Callable[[Task], None] | None = None,
        host_id: int | None = None,
    ) -> JoinHandle[T]:
        """See :func:`trale_py.spawn`.

        ``adopt`` is called with the new task on the executor's thread, before its first poll.
        The parent is the task that calls this, or else, of one that is adopted, ``host_id``.
        """
        try:
            if name is not None and not isinstance(name, str):
                raise TypeError(f"name must be a str, not {name!r}")
            if context is not None and not isinstance(context, contextvars.Context):
                raise TypeError(f"context must be a contextvars.Context, not {context!r}")
            name = name_of(coro) if name is None else name
            coro = as_coroutine(coro)
            self.ensure_running()
        except BaseException:
            close_refused(coro)
            raise
        return self._start_task(coro, name, context, adopt, host_id)

    def _start_task(
        self,
        coro: Coroutine[Any, Any, T],
        name: str,
        context: contextvars.Context | None = None,
        adopt: Callable[[Task], None] | None = None,
        host_id: int | None = None,
    ) -> JoinHandle[T]:
        spawner = self.executor._polling if current.thread.runtime is self else None
        parent_id = None if spawner is None else spawner.id
        outcome: Outcome[T] = Outcome(self._next_id(), name, caller(), self.unclaimed)
        task = Task(
            self,
            coro,
            contextvars.copy_context() if context is None else context,
            outcome,
            parent_id if adopt is None else host_id,
        )
        handle = JoinHandle(self, outcome)
        try:
            self._tasks[outcome.id] = task
            if adopt is None:
                self.run_queue.push(task)
            else:
                self.call_on_executor(partial(self._push_adopted, task, adopt))
        except RecursionError:
            # R51: the call of the push has failed, or what it calls. Nothing more is called here.
            del self._tasks[outcome.id]
            raise
        except BaseException:
            # R25: a Ctrl-C, before the push or just after it. That is known when all that was
            # pushed before has had its turn, and what that pushes on behalf of a group.
            self.publish(partial(self.publish, partial(self._forget_unpushed, task)))
            raise
        if self._ended.opened:
            self._abandon_rest()
        return handle

    def _start_service(self, coro: Coroutine[Any, Any, T], name: str) -> JoinHandle[T]:
        """A task that serves the others. Executor's thread only.

        It is in no list of tasks. At the end of the runtime it is cancelled when all tasks have
        ended, and the async generators are closed when it has.
        """
        handle = self._start_task(coro, name, contextvars.Context())
        task = self._services[handle.id] = self._tasks.pop(handle.id)
        handle._outcome.call_when_open(task, partial(self._services.pop, handle.id, None))
        return handle

    def _forget_unpushed(self, task: Task) -> None:
        if not (task._started or task._ended):
            task._close_unstarted()
            self.forget(task)

    def _push_adopted(self, task: Task, adopt: Callable[[Task], None]) -> None:
        try:
            adopt(task)
        except BaseException as error:  # memory was short: it ends by that, and is waited for
            task._throw = error  # and no call of _throw_in(), which could fail as well
        try:
            self.run_queue.push(task)
        except BaseException:
            task._leave_group()  # R51: a child that is never polled would be waited for
            raise

    def task_of(self, task_id: int) -> Task | None:
        """The task of that id. Any thread. None: it had ended."""
        return self._tasks.get(task_id) or self._services.get(task_id)

    def cancel(self, task_id: int, reason: object) -> bool:
        """Cancel a task. Any thread. False: it had ended."""
        task = self.task_of(task_id)
        if task is None:
            return False
        self.call_on_executor(partial(task._cancel, reason))
        return True

    def cancel_task_of(self, coro: Coroutine[Any, Any, Any], reason: object) -> None:
        """Cancel the task that runs ``coro``; if none was made of it, close it. Any thread."""
        for task in self.tasks():
            if task.coro is coro:
                self.cancel(task.id, reason)
                return
        if is_unstarted(coro):
            coro.close()

    def tasks(self) -> list[Task]:
        """See :func:`trale_py.tasks`."""
        return list(self._tasks.values())

    def forget(self, task: Task) -> None:
        """The task has ended. Executor's thread only."""
        self._tasks.pop(task.id, None)
        self._services.pop(task.id, None)
        if self.closing:
            go_on_ending(self)

    # -- reaching the executor: any thread ---------------------------------------------------

    def publish(self, function: Callable[[], object]) -> None:
        """Have ``function`` called on the executor's thread, at its next turn."""
        self.run_queue.call(function)
        if self._ended.opened:
            self._abandon_rest()

    def call_on_executor(self, function: Callable[[], object]) -> None:
        """Call ``function`` on the executor's thread: now if this is it, else at its next turn."""
        if current.thread.runtime is self:
            function()
        else:
            self.publish(function)

    # -- the beginning -------------------------------------------------------------------------

    def ensure_running(self) -> None:
        """Start the threads if they do not run, and wait until they do. Any thread.

        Raises RuntimeClosed if the runtime is about to end, and the OSError or RuntimeError
        that keeps it from starting.
        """
        if self.closing:
            why = self.gone or "the runtime is being shut down"
            raise RuntimeClosed(why) from self._fault
        if not self._started.opened and current.thread.runtime is not self:
            if supported.is_patched():  # since the import
                raise RuntimeError(supported.PATCHED)
            process_exit.runtime_starts(self)
            if not self.threaded:
                self.executor._reserved = True
                return
            try:
                self.executor._start_thread()
            except RuntimeError as error:
                if "shutdown" not in str(error):  # from 3.12 on, once the main thread has ended
                    raise
                raise RuntimeClosed("the interpreter is exiting") from error
            while not self._started.wait_blocking(1):
                pass  # it looks anew: R40 has what may keep a thread from telling us
            if self._fault is not None:
                raise self._fault

    def start(self) -> None:
        """Executor's thread, first of all."""
        if not self._started.opened:
            self.reactor._start()
        self._generators.set_hooks()
        self._started.open()

    # -- the end ---------------------------------------------------------------------------------

    def start_shutdown(self) -> None:
        """Refuse new work, cancel everything, then end. Any thread; does not wait."""
        self.closing = True
        if self.executor._claimed:  # else what becomes the executor does it, see R60
            self.publish(partial(start_ending, self))

    def shutdown(self, timeout: Duration | None = None) -> None:
        """See :meth:`trale_py.Executor.shutdown`."""
        shut_down(self, timeout)

    def take_turn(self, seconds: float) -> None:
        """If it is not ``threaded``: go on with its end for that long at most. At the exit."""
        take_turn(self, seconds)

    def services(self) -> list[Task]:
        return list(self._services.values())

    def name_tasks(self, message: str) -> None:
        """Log which tasks have not ended: ``message`` % (how many, which)."""
        name_outcomes([task._outcome for task in self.tasks()], message)

    def give_up(self) -> None:
        """The executor is stuck in a task: fail all handles, so that joins end. Any thread."""
        self.leave("the runtime has been shut down while a task blocked the executor's thread")
        self.given_up += [*self.tasks(), *self.services()]
        self.left = [task._outcome for task in self.given_up if task._outcome is not None]
        for task in self.given_up:
            self.abandon(task)
        self.report_unclaimed()

    def stop(self, fault: BaseException | None) -> None:
        """Executor's thread, last of all. It goes on where an earlier call was cut off."""
        self.closing = True
        if self._end is None:
            self._fault = fault
            self._end = RuntimeEnd(self, fault)
        self._end.go_on()

    def report_unclaimed(self) -> None:
        for outcome in list(self.unclaimed.values()):
            outcome.report_unclaimed()

    def leave(self, why: str) -> None:
        self.gone = self.gone or why
        if current.default.get(None) is self:
            del current.default[None]

    def abandon(self, task: Task) -> None:
        error = RuntimeClosed(f"task {task.name!r} had not ended when its runtime did")
        error.__cause__ = self._fault
        if not task._started:
            make_call(task.coro.close)
        task._abandon(error)
        self._tasks.pop(task.id, None)
        self._services.pop(task.id, None)

    def _abandon_rest(self) -> None:
        for task in self.run_queue.drain():
            self.abandon(task)

    def close_for_good(self, why: str) -> None:
        """Be the default runtime from now on, and refuse."""
        self.gone = why
        self.closing = True
        current.default[None] = self

    def after_fork_in_child(self) -> None:
        """This process is a fork, and the threads are in the parent. See process_exit.py."""
        self.forked = True
        self.gone = "the runtime belongs to the parent of this forked process"
        self.closing = True
        # The waiters of these are other threads, or this one, if a signal handler forked.
        self._started.open()
        self._ended.open()
        self.run_queue.after_fork_in_child()
        self.run_queue = RunQueue()  # what was published is the parent's to do
        # A run that is interrupted by the handler that forked would wait for ever.
        self.run_queue.call(_no_face)
        self.home = 0
        if self.guest is not None:
            self.guest.after_fork_in_child()
        self.reactor._after_fork_in_child()
        if current.default.get(None) is self:
            del current.default[None]


def _no_face() -> None:
    return None


def default_runtime() -> Runtime:
    return cast(Runtime, current.default.get(None) or current.default.setdefault(None, Runtime()))


current.default_runtime = default_runtime
process_exit.register()
