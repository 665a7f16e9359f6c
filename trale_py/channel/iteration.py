"""Iteration over what a channel gives: in tasks and in threads, until it is closed."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, Self, TypeVar

from .closed import Closed

T = TypeVar("T")


class UntilClosed(Generic[T]):
    """``async for`` in tasks, ``for`` in threads; they end where receiving raises Closed."""

    __slots__ = ()

    def recv(self) -> Coroutine[Any, Any, T]:
        """Wait for the next value, in a task. Closed at the end."""
        raise NotImplementedError

    def recv_blocking(self) -> T:
        """The same in a thread."""
        raise NotImplementedError

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.recv()
        except Closed:
            raise StopAsyncIteration from None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            return self.recv_blocking()
        except Closed:
            raise StopIteration from None
