"""Cancel scopes: stretches of a task's code that can be told to stop.

It is level-triggered. A cancelled scope raises Cancelled not once but at every
checkpoint (every await of this library) until the scope is left. So code that swallows it
by mistake meets it again.

Cancelled is never raised by the operation itself. A task inside a cancelled scope that
comes to a checkpoint does nothing and suspends, and the executor throws Cancelled into
it at its next turn: a task that swallows it for ever takes its turn like all others.
"""

from __future__ import annotations

import math
from functools import partial
from types import TracebackType
from typing import Literal

from ..base.durations import NEVER, Duration, to_deadline, to_ns
from ..base.errors import raise_as_it_was
from ..core import current
from ..core.contract import RuntimeLike
from ..core.scope_tree import ScopeTree, without_cancelled
from ..core.task import Task, current_task
from ..core.timer_heap import TimerEntry


class CancelScope(ScopeTree):
    """Code that can be cancelled: ``with CancelScope() as scope: ...``, in a task.

    ``scope.cancel()`` makes every await inside raise Cancelled, until the block is left, where
    it is swallowed. ``deadline`` (on the clock ``now()``) does the same when it has come.
    With ``shield=True`` a cancellation from outside does not reach the inside. A scope is
    entered once. RuntimeError outside of tasks, and if it is left in another task than it was
    entered in, or before a scope that was entered inside; it is left all the same.

    If the block ends by an ExceptionGroup, a cancelled scope takes the Cancelled in it out. ::

        with CancelScope() as scope:
            spawn(later(scope.cancel))
            await sleep(1000)
        assert scope.cancelled_caught

    After trio's `CancelScope <https://trio.readthedocs.io/en/stable/reference-core.html>`_.
    """

    __slots__ = (
        "_caught",
        "_deadline",
        "_entered_in",
        "_of_group",
        "_runtime",
        "_state",
        "_timer",
    )

    def __init__(self, *, deadline: float = math.inf, shield: bool = False) -> None:
        super().__init__(shield=shield)
        self._of_group = (
            False  # other tasks stand under it, which may outlive the one that is in it
        )
        self._entered_in = ""  # the task, for messages, when it has ended without leaving
        self._deadline = _deadline_ns(deadline)
        self._state: Literal["new", "entered", "left"] = "new"
        self._caught = False
        self._runtime: RuntimeLike | None = None  # set on entry; told of changes
        self._timer: TimerEntry | None = None

    # -- what users see -----------------------------------------------------------------------

    def cancel(self, reason: object = None) -> None:
        """Cancel what is inside. From any thread, a signal handler or a ``__del__``.

        Before entry, the scope will be cancelled from its beginning. Twice, the first reason
        stays. After the scope was left, nothing happens. Never waits. ``reason`` is shown by
        the exceptions that come of it.
        """
        if self._state == "left":
            return
        # Published before it is marked: a Ctrl-C between the two leaves a scope that is about
        # to be cancelled. If it is entered at this moment: see __enter__.
        before = self._runtime
        if before is not None:
            before.call_on_executor(partial(self._deliver, reason))
        self._mark(reason)
        if before is None and self._runtime is not None:
            self._runtime.call_on_executor(partial(self._deliver, reason))

    @property
    def cancel_called(self) -> bool:
        """Whether it was cancelled itself: by ``cancel()`` or because its deadline came."""
        return self._called

    @property
    def cancelled_caught(self) -> bool:
        """Whether the block ended by this scope's cancellation, which the scope swallowed."""
        return self._caught

    @property
    def reason(self) -> object:
        """What ``cancel()`` was given."""
        return self._reason

    @property
    def deadline(self) -> float:
        """When the scope is cancelled of itself, on the clock ``now()``; inf: never."""
        return math.inf if self._deadline == NEVER else self._deadline / 1e9

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        self._deadline = _deadline_ns(deadline)
        if self._runtime is not None:
            self._runtime.call_on_executor(self._set_timer)

    @property
    def shield(self) -> bool:
        """Whether cancellations from outside are kept out."""
        return self._shield

    @shield.setter
    def shield(self, shield: bool) -> None:
        self._shield = shield
        if self._runtime is not None:
            self._runtime.call_on_executor(self._update)

    def __enter__(self) -> CancelScope:
        task = current_task()
        if task is None:
            raise RuntimeError(
                f"{self!r} can be entered in a trale_py task only. In asyncio code, "
                "await spawn(...) of a coroutine that uses scopes; in a script, use "
                "handle.join(timeout=...), or run such a coroutine with block_on()"
            )
        self._enter(task._runtime, task._innermost(), task)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        task = current_task()
        if task is None or task._scope is not self or self._task is not task:
            self._leave_elsewhere(task)
            return False
        ended_by_this = exc is not None and self._called and not self._inherits()
        self._leave()
        if exc is None or not ended_by_this:
            return False
        rest, cancelled = without_cancelled(exc)
        self._caught = cancelled is not None
        if self._caught and rest is not None:
            raise_as_it_was(rest)
        return self._caught

    def __repr__(self) -> str:
        cancelled = ", cancelled" if self._called else ""
        shielded = ", shielded" if self._shield else ""
        of_group = " of a TaskGroup" if self._of_group else ""
        return f"<{type(self).__name__}{of_group} {self._state}{cancelled}{shielded}>"

    # -- entry and exit, also for groups ---------------------------------------------------------

    def _enter(self, runtime: RuntimeLike, parent: ScopeTree | None, task: Task | None) -> None:
        """Become the innermost scope of the task."""
        if self._state != "new":
            raise RuntimeError(f"this CancelScope has already been entered: {self!r}")
        self._state = "entered"
        # A cancel() in another thread marks and then looks for a runtime; here the runtime is
        # named first, and then _link() looks whether it is marked.
        self._runtime = runtime
        try:
            # The link comes last, and is whole or not there: R51.
            if self._deadline != NEVER:
                runtime.call_on_executor(self._set_timer)
            self._link(parent, task)
        except BaseException:
            self._state = "left"
            raise

    def _leave(self) -> None:
        """Out of the tree: the parent is the innermost scope again."""
        self._state = "left"
        self._unlink()
        self._drop_timer()
        self._task = self._parent = None

    def _left_behind(self) -> None:
        """Its task has ended without leaving it: its coroutine was closed."""
        if self._task is not None:
            self._entered_in = f"<Task {self._task._id} {self._task._name!r} finished>"
        if not self._of_group:
            self._leave()
            return
        # The group's children stay under it, and cancel() must reach them. It cannot inherit any
        # more: what it has inherited counts as its own.
        if self._is_cancelled:
            self._mark(self._cancel_reason())
        self._unlink()
        self._task = self._parent = None

    def _leave_elsewhere(self, task: Task | None) -> None:
        """It is left, but not as the innermost scope of the task that it was entered in.

        Nothing of it must stay in force: that task would stay under a scope that it is not in.
        ``task``: which leaves it; None outside of tasks, where a coroutine is being closed.
        """
        if self._runtime is None:
            raise RuntimeError(f"{self!r} was exited, but not entered")
        if task is not None and task is self._task:
            wrong = f"cannot exit {self!r} before the scopes that were entered inside it"
        else:
            entered_in = self._entered_in or repr(self._task)
            wrong = f"{self!r} was entered in {entered_in}, but exited in {task!r}"
        self._state = "left"
        self._runtime.call_on_executor(self._leave)
        if task is not None:
            raise RuntimeError(wrong)

    # -- the deadline: executor's thread ---------------------------------------------------------

    def _set_timer(self) -> None:
        """Leave the deadline with the reactor, in place of an earlier one."""
        self._drop_timer()
        if self._state != "entered" or self._called or self._runtime is None:
            return
        if self._deadline <= self._runtime.now_ns():
            self._deliver("its deadline has passed")
        elif self._deadline != NEVER:
            self._timer = self._runtime.reactor._add_timer(self._deadline, _Alarm(self))

    def _came_due(self) -> None:
        """The timer has fired.

        R53: it looks as if this were done once it is called. But memory may be short, and the
        timer does not fire again: the deadline would be lost. So what is cut off here is done at
        the next turn. It may have been cut off after the mark, which no task has heard of.
        """
        try:
            if self._called:
                self._deliver(None)
            else:
                self._set_timer()
        except MemoryError:
            if self._runtime is not None:
                self._runtime.publish(self._came_due)

    def _drop_timer(self) -> None:
        """No deadline is waited for any more."""
        if self._timer is not None and self._runtime is not None:
            self._runtime.reactor._cancel_timer(self._timer)
            self._timer = None


