"""Companions: how asyncio code awaits what is trale_py's.

A leaf of ours (an operation, a handle, a Future of the user's) is polled with the Context of a
task, whose waker it keeps. An asyncio task has none. So at its first await of a leaf it gets a
companion: a trale_py task that does nothing but stand in for it. The leaf is polled with the
companion's Context. When its waker is called, the executor polls the companion, and that completes
the asyncio future that the asyncio task waits for. The asyncio task then polls the leaf again.

    asyncio task:  await leaf --poll, PENDING--> waits for an asyncio future
    any thread:    waker.wake() --> the executor polls the companion --> future.set_result()
    the guest:     a turn: the asyncio task goes on, polls the leaf --> Ready

The companion ends with its asyncio task. A cancellation is asyncio's: CancelledError comes out of
the await, and the leaf is dropped, as ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..base.errors import TaskCancelled
from ..core.contract import RuntimeLike
from ..core.future import PENDING, Future, Pending, Ready
from ..core.task import ForeignWait
from ..core.waker import Context, Waker
from ..scopes.cancel_scope import CancelScope


class Companion(Future[None]):
    """Executor's thread only."""

    def __init__(self, runtime: RuntimeLike, task: asyncio.Task[Any]) -> None:
        self._future: asyncio.Future[None] | None = None  # what the asyncio task waits for
        self._ended = False
        handle = runtime._start_service(self._live(), "asyncio companion")
        self.cx: Context = runtime.task_of(handle.id)._cx
        task.add_done_callback(self._end)

    async def _live(self) -> None:
        """The task's body."""
        # At the runtime's end all services are cancelled, but the asyncio task may still clean up.
        with CancelScope(shield=True):
            await self

    def poll(self, cx: Context) -> Ready[None] | Pending:
        future, self._future = self._future, None
        if future is not None and not future.done():
            future.set_result(None)
        return Ready(None) if self._ended else PENDING

    def _describe(self) -> str:
        return "what its asyncio task awaits"

    def future(self) -> asyncio.Future[None]:
        """To be yielded by a coroutine: the next wake of the Context completes it."""
        self._future = asyncio.get_running_loop().create_future()
        self._future._asyncio_future_blocking = True
        return self._future

    def _end(self, _: object) -> None:
        """A done-callback of the asyncio task."""
        self._ended = True
        self.cx.waker.wake()


class AsyncioWait(ForeignWait):
    """How a trale_py task waits for an asyncio future. If the wait is cut off, that is all."""

    def __init__(self, future: asyncio.Future[Any], waker: Waker) -> None:
        future._asyncio_future_blocking = False  # as the driver of a coroutine answers its yield
        self._future = future
        self._waker = waker
        future.add_done_callback(self._wake)

    def _wake(self, _: object) -> None:
        self._waker.wake()

    def done(self) -> bool:
        return self._future.done()

    def take(self) -> BaseException | None:
        """The wait is over: what to raise in the task, or None."""
        self._future.remove_done_callback(self._wake)
        return cancelled_by_asyncio(self._future) if self._future.cancelled() else None


def cancelled_by_asyncio(future: asyncio.Future[Any]) -> TaskCancelled:
    """What a trale_py task gets for a future that asyncio's side has cancelled."""
    try:
        future.result()
    except asyncio.CancelledError as error:
        cancelled = TaskCancelled(error.args[0] if error.args else None)
        cancelled.__cause__ = error
        return cancelled
    raise AssertionError("it was not cancelled")
