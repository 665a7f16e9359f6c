"""The seam: the inner classes, in Python or in C.

What is below is written twice: as plain Python, which is the specification and what one
reads, and as the C extension ``_native`` (its sources are in ``native/``), which does the
same without Python frames and without giving up the GIL. All that stands above uses it
through the names of this module and of ``net.io``, and does not know which one it has.

``TRALE_PURE=1`` in the environment asks for the Python ones. They are also what a checkout
has that was not built.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

native: Any = None
if not os.environ.get("TRALE_PURE"):
    with contextlib.suppress(ImportError):
        from . import _native as native  # type: ignore[attr-defined, no-redef]

if TYPE_CHECKING or native is None:
    from .poller import Poller
    from .run_queue import RunQueue
    from .source import Source
    from .thread_state import thread
    from .timer_heap import TimerEntry
    from .waker import Context, Waker
else:
    Context = native.Context
    Poller = native.Poller
    RunQueue = native.RunQueue
    Source = native.Source
    TimerEntry = native.TimerEntry
    Waker = native.Waker
    thread = native.thread

engine = "pure" if native is None else "native"

__all__ = ["Context", "Poller", "RunQueue", "Source", "TimerEntry", "Waker", "engine", "thread"]
