"""``aio``: asyncio's code from trale_py's.

``aio(...)`` only notes what is wanted. It is begun where it is awaited: on the executor's thread,
in an asyncio task of the runtime's guest loop. asyncio is imported then, and not before.
"""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
)
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from ..core import current
from ..core.coroutine import close_refused, name_of
from ..core.leaf import NEW, USED, Forgettable, checkpoint
from . import seam as seam  # it is what the core asks

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
P = ParamSpec("P")


class AioCall(Forgettable, Coroutine[Any, Any, T]):
    """What ``aio(...)`` returns: to be awaited or spawned, or entered, or iterated over. Once."""

    __slots__ = (
        "__qualname__",
        "__weakref__",
        "_args",
        "_face",
        "_options",
        "_state",
        "_steps",
        "_what",
    )

    def __init__(self, what: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._what = what
        self._args = args
        self._options = options
        self._steps: Coroutine[Any, Any, T] | None = None
        self._face: Any = None
        self.__qualname__ = name_of(what)
        self._state = NEW

    def _use(self) -> None:
        """RuntimeError the second time."""
        if self._state == USED:
            raise RuntimeError(f"cannot use {self!r} again: it can be used once only")
        self._state = USED

    def _is_call(self) -> bool:
        """Whether ``what`` is a function to call, and not what it would return."""
        return bool(self._args or self._options) or not _is_ready(self._what)

    def _make(self) -> Any:
        """In asyncio's code: what is to be awaited, entered or iterated over."""
        return self._what(*self._args, **self._options) if self._is_call() else self._what

    # -- to be awaited ---------------------------------------------------------------------------

    def _begin(self) -> Coroutine[Any, Any, T]:
        """The coroutine that runs it. TypeError for what can be entered or iterated over only."""
        self._use()
        if not self._is_call() and not inspect.isawaitable(self._what):
            how = "async with" if _is_manager(self._what) else "async for"
            raise TypeError(f"{self._what!r} cannot be awaited: use it with {how}")
        self._steps = self._run()
        return self._steps

    async def _run(self) -> T:
        """A task of trale_py's waits for an asyncio task; asyncio code awaits it directly."""
        from .guest import guest_here
        from .until import outcome_of, until_end

        try:
            guest = guest_here()
            await checkpoint()  # cancelled already, it does nothing
        except BaseException:
            self._close_unused()
            raise
        if guest is None:
            return await self._await()
        task: asyncio.Task[T] = guest.create_task(self._await())
        try:
            await until_end(task)
            return outcome_of(task)
        finally:
            del task  # an error's traceback would lead back to it

    async def _await(self) -> T:
        """asyncio's code."""
        made = self._make()
        if inspect.isawaitable(made):
            made = await made
        return cast(T, made)

    def __await__(self) -> Generator[Any, None, T]:
        return self._begin().__await__()

    @property
    def cr_suspended(self) -> bool:
        """A task that is given one asks whether it has begun."""
        return self._state == USED

    def send(self, value: Any, /) -> Any:
        return (self._begin() if self._steps is None else self._steps).send(value)

    def throw(self, error: Any, value: Any = None, traceback: Any = None, /) -> Any:
        if self._steps is not None:
            return self._steps.throw(error)
        self.close()
        raise error

    def close(self) -> None:
        self._state = USED
        if self._steps is not None:
            self._steps.close()
        else:
            self._close_unused()

    def _close_unused(self) -> None:
        """A coroutine that was handed over and never ran: that is no mistake."""
        if not self._is_call() and inspect.iscoroutine(self._what):
            close_refused(self._what)

    # -- to be entered, or iterated over -----------------------------------------------------------

    async def __aenter__(self) -> T:
        from .faces import ManagerFace

        self._use()
        self._face = ManagerFace(self._make)
        return cast(T, await self._face.enter())

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        face, self._face = self._face, None
        return cast(bool, await face.exit(exc))

    def __aiter__(self) -> AsyncIterator[T]:
        from .faces import IteratorFace

        self._use()
        return IteratorFace(self._make)

    def __repr__(self) -> str:
        return f"<aio of {self.__qualname__}>"


class Aio:
    """The type of ``aio``."""

    __slots__ = ()

    @overload
    def __call__(self, manager: AbstractAsyncContextManager[T], /) -> AioCall[T]: ...
    @overload
    def __call__(self, items: AsyncIterable[T], /) -> AioCall[T]: ...
    @overload
    def __call__(self, awaitable: Awaitable[T], /) -> AioCall[T]: ...
    @overload
    def __call__(
        self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kw: P.kwargs
    ) -> AioCall[T]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /, *args: P.args, **kw: P.kwargs) -> AioCall[T]: ...
    def __call__(self, what: Any, /, *args: Any, **kw: Any) -> AioCall[Any]:
        """Run code of asyncio's: something to ``await``, ``spawn``, ``block_on``, put in groups.

        ``aio(fn, *args, **kw)`` calls ``fn`` on the executor's thread, in an asyncio task of the
        runtime's own event loop, and awaits what it returns if that can be awaited. In a script
        always use this form: in ``aio(fn(...))`` the call itself would run in your thread, and
        many libraries look for their event loop there. ``aio(x)`` of an awaitable awaits it.
        ``x`` may also be an async context manager or an async iterable: then use the result in
        ``async with`` or ``async for``. All of it runs in one asyncio task. What is several of
        these at once is taken as a manager or iterable first, then as an awaitable, then as a
        function.

        In asyncio code trale_py's operations, handles, channels and locks are awaited directly.
        Scopes and groups are for trale_py's tasks: ``await spawn(...)`` there.

        Cancelled, it cancels the asyncio task once and waits for its end; if that ends with a
        value or an error nevertheless, that is the outcome. If asyncio's side has cancelled it:
        TaskCancelled. Context variables are copied in. TypeError for what is none of these, and
        RuntimeError if this Python's asyncio is one that the guest loop does not know. ::

            connection = spawn(aio(asyncpg.connect, dsn)).join()
            async with aio(connection.transaction()):
                await aio(connection.execute("delete from old"))
        """
        if not callable(what):
            if args or kw:
                raise TypeError(
                    f"fn must be a function, not {what!r}: did you pass fn() instead of fn?"
                )
            if not _is_ready(what):
                raise TypeError(
                    "aio() takes a function and its arguments, an awaitable, or an async context "
                    f"manager or iterable, not {what!r}"
                )
        return AioCall(what, args, kw)

    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the runtime, started. From any thread; waits until it is there.

        For what must be given a loop, and for ``asyncio.run_coroutine_threadsafe``. It cannot be
        run, stopped or closed: it ends with the runtime. RuntimeClosed if that has ended. ::

            future = asyncio.run_coroutine_threadsafe(fetch(), aio.loop())
        """
        from .guest import guest_of

        runtime = current.thread.runtime
        if runtime is not None:
            return guest_of(runtime).loop
        loop: asyncio.AbstractEventLoop = current.runtime().spawn(_loop()).join()
        return loop

    def __repr__(self) -> str:
        return "<aio: asyncio's code in trale_py>"

    def __reduce__(self) -> str:
        return "aio"


async def _loop() -> asyncio.AbstractEventLoop:
    return aio.loop()


def _is_manager(what: object) -> bool:
    return hasattr(type(what), "__aenter__")


def _is_ready(what: object) -> bool:
    """Whether it is a manager, iterable or awaitable as it stands."""
    return _is_manager(what) or hasattr(type(what), "__aiter__") or inspect.isawaitable(what)


aio = Aio()
