"""Small pools of threads, for calls that would block.

The threads are daemons of our own: those of ``concurrent.futures`` are joined at the
interpreter's exit, before the program's own threads have ended, and a call that never
returns would keep the process from ending.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Literal, Protocol

from ..base.durations import Duration, to_timeout
from ..base.errors import RuntimeClosed
from ..base.threads import Thread
from . import current, process_exit
from .contract import RuntimeLike

FILES_LIMIT = 16  # disks and file servers take that many requests at once; more share one lock
NAMES_LIMIT = 8  # these threads wait for name servers, not for processors
JOBS_LIMIT = 40  # trio's figure; enough to wait for many disks, few enough to share one lock
_IDLE_SECONDS = 10.0  # trio's too
# How often _join_idle() looks whether the thread that it waits for has taken a last job.
_LOOK_SECONDS = 0.05


class Job(Protocol):
    """What a pool is given: to be run once, or given up before that."""

    error: BaseException | None  # what ``run`` ended with

    def run(self) -> None:
        """Its turn in a thread. ``_forget`` tells the pool that it has begun."""

    def done(self) -> bool:
        """Whether it has been run."""

    def give_up(self) -> bool:
        """Never run. False: it does, or has."""

    def fail(self, error: BaseException) -> None:
        """There is no thread to run it. Executor's thread."""

    def cut_off(self) -> None:
        """Its thread was terminated. If it has begun it ends here, else it stays queued."""


