"""The guest: a SelectorEventLoop that never waits. See guest.py, which gives it its turns.

Its descriptors are in an epoll set of its own, and that set's descriptor is in trale_py's reactor.

What is private of asyncio and used here: ``check_private`` has the list.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import socket
import sys
import threading
import time
import weakref
from asyncio import base_subprocess
from typing import Any, NoReturn, Protocol

from ..base.errors import RuntimeClosed
from ..core.contract import RuntimeLike
from .pool import PoolExecutor
from .signal_handlers import SignalHandlers

_NEEDED: dict[Any, tuple[str, ...]] = {
    asyncio.SelectorEventLoop: (
        "_run_once",
        "_write_to_self",
        "_check_closed",
        "_handle_signal",
        "_make_subprocess_transport",
        "_asyncgen_firstiter_hook",
        "_asyncgen_finalizer_hook",
    ),
    asyncio.events: ("_set_running_loop", "_get_running_loop"),
    selectors.EpollSelector: ("select", "unregister"),
    base_subprocess.BaseSubprocessTransport: ("_wait",),
}
_NEEDED_FIELDS = ("_ready", "_scheduled", "_thread_id", "_transports", "_default_executor")


def check_private() -> None:
    """RuntimeError if this Python's asyncio has not got what the guest needs of it."""
    missing = [
        f"{owner.__name__}.{name}"
        for owner, names in _NEEDED.items()
        for name in names
        if not hasattr(owner, name)
    ]
    if not missing:
        loop = asyncio.SelectorEventLoop()
        try:
            missing = [name for name in _NEEDED_FIELDS if not hasattr(loop, name)]
        finally:
            loop.close()
    if missing:
        raise RuntimeError(
            f"aio cannot work: asyncio of Python {sys.version.split()[0]} has no "
            f"{', '.join(missing)}, which trale_py's guest loop needs"
        )


def _without_this_frame(made: Any) -> Any:
    """In debug mode a handle or task shows where it was made: in the user's code."""
    if made is not None and getattr(made, "_source_traceback", None):
        del made._source_traceback[-1]
    return made


class GuestSelector(selectors.EpollSelector):
    """An epoll set that is asked only when there is news, and never waits.

    ``news`` is set when the reactor has reported the set's descriptor.
    """

    news = True
    has_reported = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self.news:
            return []
        self.news = False
        events = super().select(0)
        self.has_reported = bool(events)
        return events

    def leave_to_parent(self) -> None:
        """In a forked child: from now on this is another set, an empty one."""
        shared, self._selector = self._selector, select.epoll()  # type: ignore[has-type]
        shared.close()


class Turns(Protocol):
    """A Guest, for its loop."""

    is_turning: bool

    def wake(self) -> None: ...
    def create_task_in_turn(self, create: Any, coro: Any, options: Any) -> asyncio.Task[Any]: ...


