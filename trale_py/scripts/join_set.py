"""JoinSet: tasks that come and go, joined in the order in which they end."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Any, Generic, Self, TypeVar

from ..base.closeable import Closing
from ..base.durations import Duration
from ..core import current
from ..core.coroutine import close_refused
from ..core.future import Future
from ..core.join import JoinHandle
from ..sync.waiters import ReentrantGate, Waiter, Waiters, block

T = TypeVar("T")


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

    __slots__ = ("__weakref__", "_state")

    def __init__(self) -> None:
        self._state: _State[T] = _State()

    def spawn(
        self,
        coro: Coroutine[Any, Any, T] | Future[T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> JoinHandle[T]:
        """As ``trale_py.spawn``; the task is in the set. From any thread. RuntimeError after
        ``close()``; the coroutine is closed then."""
        if self._state.closed:
            close_refused(coro)
            raise RuntimeError(f"{self!r} is closed")
        handle: JoinHandle[T] = current.runtime().spawn(coro, name=name, context=context)
        self._state.add(handle)
        return handle

    def join_next(self) -> Coroutine[Any, Any, JoinHandle[T] | None]:
        """Wait for the next task to end, take it out and return its handle; None if the set is
        empty. Cancelled, it takes none out."""
        return _JoinNext(self._state)

    def join_next_blocking(self, timeout: Duration | None = None) -> JoinHandle[T] | None:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait, and the tasks go on. WouldDeadlock on the executor's thread.
        """
        return block(_JoinNext(self._state), timeout)

    def close(self) -> None:
        """Cancel the tasks that are left; no more are taken. From anywhere.

        They can still be joined, as they end.
        """
        self._state.close()

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
        return len(self._state.running) + len(self._state.ended)

    def __del__(self) -> None:
        if hasattr(self, "_state"):  # else it was cut off in __init__
            self._state.close()

    def __repr__(self) -> str:
        state = self._state
        closed = " closed" if state.closed else ""
        return f"<JoinSet running={len(state.running)} ended={len(state.ended)}{closed}>"


class _State(Generic[T]):
    """What the tasks refer to. They do not refer to the JoinSet, so it can be dropped."""

    __slots__ = ("closed", "ended", "gate", "running", "waiters")

    def __init__(self) -> None:
        self.closed = False
        self.gate = ReentrantGate()
        self.waiters = Waiters()
        self.running: dict[JoinHandle[T], None] = {}
        self.ended: deque[JoinHandle[T]] = deque()

    def add(self, handle: JoinHandle[T]) -> None:
        self.running[handle] = None
        call = partial(self.gate.call, partial(self._has_ended, handle))
        if not handle._outcome.call_when_open(call, call):
            call()
        if self.closed:  # store, then look: see close()
            handle.cancel("its JoinSet was closed")

    def _has_ended(self, handle: JoinHandle[T]) -> None:
        self.waiters.wake_all()  # all: if it was the last one, they have nothing to wait for
        self.ended.append(handle)
        self.running.pop(handle, None)

    def close(self) -> None:
        self.closed = True
        for handle in list(self.running):
            handle.cancel("its JoinSet was closed")


class _JoinNext(Waiter[JoinHandle[T] | None]):
    __slots__ = ("_state_of_set",)

    def __init__(self, state: _State[T]) -> None:
        self._state_of_set = state
        super().__init__(state.gate, state.waiters)

    def _attempt(self) -> bool:
        state = self._state_of_set
        if state.ended:
            # R16. Not popleft(): a Ctrl-C after that call would find it in neither place.
            self._result = state.ended[0]
            del state.ended[0]
            return True
        if not state.running:
            self._result = None
            return True
        return False

    def _give_back(self) -> None:
        if isinstance(self._result, JoinHandle):
            self._state_of_set.ended.appendleft(self._result)
            self._waiters.wake_all()

    def __repr__(self) -> str:
        return "<join_next of a JoinSet>"
