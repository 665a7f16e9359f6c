"""blocking(): the plain face of an async context manager or iterator.

One task, the driver, does all that is asked for, one after the other: so what the object opens in
one step (a scope, a group) it can close in another. The script's thread asks and waits.

    script: __next__ --_Request--> driver: await anext(iterator) --answer--> script

Between two requests the driver waits, inside of whatever the object has opened.
"""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, overload

from ..base.errors import Cancelled, TaskCancelled, WouldDeadlock, raise_as_it_was, traceback_of
from ..core import current
from ..core.coroutine import close_refused
from ..core.join import JoinHandle
from ..core.task import current_task
from ..scopes.cancel_scope import CancelScope
from ..sync.event import Event

if TYPE_CHECKING:
    from ..channel import Receiver, Sender

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _AsyncIterable(Protocol[T_co]):
    def __aiter__(self) -> AsyncIterator[T_co]: ...


@overload
def blocking(x: _AsyncIterable[T], /) -> Blocking[T, Any]: ...
@overload
def blocking(x: AbstractAsyncContextManager[T, Any], /) -> Blocking[Any, T]: ...
def blocking(x: Any, /) -> Blocking[Any, Any]:
    """Use an async context manager by ``with``, an async iterable by ``for``; in a script.

    All of it runs in one task, so that cancel scopes and groups inside ``x`` work, and in a copy
    of the caller's context, made here. What an iterator does, it does while the script waits for
    its next item. Exhaustion, ``close()`` and leaving a ``with`` wait for its end; a ``break``
    drops it, and it is cancelled at once. Ctrl-C in the wait for an item does that too, and waits
    for the end.

    ``with`` of a manager gives what it gives, and if that is async iterable, its plain face. If a
    scope of the manager's is cancelled meanwhile, by a deadline or a failed task of its group, the
    block goes on, and the manager hears of it at the end of the block.

    One thread at a time (ValueError); in a task: WouldDeadlock, use ``async with`` and ``async
    for`` there; in a forked child, of what the parent has begun: RuntimeClosed. ::

        with blocking(connect(url)) as connection:
            for message in blocking(connection.messages()):
                print(message)
    """
    if not (hasattr(x, "__aenter__") or hasattr(x, "__aiter__")):
        close_refused(x)
        raise TypeError(
            f"x must be an async context manager or an async iterable, not {x!r}; "
            "for a coroutine, use block_on()"
        )
    return Blocking(x, _Driver(x))


class Blocking(Generic[T, T_co]):
    """What ``blocking`` returns: an iterator, or for ``with``, or both."""

    __slots__ = ("__weakref__", "_driver", "_given", "_inside", "_iterator")

    def __init__(self, given: Any, driver: _Driver, *, inside: bool = False) -> None:
        self._given = given
        self._driver = driver
        self._iterator: AsyncIterator[T] | None = None
        self._inside = inside  # a manager's exit ends the driver

    # -- with -------------------------------------------------------------------------------

    def __enter__(self) -> Any:
        if not hasattr(self._given, "__aenter__"):
            return self
        value = self._driver.ask(self._driver.enter, self._given)
        if value is self._given:
            return self
        return Blocking(value, self._driver, inside=True) if hasattr(value, "__aiter__") else value

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        driver = self._driver
        try:
            if driver.manager is None or driver.ended or (exc is not None and driver.forked):
                return False
            return bool(driver.ask(driver.exit, exc_type, exc, tb))
        finally:
            driver.end()

    # -- for --------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._driver.ended:
            raise StopIteration
        try:
            return self._driver.ask(self._next)  # type: ignore[no-any-return]
        except (ValueError, WouldDeadlock):  # it may be refused, and goes on
            raise
        except StopAsyncIteration:
            self._end_iteration()
            raise StopIteration from None
        except BaseException:
            self._end_iteration()
            raise

    async def _next(self) -> T:
        if self._iterator is None:
            self._iterator = aiter(self._given)
            self._driver.iterators.append(self._iterator)
        return await anext(self._iterator)

    def _end_iteration(self) -> None:
        if self._driver.manager is None:
            self._driver.end()

    def close(self) -> None:
        """End it, and wait for the end; the second time nothing. A manager that was entered is
        left, as at the end of its block."""
        self.__exit__(None, None, None)

    def __del__(self) -> None:
        if not getattr(self, "_inside", True):  # without: it was cut off in __init__
            self._driver.drop()

    def __repr__(self) -> str:
        return f"<blocking {self._given!r}>"