class _Alarm:
    """What the reactor wakes when a scope's deadline has come."""

    __slots__ = ("_scope",)

    def __init__(self, scope: CancelScope) -> None:
        self._scope = scope

    def wake(self) -> None:
        runtime = self._scope._runtime
        if runtime is None:
            return
        try:
            runtime.call_on_executor(self._scope._came_due)
        except MemoryError:  # R53
            runtime.publish(self.wake)


class _FailScope(CancelScope):
    __slots__ = ()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> Literal[False]:
        if super().__exit__(exc_type, exc, tb):
            raise TimeoutError(f"timed out: {self.reason}")
        return False


def move_on_after(seconds: Duration) -> CancelScope:
    """A scope that is cancelled when ``seconds`` are over: ``with move_on_after(5) as scope:``.

    The block is left then, and the program goes on after it; ``scope.cancelled_caught`` tells.
    """
    scope = CancelScope()
    scope._deadline = to_deadline(seconds, "seconds", current.now_ns())
    return scope


def fail_after(seconds: Duration) -> CancelScope:
    """As ``move_on_after``, but the block that was cut off ends in TimeoutError."""
    scope = _FailScope()
    scope._deadline = to_deadline(seconds, "seconds", current.now_ns())
    return scope


def current_effective_deadline() -> float:
    """When the running code will be cancelled, on the clock ``now()``, as far as is known.

    inf: by no deadline; -inf: it is cancelled already. RuntimeError outside of tasks.
    """
    task = current_task()
    if task is None:
        raise RuntimeError("cancellation and deadlines exist in trale_py's tasks only")
    earliest = NEVER
    node = task._scope
    while node is not None:
        if node._called:
            return -math.inf
        if isinstance(node, CancelScope):
            earliest = min(earliest, node._deadline)
        node = None if node._shield else node._parent
    return math.inf if earliest == NEVER else earliest / 1e9


def _deadline_ns(deadline: float) -> int:
    if not isinstance(deadline, (int, float)):
        raise TypeError(f"deadline must be a float, as now() returns, not {deadline!r}")
    return to_ns(0.0 if deadline < 0 else deadline, "deadline")
