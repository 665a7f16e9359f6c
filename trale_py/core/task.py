"""Task: a coroutine, and what the executor needs in order to poll it.

    spawned --push--> queued --next_batch--> running --PENDING--> waiting --wake--> queued
                                                |
                                                +--returned, raised--> finished

Everything here is written by the executor's thread.
"""

from __future__ import annotations

import contextvars
from collections.abc import Coroutine
from typing import Any

from ..base.errors import Cancelled, TaskCancelled, set_traceback, stop_value, traceback_of
from ..base.log import report
from . import current
from .contract import GroupLike, RuntimeLike
from .coroutine import foreign, is_unstarted
from .engine import accelerated
from .future import PENDING
from .outcome import Outcome, line_of
from .scope_tree import ScopeTree, without_cancelled
from .waker import Context

# How many operations a task may do in one turn without waiting. A task whose sockets are
# always ready would otherwise never give way. The figure is Tokio's, and not critical:
# large enough that giving way costs nothing by comparison, small enough to be short.
BUDGET = 128

# How often a task is thrown the same cancellation before it is said. Cleaning up may well take
# several awaits that are cancelled each; a hundred are a loop.
SWALLOWED = 100


class ForeignWait(BaseException):
    """In ``Task._throw``: the task awaits something of a foreign loop's, and nothing is thrown yet.

    A poll before that has ended must not resume the coroutine, as asyncio's futures refuse that.
    """

    def done(self) -> bool:
        """Whether it has ended."""
        raise NotImplementedError

    def take(self) -> BaseException | None:
        """The wait is over: take back what was left there. What to throw in; None: resume."""
        raise NotImplementedError


