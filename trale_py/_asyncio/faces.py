"""Async context managers and iterators of asyncio's, used in trale_py's tasks.

Each is driven in one asyncio task, from its beginning to its end, as asyncio's own ``timeout``,
``TaskGroup`` and many a library count on. trale_py's side and that task take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

from ..base.errors import Cancelled, is_a
from ..core.leaf import checkpoint
from .guest import Guest, guest_here
from .until import Until, cut_off, end_of, outcome_of, until_end

T = TypeVar("T")


class ManagerFace(Generic[T]):
    """``async with``: the task enters the manager, waits for the end of the block, and leaves it.

    If asyncio cancels the task meanwhile (the manager is a timeout, or its group has failed), it
    still waits for the end of the block, and leaves the manager with that CancelledError.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._plain: Any = None  # the manager itself, in asyncio code
        self._task: asyncio.Task[None] | None = None
        self._until = Until(self._is_in)
        self._entered = False
        self._value: T | None = None
        self._left = False  # trale_py's block has ended
        self._cancelled = False  # by its cancellation
        self._error: BaseException | None = None  # or by that error
        self._end: asyncio.Future[None] | None = None  # what the task waits for in the block

    async def enter(self) -> T | None:
        """Return what the manager's entry gives. Cancelled, it is cut off and has ended."""
        guest = guest_here()
        if guest is None:
            self._plain = self._make()
            value: T = await self._plain.__aenter__()
            return value
        await checkpoint()
        self._task = guest.create_task(self._drive())
        await until_end(self._task, self._until)
        if not self._entered:
            outcome_of(self._task)
        value_, self._value = self._value, None
        return value_

    def _is_in(self) -> bool:
        return self._entered or (self._task is not None and self._task.done())

    async def exit(self, error: BaseException | None) -> bool:
        """Have the manager left, and wait for that. Whether it has swallowed ``error``."""
        if self._plain is not None:
            return bool(
                await self._plain.__aexit__(
                    None if error is None else type(error),
                    error,
                    None if error is None else error.__traceback__,
                )
            )
        task = self._task
        assert task is not None
        self._left = True
        if is_a(error, Cancelled):
            self._cancelled = True
            await cut_off(task, error)
        else:
            self._error = error
            if self._end is not None and not self._end.done():
                self._end.set_result(None)
            await until_end(task)
        try:
            return self._has_swallowed(task, error)
        finally:
            self._error = self._task = None
            del task, error  # or a traceback would lead back to them

    def _has_swallowed(self, task: asyncio.Task[None], error: BaseException | None) -> bool:
        """Whether the manager has swallowed ``error``. Raises what it has raised in its place."""
        if self._cancelled and task.cancelled():
            return False
        ended_by = None if task.cancelled() else task.exception()
        # A coroutine cannot let a StopIteration out: it is the cause of what comes then.
        if ended_by is not None and isinstance(error, (StopIteration, StopAsyncIteration)):
            ended_by = ended_by.__cause__
        if ended_by is not None and ended_by is error:
            return False
        outcome_of(task)
        return error is not None

    async def _drive(self) -> None:
        """asyncio's code."""
        async with _as_manager(await _made(self._make())) as value:
            self._value, self._entered = value, True
            del value
            self._until.look()
            await self._block()

    async def _block(self) -> None:
        """The body of the block, for the asyncio task: wait for its end, raise what ended it."""
        cut: asyncio.CancelledError | None = None
        while not self._left:
            self._end = asyncio.get_running_loop().create_future()
            try:
                await self._end
            except asyncio.CancelledError as error:
                if self._cancelled:
                    raise
                cut = error
        try:
            if self._error is not None:
                raise self._error
            if cut is not None:
                raise cut
        finally:
            del cut


class IteratorFace(AsyncIterator[T]):
    """``async for``: the task takes the next item while trale_py's side waits for it.

    When the loop is left with ``break`` and this is dropped, the task is cancelled; ``aclose()``
    also waits for its end. A cancelled wait ends the iteration.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._plain: Any = None
        self._guest: Guest | None = None
        self._task: asyncio.Task[None] | None = None
        self._state = _Items[T]()
        self._busy = False

    def __aiter__(self) -> IteratorFace[T]:
        return self

    async def __anext__(self) -> T:
        if self._plain is None and self._guest is None:
            self._guest = guest_here()
            if self._guest is None:
                self._plain = (await _made(self._make())).__aiter__()
        if self._guest is None:
            plain: T = await self._plain.__anext__()
            return plain
        if self._busy:
            raise RuntimeError(f"{self!r} is being iterated over by another task")
        self._busy = True
        try:
            return await self._next(self._guest)
        finally:
            self._busy = False

    async def _next(self, guest: Guest) -> T:
        """Have the task take one item, and wait for it."""
        await checkpoint()
        state = self._state
        if self._task is None:
            self._task = state.task = guest.create_task(state.drive(self._make))
        elif state.wanted is not None and not state.wanted.done():
            state.wanted.set_result(None)
        await until_end(self._task, state.until)
        if state.items:
            return state.items.pop()
        if not state.told:
            state.told = True
            outcome_of(self._task)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the iteration, and wait for the end of the iterator's clean-up."""
        if self._plain is not None:
            await getattr(self._plain, "aclose", _nothing)()
        if self._task is None or self._task.done():
            return
        self._task.cancel()
        self._state.told = True
        await end_of(self._task)
        if not self._task.cancelled():
            outcome_of(self._task)

    def __del__(self) -> None:
        task, guest = getattr(self, "_task", None), getattr(self, "_guest", None)
        if guest is not None and task is not None and not task.done():
            with contextlib.suppress(RuntimeError):  # the loop is gone
                guest.loop.call_soon_threadsafe(task.cancel)


class _Items(Generic[T]):
    """What both sides of an IteratorFace know. Its task does not refer to the face."""

    def __init__(self) -> None:
        self.items: list[T] = []  # one, or none
        self.task: asyncio.Task[None] | None = None
        self.until = Until(lambda: bool(self.items) or (self.task is not None and self.task.done()))
        self.wanted: asyncio.Future[None] | None = None  # the task waits until the next is wanted
        self.told = False  # how it ended

    async def drive(self, make: Callable[[], Any]) -> None:
        """asyncio's code."""
        iterator = (await _made(make())).__aiter__()
        try:
            while True:
                try:
                    item = await iterator.__anext__()
                except StopAsyncIteration:
                    return
                self.wanted = asyncio.get_running_loop().create_future()
                self.items.append(item)
                del item
                self.until.look()
                await self.wanted
        finally:
            await getattr(iterator, "aclose", _nothing)()


async def _nothing() -> None:
    pass


async def _made(made: Any) -> Any:
    """What a function has returned; what can only be awaited is awaited first."""
    if hasattr(type(made), "__aenter__") or hasattr(type(made), "__aiter__"):
        return made
    return await made if inspect.isawaitable(made) else made


def _as_manager(made: Any) -> Any:
    if not hasattr(type(made), "__aenter__"):
        raise TypeError(f"{made!r} is no async context manager")
    return made
