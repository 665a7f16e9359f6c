"""Groups: several tasks that end together.

A TaskGroup does not let go of the block that opened it before every task spawned in it
has ended. If one fails, the others are cancelled, and the failures come out of the block
in one ExceptionGroup. The same in a task (``async with``) and in a script (``with``).
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, overload

from ..base.errors import (
    Cancelled,
    RuntimeClosed,
    is_a,
    raise_as_it_was,
    stand_in,
    traceback_of,
)
from ..base.log import report
from ..core import current
from ..core.contract import RuntimeLike
from ..core.coroutine import close_refused, was_raised
from ..core.future import Future
from ..core.join import JoinHandle
from ..core.latch import Latch, LatchWait
from ..core.leaf import yield_now
from ..core.scope_tree import without_cancelled
from ..core.task import Task, current_task
from ..core.with_block import WithBlock
from .cancel_scope import CancelScope
from .task_status import Startable0, Startable1, Startable2, Startable3, TaskStatus

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
S = TypeVar("S")
T = TypeVar("T")

_FAILED = "tasks of a TaskGroup failed"


def _is_interrupt(error: BaseException | None) -> bool:
    """It ends the program: it comes out of a script's block itself, not in an ExceptionGroup."""
    return is_a(error, KeyboardInterrupt) or is_a(error, SystemExit)


