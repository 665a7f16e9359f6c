"""Several awaitables at once: gather, race, as_completed, timeout.

Each takes coroutines, trale_py futures and join handles. What is no task yet becomes
one. A join handle stands for its task: if the rest is cancelled, it is cancelled too.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable
from typing import Any, TypeAlias, TypeVar

from ..base.durations import Duration, to_ns
from ..base.log import report
from ..core import current
from ..core.future import PENDING, Future, Pending, Ready
from ..core.join import JoinHandle
from ..core.latch import LatchWait
from ..core.leaf import checkpoint
from ..core.waker import Context
from .cancel_scope import CancelScope, move_on_after

T = TypeVar("T")

Source: TypeAlias = Coroutine[Any, Any, T] | Future[T] | JoinHandle[T]


async def gather(*aws: Source[Any]) -> list[Any]:
    """Wait for all; return their values in the order they were given.

    The first failure is raised, after the rest was cancelled and has ended; what else failed
    is logged. Cancelled, it cancels all and waits for their end. ::

        a, b = await gather(fetch("a"), fetch("b"))
    """
    handles = await _spawn_all(aws)
    ended = _Ended(handles)
    try:
        for _ in handles:
            (await ended.next()).result()
        return [handle.result() for handle in handles]
    finally:
        await _end(handles, closed=ended.closed)
        del handles, ended  # a traceback that led to them would lead to itself


async def race(*aws: Source[T]) -> T:
    """Wait for the first to end; return its value or raise its error.

    The rest is cancelled, and has ended when this returns; what fails of it is logged.
    Cancelled, it cancels all. ValueError if there is nothing to wait for. ::

        line = await race(stream.read_until(b"\\n"), stopped.wait())
    """
    if not aws:
        raise ValueError("race() needs at least one awaitable")
    handles = await _spawn_all(aws)
    ended = _Ended(handles)
    first = None
    try:
        first = await ended.next()
        value: T = first.result()
        return value
    finally:
        await _end(handles, but=first, closed=ended.closed)
        del handles, ended, first  # as in gather()


async def as_completed(aws: Iterable[Source[T]]) -> AsyncGenerator[JoinHandle[T], None]:
    """Iterate over join handles in the order in which they end.

    Left before its end, ``aclose()`` cancels the rest and waits for it; so does
    ``contextlib.aclosing``, and the runtime, for a generator that was dropped. ::

        async for handle in as_completed([fetch("a"), fetch("b")]):
            print(handle.name, handle.result())
    """
    handles = await _spawn_all(aws)
    ended = _Ended(handles)
    try:
        for _ in handles:
            yield await ended.next()
    finally:
        await _end(handles, closed=ended.closed)


def timeout(seconds: Duration, awaitable: Source[T]) -> Coroutine[Any, Any, T]:
    """Wait for ``awaitable``, at most ``seconds``; then cancel it, and TimeoutError.

    That is raised after the awaitable has ended; if it ends with a value or an error
    nevertheless, that is the outcome. A join handle's task is cancelled too. ::

        line = await timeout(5, stream.read_until(b"\\n"))
    """
    try:
        to_ns(seconds, "seconds")
    except BaseException:
        if isinstance(awaitable, Coroutine):
            awaitable.close()
        raise
    return _timeout(seconds, awaitable)


async def _timeout(seconds: Duration, awaitable: Source[T]) -> T:
    with move_on_after(seconds) as scope:
        if not isinstance(awaitable, JoinHandle):
            return await awaitable
        awaitable.check_awaitable()
        try:
            await LatchWait(awaitable._outcome)
        except BaseException as error:
            await _end([awaitable], closed=isinstance(error, GeneratorExit))
            raise
    in_time = not scope.cancelled_caught
    if isinstance(awaitable, JoinHandle) and (in_time or not awaitable.cancelled()):
        return awaitable.result()
    raise TimeoutError(f"this did not end within {seconds} seconds")


class _Ended:
    """The handles of some tasks, in the order of their ends."""

    def __init__(self, handles: list[JoinHandle[Any]]) -> None:
        self.ready: deque[JoinHandle[Any]] = deque()
        self.cx: Context | None = None
        self.closed = False  # who waits here is a coroutine that is being closed
        for handle in handles:
            handle.add_done_callback(self._add)

    def _add(self, handle: JoinHandle[Any]) -> None:
        self.ready.append(handle)
        if self.cx is not None:
            self.cx.waker.wake()

    def next(self) -> Future[JoinHandle[Any]]:
        return _NextEnded(self)


class _NextEnded(Future[JoinHandle[Any]]):
    __slots__ = ("_ended",)

    def __init__(self, ended: _Ended) -> None:
        self._ended = ended

    def poll(self, cx: Context) -> Ready[JoinHandle[Any]] | Pending:
        self._ended.cx = cx
        return Ready(self._ended.ready.popleft()) if self._ended.ready else PENDING

    def drop(self) -> None:
        # A GeneratorExit that is thrown in here is close()'s; a task may raise one of its own.
        self._ended.closed = isinstance(sys.exception(), GeneratorExit)


async def _spawn_all(aws: Iterable[Source[Any]]) -> list[JoinHandle[Any]]:
    """Handles of all of them; if one is refused, the others do not begin.

    A checkpoint first: cancelled already, nothing is spawned. Otherwise the tasks would have
    their first turn before this one hears of it.
    """
    rest = list(aws)
    handles: list[JoinHandle[Any]] = []
    try:
        await checkpoint()
        for source in rest:
            if isinstance(source, JoinHandle):
                source.check_awaitable()
        while rest:
            source = rest[0]
            if isinstance(source, JoinHandle):
                handles.append(source)
            else:
                handles.append(current.runtime().spawn(source))
            del rest[0]
    except BaseException as error:
        for source in rest:
            if isinstance(source, Coroutine):
                source.close()
            elif isinstance(source, JoinHandle) and not source.is_own():
                handles.append(source)
        await _end(handles, closed=isinstance(error, GeneratorExit))
        raise
    return handles


async def _end(
    handles: list[JoinHandle[Any]], *, but: JoinHandle[Any] | None = None, closed: bool = False
) -> None:
    """Cancel those that run, wait until all have ended, and log what failed unseen.

    ``closed``: it is for a coroutine that is being closed, which must not wait any more.
    """
    running = [handle for handle in handles if not handle.done()]
    for handle in running:
        # The task, not the handle: a job in a thread cannot be cancelled once it has started,
        # but the task that waits for it can, and ends at once.
        handle._runtime.cancel(handle.id, "the others are not needed any more")
    if closed:
        return
    with CancelScope(shield=True):
        for handle in running:
            await LatchWait(handle._outcome)
    for handle in running:
        error = handle.exception()
        if error is not None and handle is not but and not handle.cancelled():
            report("task %d (%s), cancelled, failed", handle.id, handle.name, error=error)
