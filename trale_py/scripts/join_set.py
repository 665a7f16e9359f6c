"""JoinSet: tasks that come and go, joined in the order in which they end."""

from __future__ import annotations

import contextvars
from collections.abc import Coroutine
from typing import Any, Generic, Self, TypeVar

from ..base.closeable import Closing
from ..base.durations import Duration
from ..core import current
from ..core.coroutine import close_refused
from ..core.future import Future
from ..core.join import JoinHandle
from ..sync.waiters import block
from .ended import Ended, TakeOut

T = TypeVar("T")

_CLOSED = "its JoinSet was closed"


class JoinSet(Closing, Generic[T]):
    """Tasks, of which those that have ended are taken out one by one.

    Tasks and threads may spawn into it at any time, and wait for the next to end. Leaving
    ``with`` or ``async with``, ``close()`` and the drop of the set cancel the tasks that are
    left; nothing waits for their end. Made anywhere, also before the runtime exists. ::

        jobs = JoinSet()
        for url in urls:
            jobs.spawn(fetch(url), name=url)
        for handle in jobs:  # in a task: async for
            print(handle.name, handle.result())

    After Tokio's `JoinSet <https://docs.rs/tokio/latest/tokio/task/struct.JoinSet.html>`_.
    """

    __slots__ = ("__weakref__", "_closed", "_tasks")

    def __init__(self) -> None:
        self._closed = False
        self._tasks: Ended[T] = Ended(ordered=False, complete=True)

    def spawn(
        self,
        coro: Coroutine[Any, Any, T] | Future[T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> JoinHandle[T]:
        """As ``trale_py.spawn``; the task is in the set. From any thread. RuntimeError after
        ``close()``; the coroutine is closed then."""
        if self._closed:
            close_refused(coro)
            raise RuntimeError(f"{self!r} is closed")
        handle: JoinHandle[T] = current.runtime().spawn(coro, name=name, context=context)
        self._tasks.add(handle)
        self._cancel_if_closed(handle)
        return handle

    def _cancel_if_closed(self, handle: JoinHandle[T]) -> None:
        """R74: close() may come at this moment, in another thread. The task is entered first and
        the flag looked at second; close() raises the flag first, and looks at the tasks second. The
        later one sees the other. Without this look the task could run on in a closed set."""
        if self._closed:
            handle.cancel(_CLOSED)

    def join_next(self) -> Coroutine[Any, Any, JoinHandle[T] | None]:
        """Wait for the next task to end, take it out and return its handle; None if the set is
        empty. Cancelled, it takes none out. RuntimeClosed in a forked child, if the oldest is its
        parent's."""
        return TakeOut(self._tasks, "join_next of a JoinSet")  # type: ignore[return-value]

    def join_next_blocking(self, timeout: Duration | None = None) -> JoinHandle[T] | None:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait, and the tasks go on. WouldDeadlock on the executor's thread.
        """
        return block(self.join_next(), timeout)

    def close(self) -> None:
        """Cancel the tasks that are left; no more are taken. From anywhere.

        They can still be joined, as they end.
        """
        self._closed = True
        self._tasks.cancel(_CLOSED)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JoinHandle[T]:
        handle = await self.join_next()
        if handle is None:
            raise StopAsyncIteration
        return handle

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> JoinHandle[T]:
        handle = self.join_next_blocking()
        if handle is None:
            raise StopIteration
        return handle

    def __len__(self) -> int:
        """How many are in the set: they run, or have ended and were not taken out."""
        return len(self._tasks)

    def __del__(self) -> None:
        if hasattr(self, "_tasks"):  # else it was cut off in __init__
            self._tasks.cancel("its JoinSet was dropped")

    def __repr__(self) -> str:
        running, ended = len(self._tasks.running), len(self._tasks.line)
        return f"<JoinSet running={running} ended={ended}{' closed' if self._closed else ''}>"
