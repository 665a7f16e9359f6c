"""Task: a coroutine, and what the executor needs in order to poll it.

    spawned --push--> queued --next_batch--> running --PENDING--> waiting --wake--> queued
                                                |
                                                +--returned, raised--> finished

Everything here is written by the executor's thread.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from . import current
from .cancel import ScopeTree
from .errors import Cancelled, TaskCancelled
from .future import PENDING
from .outcome import Outcome
from .waker import Context, Waker

if TYPE_CHECKING:
    from .runtime import Runtime

# How many operations a task may do in one turn without waiting. A task whose sockets are
# always ready would otherwise never give way. The figure is Tokio's, and not critical:
# large enough that giving way costs nothing by comparison, small enough to be short.
BUDGET = 128


class Group(Protocol):
    """What a task tells the group it was spawned by."""

    def child_failed(self, error: BaseException) -> None: ...
    def child_ended(self, task: Task) -> None: ...


class Task:
    """A coroutine that was given to ``spawn``. To be looked at: see ``tasks()``.

    ``name``, ``id`` and ``parent_id`` (of the task that spawned it, or None) never change.
    """

    __slots__ = (
        "_context",
        "_started",
        "coro",
        "cx",
        "group",
        "info",
        "outcome",
        "parent_id",
        "root",
        "runtime",
        "scope",
    )

    def __init__(
        self,
        runtime: Runtime,
        coro: Coroutine[Any, Any, Any],
        context: contextvars.Context,
        outcome: Outcome[Any],
        parent_id: int | None,
    ) -> None:
        self.runtime = runtime
        self.coro = coro
        self.info = outcome.task
        self.outcome: Outcome[Any] | None = outcome  # None once it is settled
        self.parent_id = parent_id
        self.cx = Context(Waker(runtime.run_queue, outcome.task.id), runtime)
        self.scope: ScopeTree | None = None  # the innermost, where the task is now
        self.root: ScopeTree | None = None  # the outermost of its own
        self.group: Group | None = None  # which waits for its end
        self._context = context
        self._started = False

    @property
    def id(self) -> int:
        return self.info.id

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def state(self) -> str:
        """``"queued"``, ``"running"``, ``"waiting"`` or ``"finished"``, as of this moment."""
        if self.outcome is None:
            return "finished"
        if self.runtime.executor.polling is self:
            return "running"
        return "waiting" if self.id in self.runtime.run_queue.waiting else "queued"

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.name!r} {self.state}>"

    def poll(self) -> bool:
        """Run the coroutine to its next suspension. True: it has finished.

        Whatever it raises ends this task only and goes to its outcome, be it SystemExit,
        KeyboardInterrupt or GeneratorExit.
        """
        if not self._started:
            if not _is_unstarted(self.coro):
                text = f"{self.name}: this coroutine has already been run, or another task runs it"
                self.settle(RuntimeError(text))
                return True
            if self.cx.cancelled:
                self.coro.close()
                self._settle_cancelled(Cancelled.because(self.innermost().why()))
                return True
            self._started = True
        self.cx.budget = BUDGET
        resume: Callable[[Any], object] = self.coro.send
        argument: BaseException | None = None
        if self.cx.cancelled:
            # It is at a checkpoint: a task is nowhere else between two polls. What it waits for
            # may be ready by now; that is not asked any more, and its drop() gives it back.
            resume, argument = self.coro.throw, Cancelled.because(self.innermost().why())
        while True:
            try:
                yielded = self._context.run(resume, argument)
            except StopIteration as stop:
                self._succeed(stop.value)
                return True
            except BaseException as error:
                argument = None  # it may be this very error, see settle()
                if error.__traceback__ is not None:
                    error.__traceback__ = error.__traceback__.tb_next  # without this frame
                if error.__traceback__ is None:  # not the coroutine's: its context is in use
                    self.coro.close()
                if isinstance(error, Cancelled):
                    self._settle_cancelled(error)
                else:
                    self.settle(error)
                return True
            if yielded is PENDING:
                return False
            resume, argument = self.coro.throw, _foreign(yielded)

    def _succeed(self, value: object) -> None:
        outcome = self._end()
        if outcome is not None:
            outcome.succeed(value)

    def _settle_cancelled(self, cause: Cancelled) -> None:
        outcome = self._end()
        if outcome is not None:
            error = TaskCancelled(cause.reason)
            error.__cause__ = cause
            outcome.cancel(error)

    def settle(self, error: BaseException, *, report: bool = True) -> None:
        """End with ``error``; ``report``: to be logged if nobody takes it."""
        group = self.group
        outcome = self._end()
        if outcome is not None:
            if group is not None and report:
                group.child_failed(error)
                report = False
            outcome.fail(error, report=report)

    def _end(self) -> Outcome[Any] | None:
        """Let go of everything, and hand out the outcome, to be settled.

        An error's traceback refers to the coroutine's frame, that (by f_back) to the frames that
        polled it, and they to the task. If the task referred to the error in turn, only the
        garbage collector could free them all.
        """
        outcome, self.outcome = self.outcome, None
        if self.root is not None:
            self.root.unlink()
            self.root = self.scope = None
        return outcome

    # -- cancellation ---------------------------------------------------------------------------

    def innermost(self) -> ScopeTree:
        """The scope the task is in. One of its own is made if there is none."""
        if self.scope is None:
            self.stand_under(None)
        assert self.scope is not None
        return self.scope

    def stand_under(self, parent: ScopeTree | None) -> None:
        """Give the task its outermost scope, below ``parent``."""
        self.root = ScopeTree()
        self.root.link(parent, self)

    def cancel(self, reason: object) -> None:
        """Cancel the task's outermost scope. Executor's thread only."""
        if self.outcome is not None:
            self.innermost()
            assert self.root is not None
            self.root.deliver(reason)

    def close(self) -> None:
        """Close the coroutine: its ``finally`` blocks run, and must not await. May raise."""
        if self._started or _is_unstarted(self.coro):
            self._context.run(self.coro.close)


def _is_unstarted(coro: Coroutine[Any, Any, Any]) -> bool:
    frame = getattr(coro, "cr_frame", None)
    suspended = getattr(coro, "cr_suspended", False)  # compiled coroutines may have neither
    running = getattr(coro, "cr_running", False)
    return not suspended and not running and (frame is not None or not hasattr(coro, "cr_frame"))


def _foreign(yielded: object) -> RuntimeError:
    """What to throw in where a task awaited something of another library."""
    try:
        what = f"{yielded!r} ({type(yielded).__module__}.{type(yielded).__qualname__})"
    except Exception:
        what = f"an object of {type(yielded)!r}"
    if yielded is None:
        what = "a bare yield (asyncio.sleep(0)? here it is yield_now())"
    return RuntimeError(
        f"a trale_py task awaited {what}, which is not trale_py's and which only its own "
        "event loop can wake. Bridge: await it there, and have that loop call set() of a "
        "trale_py Event, which this task awaits."
    )


def current_task() -> Task | None:
    """The task that is running this code; None outside of tasks."""
    cx = current.thread.context
    return None if cx is None else cx.runtime.executor.polling


def tasks() -> list[Task]:
    """Every live task of the default runtime, as of this moment; in a task, of that task's.

    From any thread; never waits, also if the executor is stuck.
    """
    return current.runtime().tasks()
