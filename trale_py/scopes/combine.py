"""Several awaitables at once: gather, race, as_completed, timeout.

Each takes coroutines, trale_py futures and join handles. What is no task yet becomes one, and
is cancelled when it is not needed any more. A join handle is only waited for: its task goes on.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from functools import partial, wraps
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, overload

from ..base.durations import Duration, to_ns
from ..base.errors import is_a
from ..base.log import report
from ..core import current
from ..core.coroutine import close_refused
from ..core.executor import in_a_task
from ..core.future import PENDING, Future, Pending, Ready
from ..core.join import JoinHandle
from ..core.latch import LatchWait
from ..core.leaf import checkpoint, hand_over
from ..core.waker import Context
from .cancel_scope import CancelScope, move_on_after

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")

Source: TypeAlias = Coroutine[Any, Any, T] | Future[T] | JoinHandle[T]


def _takes_over(call: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Decorates an ``async def``. If its coroutine never runs, that is not the awaitables' fault:
    they were handed over at the call."""

    @wraps(call)
    def take_over(*aws: P.args, **options: P.kwargs) -> Coroutine[Any, Any, T]:
        for source in aws:
            hand_over(source)
        return in_a_task(call(*aws, **options))

    return take_over


@overload
async def gather(
    a: Source[A], b: Source[B], /, *, return_exceptions: Literal[False] = False
) -> tuple[A, B]: ...
@overload
async def gather(
    a: Source[A], b: Source[B], c: Source[C], /, *, return_exceptions: Literal[False] = False
) -> tuple[A, B, C]: ...
@overload
async def gather(*aws: Source[T], return_exceptions: Literal[False] = False) -> tuple[T, ...]: ...
@overload
async def gather(*aws: Source[T], return_exceptions: bool) -> tuple[T | BaseException, ...]: ...
@_takes_over
async def gather(*aws: Source[Any], return_exceptions: bool = False) -> tuple[Any, ...]:
    """Wait for all; return their values in the order they were given.

    The first failure cancels the rest at once and is raised when that has ended; what else fails
    is logged. With ``return_exceptions`` errors are returned like values. Cancelled, it cancels
    all that it made and waits for their end; if they end with values or an error nevertheless,
    that is the outcome. ::

        a, b = await gather(fetch("a"), fetch("b"))

    After asyncio's `gather <https://docs.python.org/3/library/asyncio-task.html#asyncio.gather>`_.
    """
    batch = _All("gather", errors_count=not return_exceptions)
    try:
        await batch.run(aws)
        if batch.decider is not None:
            batch.decider.result()  # raises
        if not return_exceptions:
            return tuple(handle.result() for handle in batch.handles)
        return tuple(_value_or_error(handle) for handle in batch.handles)
    finally:
        del batch  # a traceback that led to the handles would lead to itself


def _value_or_error(handle: JoinHandle[Any]) -> Any:
    error = handle.exception()
    return handle.result() if error is None else error


@overload
async def race(a: Source[A], b: Source[B], /) -> A | B: ...
@overload
async def race(a: Source[A], b: Source[B], c: Source[C], /) -> A | B | C: ...
@overload
async def race(*aws: Source[T]) -> T: ...
@_takes_over
async def race(*aws: Source[Any]) -> Any:
    """Wait for the first to end; return its value or raise its error.

    The rest is cancelled at once, before any of it has another turn, and has ended when this
    returns: what was ready for it is there for the next. What fails of it then is logged at
    DEBUG. Cancelled, it cancels all that it made; if one ends with a value or an error
    nevertheless, that is the outcome. ValueError if there is nothing to wait for. ::

        line = await race(stream.read_until(b"\\n"), stopped.wait())
    """
    if not aws:
        raise ValueError("race() needs at least one awaitable")
    batch = _First("race")
    try:
        await batch.run(aws)
        assert batch.decider is not None
        return batch.decider.result()
    finally:
        del batch  # as in gather()


def as_completed(aws: Iterable[Source[T]]) -> AsCompleted[T]:
    """Iterate over join handles in the order in which they end.

    ``aclose()`` cancels the rest and waits for its end, and so does a cancellation; when the
    iterator is dropped the rest is cancelled. One task iterates. ::

        async for handle in as_completed([fetch("a"), fetch("b")]):
            print(handle.name, handle.result())

    After the standard library's ``concurrent.futures.as_completed``.
    """
    return AsCompleted(aws)


