"""Runtime, as users see it. What lives in it is the Runtime of runtime.py.

The two are apart since the threads of a runtime keep it alive. So a runtime that was dropped is
told by the drop of this object.
"""

from __future__ import annotations

import contextvars
import sys
import warnings
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from ..base.durations import Duration, to_timeout
from ..base.errors import RuntimeClosed
from ..base.log import report
from . import current, process_exit
from .contract import RuntimeLike
from .executor import block_on_in
from .future import Future
from .join import JoinHandle
from .runtime import Runtime as _Runtime
from .task import Task

T = TypeVar("T")
P = ParamSpec("P")


class Runtime:
    """A runtime of one's own, beside the default one.

    ``name`` begins the names of its threads. ``exit_grace`` is how long its tasks have for their
    end at the interpreter's exit, in seconds or as a timedelta; if left out, 2 seconds, or what
    the environment variable TRALE_EXIT_GRACE says.

    It starts at the first spawn. In a ``with`` block it is the current one of this thread:
    ``spawn``, ``tasks()`` and all else that names no runtime act on it. The end of the block is
    ``shutdown()``. Without a block, call that. A runtime that has been shut down refuses new work
    for good (RuntimeClosed), and so does one in a fork's child. One that is dropped before that
    gives a ResourceWarning, and its tasks are cancelled.

    Streams, listeners and AsyncFds belong to the runtime that first awaited them: a task of
    another gets RuntimeError. Handles, channels and the objects to synchronise work across. ::

        with Runtime(name="jobs") as runtime:
            handle = spawn(work())  # or runtime.spawn(work())
            print(handle.join())

    After Tokio's `Runtime <https://docs.rs/tokio/latest/tokio/runtime/struct.Runtime.html>`_.
    """

    _runtime: RuntimeLike
    _owns = True  # dropped, it is the runtime that is dropped

    def __init__(
        self, *, name: str = "trale", exit_grace: Duration = process_exit.GRACE_SECONDS
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {name!r}")
        self._outer: list[RuntimeLike | None] = []  # what was chosen before its block
        self._runtime = _Runtime(name, to_timeout(exit_grace, "exit_grace"))
        self._runtime.face = weakref.ref(self)

    @staticmethod
    def current() -> Runtime:
        """That of this task, of this pool's job, of this thread's ``with`` block; or the default.

        Starts nothing. ::

            async def log_rows():
                runtime = Runtime.current()
                database.on_row(lambda row: runtime.call_soon(print, row))
        """
        return _face_of(current.runtime())

    @property
    def name(self) -> str:
        """What the names of its threads begin with."""
        return self._runtime.name

    @property
    def threads(self) -> list[int]:
        """The native ids of its threads that are alive: executor, reactor, pools. Any thread.

        They are those of ``threading.get_native_id``, ``top -H`` and /proc/self/task.
        """
        runtime = self._runtime
        own = (runtime.executor._thread, runtime.reactor._thread)
        threads = [*own, *(thread for pool in runtime.pools for thread in pool._threads)]
        alive = (thread for thread in threads if thread is not None and thread.is_alive())
        return [thread.native_id for thread in alive if thread.native_id is not None]

    def spawn(
        self,
        coro: Coroutine[Any, Any, T] | Future[T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> JoinHandle[T]:
        """As :func:`trale_py.spawn`, in this runtime. In a task of another it has no parent."""
        handle: JoinHandle[T] = self._runtime.spawn(coro, name=name, context=context)
        return handle

    def block_on(self, coro: Coroutine[Any, Any, T] | Future[T]) -> T:
        """As :func:`trale_py.block_on`, in this runtime."""
        return block_on_in(self._runtime, coro)

    def call_soon(self, fn: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Have ``fn(*args)`` called on the executor's thread, at its next turn.

        From any thread, a signal handler or a ``__del__``; never waits, but the first call starts
        the runtime. ``fn`` must not block. It runs in a copy of the caller's context. What it
        raises is logged. RuntimeClosed if the runtime has been shut down. ::

            runtime.call_soon(event.set)
        """
        if not callable(fn):
            raise TypeError(f"fn must be a function, not {fn!r}: did you pass fn() instead of fn?")
        self._runtime.ensure_running()
        context = contextvars.copy_context()
        self._runtime.publish(partial(_call, partial(context.run, fn, *args, **kwargs), fn))

    def tasks(self) -> list[Task]:
        """Its live tasks, as of this moment. Any thread; never waits."""
        return self._runtime.tasks()

    def shutdown(self, timeout: Duration | None = None) -> None:
        """End it, as :meth:`trale_py.Executor.shutdown` does, and wait for its end.

        At most ``timeout`` seconds, if given. In a task: WouldDeadlock.
        """
        self._runtime.shutdown(timeout)

    def __enter__(self) -> Self:
        current.refuse_to_block(
            "with Runtime() on the executor's thread would deadlock at its end; "
            "make it in a plain thread"
        )
        if self._runtime.closing:
            raise RuntimeClosed(self._runtime.gone or "the runtime is being shut down")
        if self._outer:
            raise RuntimeError(f"{self!r} has been entered already")
        self._outer.append(current.thread.chosen)
        current.thread.chosen = self._runtime
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            current.thread.chosen = self._outer[0]
        finally:
            self.shutdown()

    def __del__(self) -> None:
        runtime = getattr(self, "_runtime", None)
        if runtime is None or not self._owns or runtime.closing or not runtime.executor._claimed:
            return
        text = f"{self!r} was dropped without a shutdown"
        runtime.start_shutdown()  # first: the warning may be made an error
        if not current.exiting and not sys.is_finalizing():
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        runtime = self._runtime
        if runtime.closing:
            state = "closed" if runtime.gone else "closing"
        else:
            state = "running" if runtime.executor._claimed else "new"
        return f"<Runtime {runtime.name!r} {state}, {len(runtime.tasks())} tasks>"


def _face_of(runtime: RuntimeLike) -> Runtime:
    face: Runtime | None = runtime.face()
    if face is None:  # of the default one, and one that was dropped
        face = Runtime.__new__(Runtime)
        face._runtime, face._owns, face._outer = runtime, False, []
        runtime.face = partial(_itself, face)
    return face


def _itself(face: Runtime) -> Runtime:
    return face


def _call(call: Callable[[], object], fn: object) -> None:
    try:
        call()
    except BaseException as error:
        report("%r, given to call_soon(), failed", fn, error=error)