class _Request:
    """One step that the driver is asked for, and what has come of it."""

    __slots__ = ("answered", "args", "call", "error", "value")

    def __init__(self, call: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        self.call = call
        self.args = args
        self.answered = Event()
        self.value: Any = None
        self.error: BaseException | None = None


class _Driver:
    """The task, and the way to it. It does not refer to the Blocking, so that can be dropped."""

    def __init__(self, given: object) -> None:
        from ..channel import channel  # not loaded before it is used

        self._name = f"blocking {type(given).__qualname__}"
        self._context = contextvars.copy_context()
        self._sender: Sender[_Request]
        self._receiver: Receiver[_Request]
        self._sender, self._receiver = channel(None)
        self._asked: _Request | None = None  # and not answered
        self._turn: dict[None, object] = {}  # setdefault() is one C call: one is inside
        self._task: JoinHandle[None] | None = None
        self.ended: bool = False
        # The task writes these.
        self.manager: AbstractAsyncContextManager[Any, Any] | None = None  # that was entered
        self.iterators: list[AsyncIterator[Any]] = []  # to be closed at the end
        self._kept: Cancelled | None = None  # of a scope that the manager has opened

    # -- the script's thread -------------------------------------------------------------------

    def ask(self, call: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Have it called in the task, and wait for what comes of it."""
        current.refuse_to_block(
            "blocking() on the executor's thread would deadlock; "
            "in a task, use async with and async for"
        )
        me = object()
        if self._turn.setdefault(None, me) is not me:
            raise ValueError("another thread is using this blocking()")
        try:
            if self.ended:
                raise RuntimeError("this blocking() has ended")
            if self._task is not None:
                self._task._check_reachable()
            request = _Request(call, args)
            try:
                self._send(request)
                request.answered.wait_blocking()
            except BaseException:
                self.drop()
                self.end()
                raise
        finally:
            self._asked = None
            self._turn.pop(None, None)
        if request.error is None:
            return request.value
        try:
            raise_as_it_was(request.error)
        finally:
            del request  # the traceback would lead back to the error

    def _send(self, request: _Request) -> None:
        self._asked = request
        if self._task is None:
            self._task = current.runtime().spawn(
                self._drive(), name=self._name, context=self._context
            )
        self._sender.try_send(request)
        if not self._task._outcome.call_when_open(self, self._task_has_ended):
            self._task_has_ended()

    def _task_has_ended(self) -> None:
        """What is asked will not be answered any more."""
        request = self._asked
        if request is not None and not request.answered.is_set():
            request.error = TaskCancelled("the task of this blocking() was cancelled")
            request.answered.set()

    @property
    def forked(self) -> bool:
        """Whether this is a child, and the task is its parent's."""
        return self._task is not None and self._task._runtime.forked

    def end(self) -> None:
        """Have the task end, and wait for that."""
        task = self._task
        if task is not None:
            current.refuse_to_block("close() waits; in a task, use async with", task._runtime)
        self.ended = True
        if task is None or self.forked:
            return
        self._sender.close()
        task._outcome.wait_blocking()
        if task.done() and not task.cancelled():
            task.result()  # what a generator has raised as it was closed

    def drop(self) -> None:
        """From anywhere: cancel the task."""
        self.ended = True
        if self._task is not None:
            self._task.cancel("its blocking() was left")
            self._sender.close()

    # -- the task --------------------------------------------------------------------------------

    async def _drive(self) -> None:
        """The task: do what is asked for until there is no more, then close what is open."""
        try:
            while (request := await self._next_request()) is not None:
                try:
                    request.value = await request.call(*request.args)
                except Cancelled:
                    raise
                except BaseException as error:
                    request.error = error
                request.answered.set()
                del request
            await self._close_iterators()
        except BaseException as error:
            await self._close_iterators()
            if self.manager is not None:
                await self.manager.__aexit__(type(error), error, traceback_of(error))
            raise

    async def _close_iterators(self) -> None:
        while self.iterators:
            iterator = self.iterators.pop()
            if hasattr(iterator, "aclose"):
                await iterator.aclose()

    async def enter(self, manager: AbstractAsyncContextManager[Any, Any]) -> Any:
        value = await manager.__aenter__()
        self.manager = manager
        return value

    async def exit(self, *failure: Any) -> bool | None:
        await self._close_iterators()
        manager, self.manager = self.manager, None
        assert manager is not None
        if self._kept is not None and failure[1] is None:
            failure = (Cancelled, self._kept, traceback_of(self._kept))
        swallowed: bool | None = await manager.__aexit__(*failure)
        return swallowed

    async def _next_request(self) -> _Request | None:
        """None: there will be none. Shielded, once a scope that the object has opened is cancelled:
        it hears of that in its next step, and not while the script is at work."""
        try:
            return await anext(self._receiver, None)
        except Cancelled as error:
            task = current_task()
            if task is None or task.cancel_called:
                raise
            self._kept = error
        # A shutdown cancels this task, and the shield keeps that out. So a second one listens.
        watcher = current.runtime().spawn(self._watch(), name=f"{self._name}, listening")
        try:
            with CancelScope(shield=True):
                return await anext(self._receiver, None)
            return None
        finally:
            watcher.cancel()

    async def _watch(self) -> None:
        """Let the driver go on when the runtime is being shut down."""
        try:
            await Event().wait()
        finally:
            task = current_task()
            if task is not None and task._runtime.closing:
                self._sender.close()