class AsCompleted(AsyncIterator[JoinHandle[T]]):
    """What ``as_completed`` returns.

    It is no generator: a coroutine that is closed in the midst of ``async for`` does not close
    the generator that it iterates over before Python 3.13.
    """

    def __init__(self, aws: Iterable[Source[T]]) -> None:
        self._aws = list(aws)
        for source in self._aws:
            hand_over(source)
        self._batch = _Each("as_completed")
        self._left: int | None = None  # how many are to come; None: it has not begun
        self._busy = False

    async def __anext__(self) -> JoinHandle[T]:
        self._enter()
        left, self._left = self._left, 0  # there is no more if it is cut off
        try:
            if left is None:
                aws, self._aws = self._aws, []
                await self._batch.start(aws)
                left = len(self._batch.handles)
            if left == 0:
                raise StopAsyncIteration
            await self._batch.wait()
            handle = self._batch.ended.popleft()
            self._left = len(self._batch.ended) if self._batch.cut_off else left - 1
            return handle
        finally:
            self._busy = False

    async def aclose(self) -> None:
        """Cancel the rest, and wait until it has ended."""
        self._enter()
        try:
            self._left = 0
            self._batch.cancel_rest()
            await self._batch.rest_ends()
        finally:
            self._busy = False

    def _enter(self) -> None:
        if self._busy:
            raise RuntimeError("another task is already waiting in this as_completed()")
        self._busy = True

    def __del__(self) -> None:
        if getattr(self, "_left", None):  # without: cut off in __init__
            self._batch.cancel_rest()


def timeout(seconds: Duration, awaitable: Source[T]) -> Coroutine[Any, Any, T]:
    """Wait for ``awaitable``, at most ``seconds``; then cancel it, and TimeoutError.

    That is raised after the awaitable has ended; if it ends with a value or an error
    nevertheless, that is the outcome. Of a join handle only the wait ends; its task goes on. ::

        line = await timeout(5, stream.read_until(b"\\n"))
    """
    try:
        to_ns(seconds, "seconds")
    except BaseException:
        close_refused(awaitable)
        raise
    hand_over(awaitable)
    return in_a_task(_timeout(seconds, awaitable))


async def _timeout(seconds: Duration, awaitable: Source[T]) -> T:
    with move_on_after(seconds):
        return await awaitable
    raise TimeoutError(f"timed out after {seconds} seconds")