class BlockingPool:
    """A few threads, started as they are needed; one that is idle ends after a while.

    Each is in ``_workers`` while it will look at the queue again, and in ``_idle`` while it waits
    for it. They strike themselves off, and ``_add_threads`` on the executor's thread enters them.
    What is queued is in ``_queued`` too, which knows how much of it is still wanted.
    What runs is in ``_running``, with its thread. With ``forgives``, a thread whose job is no
    longer waited for does not count against the limit, and ends with that job.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        call_on_executor: Callable[[Callable[[], object]], object],
        *,
        forgives: bool = False,
        runtime: RuntimeLike | None = None,
    ) -> None:
        self._name = name
        self._limit = limit
        self._idle_seconds: float | None = _IDLE_SECONDS  # None: for ever
        self._call_on_executor = call_on_executor
        self._closed = False
        self._left: list[threading.Thread] = []  # those that _close() has told to end
        # None: nothing to do, look at limit and _closed. "leave": end, if nothing is queued.
        self._jobs: SimpleQueue[Job | Literal["leave"] | None] = SimpleQueue()
        self._queued: dict[Job, None] = {}
        self._running: dict[Job, threading.Thread] = {}
        self._workers: dict[threading.Thread, None] = {}
        self._idle: dict[threading.Thread, None] = {}
        self._forgives = forgives
        self._runtime = runtime  # that its jobs act on
        self._threads: dict[threading.Thread, None] = {}  # all that may be alive

    @property
    def size(self) -> int:
        """How many threads there are now."""
        return len(self._workers)

    @property
    def queued(self) -> int:
        """How many calls have not started yet."""
        return len(self._queued)

    @property
    def limit(self) -> int:
        """How many threads there may be, 40 at first. May be set at any time, from any thread.

        If it is lowered, a thread that is busy ends after its call. ValueError for less than 1.
        """
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"limit must be an int, not {limit!r}")
        if limit < 1:
            raise ValueError(f"limit must be 1 or more, not {limit}")
        self._limit = limit
        self._call_on_executor(self._limit_changed)

    @property
    def idle_time(self) -> float:
        """After how many seconds a thread with nothing to do ends, 10 at first; inf: never.

        May be set at any time, from any thread, to seconds or a timedelta. Threads that are idle
        then end at once. ValueError for NaN and less than 0.
        """
        return math.inf if self._idle_seconds is None else self._idle_seconds

    @idle_time.setter
    def idle_time(self, duration: Duration) -> None:
        seconds = to_timeout(duration, "idle_time")
        self._idle_seconds = None if seconds < 0 else seconds
        self._call_on_executor(self._idle_time_changed)

    def __repr__(self) -> str:
        return (
            f"<BlockingPool {self._name!r} size={self.size} limit={self.limit} "
            f"queued={self.queued}>"
        )

    # -- executor's thread ---------------------------------------------------------------------

    def _submit(self, job: Job) -> None:
        """RuntimeError if there is no thread and none can be started."""
        self._queued[job] = None
        self._jobs.put(job)
        try:
            self._add_threads()
        except RuntimeError as error:
            if self._workers:
                return  # they will come to it
            if not job.give_up():
                return  # one that was about to leave has come to it
            if "shutdown" in str(error):  # from 3.12 on, once the main thread has ended
                raise RuntimeClosed("the interpreter is exiting") from error
            raise

    def _add_threads(self) -> None:
        """As many as are wanted and allowed. One that was just started counts as idle."""
        for _ in range(min(len(self._queued) - len(self._idle), self._limit - len(self._workers))):
            worker = Thread(self._work, self._name, self._died)
            self._workers[worker] = self._idle[worker] = self._threads[worker] = None
            try:
                worker.start()
            except BaseException:
                if worker.ident is None:  # else it lives, or says itself that it does not
                    del self._workers[worker], self._idle[worker], self._threads[worker]
                raise

    def _limit_changed(self) -> None:
        with contextlib.suppress(RuntimeError):  # no more threads to be had: then it is these
            self._add_threads()
        for _ in range(len(self._workers) - self._limit):
            self._jobs.put(None)

    def _idle_time_changed(self) -> None:
        for _ in list(self._idle):  # each waits with the time that was set before
            self._jobs.put("leave")

    def _replace_threads(self) -> None:
        try:
            self._add_threads()
        except BaseException as error:
            if not self._workers:
                for job in list(self._queued):
                    job.fail(error)

    def _abandon(self, job: Job) -> None:
        """Its caller no longer waits, but it runs.

        R39: it may be just over. We and its thread both pop it from ``_running``. If we have it,
        the thread is struck off, and ends when it finds its job gone; else it works on.
        """
        if not self._forgives or (me := self._running.pop(job, None)) is None:
            return
        self._workers.pop(me, None)
        with contextlib.suppress(RuntimeError):  # no more threads to be had: then it is these
            self._add_threads()

    def _close(self) -> None:
        """Have the threads end when they are done with what they do; the rest is dropped."""
        self._closed = True
        for job in list(self._queued):
            job.give_up()
        self._left = list(self._workers)
        for _ in list(self._workers):  # one that is idle may leave meanwhile
            self._jobs.put(None)

    def _join_idle(self, seconds: float) -> None:
        """Wait for the threads that are in no job. After _close(); any thread."""
        deadline = time.monotonic() + seconds
        for thread in self._left:
            while thread.is_alive() and not self._is_busy(thread):
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                thread.join(min(left, _LOOK_SECONDS))

    def _is_busy(self, thread: threading.Thread) -> bool:
        return any(
            worker is thread and not job.done() for job, worker in list(self._running.items())
        )

    # -- any thread ----------------------------------------------------------------------------

    def _forget(self, job: Job) -> None:
        """It is queued no more. It stays in ``_jobs``, and does nothing when its turn comes."""
        self._queued.pop(job, None)

    def _work(self) -> None:
        me = threading.current_thread()
        current.thread.chosen = self._runtime
        process = os.getpid()
        while True:
            if (self._closed or len(self._workers) > self._limit) and self._leave(me):
                return
            self._idle[me] = None
            try:
                job = self._jobs.get(timeout=self._idle_seconds)
            except Empty:
                del self._idle[me]
                if self._leave(me):
                    return
                continue
            # Off the list of the idle first, off the queue second. Between the two there is one
            # thread too few on the list. The other way round there would be one too many: a
            # job that comes just then would be left to this thread, which may not come back.
            del self._idle[me]
            if job == "leave":
                if self._leave(me):
                    return
                self._jobs.put(job)  # for another thread: something is queued for this one
            elif job is not None:
                self._running[job] = me
                job.run()
                if os.getpid() != process:
                    process_exit.end_child(job.error)
                if self._running.pop(job, None) is None:  # R39
                    return
            del job  # its result is not ours to keep

    def _died(self, me: Thread) -> None:
        """The thread's last call. If it was terminated, another must take its place."""
        self._idle.pop(me, None)
        self._threads.pop(me, None)
        if self._workers.pop(me, self) is None:  # it was there: it has not left in order
            for job, worker in list(self._running.items()):
                if worker is me:
                    del self._running[job]
                    job.cut_off()
            # What it had taken out of the queue is queued again. A job that is met twice runs once.
            for job in list(self._queued):
                self._jobs.put(job)
        if self._queued:
            self._call_on_executor(self._replace_threads)

    def _leave(self, me: threading.Thread) -> bool:
        """End this thread, unless it turns out to be needed.

        R17: a job may come while the last thread leaves. We strike ourselves off first, and look
        at the queue second; _submit() enters the job first, and counts the threads second. The
        later of the two sees the other.
        """
        del self._workers[me]
        if self._closed or len(self._workers) >= self._limit or not self._queued:
            return True
        self._workers[me] = None
        return False
