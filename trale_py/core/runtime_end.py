"""The end of a runtime: a list of steps, of which each is taken in every case.

Whatever a step raises (no memory, a recursion limit, a broken ``close()`` of the user's) is
reported, and the next one follows. The last one settles every handle, so no join waits for ever.

What is left of the coroutines that have begun is not closed: what they still do would run
without a runtime, and some never return from it. The executor keeps them.

R11: a thread may push while the runtime ends. It pushes and then looks at ``_ended``; we open that
and then empty the queue. The second of the two finds the other's work.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from ..base.errors import RuntimeClosed
from ..base.log import report
from .outcome import Outcome
from .run_queue import make_call
from .task import Task

# After this time a shutdown says which tasks it waits for.
PATIENCE_SECONDS = 2.0


def start_ending(runtime: Any) -> None:
    """Cancel everything; when all tasks have ended, the rest follows. Executor's thread.

    A second call, of a shutdown that comes while another is under way, cancels nothing: the tasks
    may be those that close the async generators by then.
    """
    try:
        if not runtime.has_cancelled:
            runtime.has_cancelled = True
            _cancel_all(runtime.tasks())
        go_on_ending(runtime)
    except BaseException:  # memory was short: then the tasks are left as they are
        runtime.executor._stop()
        raise


def tell_patience(runtime: Any) -> None:
    """Log, once, which tasks a shutdown waits for. Any thread."""
    if not runtime.told_patience:
        runtime.told_patience = True
        runtime.name_tasks("shutdown is waiting for cancelled tasks (%d): %s")


def go_on_ending(runtime: Any) -> None:
    """No task is left: end the services, then close the async generators, then stop."""
    if runtime._tasks:
        return
    if runtime._services:
        _cancel_all([one for one in runtime.services() if not one._cancel_called])
        return
    runtime._generators.close_all()
    if not runtime._tasks:
        runtime.executor._stop()


def _cancel_all(tasks: list[Task]) -> None:
    for task in tasks:
        make_call(partial(task._cancel, "the runtime is being shut down"))


class RuntimeEnd:
    """Executor's thread, last of all. ``fault`` is its error; None after a shutdown."""

    def __init__(self, runtime: Any, fault: BaseException | None) -> None:
        self._runtime = runtime  # the Runtime, whose part this is
        self._fault = fault
        self._left: dict[Task, Outcome[object] | None] = {}  # tasks that have not ended
        self._steps: deque[Callable[[], object]] = deque(
            (
                partial(sys.set_asyncgen_hooks, None, None),
                self._find_tasks,
                self._tell_fault,
                runtime.reactor._stop,
                *(pool._close for pool in runtime.pools),
                # Before any handle says that the runtime is gone, so that the next spawn finds
                # another.
                partial(runtime.leave, "the runtime has been shut down"),
                self._abandon,
                self._remove,
                runtime.report_unclaimed,
                self._keep,
                runtime._started.open,
                runtime._ended.open,
                runtime._abandon_rest,
                self._settle,
            )
        )

    def go_on(self) -> None:
        """Take the steps that are left. To be called until it returns.

        An exception that is thrown in here between two lines may have a step taken twice, but never
        left out. Each of them may be.
        """
        while self._steps:
            make_call(self._steps[0])
            self._steps.popleft()

    def _find_tasks(self) -> None:
        runtime = self._runtime
        for find in (runtime.tasks, runtime.run_queue.live):
            make_call(partial(self._add_tasks, find))
        runtime.left = [outcome for outcome in self._left.values() if outcome is not None]

    def _add_tasks(self, find: Callable[[], list[Task]]) -> None:
        self._left.update((task, task._outcome) for task in find())

    def _tell_fault(self) -> None:
        if self._fault is not None:
            self._runtime.leave(f"the runtime has failed: {self._fault!r}")
            if self._runtime._started.opened:  # else the spawn that began it raises the fault
                report("the runtime has failed", error=self._fault)

    def _abandon(self) -> None:
        for task in self._left:
            make_call(partial(self._runtime.abandon, task))

    def _remove(self) -> None:
        for task in self._left:
            make_call(partial(self._runtime.run_queue.remove, task))

    def _keep(self) -> None:
        tasks = {*self._left, *self._runtime.given_up}
        self._runtime.executor._kept = [task for task in tasks if task._started and not task._ended]

    def _settle(self) -> None:
        """Whatever has failed before, here each handle gets its outcome."""
        self._find_tasks()
        self._runtime.leave("the runtime has failed")
        error = RuntimeClosed(self._runtime.gone)
        error.__cause__ = self._fault
        for outcome in self._left.values():
            if outcome is not None and not outcome.opened:
                make_call(partial(outcome.fail, error, report=False))
