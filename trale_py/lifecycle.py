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
import ctypes
import os
import sys
import weakref
from typing import TYPE_CHECKING

from . import current

if TYPE_CHECKING:
    from .runtime import Runtime

_GRACE_SECONDS = 2.0

# Every runtime that was started.
_started: weakref.WeakSet[Runtime] = weakref.WeakSet()


def runtime_begins(runtime: Runtime) -> None:
    """Executor's thread."""
    _started.add(runtime)
    process = sys.modules.get("multiprocessing.process")
    util = sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        # Processes of multiprocessing may end without atexit: these finalizers run in all.
        util.Finalize(None, _at_exit, exitpriority=0)


def _at_exit() -> None:
    runtime = current.default_runtime()
    try:
        runtime.shutdown(_GRACE_SECONDS)
    except KeyboardInterrupt:
        runtime.shutdown(0)
    runtime.close_for_good("the interpreter is exiting")


def _after_fork_in_child() -> None:
    current.thread.runtime = current.thread.context = None
    for runtime in list(_started):
        kept = (runtime, runtime.run_queue)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
        runtime.stay_behind()
    _started.clear()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
