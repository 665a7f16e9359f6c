"""What a thread is doing for a runtime: see current.py."""

from __future__ import annotations

import threading

from .contract import RuntimeLike
from .engine import accelerated
from .waker import Context


@accelerated
class ThreadState(threading.local):
    """One for all threads, each of which sees its own. Only the thread itself writes it."""

    runtime: RuntimeLike | None = None  # set on an executor's thread, for as long as it runs
    chosen: RuntimeLike | None = None  # of a pool's thread, and of a ``with Runtime()`` block
    context: Context | None = None  # set while that thread is polling a task


thread: ThreadState = ThreadState()
