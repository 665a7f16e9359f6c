"""Closing: whatever has a ``close()`` can stand in a ``with``.

``close()`` never waits here, so ``with`` and ``async with`` do the same, and leaving either is
no checkpoint.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar


class Closing:
    """``with thing:`` and ``async with thing:`` close it at the end, however that comes."""

    __slots__ = ()

    def close(self) -> None:
        """Let go of it. Must not wait, and must do nothing the second time."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()


class AsyncLeaving:
    """The end of an ``async with`` that gives back without waiting: it is no checkpoint."""

    __slots__ = ()

    def _leave(self) -> None:
        """Give back what the block had."""
        raise NotImplementedError

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._leave()


class Entered(Protocol):
    """What can stand in an ``async with``."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None: ...


E = TypeVar("E", bound=Entered)


class Opening(Coroutine[Any, Any, E]):
    """To be awaited, which gives what it opens; or entered: ``async with`` ends that."""

    __slots__ = ("_coro", "_opened")

    def __init__(self, coro: Coroutine[Any, Any, E]) -> None:
        self._coro = coro

    def send(self, value: None, /) -> Any:
        return self._coro.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coro.throw(*error)

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, E]:
        return self._wait().__await__()

    async def _wait(self) -> E:
        # By await, which refuses a coroutine that another task awaits already. What a coroutine's
        # own __await__() returns would go on with it, in the midst of that other await.
        return await self._coro

    async def __aenter__(self) -> E:
        self._opened = await self._coro
        return await self._opened.__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._opened.__aexit__(exc_type, exc, tb)
