"""TaskStatus, and what ``TaskGroup.start`` takes, by the number of arguments."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, Protocol, TypeVar

from ..core import current

A_contra = TypeVar("A_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
S = TypeVar("S")
T = TypeVar("T")


class TaskStatus(Generic[T]):
    """How a task that ``TaskGroup.start`` has spawned says that it is ready."""

    def __init__(self, starting: Any, group: Any) -> None:
        self._starting = starting
        self._group = group
        self._called = False
        self._value: T | None = None

    def started(self, value: T | None = None) -> None:
        """The task is ready: ``start()`` returns ``value``. Once, in tasks; else RuntimeError."""
        if self._called or current.thread.context is None or not self._starting._children:
            raise RuntimeError("call started() once, in a task, while start() waits for it")
        self._value = value
        self._called = True
        if self._starting.cancel_scope._is_cancelled:
            return  # too late: start() is cancelled, and the task with it, wherever it is
        for task in list(self._starting._children):  # there is one
            self._starting._hand_over(task, self._group)


class Startable0(Protocol[S]):
    def __call__(self, *, task_status: TaskStatus[S]) -> Coroutine[Any, Any, object]: ...


class Startable1(Protocol[A_contra, S]):
    def __call__(
        self, a: A_contra, /, *, task_status: TaskStatus[S]
    ) -> Coroutine[Any, Any, object]: ...


class Startable2(Protocol[A_contra, B_contra, S]):
    def __call__(
        self, a: A_contra, b: B_contra, /, *, task_status: TaskStatus[S]
    ) -> Coroutine[Any, Any, object]: ...


class Startable3(Protocol[A_contra, B_contra, C_contra, S]):
    def __call__(
        self, a: A_contra, b: B_contra, c: C_contra, /, *, task_status: TaskStatus[S]
    ) -> Coroutine[Any, Any, object]: ...