class GuestLoop(SignalHandlers, asyncio.SelectorEventLoop):
    """asyncio's loop of one runtime: ``aio.loop()``.

    It has turns as long as the runtime lives, so it is neither run, nor stopped, nor closed.
    """

    _ready: Any  # these are asyncio's, and private
    _scheduled: Any
    _transports: Any
    _thread_id: int | None
    _task_factory: Any
    _run_once: Any
    _asyncgen_firstiter_hook: Any
    _asyncgen_finalizer_hook: Any
    _getaddrinfo_debug: Any
    _set_coroutine_origin_tracking: Any

    def __init__(self, runtime: RuntimeLike, turns: Turns) -> None:
        self.guest_selector = GuestSelector()
        self._gone = ""
        self._turns = turns
        self._waking = {"call_soon": self._call_soon_and_wake, "call_at": self._call_at_and_wake}
        if runtime.now_ns is not time.monotonic_ns:  # a test's clock
            self.__dict__["time"] = lambda: runtime.now_ns() / 1e9
        self.is_ending = False
        self.programs: weakref.WeakSet[Any] = weakref.WeakSet()  # transports of programs
        super().__init__(self.guest_selector)
        self._thread_id = threading.get_ident()
        self._default_executor = PoolExecutor(runtime, runtime.jobs)
        self._names = PoolExecutor(runtime, runtime.names)
        self.woken_by_calls(True)

    # -- what wakes the guest ------------------------------------------------------------------

    def _write_to_self(self) -> None:
        """asyncio's call_soon_threadsafe ends with it."""
        self._turns.wake()

    def woken_by_calls(self, woken: bool) -> None:
        """Between turns a call to be made must also wake the guest.

        These two stand in the instance's dict for that time only: in a turn there would be a
        frame more for each of the many calls.
        """
        if woken:
            self.__dict__.update(self._waking)
        else:
            self.__dict__.pop("call_soon", None)
            self.__dict__.pop("call_at", None)

    def _call_soon_and_wake(self, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = super().call_soon(callback, *args, context=context)
        self._turns.wake()
        return _without_this_frame(handle)

    def _call_at_and_wake(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        timer = super().call_at(when, callback, *args, context=context)
        self._turns.wake()
        return _without_this_frame(timer)

    def create_task(self, coro: Any, **options: Any) -> Any:
        """As asyncio's, also between turns."""
        if self._turns.is_turning or self._task_factory is None:
            task = super().create_task(coro, **options)
        else:  # the factory may run its first step at once
            task = self._turns.create_task_in_turn(super().create_task, coro, options)
        return _without_this_frame(task)

    # -- the runtime's own pools ---------------------------------------------------------------

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        look_up = self._getaddrinfo_debug if self.get_debug() else socket.getaddrinfo
        return await self.run_in_executor(
            self._names, look_up, host, port, family, type, proto, flags
        )

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        return await self.run_in_executor(self._names, socket.getnameinfo, sockaddr, flags)

    async def shutdown_default_executor(self, *args: Any) -> None:
        """Nothing to do: the pool is the runtime's; one that was set is shut down."""
        executor: object = self._default_executor
        if not isinstance(executor, PoolExecutor):
            await super().shutdown_default_executor(*args)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What is cancelled at the end is not to be reported: some callbacks of asyncio's do.
        Nor what the child of a fork is refused."""
        cancelled = isinstance(context.get("exception"), asyncio.CancelledError)
        if not (self._gone or (self.is_ending and cancelled)):
            super().call_exception_handler(context)

    async def _make_subprocess_transport(self, *args: Any, **options: Any) -> Any:
        """As asyncio's; the program is noted, for the loop's end."""
        program = await super()._make_subprocess_transport(*args, **options)  # type: ignore[misc]
        self.programs.add(program)
        return program

    # -- what it refuses -------------------------------------------------------------------------

    def run_forever(self) -> NoReturn:
        self._refuse("run_forever()")

    def run_until_complete(self, future: Any) -> NoReturn:
        if asyncio.iscoroutine(future):
            future.close()
        self._refuse("run_until_complete()")

    def stop(self) -> NoReturn:
        self._refuse("stop()")

    def close(self) -> None:
        if not self.is_closed():
            self._refuse("close()")

    def _refuse(self, call: str) -> NoReturn:
        raise RuntimeError(
            f"{call} of trale_py's guest loop: it runs as long as its runtime does, which "
            "Executor.shutdown() ends"
        )

    def is_running(self) -> bool:
        return self._thread_id is not None and not self.is_closed()

    def _check_closed(self) -> None:
        if self._gone:
            raise RuntimeClosed(self._gone)
        super()._check_closed()

    def after_fork_in_child(self, why: str) -> None:
        """An EPOLL_CTL_DEL on the shared set would silence the parent's connection."""
        self._gone = why
        self.guest_selector.leave_to_parent()
        self._ready.clear()

    def close_for_good(self, why: str) -> None:
        """Executor's thread, last of all."""
        self._set_coroutine_origin_tracking(False)
        self._thread_id = None
        super().close()
        self._gone = why
