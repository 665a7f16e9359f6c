"""How a runtime lives with its process: the interpreter's exit, and forks.

At exit
    One ``atexit`` callback: cancel everything, let the ``finally`` blocks run for at most
    two seconds, close. It is registered after logging's, so it runs before that one, and
    it runs after the program's own non-daemon threads have ended, so those may use the
    runtime to their end. Both threads of the runtime are daemons: a task that never gives
    way cannot keep the process.

At a fork
    Only the thread that forks lives on in the child. Of the parent's runtime the child has
    a memory image, the coroutines in the middle of their work, and its descriptors; the
    epoll set behind them is the parent's own, shared. An EPOLL_CTL_DEL in the child would
    take away the parent's registration, an epoll_wait its events. So the child closes the
    descriptors and touches nothing else. The coroutines are kept as they are, for ever: to
    free them would run their ``finally`` blocks, on files and sockets that are the parent's.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import NoReturn

from ..base.errors import is_a, traceback_of
from ..base.log import flush, report
from . import current
from .contract import RuntimeLike
from .outcome import listed

_GRACE_SECONDS = 2.0
# What the logging handlers have at least, when the grace is over.
_REPORT_SECONDS = 1.0
# When nothing has come of that by now, no Python code runs any more.
_STUCK_SECONDS = 4.0

# The process that has its finalizer with multiprocessing.
_worker = 0

# Every runtime that was started, or is about to be.
_started: weakref.WeakSet[RuntimeLike] = weakref.WeakSet()


def runtime_begins(runtime: RuntimeLike) -> None:
    """Any thread, before it starts the executor's.

    R14: another thread may fork while the runtime begins. In the child it would never have
    begun, and a spawn there would wait for it for ever. So it stands here before its thread
    exists, and whether there is one at the fork is told by the claim.
    """
    global _worker
    _started.add(runtime)
    process = sys.modules.get("multiprocessing.process")
    util = sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        # Processes of multiprocessing may end without atexit: these finalizers run in all.
        if _worker != os.getpid():
            util.Finalize(None, _end_worker, exitpriority=0)
        _worker = os.getpid()


def _end_worker() -> None:
    # Called when the process's function has returned. Its threads may go on, and are waited for
    # afterwards, by this same call; the second does nothing.
    threading._shutdown()  # type: ignore[attr-defined]
    end_process()


def end_process() -> None:
    """Cancel, wait two seconds at most, close. Main thread; the second time, nothing."""
    if current.exiting:
        return
    current.exiting = True
    deadline = time.monotonic() + _GRACE_SECONDS
    runtime = current.default_runtime()
    if sys.flags.dev_mode:
        runtime.name_tasks(
            "cancelling the tasks that are still running at the interpreter's exit (%d): %s"
        )
    if runtime.tasks():
        with _watched():
            _shut_down(runtime)
    else:
        _shut_down(runtime)
    runtime.close_for_good("the interpreter is exiting")
    with contextlib.suppress(KeyboardInterrupt):
        flush(max(deadline - time.monotonic(), _REPORT_SECONDS))


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """End the process should this never end.

    A call into C that keeps the interpreter's lock stops all threads, this one too as soon as
    it waits. No Python code can bound that, so it is the kernel's alarm; faulthandler's C code
    shows where each thread was, and then the signal has its default effect. If the program uses
    the alarm itself, it is left alone.
    """
    free = (
        signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
        and signal.getitimer(signal.ITIMER_REAL)[0] == 0
    )
    if free:
        faulthandler.register(signal.SIGALRM, file=2, chain=True)
        signal.setitimer(signal.ITIMER_REAL, _STUCK_SECONDS)
    yield
    if free:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.unregister(signal.SIGALRM)


def _shut_down(runtime: RuntimeLike) -> None:
    grace = _GRACE_SECONDS
    while True:
        try:
            runtime.shutdown(grace)
            break
        except KeyboardInterrupt:
            grace = 0
    if grace and runtime.left:
        report(
            "tasks that did not end within %g s of their cancellation at the interpreter's exit "
            "are abandoned (%d): %s",
            grace,
            len(runtime.left),
            listed(runtime.left),
            level=logging.WARNING,
        )


def end_child(error: BaseException | None) -> NoReturn:
    """What forked on a thread of the runtime has ended, perhaps by ``error``. This is the child.

    It ends too: it must not come back to the loop it was called from, where the parent's
    other work is.
    """
    status = 0 if error is None else 1
    if is_a(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            status = error.code or 0
        else:
            print(error.code, file=sys.stderr)
    elif error is not None:
        sys.excepthook(type(error), error, traceback_of(error))
    with contextlib.suppress(BaseException):
        end_process()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(status)


def _after_fork_in_child() -> None:
    current.thread.runtime = current.thread.context = None
    current.exiting = False
    for runtime in list(_started):
        if not runtime.executor._claimed:
            continue  # no thread was its executor yet: it can begin here
        kept = (runtime, runtime.run_queue)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
        runtime.after_fork_in_child()


def register() -> None:
    """Once a runtime can be made: an import that failed before that has nothing to end."""
    atexit.register(end_process)
    os.register_at_fork(after_in_child=_after_fork_in_child)