class _Batch:
    """The awaitables of one call as handles, and what has become of them.

    Executor's thread only. What ends is heard of at once, in the step that ended it, and so are
    those cancelled that are not needed any more (R24): of several that are ready in one batch of
    the executor each would otherwise take what it waits for, and all but one would lose it.
    """

    level = logging.ERROR  # what fails after it was cancelled is logged so

    def __init__(self, name: str) -> None:
        self.name = name
        self.handles: list[JoinHandle[Any]] = []  # in the order given
        self.own: list[JoinHandle[Any]] = []  # of these, the tasks that were spawned here
        self.ended: deque[JoinHandle[Any]] = deque()  # in the order of their end
        self.decider: JoinHandle[Any] | None = None  # whose end is that of the call
        self.cut_off = False  # the call was cancelled
        self.waiter: Context | None = None
        self._cancelled: dict[JoinHandle[Any], None] = {}
        self._calls: list[tuple[JoinHandle[Any], Callable[[], object]]] = []  # where it listens

    # What the calls define.

    def decides(self, handle: JoinHandle[Any]) -> bool:
        """Whether the end of this one is that of the call."""
        return False

    def done(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.decider is not None

    # A call's course.

    async def run(self, aws: Iterable[Source[Any]]) -> None:
        """Return when it is done, and the rest was cancelled and has ended."""
        await self.start(aws)
        await self.wait()
        await self.rest_ends()

    async def start(self, aws: Iterable[Source[Any]]) -> None:
        """Spawn what is no task; if one is refused, the others do not begin.

        A checkpoint first: cancelled already, nothing is spawned. Otherwise the tasks would have
        their first turn before this one hears of it.
        """
        rest = list(aws)
        runtime = current.runtime()
        try:
            await checkpoint()
            for source in rest:
                if isinstance(source, JoinHandle):
                    source._check_awaitable()
                elif isinstance(source, (list, tuple, set)):
                    raise TypeError(
                        f"{self.name}() takes coroutines, futures and handles, not {source!r}: "
                        f"{self.name}(*aws)?"
                    )
            while rest:
                source = rest[0]
                if isinstance(source, JoinHandle):
                    self.handles.append(source)
                else:
                    self.own.append(runtime.spawn(source))
                    self.handles.append(self.own[-1])
                del rest[0]
        except BaseException as error:
            close_refused(rest)
            self.cancel_rest()
            if not is_a(error, GeneratorExit):
                await self.rest_ends()
            raise
        for handle in self.handles:
            # It may be of another runtime: this one decides which is first.
            call = partial(runtime.call_on_executor, partial(self._has_ended, handle))
            self._calls.append((handle, call))
            if not handle._outcome.call_when_open(call, call):
                call()

    def _has_ended(self, handle: JoinHandle[Any]) -> None:
        if self.cut_off and handle.cancelled():
            return
        self.ended.append(handle)
        if self.decider is None and self.decides(handle):
            self.decider = handle
            self.cancel_rest()
        if self.waiter is not None:
            self.waiter.waker.wake()

    async def wait(self) -> None:
        """Until it is done. Cut off: cancel the rest and wait for its end.

        Returns also then, if what was cancelled has ended with values or an error nevertheless.
        """
        try:
            await _Done(self)
        except GeneratorExit:  # the coroutine is being closed, and must not wait any more
            self.cancel_rest()
            raise
        except BaseException:
            self.cut_off = True
            self.cancel_rest()
            await self.rest_ends()
            if not self.delivers():
                raise

    def delivers(self) -> bool:
        """Whether it is done by more than the cancellation of one of them."""
        return self.done() and (self.decider is None or not self.decider.cancelled())

    # The end of the rest.

    def cancel_rest(self) -> None:
        """Cancel what was spawned and runs; the others are not listened to any more. From
        anywhere."""
        for handle in self.own:
            if not handle.done():
                self._cancelled[handle] = None
                handle.cancel("the others are no longer needed")
        own = set(self.own)
        for handle, call in self._calls:
            if handle not in own:
                handle._outcome.forget(call)

    async def rest_ends(self) -> None:
        """Wait until what was cancelled has ended, and log what failed unseen."""
        if not self._cancelled:
            return
        with CancelScope(shield=True):
            for handle in self._cancelled:
                await LatchWait(handle._outcome)
        for handle in self._cancelled:
            if handle is self.decider or handle.cancelled():
                continue
            error = handle.exception()
            if error is not None:
                report(
                    "task %d (%s), cancelled by %s(), failed",
                    handle.id,
                    handle.name,
                    self.name,
                    error=error,
                    level=self.level,
                )
        self._cancelled.clear()


class _All(_Batch):
    def __init__(self, name: str, *, errors_count: bool) -> None:
        super().__init__(name)
        self._errors_count = errors_count

    def decides(self, handle: JoinHandle[Any]) -> bool:
        return self._errors_count and handle._outcome.error is not None

    def done(self) -> bool:
        return self.decider is not None or len(self.ended) == len(self.handles)


class _First(_Batch):
    level = logging.DEBUG

    def decides(self, handle: JoinHandle[Any]) -> bool:
        return True


class _Each(_Batch):
    def done(self) -> bool:
        return bool(self.ended)


class _Done(Future[None]):
    """Waits until a batch is done."""

    __slots__ = ("_batch",)

    def __init__(self, batch: _Batch) -> None:
        self._batch = batch

    def poll(self, cx: Context) -> Ready[None] | Pending:
        done = self._batch.done()
        self._batch.waiter = None if done else cx
        return Ready(None) if done else PENDING

    def _delivered(self) -> bool:
        return self._batch.delivers()

    def __repr__(self) -> str:
        waits_for = [handle._outcome for handle in self._batch.handles if not handle.done()]
        return f"<{self._batch.name} of {waits_for!r}>"

    def drop(self) -> None:
        self._batch.waiter = None
