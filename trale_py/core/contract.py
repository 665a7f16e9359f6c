"""What a runtime and a task look like from below.

The machine is a circle: a waker leads to a queue, the queue to tasks, a task to its runtime, and
that to the queue. The code must not be one. Modules that stand low know these Protocols only;
the classes that fit them stand high.

Attributes that are themselves classes from above are ``Any`` here. Code that uses them says in an
annotation what they are, if it stands high enough to know.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ..base.durations import Duration


class TaskLike(Protocol):
    """A :class:`Task`, for the run-queue and the scopes."""

    _id: int  # never used for another task of its runtime
    _name: str
    _cx: Any  # the Context that it is polled with
    _scope: Any  # the innermost ScopeTree, where the task is now

    @property
    def coro(self) -> Coroutine[Any, Any, Any]:
        """The coroutine that it runs."""

    @property
    def state(self) -> str:
        """``"queued"``, ``"running"``, ``"waiting"`` or ``"finished"``."""


class GroupLike(Protocol):
    """A :class:`TaskGroup`: what a task tells the group that it was spawned by."""

    def _child_failed(self, error: BaseException) -> None: ...
    def _child_cut_off(self) -> None: ...
    def _child_ended(self, task: Any) -> None: ...


class RuntimeLike(Protocol):
    """A :class:`Runtime`, for all that lives in one."""

    name: str
    exit_grace: float  # seconds
    threaded: bool  # its executor is a thread of its own
    home: int  # else, the ident of the thread whose ``with`` block it is; or 0
    face: Any  # returns its public object, if there is one
    run_queue: Any
    executor: Any
    reactor: Any
    jobs: Any  # the pools: of spawn_blocking, of look-ups of names, of files and programs
    names: Any
    files: Any
    guest: Any  # asyncio's loop, see _asyncio; None while there is none
    gone: str  # why it is no more; "" while it is there
    closing: bool
    forked: bool  # it is the parent's, and this process a child
    now_ns: Callable[[], int]  # the time on the clock of its deadlines
    left: list[Any]  # Outcomes of the tasks that had not ended when it did

    @property
    def pools(self) -> tuple[Any, ...]:
        """All its pools."""

    def spawn(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        adopt: Callable[[Any], None] | None = None,
        host_id: int | None = None,
    ) -> Any:
        """A new Task, given to ``adopt`` before its first poll; its JoinHandle."""

    def tasks(self) -> list[Any]:
        """Every live Task."""

    def cancel(self, task_id: int, reason: object) -> bool:
        """Cancel a task. Any thread. False: it had ended."""

    def cancel_task_of(self, coro: Any, reason: object) -> None:
        """Cancel the task that runs ``coro``; if none was made of it, close it. Any thread."""

    def task_of(self, task_id: int) -> Any:
        """The Task of that id. Any thread. None: it had ended."""

    def name_tasks(self, message: str) -> None:
        """Log which tasks have not ended: ``message`` % (how many, which)."""

    def publish(self, function: Callable[[], object]) -> None:
        """Have ``function`` called on the executor's thread, at its next turn. Any thread."""

    def call_on_executor(self, function: Callable[[], object]) -> None:
        """Call it now if this is the executor's thread, else publish it."""

    def ensure_running(self) -> None:
        """Start it if it does not run. RuntimeClosed if it is about to end."""

    def start_shutdown(self) -> None:
        """Refuse new work, cancel everything, then end. Any thread; does not wait."""

    def services(self) -> list[Any]:
        """The Tasks that end last, and are in no list of tasks."""

    def shutdown(self, timeout: Duration | None = None) -> None:
        """End it."""

    def take_turn(self, seconds: float) -> None:
        """If it is not ``threaded``: go on with its end for that long at most."""

    def _start_service(self, coro: Any, name: str) -> Any:
        """A task that serves the others, and ends after them; its JoinHandle."""

    def forget(self, task: Any) -> None:
        """The Task has ended. Executor's thread only."""

    def start(self) -> None:
        """Executor's thread, first of all."""

    def stop(self, fault: BaseException | None) -> None:
        """Executor's thread, last of all."""

    def close_for_good(self, why: str) -> None:
        """Be the default runtime from now on, and refuse."""

    def after_fork_in_child(self) -> None:
        """This process is a fork, and the threads are in the parent."""


class ForeignLoop(Protocol):
    """Another event loop that lives on an executor's thread. Called on that thread only."""

    def take_thread(self) -> bool:
        """Its library is imported: have it know this thread. False: not yet, ask again."""

    def enter(self) -> Any:
        """The Context to poll with in the code that it is running; None: it is running none."""

    def wait(self, cx: Any) -> Any:
        """What that code yields in the place of PENDING: it is resumed when ``cx`` is woken."""

    def adopt(self, waker: Any, yielded: object) -> Any:
        """How a task waits for something of its: a BaseException with a ``take()``. None: it is
        not its."""

    def explain(self, error: BaseException) -> None:
        """A task has ended by ``error``, which may be of the library's making: add a note."""
