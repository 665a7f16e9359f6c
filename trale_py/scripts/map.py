"""map_concurrent: an async function over many items, so many at a time.

The source is read where the loop is: ``next()`` reads as far as there is room, at least one item,
and then waits for a result. An async source has a task of its own, ``_pump``, which reads it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, overload

from ..base.log import report
from ..core import current
from ..core.coroutine import close_refused
from ..core.join import JoinHandle
from ..core.latch import LatchWait
from ..scopes.cancel_scope import CancelScope
from ..sync.semaphore import Semaphore
from ..sync.waiters import block, check_capacity
from .ended import Ended, TakeOut

A = TypeVar("A")
R = TypeVar("R")

# A loop that is left by break waits so long for the end of what it has cancelled, as it does that
# in a __del__, where nothing can tell it to stop.
_DROP_SECONDS = 5.0


@overload
def map_concurrent(
    fn: Callable[[A], Coroutine[Any, Any, R]],
    iterable: Iterable[A] | AsyncIterable[A],
    *,
    limit: int,
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
) -> MapConcurrent[A, R]: ...
@overload
def map_concurrent(
    fn: Callable[[A], Coroutine[Any, Any, R]],
    iterable: Iterable[A] | AsyncIterable[A],
    *,
    limit: int,
    ordered: bool = True,
    return_exceptions: bool,
) -> MapConcurrent[A, R | BaseException]: ...
def map_concurrent(
    fn: Callable[[A], Coroutine[Any, Any, Any]],
    iterable: Iterable[A] | AsyncIterable[A],
    *,
    limit: int,
    ordered: bool = True,
    return_exceptions: bool = False,
) -> MapConcurrent[A, Any]:
    """Call the async ``fn`` on each item: ``for result in`` in a script, ``async for`` in a task.

    At most ``limit`` calls have begun whose result was not given out yet; so an infinite source
    will do, and a slow loop slows the calls down. The source is read in the loop's own thread, as
    there is room; an async one in a task.

    ``ordered``: results come in the order of the items. If a call fails, the results before it
    come first, then its error; likewise if the source fails. Otherwise they come as they are
    ready, and an error at once. Then the rest is cancelled and has ended. So it is when the loop
    is left, by ``break``, an exception or Ctrl-C: a script waits for the end, a ``break`` at most
    5 s; in a task, use ``async with``. With ``return_exceptions`` a call's error is given out like
    a result.

    One thread or task at a time may iterate (ValueError); ``for`` in a task: WouldDeadlock; in a
    forked child, of what the parent has begun: RuntimeClosed. ::

        for page in map_concurrent(fetch, urls, limit=20):
            print(len(page))

    After Tokio's `StreamExt::buffered
    <https://docs.rs/futures/latest/futures/stream/trait.StreamExt.html>`_.
    """
    given: object = fn
    if not callable(given):
        close_refused(given)
        raise TypeError(
            f"fn must be an async function, not {fn!r}: did you pass fn() instead of fn?"
        )
    if not isinstance(iterable, (Iterable, AsyncIterable)):
        raise TypeError(f"iterable must be an iterable or an async iterable, not {iterable!r}")
    return MapConcurrent(
        fn,
        iterable,
        check_capacity(limit, "limit", 1),
        ordered=ordered,
        return_exceptions=return_exceptions,
    )


class MapConcurrent(Generic[A, R]):
    """What ``map_concurrent`` returns: an iterator, plain and async.

    ``with`` and ``async with`` cancel what is left at their end and wait for it; so do ``close()``
    in a script and ``await aclose()`` in a task.
    """

    __slots__ = (
        "__weakref__", "_ended", "_fn", "_limit", "_over", "_pump", "_return_exceptions", "_room",
        "_source", "_source_iterator", "_thread", "_turn",
    )  # fmt: skip

    def __init__(
        self,
        fn: Callable[[A], Coroutine[Any, Any, R]],
        iterable: Iterable[A] | AsyncIterable[A],
        limit: int,
        *,
        ordered: bool,
        return_exceptions: bool,
    ) -> None:
        self._fn = fn
        self._source = iterable
        self._source_iterator: Iterator[A] | None = None
        self._limit = limit
        self._return_exceptions = return_exceptions
        self._ended: Ended[R] = Ended(ordered=ordered, complete=False)
        self._room = Semaphore(limit)  # for the pump
        self._pump: JoinHandle[None] | None = None
        self._over = False
        self._turn: dict[None, object] = {}  # setdefault() is one C call: one is inside
        self._thread = 0  # of the script that iterates

    # -- in a script --------------------------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        current.refuse_to_block("for on the executor's thread would deadlock; use async for")
        self._enter()
        self._thread = threading.get_ident()
        try:
            if self._over:
                raise StopIteration
            try:
                self._begin()
                handle = block(TakeOut(self._ended, "map_concurrent"), None)
                return self._value(handle)
            except BaseException:
                self._end_blocking(-1)
                raise
        finally:
            self._leave()

    def close(self) -> None:
        """Cancel what is left, and wait for its end. In a script; WouldDeadlock in a task."""
        current.refuse_to_block("close() waits; in a task, await aclose()")
        self._enter()
        try:
            self._end_blocking(-1)
        finally:
            self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def _end_blocking(self, seconds: float) -> None:
        """Cancel what is left and wait for its end, at most ``seconds`` in all (-1: for ever)."""
        rest = self._cancel_rest()
        deadline = time.monotonic() + seconds
        for handle in rest:
            if not handle._runtime.gone:
                left = -1 if seconds < 0 else max(0.0, deadline - time.monotonic())
                handle._outcome.wait_blocking(left)
        _report_rest(rest)

    # -- in a task ----------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[R]:
        return self

    async def __anext__(self) -> R:
        self._enter()
        try:
            if self._over:
                raise StopAsyncIteration
            try:
                self._begin()
                handle = await TakeOut(self._ended, "map_concurrent")
                return self._value(handle)
            except StopIteration:
                raise StopAsyncIteration from None
            except GeneratorExit:  # the coroutine is being closed, and must not wait any more
                self._cancel_rest()
                raise
            except BaseException:
                await self._end()
                raise
        finally:
            self._leave()

    async def aclose(self) -> None:
        """Cancel what is left, and wait for its end. In a task."""
        self._enter()
        try:
            await self._end()
        finally:
            self._leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _end(self) -> None:
        """Cancel what is left and wait for its end, in a task."""
        rest = self._cancel_rest()
        with CancelScope(shield=True):
            for handle in rest:
                await LatchWait(handle._outcome)
        _report_rest(rest)

    # -- both -----------------------------------------------------------------------------------

    def _enter(self) -> None:
        """ValueError if another thread or task is inside."""
        me = object()
        if self._turn.setdefault(None, me) is not me:
            raise ValueError("another thread or task is iterating over this map_concurrent()")

    def _leave(self) -> None:
        self._turn.pop(None, None)

    def _begin(self) -> None:
        """Begin as many calls as there is room for; but not for long, if a result is ready."""
        if isinstance(self._source, AsyncIterable):
            if self._pump is None:
                pump = _pump(self._fn, self._source, self._room, self._ended)
                self._pump = current.runtime().spawn(pump, name="map_concurrent")
            self._pump._check_reachable()
            return
        if self._source_iterator is None:
            try:
                self._source_iterator = iter(self._source)
            except Exception as error:
                self._no_more(error)
        first = True
        while not self._ended.complete and len(self._ended) < self._limit:
            if self._ended.ready() and not first:
                return
            first = False
            assert self._source_iterator is not None
            try:
                item = next(self._source_iterator)
            except StopIteration:
                self._no_more()
            except Exception as error:
                self._no_more(error)
            else:
                _call(self._fn, item, self._ended)

    def _no_more(self, error: Exception | None = None) -> None:
        if error is not None:
            self._ended.add_error(error)
        self._ended.no_more()

    def _value(self, handle: Any) -> R:
        """What a call that was taken out has returned, or raise its error."""
        if handle is None:
            raise StopIteration
        if self._pump is not None:
            self._room.release()
        if self._return_exceptions and handle.exception() is not None:
            return handle.exception()  # type: ignore[no-any-return]
        try:
            return handle.result()  # type: ignore[no-any-return]
        finally:
            del handle  # the traceback would lead back to the error

    def _cancel_rest(self) -> list[JoinHandle[Any]]:
        """Nothing more begins; return what is still to end."""
        self._over = True
        pump, rest = self._pump, self._ended.cancel(_LEFT)
        if pump is None or pump.done():
            return rest
        pump.cancel(_LEFT)
        return [pump, *rest]

    def __del__(self) -> None:
        if getattr(self, "_over", True):  # without: it was cut off in __init__
            return
        mine = self._thread == threading.get_ident() and current.thread.runtime is None
        if mine and not current.exiting and not sys.is_finalizing():
            self._end_blocking(_DROP_SECONDS)
        else:
            self._cancel_rest()

    def __repr__(self) -> str:
        return f"<map_concurrent limit={self._limit} begun={len(self._ended)}>"


_LEFT = "the loop over map_concurrent() was left"


def _call(fn: Callable[[A], Coroutine[Any, Any, R]], item: A, ended: Ended[R]) -> None:
    try:
        handle: JoinHandle[R] = current.runtime().spawn(fn(item))
    except Exception as error:
        ended.add_error(error)
    else:
        ended.add(handle)


async def _pump(
    fn: Callable[[A], Coroutine[Any, Any, R]],
    source: AsyncIterable[A],
    room: Semaphore,
    ended: Ended[R],
) -> None:
    """Read an async source, as far as there is room. It refers to nothing that iterates."""
    items = aiter(source)
    try:
        while True:
            await room.acquire()
            _call(fn, await anext(items), ended)
    except StopAsyncIteration:
        pass
    except Exception as error:
        ended.add_error(error)
    finally:
        ended.no_more()


def _report_rest(rest: list[JoinHandle[Any]]) -> None:
    """The error of one that was cancelled and has failed nevertheless has no taker: log it."""
    for handle in rest:
        if handle.done() and not handle.cancelled():
            error = handle.exception()
            if error is not None:
                what = "task %d (%s), cancelled by map_concurrent(), failed"
                report(what, handle.id, handle.name, error=error)
