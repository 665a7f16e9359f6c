"""Reactor: the thread that waits for the kernel, and what others ask of it.

The waiting itself is the poller's (poller.py). Here is how the thread starts and stops,
which objects share a source, and how user code may leave a waker for a descriptor.

In the C engine the executor sits in epoll itself while it is busy, and this thread waits there
only when the executor sleeps, or stays in one poll for long: see native/engine/engine.h.
"""

from __future__ import annotations

import errno
import os
import signal
from functools import partial

from ..base.errors import RuntimeClosed, is_a
from ..base.threads import Thread
from . import current
from .contract import RuntimeLike
from .poller import Poller
from .registration import Interest, Registration
from .run_queue import make_call
from .source import Source
from .sweep import Sweep
from .timer_heap import TimerEntry, Wakeable

# What the kernel raises in a thread because of what that thread has done.
_CRASHES = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGABRT,
}


# How long the end of the runtime waits for the thread; and how long if it cannot be woken, since
# other code has closed its descriptors. It is left behind then, asleep.
_STOP_SECONDS = 10.0
_DEAF_SECONDS = 0.25


class Reactor:
    """The reactor of a runtime. ``Reactor.get()`` is the default runtime's."""

    def __init__(self, runtime: RuntimeLike) -> None:
        self._runtime = runtime
        self._poller = Poller(runtime.run_queue)
        self._sweep = Sweep(self)
        self._stopping = False
        self._thread: Thread | None = None
        self._fault: BaseException | None = None  # what has ended the thread

    @staticmethod
    def get() -> Reactor:
        """The reactor of the default runtime, which is started. In a task: of that task's."""
        runtime = current.runtime()
        runtime.ensure_running()
        reactor: Reactor = runtime.reactor
        return reactor

    def __repr__(self) -> str:
        return f"<Reactor sources={len(self._poller.sources)} timers={self._poller.timers}>"

    # -- life: executor's thread --------------------------------------------------------

    def _start(self) -> None:
        """Open the descriptors and start the thread. What fails here is undone by ``_stop``."""
        self._poller.open()
        self._thread = Thread(self._run, f"{self._runtime.name}-reactor", self._died)
        self._thread.start()

    def _stop(self) -> None:
        """End the thread, wake all that still wait for a descriptor, close our own."""
        self._stopping = True
        if self._thread is not None:
            self._stop_thread(self._thread)
        for source in list(self._poller.sources.values()):
            make_call(partial(self._poller.unwatch, source))
        self._sweep.stop()
        self._poller.close()

    def _stop_thread(self, thread: Thread) -> None:
        seconds = _STOP_SECONDS
        try:
            self._poller.stop()
        except OSError:  # other code has closed the wake-up descriptor: it may be deaf
            seconds = _DEAF_SECONDS
        if thread.ident is not None:
            thread.join(seconds)

    def _after_fork_in_child(self) -> None:
        """In a forked child: close our descriptors, and touch nothing that is the parent's."""
        self._poller.after_fork_in_child()
        self._poller.sources.clear()

    def _run(self) -> None:
        """The thread."""
        try:
            # Signals are for the other threads, all but those about this thread's own deeds.
            signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals() - _CRASHES)
            self._poller.run()
        except BaseException as error:
            self._fault = error

    def _died(self, _: Thread) -> None:
        """The thread's last call. No task would be woken any more: the runtime must end."""
        if not self._stopping:
            fault, self._fault = self._fault, None
            if fault is None or is_a(fault, MemoryError):
                # Not bare: the executor would take it for a batch of its own that failed (R52).
                cause, fault = fault, RuntimeError("the reactor's thread was terminated")
                fault.__cause__ = cause
            self._runtime.run_queue.fail(fault)

    # -- sources: executor's thread -------------------------------------------------------

    def _attach(self, fd: int) -> Source:
        """Start to watch ``fd``, or share a source that is already watched.

        Whatever is ready now is reported anew, also if it was reported before. Each _attach()
        wants a _release() or a _detach(). OSError if the kernel refuses.
        """
        source = self._poller.sources.get(fd)
        if source is not None and not self._poller.rearm(source):
            # The number was closed behind our back, and means another file now.
            self._detach(source)
            self._sweep.begin()
            source = None
        if source is None:
            try:
                source = self._poller.watch(fd)
            except OSError as error:
                raise _with_the_limit(error) from None
            self._sweep.plan()
        source.users += 1
        return source

    def _release(self, source: Source) -> None:
        """Give up one use of ``source``. After the last one it is no longer watched."""
        source.users -= 1
        if source.users == 0:
            self._detach(source)

    def _detach(self, source: Source) -> None:
        """Stop watching, for all users, and wake all waiters. Call it before close()."""
        self._poller.unwatch(source)
        if not self._poller.sources:
            self._sweep.stop()

    # -- wakers on descriptors: any thread ------------------------------------------------

    def register_waker(self, fd: int, waker: Wakeable, interest: Interest) -> Registration:
        """Call ``waker.wake()`` once when ``fd`` is ready; if it is ready now, now.

        ``fd`` stays the caller's. There may be several registrations for it; each fires
        once. READABLE includes the end of the stream and errors, WRITABLE errors. A
        descriptor that epoll refuses (a regular file) counts as ready. Closing ``fd`` wakes
        its waiters within a minute only: ``cancel()`` first.

        From any thread; never waits. Raises OSError (EBADF) for a number that is not open,
        TypeError for another type of fd, interest or waker, and RuntimeClosed. See epoll(7). ::

            class Readable(Future[None]):  # simplified from AsyncFd
                def poll(self, cx):
                    if select.select([fd], [], [], 0)[0]:
                        return Ready(None)
                    Reactor.get().register_waker(fd, cx.waker, Interest.READABLE)
                    return PENDING
        """
        if not isinstance(interest, Interest) or not interest:
            raise TypeError(
                f"interest must be Interest.READABLE, Interest.WRITABLE or both, not {interest!r}"
            )
        # Here and not at the wake: there it would end the reactor's thread.
        if not callable(getattr(waker, "wake", None)):
            raise TypeError(f"waker must be a Waker, not {waker!r}")
        if self._runtime.gone:
            raise RuntimeClosed(self._runtime.gone)
        if not isinstance(fd, int):
            raise TypeError(f"fd must be an int, not {fd!r}")
        if fd.bit_length() > 31:
            raise OSError(errno.EBADF, f"{os.strerror(errno.EBADF)}: {fd}")
        os.fstat(fd)
        registration = Registration(self, fd, waker, interest)
        self._runtime.call_on_executor(registration._arm)
        return registration

    # -- timers: executor's thread ----------------------------------------------------------

    def _add_timer(self, deadline: int, waker: Wakeable) -> TimerEntry:
        """Call ``waker.wake()`` when the clock has reached ``deadline`` (in nanoseconds)."""
        return self._poller.add_timer(deadline, waker)

    def _cancel_timer(self, entry: TimerEntry) -> None:
        """Forget a timer; a wake that is already on its way still comes. Any thread."""
        self._poller.cancel_timer(entry)


def _with_the_limit(error: OSError) -> OSError:
    """What epoll_ctl(2) raised. Of ENOSPC, "No space left on device", it tells what is full."""
    if error.errno != errno.ENOSPC:
        return error
    why = "epoll watches as many descriptors as the sysctl fs.epoll.max_user_watches allows"
    return OSError(errno.ENOSPC, f"{error.strerror}: {why}")
