"""The runtime's own pools of threads, as executors of ``concurrent.futures``.

``run_in_executor(None)`` and ``to_thread`` come here. A ThreadPoolExecutor's threads are joined at
the interpreter's exit, so one call that never returns would keep the process from ending; these are
daemons, like those of ``spawn_blocking``.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ..base.errors import RuntimeClosed, is_a
from ..core.contract import RuntimeLike
from ..core.thread_pool import BlockingPool

T = TypeVar("T")


class PoolExecutor(concurrent.futures.Executor):
    """A pool of the runtime. It is the runtime's to end, so ``shutdown`` does nothing."""

    def __init__(self, runtime: RuntimeLike, pool: BlockingPool) -> None:
        self._runtime = runtime
        self._pool = pool

    def submit(
        self, fn: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[T]:
        """Have it called in a thread of the pool. From any thread. RuntimeClosed at its end."""
        if self._runtime.gone:
            raise RuntimeClosed(self._runtime.gone)
        call: _Call[T] = _Call(partial(fn, *args, **kwargs), self._pool)
        self._runtime.call_on_executor(call.submit)
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        pass


class _Call(concurrent.futures.Future[T]):
    """A job of the pool, and its caller's future, whose state says whether it has begun."""

    def __init__(self, function: Callable[[], T], pool: BlockingPool) -> None:
        super().__init__()
        self._function: Callable[[], T] | None = function
        self._pool = pool
        self.error: BaseException | None = None  # for the pool; a fork's child ends by it

    def submit(self) -> None:
        """On the executor's thread, where a pool's jobs are taken."""
        try:
            self._pool._submit(self)
        except BaseException as error:
            self.fail(error)

    def run(self) -> None:
        self._pool._forget(self)
        function, self._function = self._function, None
        if function is None or not self.set_running_or_notify_cancel():
            return
        try:
            result = function()
        except BaseException as error:
            self.error = error
            self._fail(error)
        else:
            self.set_result(result)

    def _fail(self, error: BaseException) -> None:
        """The call has raised ``error``."""
        if is_a(error, StopIteration):  # no future of asyncio's takes one
            refused = RuntimeError(f"{error!r} was raised in a thread")
            refused.__cause__ = error
            error = refused
        self.set_exception(error)

    def cancel(self) -> bool:
        self._pool._forget(self)
        return super().cancel()

    def give_up(self) -> bool:
        return self.cancel()

    def fail(self, error: BaseException) -> None:
        if self.set_running_or_notify_cancel():
            self.set_exception(error)

    def cut_off(self) -> None:
        if self.running():
            self.set_exception(RuntimeError("the thread of this call was terminated"))
