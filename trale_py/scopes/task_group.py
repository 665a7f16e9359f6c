"""Groups: several tasks that end together.

A TaskGroup does not let go of the block that opened it before every task spawned in it
has ended. If one fails, the others are cancelled, and the failures come out of the block
in one ExceptionGroup. The same in a task (``async with``) and in a script (``with``).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from ..base.errors import Cancelled, RuntimeClosed, WouldDeadlock
from ..base.log import report
from ..core import current
from ..core.future import Future
from ..core.join import JoinHandle
from ..core.latch import Latch, LatchWait
from ..core.leaf import checkpoint
from ..core.task import Task, current_task
from .cancel_scope import CancelScope

if TYPE_CHECKING:
    from ..core.runtime import Runtime

T = TypeVar("T")


class TaskGroup:
    """Spawn tasks and wait for all of them; what fails cancels the rest.

    In a task::

        async with TaskGroup() as group:
            group.spawn(fetch("a"))
            group.spawn(fetch("b"))

    In a script, the same with a plain ``with``; there the body is not interrupted when a
    child fails. Ctrl-C, in the body or while the end is waited for, cancels the children,
    waits for their end, and is then raised itself; a second one stops the waiting.

    Whatever failed, children or body, comes out in one ExceptionGroup (BaseExceptionGroup if
    need be), also if it is one. Being cancelled is no failure: neither that of a child by its
    handle, nor that of all of them by ``cancel_scope``.
    """

    def __init__(self) -> None:
        self.cancel_scope = CancelScope()
        # The executor's thread writes these. Children are spawned by publishing them to it.
        self._children: dict[Task, None] = {}
        self._errors: list[BaseException] = []
        self._ending = False  # the body has ended: the last child's end is the group's
        self._closed = False  # no child is adopted any more
        self._done = Latch()  # closed, for those who wait
        self._runtime: Runtime | None = None

    def spawn(
        self, coro: Coroutine[Any, Any, T] | Future[T], *, name: str | None = None
    ) -> JoinHandle[T]:
        """As ``trale_py.spawn``, in the group: under its cancel scope, and waited for.

        From any thread, and from children, also while the block waits for them. Before it and
        after its end RuntimeError; the coroutine is closed then.
        """
        if self._runtime is None or self._closed:
            if isinstance(coro, Coroutine):
                coro.close()
            raise RuntimeError("this TaskGroup is not open")
        return self._runtime.spawn(coro, name=name, adopt=self._adopt)

    async def start(
        self, fn: Callable[..., Coroutine[Any, Any, Any]], *args: Any, name: str | None = None
    ) -> Any:
        """Spawn ``fn(*args, task_status=...)``; wait until it calls ``task_status.started(value)``.

        Returns the value; from then on the task is the group's. An error before that comes out
        here, and RuntimeError if it ends without saying so. Cancelled, it cancels the task.

        After trio's `Nursery.start <https://trio.readthedocs.io/en/stable/reference-core.html>`_.
        """
        if self._runtime is None or self._closed:
            raise RuntimeError("this TaskGroup is not open")
        starting = TaskGroup()
        status: TaskStatus[Any] = TaskStatus(starting, self)
        try:
            async with starting:
                handle = starting.spawn(fn(*args, task_status=status), name=name)
                handle.add_done_callback(status._ended)
                await LatchWait(status._latch)
        except Cancelled:
            if status._started:  # and is the other group's by now
                handle.cancel("start() was cancelled")
            raise
        except BaseExceptionGroup as errors:
            if len(errors.exceptions) == 1:
                raise errors.exceptions[0] from None
            raise
        if not status._started:
            raise RuntimeError("the task has ended without calling task_status.started()")
        return status._value

    # -- in a task ------------------------------------------------------------------------------

    async def __aenter__(self) -> TaskGroup:
        task = current_task()
        if task is None:
            raise RuntimeError("async with TaskGroup() is for tasks; in a script: with TaskGroup()")
        self.cancel_scope.__enter__()
        self._runtime = task.runtime
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        if isinstance(exc, GeneratorExit):  # the coroutine is being closed: it must not wait
            self._fail()
            self.close()
            return self.cancel_scope.__exit__(exc_type, exc, tb)
        if exc is not None:
            self._fail(None if isinstance(exc, Cancelled) else exc)
        self.close()
        if not self._done.opened:
            # The children hear of a cancellation from outside by the tree of scopes; what there
            # is to do here meanwhile is to wait for them.
            with CancelScope(shield=True):
                await LatchWait(self._done)
        try:
            self._raise_errors()
            if exc is None:
                await checkpoint()
        except BaseException as error:
            if self.cancel_scope.__exit__(type(error), error, error.__traceback__):
                return True
            raise
        return self.cancel_scope.__exit__(exc_type, exc, tb)

    # -- in a script ------------------------------------------------------------------------------

    def __enter__(self) -> TaskGroup:
        if current.thread.runtime is not None:
            raise WouldDeadlock("with TaskGroup() would wait for itself; in a task: async with")
        runtime = current.runtime()
        runtime.ensure_running()
        self.cancel_scope.enter(runtime, None, None)
        self._runtime = runtime
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> Literal[False]:
        assert self._runtime is not None
        if exc is not None and self._runtime.forked:
            return False
        interrupt: BaseException | None = None
        try:
            if isinstance(exc, (KeyboardInterrupt, SystemExit)):
                interrupt = exc
            if exc is not None:
                self._tell(partial(self._fail, None if interrupt else exc))
            # It comes after all that was spawned in the block, which goes the same way.
            self._tell(self.close)
            self._wait_blocking()
        except KeyboardInterrupt as error:
            if interrupt is not None:
                raise
            interrupt = error
            self.cancel_scope.cancel("Ctrl-C")
            self._tell(self.close)
            self._wait_blocking()
        if self._runtime.forked:  # the tasks are the parent's, and so is their end
            raise RuntimeClosed(f"this TaskGroup cannot be left: {self._runtime.gone}")
        if interrupt is None:
            self._raise_errors()
            return False
        for failure in self._errors:
            report("a task of %r failed while it was cancelled", self, error=failure)
        try:
            raise interrupt
        finally:
            del interrupt

    def _wait_blocking(self) -> None:
        assert self._runtime is not None
        if not self._runtime.forked:
            self._done.wait_blocking()

    def _tell(self, call: Callable[[], object]) -> None:
        assert self._runtime is not None
        self._runtime.call_on_executor(call)

    # -- the children: executor's thread ----------------------------------------------------------

    def _adopt(self, task: Task) -> None:
        if self._closed:
            task.throw(RuntimeError("this TaskGroup was closed before the task could begin"))
            return
        self.take_over(task)

    def take_over(self, task: Task) -> None:
        self._children[task] = None
        task.group = self
        task.stand_under(self.cancel_scope)

    def hand_over(self, task: Task, group: TaskGroup) -> None:
        """Have ``group`` wait for the task from now on."""
        self._children.pop(task, None)
        group._children[task] = None
        task.group = group
        if task.root is not None:
            task.root.move(group.cancel_scope)
        self._check_done()

    def child_failed(self, error: BaseException) -> None:
        self._fail(error)

    def child_ended(self, task: Task) -> None:
        self._children.pop(task, None)
        self._check_done()

    def close(self) -> None:
        """The body has ended: when all children have, it is over."""
        self._ending = True
        self._check_done()

    def _check_done(self) -> None:
        if self._ending and not self._children:
            self._closed = True
            if self.cancel_scope.task is None:
                self.cancel_scope.leave()  # a script's; a task leaves its own
            self._done.open()

    def _fail(self, error: BaseException | None = None) -> None:
        if error is not None:
            self._errors.append(error)
        self.cancel_scope.deliver("another task of the group failed" if error else "the group ends")

    def _raise_errors(self) -> None:
        errors, self._errors = self._errors, []
        if errors:
            try:
                raise BaseExceptionGroup("tasks of a TaskGroup failed", errors)
            finally:
                del errors, self  # the traceback would lead back to them

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._runtime is not None else "new"
        return f"<TaskGroup {state}, {len(self._children)} tasks>"


class TaskStatus(Generic[T]):
    """How a task that ``TaskGroup.start`` has spawned says that it is ready."""

    def __init__(self, starting: TaskGroup, group: TaskGroup) -> None:
        self._starting = starting
        self._group = group
        self._latch = Latch()
        self._started = False
        self._value: T | None = None

    def started(self, value: T | None = None) -> None:
        """The task is ready: ``start()`` returns ``value``. Once, in tasks; else RuntimeError."""
        if self._started or current.thread.context is None or not self._starting._children:
            raise RuntimeError("started() is called once, in a task, while start() waits for it")
        if self._group._closed:
            raise RuntimeError("the TaskGroup was closed before the task was ready")
        self._value = value
        self._started = True
        if self._starting.cancel_scope.effective:
            return  # too late: start() is cancelled, and the task with it, wherever it is
        for task in list(self._starting._children):  # there is one
            self._starting.hand_over(task, self._group)
        self._latch.open()

    def _ended(self, _: object) -> None:
        self._latch.open()
