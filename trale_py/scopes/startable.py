"""What ``TaskGroup.start`` takes, by the number of arguments. For type checkers."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from .task_group import TaskStatus

A_contra = TypeVar("A_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
S = TypeVar("S")


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