class TaskGroup(WithBlock):
    """Spawn tasks and wait for all of them; what fails cancels the rest.

    In a task::

        async with TaskGroup() as group:
            group.spawn(fetch("a"))
            group.spawn(fetch("b"))

    In a script, the same with a plain ``with``; there the body is not interrupted when a
    child fails. Ctrl-C, in the body or while the end is waited for, cancels the children,
    waits for their end, and is then raised itself; a second one stops the waiting. SystemExit
    likewise.

    Whatever failed, children or body, comes out in one ExceptionGroup (BaseExceptionGroup if
    need be), also if it is one. Being cancelled is no failure: neither that of a child by its
    handle, nor that of all of them by ``cancel_scope``.

    Leaving the block gives way once, and is not cancelled itself: Cancelled comes out only if a
    scope around the group is cancelled, and a child or the body was ended by that. A group that
    was entered in one task and is left in another cancels its children and raises RuntimeError
    at once. If the coroutine is closed inside the block, the children are cancelled, but not
    waited for.

    After trio's `nurseries <https://trio.readthedocs.io/en/stable/reference-core.html>`_.
    """

    def __init__(self) -> None:
        self.cancel_scope: CancelScope = CancelScope()
        self.cancel_scope._of_group = True
        self._runtime: RuntimeLike | None = None
        self._host_id: int | None = None  # the task that opened it; None: a script
        # The executor's thread writes these. Children are spawned by publishing them to it.
        self._children: dict[Task, None] = {}
        self._starts = 0  # start()s under way, whose task may still become a child
        self._errors: list[BaseException] = []
        self._cut_off = False  # a child was ended by the cancellation of a scope outside of it
        self._ending = False  # the body has ended: the last child's end is the group's
        self._closed = False  # no child is adopted any more
        self._done = _Ended(self._children)  # closed, for its waiters

    def spawn(
        self,
        coro: Coroutine[Any, Any, T] | Future[T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> JoinHandle[T]:
        """As ``trale_py.spawn``, in the group: under its cancel scope, and waited for.

        From any thread, and from children, also while the block waits for them. Before it and
        after its end RuntimeError; the coroutine is closed then. A child always begins: cancelled
        before that, it gets Cancelled at its first checkpoint. Its ``parent_id`` is that of the
        task that opened the group.
        """
        if self._runtime is None or self._closed:
            close_refused(coro)
            raise RuntimeError("this TaskGroup is not open")
        handle: JoinHandle[T] = self._runtime.spawn(
            coro, name=name, context=context, adopt=self._adopt, host_id=self._host_id
        )
        return handle

    @overload
    async def start(self, fn: Startable0[S], /, *, name: str | None = None) -> S: ...
    @overload
    async def start(self, fn: Startable1[A, S], a: A, /, *, name: str | None = None) -> S: ...
    @overload
    async def start(
        self, fn: Startable2[A, B, S], a: A, b: B, /, *, name: str | None = None
    ) -> S: ...
    @overload
    async def start(
        self, fn: Startable3[A, B, C, S], a: A, b: B, c: C, /, *, name: str | None = None
    ) -> S: ...
    @overload
    async def start(
        self, fn: Callable[..., Coroutine[Any, Any, Any]], /, *args: Any, name: str | None = None
    ) -> Any: ...
    async def start(
        self, fn: Callable[..., Coroutine[Any, Any, Any]], /, *args: Any, name: str | None = None
    ) -> Any:
        """Spawn ``fn(*args, task_status=...)``; wait until it calls ``task_status.started(value)``.

        Returns the value, also if the task fails at once after that; from then on the task is
        the group's. An error before that comes out here, and RuntimeError if it ends without
        saying so. Cancelled, it cancels the task and waits for its end. The group does not end
        while this waits. In tasks of the group's runtime only. ::

            port = await group.start(serve, handler)

        After trio's `Nursery.start <https://trio.readthedocs.io/en/stable/reference-core.html>`_.
        """
        if self._runtime is None or self._closed:
            raise RuntimeError("this TaskGroup is not open")
        task = current_task()
        if task is None or task._runtime is not self._runtime:
            raise RuntimeError("start() must be called in a task of the group's runtime")
        starting = TaskGroup()
        status: TaskStatus[Any] = TaskStatus(starting, self)
        error: BaseException | None = None
        self._starts += 1
        try:
            async with starting:
                starting._host_id = self._host_id
                starting.spawn(fn(*args, task_status=status), name=name)
        except BaseExceptionGroup as errors:
            if len(errors.exceptions) > 1:
                raise
            error = errors.exceptions[0]
        finally:
            self._tell(self._start_ended)
        if error is not None:
            try:
                raise_as_it_was(error)
            finally:
                del error, starting, status
        if not status._called:
            raise RuntimeError("the task has ended without calling task_status.started()")
        return status._value

    # -- in a task ------------------------------------------------------------------------------

    async def __aenter__(self) -> TaskGroup:
        task = current_task()
        if task is None:
            raise RuntimeError(
                "async with TaskGroup() works in trale_py's tasks only. In asyncio code, "
                "await spawn(...) of a coroutine that uses it; in a script, use with TaskGroup()"
            )
        runtime, host_id = task._runtime, task.id
        self.cancel_scope.__enter__()  # the last call: R51
        self._runtime, self._host_id = runtime, host_id
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        scope, task = self.cancel_scope, current_task()
        closing = is_a(exc, GeneratorExit) and not was_raised(exc)
        if task is None or task is not scope._task or closing:
            self._tell(self._end_alone)
            return scope.__exit__(exc_type, exc, tb)
        cancelled = None
        try:
            if exc is not None:
                failure, cancelled = without_cancelled(exc) if scope._is_cancelled else (exc, None)
                self._fail(failure)
            self._close()
            await self._wait()
            self._raise_errors()
            if cancelled is None and self._cut_off and scope._is_cancelled:
                raise Cancelled._with_reason(scope._cancel_reason())
        except BaseException as error:
            if not self._done.opened:  # it is closed while it waits, or recursion is too deep: R51
                assert self._runtime is not None
                self._runtime.publish(self._end_alone)
            if scope.__exit__(type(error), error, traceback_of(error)):
                return True
            raise
        return scope.__exit__(exc_type, exc, tb)

    async def _wait(self) -> None:
        """Until all have ended. The children hear of a cancellation from outside by the tree of
        scopes; what there is to do here meanwhile is to wait for them."""
        with CancelScope(shield=True):
            if self._done.opened:
                await yield_now()
            else:
                await LatchWait(self._done)

    # -- in a script ------------------------------------------------------------------------------

    def __enter__(self) -> TaskGroup:
        current.refuse_to_block(
            "with TaskGroup() on the executor's thread would deadlock; in a task, use async with"
        )
        runtime = current.runtime()
        runtime.ensure_running()
        self.cancel_scope._enter(runtime, None, None)
        self._runtime = runtime
        return self

    def _exit(self, exc: BaseException | None) -> None:
        assert self._runtime is not None
        if exc is not None and self._runtime.forked:
            return
        if exc is not None:
            self._tell(partial(self._fail, None if _is_interrupt(exc) else exc))
        # It comes after all that was spawned in the block, which goes the same way.
        self._tell(self._close)
        self._wait_blocking()
        if _is_interrupt(exc):
            self._report_errors()
        else:
            self._raise_errors()

    def _exit_again(self, error: BaseException, exc: BaseException | None) -> None:
        assert self._runtime is not None
        if not self._done.opened and not self._runtime.forked:
            self._tell(self._end_alone)
            if _is_interrupt(exc):  # this is the second one
                return
            self._wait_blocking()
        self._report_errors()

    def _wait_blocking(self) -> None:
        """In a script: wait until all children have ended."""
        assert self._runtime is not None
        if not self._runtime.forked:
            self._done.wait_blocking()
        if self._runtime.forked:  # the tasks are the parent's, and so is their end
            raise RuntimeClosed(f"this TaskGroup cannot wait for its tasks: {self._runtime.gone}")

    def _report_errors(self) -> None:
        """Log what children raised while they were cancelled."""
        errors, self._errors = self._errors, []
        for error in errors:
            report("a task of %r failed while it was cancelled", self, error=error)

    def _tell(self, call: Callable[[], object]) -> None:
        """Have ``call`` called on the executor's thread."""
        assert self._runtime is not None
        self._runtime.call_on_executor(call)

    # -- the children: executor's thread ----------------------------------------------------------

    def _adopt(self, task: Task) -> None:
        """A new child, before its first poll. Executor's thread."""
        if self._closed:
            task._throw_in(RuntimeError("this TaskGroup was closed before the task could start"))
            return
        self._take_over(task)

    def _take_over(self, task: Task) -> None:
        """The task is a child from now on, and is waited for."""
        # The first two may fail, as memory is short; then there is no child to be waited for.
        task._stand_under(self.cancel_scope)
        self._children[task] = None
        task._group = self

    def _hand_over(self, task: Task, group: TaskGroup) -> None:
        """Have ``group`` wait for the task from now on."""
        self._children.pop(task, None)
        group._children[task] = None
        task._group = group
        if task._root is not None:
            task._root._move(group.cancel_scope)
        self._check_done()

    def _start_ended(self) -> None:
        """One start() is over."""
        self._starts -= 1
        self._check_done()

    def _child_cut_off(self) -> None:
        """A child was cancelled. By its own handle only, it ends alone."""
        self._cut_off = self._cut_off or self.cancel_scope._is_cancelled

    def _child_failed(self, error: BaseException) -> None:
        """A child has raised: cancel the others, keep the error."""
        self._fail(error)

    def _child_ended(self, task: Task) -> None:
        """A child has ended, in whatever way."""
        self._children.pop(task, None)
        self._check_done()

    def _close(self) -> None:
        """The body has ended: when all children have, it is over."""
        self._ending = True
        self._check_done()

    def _end_alone(self) -> None:
        """No block waits for it any more."""
        self._fail()
        self._close()

    def _check_done(self) -> None:
        """Let the block go on if all is over."""
        if self._ending and not self._children and not self._starts:
            self._closed = True
            if self.cancel_scope._task is None:
                self.cancel_scope._leave()  # of a script, or left behind; a task leaves its own
            self._done.open()

    def _fail(self, error: BaseException | None = None) -> None:
        """Keep ``error``, if there is one, and cancel all children."""
        if error is None:
            self.cancel_scope._deliver("the group ends")
        else:
            self._errors.append(error)
            self.cancel_scope._deliver("another task of the group failed")

    def _raise_errors(self) -> None:
        """Raise what children raised, as one ExceptionGroup."""
        errors, self._errors = self._errors, []
        if errors:
            try:
                raise _grouped(errors) from None
            finally:
                del errors, self  # the traceback would lead back to them

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._runtime is not None else "new"
        return f"<TaskGroup {state}, {len(self._children)} tasks>"


class _Ended(Latch):
    """Opens when a group has ended."""

    __slots__ = ("_children",)

    def __init__(self, children: dict[Task, None]) -> None:
        super().__init__()
        self._children = children  # of the group, which are left

    def __repr__(self) -> str:
        return f"<TaskGroup of {list(self._children)!r}>"


def _grouped(errors: list[BaseException]) -> BaseExceptionGroup[BaseException]:
    try:
        return BaseExceptionGroup(_FAILED, errors)
    except BaseException:  # it asks for __class__, which of an error of the user's may raise
        return ExceptionGroup(_FAILED, [stand_in(error) for error in errors])
