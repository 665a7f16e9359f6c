"""Shutdown: how a thread has a runtime end, and waits for it. The end itself: runtime_end.py.

R60: a shutdown may come while the first spawn starts the executor's thread. The shutdown sets
``closing`` and then looks whether a thread has the claim. The new thread takes the claim and then
looks at ``closing``. So the second of the two sees the other, and the runtime ends.
"""

from __future__ import annotations

import math
import time
from typing import Any

from ..base.durations import Duration, to_timeout
from ..base.errors import WouldDeadlock
from ..base.log import flush
from . import current
from .run_here import drive_to_end
from .runtime_end import PATIENCE_SECONDS, tell_patience

# How long shutdown() waits for the executor to look up, once its time is over. If a task does
# not give way for that long, it is taken to be stuck.
_STUCK_SECONDS = 0.25

_END_SECONDS = 20.0

# How long it waits for the logging handlers, which may never return.
_REPORT_SECONDS = 2.0

# How long it waits for the threads of the pools that have nothing to do.
_POOL_SECONDS = 1.0

# How often it looks whether the run of another thread is over.
_LOOK_SECONDS = 0.05


def shut_down(runtime: Any, timeout: Duration | None) -> None:
    """See :meth:`trale_py.Executor.shutdown`. ``runtime`` is a Runtime."""
    seconds = -1 if timeout is None else to_timeout(timeout, "timeout")
    if current.thread.runtime is not None:
        raise WouldDeadlock("shutdown() on the executor's thread would deadlock")
    if runtime.forked:
        return  # it is the parent's
    is_default = current.default.get(None) is runtime
    if not runtime.executor._claimed and is_default and runtime.threaded:
        return  # nothing has begun, and the next spawn may begin it
    limit = math.inf if seconds < 0 else time.monotonic() + seconds
    runtime.start_shutdown()
    if not runtime.executor._claimed:
        runtime.leave("the runtime has been shut down")
        return
    if _wait_for_end(runtime, seconds) if runtime.threaded else _drive_to_end(runtime, limit):
        if runtime.threaded:
            runtime.executor._join_thread()
        for pool in runtime.pools:
            pool._join_idle(_POOL_SECONDS)
    else:
        runtime.give_up()
    flush(min(limit - time.monotonic(), _REPORT_SECONDS))


def take_turn(runtime: Any, seconds: float) -> None:
    """Drive the end of a runtime that has no executor's thread, for ``seconds`` at most."""
    if not drive_to_end(runtime, seconds, in_turn=True):
        runtime._ended.wait_blocking(seconds)


def _drive_to_end(runtime: Any, limit: float) -> bool:
    """The end of a runtime whose executor is the thread that is in a run: this one, or another.

    R61: a run of another thread may be over before it has seen that the runtime ends::

        run: main has ended, ``closing`` is false
                                                   shutdown: sets it, another thread has the claim
        run: gives back the claim

    Nobody would take the tasks to their end. So this looks for the claim again and again.
    """
    while not runtime._ended.opened:
        left = limit - time.monotonic()
        if drive_to_end(runtime, max(left, 0)):
            continue
        if left <= 0:
            return _wait_for_end(runtime, 0)
        runtime._ended.wait_blocking(min(left, _LOOK_SECONDS))
    return True


def _wait_for_end(runtime: Any, seconds: float) -> bool:
    """False: the executor does not end, even when told to."""
    if not 0 <= seconds <= PATIENCE_SECONDS:
        if runtime._ended.wait_blocking(PATIENCE_SECONDS):
            return True
        tell_patience(runtime)
        seconds = max(seconds - PATIENCE_SECONDS, -1)
    if runtime._ended.wait_blocking(seconds):
        return True
    runtime.executor._stop()  # in the midst of a batch; and the next line, if it sleeps
    runtime.publish(runtime.executor._stop)
    if runtime._ended.wait_blocking(_STUCK_SECONDS):
        return True
    # With many tasks the end takes its time. If it has begun, the executor is not stuck.
    return bool(runtime.is_ending and runtime._ended.wait_blocking(_END_SECONDS))
