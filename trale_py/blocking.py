"""Blocking calls, off the executor: a small pool of threads.

Some calls have no non-blocking form; looking up a host name is one. They run here, and
their end wakes the task that waits for them.

The threads are daemons of our own: those of ``concurrent.futures`` are joined at the
interpreter's exit, before the program's own threads have ended, and a call that never
returns would keep the process from ending.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar, cast

from .future import PENDING, Future, Pending, Ready
from .seam import Context, Waker

T = TypeVar("T")

_LIMIT = 8  # name servers are what is waited for, not processors
_IDLE_SECONDS = 10.0


class BlockingPool:
    """At most eight threads, started as they are needed; an idle one ends after a while."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[BlockingCall[object] | None] = SimpleQueue()
        self._workers: dict[threading.Thread, None] = {}
        self._idle: dict[threading.Thread, None] = {}

    def submit(self, job: BlockingCall[object]) -> None:
        """Executor's thread only. RuntimeError if there is no thread and none can be started."""
        self._jobs.put(job)
        if self._jobs.qsize() > len(self._idle) and len(self._workers) < _LIMIT:
            worker = threading.Thread(target=self._work, name="trale-blocking", daemon=True)
            self._workers[worker] = None
            try:
                worker.start()
            except RuntimeError:
                del self._workers[worker]
                if self._workers:
                    return  # they will come to it
                # Refused is refused: take it back, unless one that was leaving has it after all.
                with contextlib.suppress(Empty):
                    self._jobs.get_nowait()
                    raise

    def close(self) -> None:
        """Have the threads end when they are done with what they do."""
        for _ in list(self._workers):  # one that is idle may leave meanwhile
            self._jobs.put(None)

    def _work(self) -> None:
        me = threading.current_thread()
        while True:
            self._idle[me] = None
            try:
                job = self._jobs.get(timeout=_IDLE_SECONDS)
            except Empty:
                del self._idle[me]
                # Off the list first, a last look at the queue second; submit() puts first and
                # counts the workers second. Whoever is second sees the other.
                del self._workers[me]
                if self._jobs.empty():
                    return
                self._workers[me] = None
                continue
            del self._idle[me]
            if job is None:
                del self._workers[me]
                return
            job.run()
            del job  # its result is not ours to keep


class BlockingCall(Future[T], Generic[T]):
    """``function()`` in a thread of the pool. If the await is cancelled, its result is dropped."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._waker: Waker | None = None
        self._ended = False
        self._value: T | None = None
        self._error: BaseException | None = None

    def poll(self, cx: Context) -> Ready[T] | Pending:
        submitted = self._waker is not None
        self._waker = cx.waker
        if not submitted:
            cx.runtime.pool.submit(cast("BlockingCall[object]", self))
        if not self._ended:
            return PENDING
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self  # or the error's traceback would lead back to the error
        return Ready(cast(T, self._value))

    def run(self) -> None:
        """A worker's part: call, leave the result, and only then wake."""
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error
        self._ended = True
        if self._waker is not None:
            self._waker.wake()
