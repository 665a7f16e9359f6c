"""How a runtime lives with its process: the interpreter's exit, and forks.

What is one for the process is here, and serves all runtimes: the ``atexit`` callback, the fork
hook, and two lists for what stands higher up. ``at_exit`` is called when all runtimes have ended,
``after_fork`` in a fork's child.

At exit
    One ``atexit`` callback: cancel everything, let the ``finally`` blocks run for the grace
    (two seconds, if not set otherwise), close. All live runtimes end side by side. It is
    registered after logging's, so it runs before that one, and
    it runs after the program's own non-daemon threads have ended, so those may use the
    runtime to their end. Both threads of a runtime are daemons: a task that never gives
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
from collections.abc import Callable, Iterator
from typing import NoReturn

from ..base.durations import to_timeout
from ..base.errors import is_a, traceback_of
from ..base.log import flush, report, start_anew
from . import current
from .contract import RuntimeLike
from .outcome import listed


def _grace_wanted() -> float:
    """TRALE_EXIT_GRACE, in seconds; 2 without it."""
    text = os.environ.get("TRALE_EXIT_GRACE", "")
    try:
        return to_timeout(float(text), "TRALE_EXIT_GRACE") if text else 2.0
    except ValueError:
        raise ImportError(f"TRALE_EXIT_GRACE is {text!r}; it must be seconds, 0 or more") from None


# How long a runtime has for its end at the exit, if it was not made with another time.
GRACE_SECONDS = _grace_wanted()
# What the logging handlers have at least, when the grace is over.
_REPORT_SECONDS = 1.0
# How long one without an executor's thread is driven, before it is the next one's turn.
_TURN_SECONDS = 0.01
# When nothing has come of it so long after the grace, no Python code runs any more.
_STUCK_SECONDS = 2.0

# For the modules above. Each call must raise nothing.
at_exit: list[Callable[[], object]] = []
after_fork: list[Callable[[], object]] = []
# Whether tasks receive that signal. ``streams`` puts its own here.
is_received: Callable[[int], bool] = lambda _: False  # noqa: E731

# The process that has its finalizer with multiprocessing.
_worker = 0

# Every runtime that was started, or is about to be.
_started: weakref.WeakSet[RuntimeLike] = weakref.WeakSet()


def runtime_starts(runtime: RuntimeLike) -> None:
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
    """Cancel, wait for the grace at most, close. Main thread; the second time, nothing."""
    if current.exiting:
        return
    current.exiting = True
    begun = time.monotonic()
    default = current.default_runtime()
    live = [default, *(one for one in list(_started) if one is not default and not one.gone)]
    grace = max(one.exit_grace for one in live)
    if sys.flags.dev_mode:
        for one in live:
            one.name_tasks(
                "cancelling the tasks that are still running at the interpreter's exit (%d): %s"
            )
    with _watched(grace) if any(one.tasks() for one in live) else contextlib.nullcontext():
        _shut_down(live, begun)
    default.close_for_good("the interpreter is exiting")
    for call in at_exit:
        call()
    with contextlib.suppress(KeyboardInterrupt):
        flush(max(begun + grace - time.monotonic(), _REPORT_SECONDS))


@contextlib.contextmanager
def _watched(grace: float) -> Iterator[None]:
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
        signal.setitimer(signal.ITIMER_REAL, grace + _STUCK_SECONDS)
    yield
    if free:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.unregister(signal.SIGALRM)


def _shut_down(live: list[RuntimeLike], begun: float) -> None:
    interrupted = False
    for one in live:
        one.start_shutdown()
    try:
        _take_turns(live, begun)
    except KeyboardInterrupt:
        interrupted = True
    for one in live:
        while True:
            left = 0 if interrupted else max(0, begun + one.exit_grace - time.monotonic())
            try:
                one.shutdown(left)
                break
            except KeyboardInterrupt:
                interrupted = True
        if not interrupted and one.left:
            report(
                "tasks that did not end within %g s of their cancellation at the interpreter's "
                "exit are abandoned (%d): %s",
                one.exit_grace,
                len(one.left),
                listed(one.left),
                level=logging.WARNING,
            )


def _take_turns(live: list[RuntimeLike], begun: float) -> None:
    """Have those that only this thread can drive end side by side.

    One after the other, a task of the first that does not end would take the grace of all. No
    threads can do it: from Python 3.12 on, none can be started here. The last one needs no turns.
    """
    waiting = [one for one in live if not one.threaded]
    while len(waiting) > 1:
        for one in waiting:
            one.take_turn(_TURN_SECONDS)
        now = time.monotonic()
        waiting = [one for one in waiting if not one.gone and now < begun + one.exit_grace]


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


def keep_for_ever(kept: object) -> None:
    """Coroutines that have begun and not ended: to free them would run their ``finally`` blocks."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


def _after_fork_in_child() -> None:
    start_anew()
    current.thread.runtime = current.thread.chosen = current.thread.context = None
    current.exiting = False
    for call in after_fork:
        call()
    for runtime in list(_started):
        if not runtime.executor._claimed:
            continue  # no thread was its executor yet: it can begin here
        keep_for_ever((runtime, runtime.run_queue))
        runtime.after_fork_in_child()


def register() -> None:
    """Once a runtime can be made: an import that failed before that has nothing to end."""
    atexit.register(end_process)
    os.register_at_fork(after_in_child=_after_fork_in_child)
