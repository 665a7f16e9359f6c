"""The forest of cancel scopes: what follows for whom when one of them is cancelled.

Scopes nest, and the scopes of all tasks form one forest: a task's outermost scope stands
alone, or under the scope of the group that spawned it. Cancelling one cancels all that
is below it, except what is shielded.

Executor's thread only, but for ``_mark``.
"""

from __future__ import annotations

import contextlib
from typing import Any, cast

from ..base.errors import Cancelled, is_a
from .contract import TaskLike


class ScopeTree:
    """A node of the forest: a scope, or the outermost one that a task has of itself.

    Invariants, of a node that is linked:
      - ``_is_cancelled`` is: cancelled itself, or (not shielded and) its parent is cancelled.
      - ``task._cx._cancelled`` is the ``_is_cancelled`` of the task's innermost node.
    """

    __slots__ = (
        "_called",
        "_children",
        "_is_cancelled",
        "_parent",
        "_reason",
        "_shield",
        "_task",
        "_throw_count",
    )

    def __init__(self, *, shield: bool = False) -> None:
        self._called = False
        self._reason: object = None
        self._shield = shield
        self._parent: ScopeTree | None = None
        self._children: dict[ScopeTree, None] = {}
        self._is_cancelled = False
        self._throw_count = 0  # how often its task was thrown the cancellation
        self._task: TaskLike | None = None  # whose code this is; None for a group in a script

    def _link(self, parent: ScopeTree | None, task: TaskLike | None) -> None:
        """Stand under ``parent``, as the innermost of ``task``.

        R51: what calls this may be at the limit of recursion, or of memory. Half a link would
        leave the task under a scope that it is never in, or the group with a child that is not.
        So nothing is called here, and the one step that takes memory is the first.
        """
        if parent is not None:
            parent._children[self] = None
        self._parent = parent
        self._task = task
        inherits = parent is not None and not self._shield and parent._is_cancelled
        self._is_cancelled = self._called or inherits
        if task is not None:
            task._scope = self
            task._cx._cancelled = self._is_cancelled

    def _unlink(self) -> None:
        """Leave the tree; scopes of the same task that were entered inside move to the parent."""
        parent, task = self._parent, self._task
        if parent is not None:
            parent._children.pop(self, None)
        if task is None:
            return
        if task._scope is self:
            task._scope = parent
            task._cx._cancelled = parent is not None and parent._is_cancelled
        elif parent is not None:  # left out of order, or by another task
            for child in list(self._children):
                if child._task is task:
                    child._move(parent)

    def _left_behind(self) -> None:
        """The task has ended in it."""
        self._unlink()

    def _move(self, parent: ScopeTree) -> None:
        """Stand under another parent from now on."""
        if self._parent is not None:
            self._parent._children.pop(self, None)
        self._parent = parent
        parent._children[self] = None
        self._update()

    def _mark(self, reason: object) -> None:
        """Count as cancelled; the first one to say why is heard."""
        if not self._called:
            self._reason = reason
            self._called = True

    def _deliver(self, reason: object) -> None:
        """Cancel all that is below, and have the tasks that wait there polled."""
        self._mark(reason)
        self._update()

    def _update(self) -> None:
        """Bring ``_is_cancelled`` up to date, here and below. Not recursive: scopes nest deep."""
        cancelled = self._called or self._inherits()
        if cancelled == self._is_cancelled:
            return
        nodes = [self]  # all that change, found first, as it takes memory: R51
        for node in nodes:
            nodes.extend(child for child in node._children if child._follows(cancelled))
        for node in nodes:
            node._is_cancelled = cancelled
            if node._task is not None and node._task._scope is node:
                node._task._cx._cancelled = cancelled
                if cancelled:
                    node._task._cx.waker.wake()

    def _follows(self, cancelled: bool) -> bool:
        """Whether it changes if its parent does, to this."""
        changes = self._is_cancelled != cancelled and not self._shield
        return changes and (cancelled or not self._called)

    def _cancel_reason(self) -> object:
        """The reason of the nearest cancelled scope, from here outwards."""
        node: ScopeTree | None = self
        while node is not None and not node._called:
            node = node._parent
        return None if node is None else node._reason

    def _inherits(self) -> bool:
        """Whether a cancellation of the parent reaches it."""
        return not self._shield and self._parent is not None and self._parent._is_cancelled


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
