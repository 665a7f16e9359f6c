"""The forest of cancel scopes: what follows for whom when one of them is cancelled.

Scopes nest, and the scopes of all tasks form one forest: a task's outermost scope stands
alone, or under the scope of the group that spawned it. Cancelling one cancels all that
is below it, except what is shielded.

Executor's thread only, but for ``mark``.
"""

from __future__ import annotations

import contextlib
from typing import Any, cast

from ..base.errors import Cancelled, is_a
from .contract import TaskLike


class ScopeTree:
    """A node of the forest: a scope, or the outermost one that a task has of itself.

    Invariants, of a node that is linked:
      - ``effective`` is: cancelled itself, or (not shielded and) its parent effective.
      - ``task.cx.cancelled`` is the ``effective`` of the task's innermost node.
    """

    __slots__ = (
        "_called",
        "_children",
        "_parent",
        "_reason",
        "_shield",
        "effective",
        "task",
        "throws",
    )

    def __init__(self, *, shield: bool = False) -> None:
        self._called = False
        self._reason: object = None
        self._shield = shield
        self._parent: ScopeTree | None = None
        self._children: dict[ScopeTree, None] = {}
        self.effective = False
        self.throws = 0  # how often its task was thrown the cancellation
        self.task: TaskLike | None = None  # whose code this is; None for a group in a script

    def link(self, parent: ScopeTree | None, task: TaskLike | None) -> None:
        """Stand under ``parent``, as the innermost of ``task``."""
        self._parent = parent
        self.task = task
        if parent is not None:
            parent._children[self] = None
        if task is not None:
            task.scope = self
        self.effective = self._called or self._inherits()
        if task is not None:
            task.cx.cancelled = self.effective

    def unlink(self) -> None:
        """Leave the tree; scopes of the same task that were entered inside move to the parent."""
        parent, task = self._parent, self.task
        if parent is not None:
            parent._children.pop(self, None)
        if task is None:
            return
        if task.scope is self:
            task.scope = parent
            task.cx.cancelled = parent is not None and parent.effective
        elif parent is not None:  # left out of order, or by another task
            for child in list(self._children):
                if child.task is task:
                    child.move(parent)

    def left_behind(self) -> None:
        """The task has ended in it."""
        self.unlink()

    def move(self, parent: ScopeTree) -> None:
        """Stand under another parent from now on."""
        if self._parent is not None:
            self._parent._children.pop(self, None)
        self._parent = parent
        parent._children[self] = None
        self.update()

    def mark(self, reason: object) -> None:
        """Count as cancelled; the first one to say why is heard."""
        if not self._called:
            self._reason = reason
            self._called = True

    def deliver(self, reason: object) -> None:
        """Cancel all that is below, and have the tasks that wait there polled."""
        self.mark(reason)
        self.update()

    def update(self) -> None:
        """Bring ``effective`` up to date, here and below. Not recursive: scopes nest deep."""
        todo = [self]
        while todo:
            node = todo.pop()
            effective = node._called or node._inherits()
            if effective == node.effective:
                continue
            node.effective = effective
            todo.extend(node._children)
            if node.task is not None and node.task.scope is node:
                node.task.cx.cancelled = effective
                if effective:
                    node.task.cx.waker.wake()

    def why(self) -> object:
        """The reason of the nearest cancelled scope, from here outwards."""
        node: ScopeTree | None = self
        while node is not None and not node._called:
            node = node._parent
        return None if node is None else node._reason

    def _inherits(self) -> bool:
        return not self._shield and self._parent is not None and self._parent.effective


def without_cancelled(error: BaseException) -> tuple[BaseException | None, Cancelled | None]:
    """What is left of ``error`` without Cancelled, and one that was in it."""
    if is_a(error, Cancelled):
        return None, error
    if is_a(error, BaseExceptionGroup):
        # By the base class: split() may be the user's. It calls derive(), which may be, too.
        with contextlib.suppress(BaseException):
            cancelled, rest = BaseExceptionGroup.split(error, Cancelled)
            if cancelled is not None:
                return rest, _first(cancelled)
    return error, None


_errors_of = vars(BaseExceptionGroup)["exceptions"].__get__


def _first(group: BaseExceptionGroup[Cancelled]) -> Cancelled:
    first: Any = group
    while is_a(first, BaseExceptionGroup):
        first = _errors_of(first)[0]
    return cast(Cancelled, first)
