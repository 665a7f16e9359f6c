"""How a trale_py task waits for asyncio's side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from ..base.errors import Cancelled
from ..core.future import PENDING, Future, Pending, Ready
from ..core.waker import Context, Waker
from ..scopes.cancel_scope import CancelScope
from .companion import cancelled_by_asyncio

T = TypeVar("T")


class Until(Future[None]):
    """Wait until ``happened()``; what makes it happen calls ``look``. Executor's thread only."""

    def __init__(self, happened: Callable[[], bool]) -> None:
        self._happened = happened
        self._waker: Waker | None = None

    def poll(self, cx: Context) -> Ready[None] | Pending:
        self._waker = cx.waker
        return Ready(None) if self._happened() else PENDING

    def _delivered(self) -> bool:
        return self._happened()

    def _describe(self) -> str:
        return "an asyncio task"

    def look(self, _: object = None) -> None:
        """It may have happened."""
        if self._waker is not None:
            self._waker.wake()


async def until_end(task: asyncio.Task[Any], until: Until | None = None) -> None:
    """Wait for the end of an asyncio task; cancelled, cancel it once, and wait all the same.

    If it then ends by that, Cancelled goes on. If it ends otherwise, that is the outcome.
    """
    until = Until(task.done) if until is None else until
    task.add_done_callback(until.look)
    try:
        await until
    except Cancelled as cancelled:
        await cut_off(task, cancelled)
        if task.cancelled():
            raise


async def cut_off(task: asyncio.Task[Any], cancelled: Cancelled) -> None:
    """Cancel it, once, and wait for its end."""
    task.cancel(cancelled.reason)
    with CancelScope(shield=True):
        await end_of(task)


async def end_of(task: asyncio.Task[Any]) -> None:
    """Wait for its end, whatever that is."""
    until = Until(task.done)
    task.add_done_callback(until.look)
    await until


def outcome_of(task: asyncio.Task[T]) -> T:
    """Of a task that has ended, as a trale_py task sees it."""
    if task.cancelled():
        raise cancelled_by_asyncio(task)
    error = task.exception()
    try:
        if error is not None:
            raise error
        return task.result()
    finally:
        del task, error  # or the error's traceback would lead back to the error
