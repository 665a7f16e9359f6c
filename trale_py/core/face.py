"""Runtime, as users see it. What lives in it is the Runtime of runtime.py.

The two are apart since the threads of a runtime keep it alive. So a runtime that was dropped is
told by the drop of this object.
"""

from __future__ import annotations

import contextvars
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, TypeVarTuple

from ..base.durations import Duration, to_timeout
from ..base.errors import RuntimeClosed, WouldDeadlock
from ..base.log import report
from . import current, process_exit, run_here
from .contract import RuntimeLike
from .executor import block_on_in
from .future import Future
from .join import JoinHandle
from .runtime import Runtime as _Runtime
from .task import Task

T = TypeVar("T")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")


class Runtime:
    """A runtime of one's own, beside the default one.

    ``name`` begins the names of its threads. With ``thread=False`` its executor is the thread that
    calls ``run()``, for as long as that lasts. ``exit_grace`` is how long its tasks have for their
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
        self,
        *,
        name: str = "trale",
        thread: bool = True,
        exit_grace: Duration = process_exit.GRACE_SECONDS,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {name!r}")
        self._outer: list[RuntimeLike | None] = []  # what was chosen before its block
        self._runtime = _Runtime(name, to_timeout(exit_grace, "exit_grace"), threaded=bool(thread))
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

    def run(
        self,
        main: Callable[[*Ts], Coroutine[Any, Any, T]] | Coroutine[Any, Any, T] | Future[T],
        *args: *Ts,
    ) -> T:
        """Of a ``Runtime(thread=False)``: make this thread the executor until ``main`` has ended.

        ``main`` is a coroutine, or an async function that is called with ``args``. Returns its
        value or raises its error. Other tasks live on, and go on in the next run. Between two runs
        no thread drives them: a spawn only queues, and on the thread of the ``with`` block a wait
        for what has not ended is WouldDeadlock.

        On the main thread signal handlers run within 100 ms, also while no task is ready. SIGINT's
        handler is replaced if it is Python's own: a Ctrl-C cancels ``main``, a second one ends the
        runtime without a wait; if ``main`` ended by it, KeyboardInterrupt. What another signal
        handler raises is the error of the task in whose code it came; in the runtime's own frames
        it ends the runtime in order, and ``run`` raises it. What a run borrows of the thread it
        puts back: the hooks of async generators, the wakeup fd of ``signal``, asyncio's running
        loop.

        In a task: WouldDeadlock. RuntimeError while another thread is in a run of this runtime. ::

            with Runtime(thread=False) as runtime:
                config = runtime.run(load, "server.toml")
                runtime.run(serve, config)
        """
        result: T = run_here.run(self._runtime, main, args)
        return result

    def tasks(self) -> list[Task]:
        """Its live tasks, as of this moment. Any thread; never waits."""
        return self._runtime.tasks()

    def shutdown(self, timeout: Duration | None = None) -> None:
        """End it, as :meth:`trale_py.Executor.shutdown` does, and wait for its end.

        At most ``timeout`` seconds, if given. In a task: WouldDeadlock.
        """
        self._runtime.shutdown(timeout)

    def __enter__(self) -> Self:
        if current.thread.runtime is not None:
            raise WouldDeadlock(
                "with Runtime() on the executor's thread would deadlock at its end: "
                "enter it in a plain thread"
            )
        if self._runtime.closing:
            raise RuntimeClosed(self._runtime.gone or "the runtime is being shut down")
        if self._outer:
            raise RuntimeError(f"{self!r} has been entered already")
        self._outer.append(current.thread.chosen)
        current.thread.chosen = self._runtime
        if not self._runtime.threaded:
            self._runtime.home = threading.get_ident()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            current.thread.chosen = self._outer[0]
            self._runtime.home = 0
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


def run(
    main: Callable[[*Ts], Coroutine[Any, Any, T]] | Coroutine[Any, Any, T] | Future[T],
    *args: *Ts,
) -> T:
    """Run ``main`` on this thread, in a runtime of its own; then that ends.

    ``main`` is a coroutine, or an async function that is called with ``args``. Returns its value or
    raises its error. Tasks that are left are cancelled, and their end is waited for. While it
    lasts, its runtime is the default one, so ``spawn`` in other threads acts on it. See
    :meth:`trale_py.Runtime.run` for Ctrl-C, signal handlers and what is borrowed of the thread.

    RuntimeError if the default runtime runs already: use ``spawn(main()).join()`` then. In a task:
    WouldDeadlock. ::

        async def main(name):
            await sleep(1)
            print(f"Hello {name}!")

        run(main, "A")

    After `asyncio.run <https://docs.python.org/3/library/asyncio-runner.html>`_ and trio's run.
    """
    coro = run_here.called(main, args)
    if current.thread.runtime is not None:
        run_here.refuse(coro, WouldDeadlock("run() in a task would deadlock: await the coroutine"))
    before = current.default.get(None)
    if before is not None and before.closing:
        run_here.refuse(coro, RuntimeClosed(before.gone or "the runtime is being shut down"))
    own = Runtime(thread=False)
    if before is not None and not before.executor._claimed:
        current.default.pop(None, None)
    if current.default.setdefault(None, own._runtime) is not own._runtime:
        text = "the default runtime already runs: use spawn(main()).join()"
        run_here.refuse(coro, RuntimeError(text))
    with own:
        result: T = own.run(coro)
        return result


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
