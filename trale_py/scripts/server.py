"""serve(): accept connections, and end in order.

One task accepts. Each connection has a task, in a group of that task. ``stop`` cancels the scope in
which it accepts, and gives the scope around the group a deadline: when the grace is over, what
still runs is cancelled.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from ..base.durations import Duration, to_ns, to_timeout
from ..base.errors import Cancelled, is_a, raise_as_it_was
from ..base.log import report
from ..core import current
from ..core.executor import spawn
from ..core.join import JoinHandle
from ..core.latch import LatchWait
from ..net.address import Address, to_bind
from ..net.tcp import TcpListener
from ..scopes.cancel_scope import CancelScope
from ..scopes.task_group import TaskGroup
from ..sync.semaphore import Semaphore
from ..sync.waiters import check_capacity
from ..timers.timer import now

S = TypeVar("S", bound=AbstractAsyncContextManager[Any, Any])
S_co = TypeVar("S_co", bound=AbstractAsyncContextManager[Any, Any], covariant=True)


class Listener(Protocol[S_co]):
    """What can be served: iterated over, it gives connections until it is closed."""

    @property
    def local_addr(self) -> Any: ...
    def __aiter__(self) -> AsyncIterator[S_co]: ...
    def close(self) -> None: ...


def serve(
    handler: Callable[[Any], Coroutine[Any, Any, object]],
    addr_or_listener: Address | Listener[Any],
    *,
    limit: int | None = None,
    grace: Duration = 0,
) -> Server:
    """Serve connections while a block runs: ``with`` in a script, ``async with`` in a task.

    ``handler(stream)`` runs in a task of its own for each connection; the stream is closed when it
    returns. What it raises is logged with the peer and ends its connection only. A client that
    says nothing is the handler's to give up: ``with fail_after(30):``. ``limit``: so many
    connections at once, then it does not accept. While there are no descriptors left, it tries
    ten times a second.

    Leaving the block stops it: no new connections, what runs may finish within ``grace`` seconds
    and is then cancelled, and its end is waited for. If the block is left by an error or Ctrl-C,
    the grace is 0. If accepting fails for good, that error ends the block: in a task at once, in
    a script at its end. A listener that was given is closed too. ::

        async def echo(stream):
            async for line in stream.lines():
                await stream.write_all(line + b"\\n")

        with serve(echo, "127.0.0.1:0", limit=1000, grace=5) as server:
            print(server.addresses)
            stop.wait_blocking()

    ValueError and TypeError for a bad address at the call; OSError from bind(2) on entry.
    """
    if not callable(handler):
        raise TypeError(f"handler must be an async function, not {handler!r}")
    if isinstance(addr_or_listener, (str, tuple)):
        to_bind(addr_or_listener)
    elif not hasattr(addr_or_listener, "__aiter__"):
        raise TypeError(f"addr_or_listener must be an address or a listener: {addr_or_listener!r}")
    if limit is not None:
        check_capacity(limit, "limit", 1)
    to_ns(grace, "grace")
    return Server(handler, addr_or_listener, limit, grace)


class Server:
    """What ``serve`` returns. It serves inside its ``with`` or ``async with``."""

    def __init__(
        self,
        handler: Callable[[Any], Coroutine[Any, Any, object]],
        source: Address | Listener[Any],
        limit: int | None,
        grace: Duration,
    ) -> None:
        self._handler = handler
        self._source = source
        self._room = None if limit is None else Semaphore(limit)
        self._grace = grace
        self._listener: Listener[Any] | None = None
        self._task: JoinHandle[None] | None = None
        self._stopped = False
        self._error: BaseException | None = None  # accepting has failed by it
        self._accepting = CancelScope()
        self._serving = CancelScope()
        self._body = CancelScope()  # of an async with

    @property
    def addresses(self) -> list[Any]:
        """Where it listens: the tuples of getsockname(). Empty before the block."""
        return [] if self._listener is None else [self._address]

    def stop(self, grace: Duration | None = None) -> None:
        """Accept no more; what runs may finish within ``grace`` seconds (None: as given to
        ``serve``), and is then cancelled. From anywhere, a signal handler too; never waits. Called
        again, the last grace counts."""
        seconds = to_ns(self._grace if grace is None else grace, "grace") / 1e9
        self._stopped = True
        self._serving.deadline = now() + seconds
        self._accepting.cancel("the server was stopped")

    def wait_closed(self) -> Coroutine[Any, Any, None]:
        """Wait until it has stopped and the last connection has ended.

        RuntimeClosed in a forked child, as for ``wait_closed_blocking`` and the end of ``with``.
        """
        task = self._running()
        task._check_reachable()
        return LatchWait(task._outcome)

    def wait_closed_blocking(self, timeout: Duration | None = None) -> None:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        task = self._running()
        current.refuse_to_block(
            "wait_closed_blocking() on the executor's thread would deadlock; "
            "use await wait_closed()",
            task._runtime,
        )
        task._check_reachable()
        seconds = -1 if timeout is None else to_timeout(timeout, "timeout")
        if not task._outcome.wait_blocking(seconds):
            raise TimeoutError(f"timed out after {timeout} seconds: {self!r}")

    def _running(self) -> JoinHandle[None]:
        if self._task is None:
            raise RuntimeError("use serve() in a with or async with block")
        return self._task

    # -- the block ------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._task is not None:
            raise RuntimeError(f"{self!r} was entered before; call serve() again")
        if isinstance(self._source, (str, tuple)):
            self._listener = TcpListener.bind(self._source)
        else:
            self._listener = self._source
        self._address = self._listener.local_addr
        try:
            self._task = spawn(self._serve(self._listener), name=f"serve {self._address}")
        except BaseException:
            self._listener.close()
            raise

    def __enter__(self) -> Self:
        current.refuse_to_block(
            "with serve() on the executor's thread would deadlock; use async with"
        )
        self._start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        task = self._running()
        if exc is None:
            task._check_reachable()
        elif task._runtime.forked:  # the task is the parent's, and so is its end
            return
        self._leave(exc)
        try:
            task._outcome.wait_blocking()
        except BaseException:  # Ctrl-C; the next one stops the waiting
            self.stop(0)
            task._outcome.wait_blocking()
            raise
        if exc is None:
            self._raise_error()

    async def __aenter__(self) -> Self:
        self._start()
        self._body.__enter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        self._leave(None if self._error is not None else exc)
        task, cancelled = self._running(), None
        if not is_a(exc, GeneratorExit):  # else the coroutine is being closed, and must not wait
            try:
                await LatchWait(task._outcome)
            except Cancelled as error:
                cancelled = error
                self.stop(0)
                with CancelScope(shield=True):
                    await LatchWait(task._outcome)
        swallowed = self._body.__exit__(exc_type, exc, tb)
        if exc is None or swallowed:
            self._raise_error()
        if cancelled is not None and exc is None and self._error is None:
            raise cancelled
        return swallowed

    def _leave(self, exc: BaseException | None) -> None:
        if exc is not None:
            self.stop(0)
        elif not self._stopped:
            self.stop()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise_as_it_was(self._error)

    # -- the task -------------------------------------------------------------------------------

    async def _serve(self, listener: Listener[Any]) -> None:
        """The task: accept, and wait for the connections."""
        with self._serving:
            async with TaskGroup() as connections:
                try:
                    with self._accepting:
                        await self._accept(listener, connections)
                except Exception as error:
                    self._error = error
                    self._body.cancel("accepting has failed")
                    self.stop(0)
                finally:
                    self._stopped = True
                    listener.close()

    async def _accept(self, listener: Listener[Any], connections: TaskGroup) -> None:
        """Return when the listener is closed."""
        incoming = aiter(listener)
        while True:
            if self._room is not None:
                await self._room.acquire()
            try:
                stream = await anext(incoming)
            except StopAsyncIteration:
                return
            connections.spawn(self._handle(stream), name=_name(stream))

    async def _handle(self, stream: Any) -> None:
        """The task of one connection."""
        try:
            async with stream:
                await self._handler(stream)
        except Cancelled:
            raise
        except BaseException as error:
            report("the %s failed", _name(stream), error=error)
        finally:
            if self._room is not None:
                self._room.release()

    def __repr__(self) -> str:
        state = "new" if self._task is None else "serving"
        if self._stopped:
            state = "closed" if self._task is None or self._task.done() else "stopping"
        return f"<Server {state} {self.addresses}>"


def _name(stream: Any) -> str:
    with contextlib.suppress(Exception):
        return f"connection of {stream.peer_addr}"
    return f"connection {stream!r}"