@accelerated
class Task:
    """A coroutine that was given to ``spawn``. To be looked at: see ``tasks()``.

    What it shows is read-only. ::

        for task in tasks():
            print(task.id, task.name, task.state, task.spawned_at)
    """

    __slots__ = (
        "_cancel_called",
        "_code",
        "_context",
        "_coro",
        "_cx",
        "_ended",
        "_error",
        "_group",
        "_id",
        "_name",
        "_offset",
        "_outcome",
        "_parent_id",
        "_root",
        "_scope",
        "_started",
        "_throw",
        "_turn",
        "_value",
    )

    def __init__(
        self,
        runtime: RuntimeLike,
        coro: Coroutine[Any, Any, Any],
        context: contextvars.Context,
        outcome: Outcome[Any],
        parent_id: int | None,
    ) -> None:
        self._id = outcome.id
        self._name = outcome.name
        self._code, self._offset = outcome.code, outcome.offset
        self._coro = coro
        self._outcome: Outcome[Any] | None = outcome  # None once it is settled
        self._parent_id = parent_id
        self._cx: Context = runtime.run_queue.context(outcome.id, runtime)
        self._scope: ScopeTree | None = None  # the innermost, where the task is now
        self._root: ScopeTree | None = None  # the outermost of its own
        self._group: GroupLike | None = None  # which waits for its end
        self._context = context
        self._turn = False  # the executor is about to poll it
        self._started = False
        self._ended = False
        self._cancel_called = False
        self._value: object = None
        self._error: BaseException | None = None
        self._throw: BaseException | None = None  # at the next poll, instead of resuming

    @property
    def id(self) -> int:
        """A number that no other task of the runtime has, before or after."""
        return self._id

    @property
    def name(self) -> str:
        """As given to ``spawn``, else the qualified name of the coroutine's function."""
        return self._name

    @property
    def parent_id(self) -> int | None:
        """The id of the task that spawned it, or that opened its group; None: a script did."""
        return self._parent_id

    @property
    def coro(self) -> Coroutine[Any, Any, Any]:
        """The coroutine that it runs."""
        return self._coro

    @property
    def spawned_at(self) -> str:
        """``"file:line"`` of the spawn in the user's code; ``"?"`` if that is not known."""
        return line_of(self._code, self._offset)

    @property
    def cancel_called(self) -> bool:
        """Whether it was told to end: by ``cancel()`` of its handle, or by a shutdown.

        True also if it goes on, or has ended in another way. A cancelled scope around a part of
        its code, or around its group, does not count.
        """
        return self._cancel_called

    @property
    def _runtime(self) -> RuntimeLike:
        return self._cx._runtime

    @property
    def state(self) -> str:
        """``"queued"``, ``"running"``, ``"waiting"`` or ``"finished"``, as of this moment."""
        if self._outcome is None:
            return "finished"
        if self._runtime.executor._polling is self:
            return "running"
        return "waiting" if self._runtime.run_queue.is_waiting(self) else "queued"

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.name!r} {self.state}>"

    def _poll(self) -> bool:
        """Run the coroutine to its next suspension. True: it has ended, see _settle().

        Whatever it raises ends this task only, be it SystemExit, KeyboardInterrupt or
        GeneratorExit. RuntimeError if it is not the executor that calls, or in the midst of a poll.
        """
        if not self._turn:
            raise RuntimeError(f"{self!r} is polled by its executor only, once at a time")
        self._turn = False
        self._cx._budget = BUDGET
        if isinstance(self._throw, ForeignWait) and not self._ends_foreign_wait(self._throw):
            return False
        try:
            if self._cx._cancelled and self._started and self._throw is None:
                # R23: it is at a checkpoint, and what it waits for there may have happened in
                # this very turn, before the cancellation or after it. The code that made it happen
                # may count on its being heard: an Event says that something was handed over. So
                # the task is resumed for a last look. If it is told what cannot be given to
                # another waiter, the await returns and the next checkpoint raises; all else is
                # still there or goes to the next waiter, by drop(). See Future._delivered.
                self._cx._last_look = True
                yielded = self._context.run(self._coro.send, None)
                refused, self._cx._last_look = self._cx._last_look, False
                if not refused:  # it has gone on
                    if yielded is not PENDING:
                        self._throw_foreign(yielded)
                    return False
            if self._cx._cancelled and not self._starts_nevertheless():
                scope = self._innermost()
                self._throw = Cancelled._with_reason(scope._cancel_reason())
                self._count_throws(scope)
            error, self._throw = self._throw, None
            if not self._started:
                self._check_unstarted()
                self._started = True
                if error is not None:  # cancelled before its first step, it never runs
                    self._close_unstarted()
                    raise error
            if error is None:
                yielded = self._context.run(self._coro.send, None)
            else:
                yielded = self._context.run(self._coro.throw, error)
            if yielded is not PENDING:
                self._throw_foreign(yielded)
        except StopIteration as stop:
            self._ended, self._value = True, stop_value(stop)
        except BaseException as raised:
            self._ended, self._error = True, raised
            traceback = traceback_of(raised)
            if traceback is not None:
                set_traceback(raised, traceback.tb_next)  # without this frame
        finally:
            error = yielded = traceback = None
        return self._ended

    def _close_unstarted(self) -> None:
        """It never runs. What its close() raises is not how the task ended."""
        try:
            self._coro.close()
        except BaseException as failed:  # of a foreign coroutine
            report(
                "closing task %d (%s), which never ran, failed", self.id, self.name, error=failed
            )

    def _starts_nevertheless(self) -> bool:
        """A group's child, cancelled before its first step, runs to its first checkpoint: what it
        was given may be its to close. At the runtime's end nothing begins any more."""
        return not self._started and self._group is not None and not self._runtime.closing

    def _throw_foreign(self, yielded: object) -> None:
        """It awaits what is not ours: a future of the guest loop, or else RuntimeError."""
        self._throw = current.foreign_loop.adopt(self._cx.waker, yielded)
        if self._throw is None:
            # Thrown in at the next turn, not now: a task may try this again and again.
            self._throw = foreign(yielded)
            self._cx.waker.wake()

    def _ends_foreign_wait(self, wait: ForeignWait) -> bool:
        """Whether the coroutine is to be resumed, or thrown something, where it awaits that.

        What has ended is delivered, also to a task that is cancelled: the next checkpoint raises.
        Else the cancellation takes the place of ``wait``.
        """
        if wait.done():
            self._throw = wait.take()
        elif self._cx._cancelled:
            wait.take()
        else:
            return False
        return True

    def _count_throws(self, scope: ScopeTree) -> None:
        """A task that is thrown the same cancellation again and again is reported, once."""
        scope._throw_count += 1
        # Not at the end of the runtime, which leaves such a task behind anyway.
        if scope._throw_count == SWALLOWED and not self._runtime.closing:
            report(
                "task %d (%s), spawned at %s, seems to swallow its cancellation: "
                "it was cancelled %d times in the same scope and still runs",
                self.id,
                self.name,
                "?" if self._outcome is None else self._outcome.spawned_at(),
                SWALLOWED,
            )

    def _settle(self) -> None:
        """Hand the result of the last poll to the waiters. Executor's thread only.

        RuntimeError if it has not ended.

        The task lets go of everything here. An error's traceback refers to the coroutine's frame,
        that (by f_back) to the frames that polled it, and they to the task. If the task still
        referred to the error, only the garbage collector could free them all.
        """
        if not self._ended:
            raise RuntimeError(f"{self!r} has not ended")
        value, self._value = self._value, None
        error, self._error = self._error, None
        cancelled, reason = None, None
        if error is not None and self._cx._cancelled:
            error, cancelled = without_cancelled(error)
            reason = self._innermost()._cancel_reason()
        outcome = self._take_outcome()
        if outcome is None:  # given up meanwhile, see Runtime.shutdown
            return
        group = self._group
        try:
            if error is not None:
                current.foreign_loop.explain(error)
                if group is not None:
                    group._child_failed(error)
                if traceback_of(error) is None:  # not the coroutine's: its context is in use
                    self._coro.close()
                outcome.fail(error, report=group is None)
            elif cancelled is not None:
                ended = TaskCancelled(reason)
                ended.__cause__ = cancelled
                if group is not None:
                    group._child_cut_off()
                outcome.cancel(ended)
            else:
                outcome.succeed(value)
        except BaseException as failed:  # memory was short, or the coroutine's close() has raised
            self._settle_anyway(outcome, failed if error is None else error, failed)
        finally:
            self._leave_group()

    def _settle_anyway(
        self, outcome: Outcome[Any], error: BaseException, failed: BaseException
    ) -> None:
        """The end is claimed, so only this call reports how the task has ended."""
        if outcome.opened:
            raise failed  # a waiter was not woken, and would wait for ever: it ends the runtime
        report("settling task %d (%s) failed", self._id, self._name, error=failed)
        outcome.fail(error, report=self._group is None)

    def _abandon(self, error: BaseException) -> None:
        """The runtime ends, and the task has not. Any thread, if the executor is stuck."""
        outcome = self._take_outcome()
        if outcome is not None:
            try:
                outcome.fail(error, report=False)
            finally:
                self._leave_group()

    def _leave_group(self) -> None:
        """Tell its group, once, that it has ended."""
        group, self._group = self._group, None
        if group is not None:
            group._child_ended(self)

    def _take_outcome(self) -> Outcome[Any] | None:
        """What is to be settled. None: another thread has taken it.

        R15: a task that did not give way may end at the very moment when a shutdown gives it up,
        in another thread. Both come here; the first to claim it settles it, the other does nothing.
        """
        if self._ended and self._root is not None:
            while self._scope is not None and self._scope is not self._root:
                self._scope._left_behind()
            self._root._unlink()
            self._root = self._scope = None
        if not self._cx._claim_end():
            return None
        outcome, self._outcome = self._outcome, None
        return outcome

    # -- cancellation ---------------------------------------------------------------------------

    def _innermost(self) -> ScopeTree:
        """The scope the task is in. One of its own is made if there is none."""
        if self._scope is None:
            self._stand_under(None)
        assert self._scope is not None
        return self._scope

    def _stand_under(self, parent: ScopeTree | None) -> None:
        """Give the task its outermost scope, below ``parent``."""
        if self._root is None:
            root = ScopeTree()
            root._link(parent, self)
            self._root = root
        elif parent is not None:  # cancelled before its group adopted it: that must not be lost
            self._root._move(parent)

    def _cancel(self, reason: object) -> None:
        """Cancel the task's outermost scope. Executor's thread only."""
        if self._outcome is not None:
            self._cancel_called = True
            self._innermost()
            assert self._root is not None
            self._root._deliver(reason)

    def _check_unstarted(self) -> None:
        """RuntimeError for a coroutine that has run before, or runs elsewhere."""
        if not is_unstarted(self._coro):
            raise RuntimeError(
                f"{self.name}: this coroutine has already run, or another task is running it"
            )

    def _throw_in(self, error: BaseException) -> None:
        """Have the next poll raise ``error`` in the coroutine, or not begin if it has not begun."""
        self._throw = error


def current_task() -> Task | None:
    """The task that is running this code; None outside of tasks."""
    cx = current.thread.context
    return None if cx is None else cx._runtime.executor._polling


def tasks() -> list[Task]:
    """Every live task of the default runtime, as of this moment; in a task, of that task's.

    From any thread; never waits, also if the executor is stuck.
    """
    return current.runtime().tasks()
