"""Threads of ours: each says when it has ended, whatever ended it.

That ``Thread.start()`` has returned does not mean that the thread's function runs, or ever will.
A tracer (``threading.settrace``) that raises ends a thread before its first line. An exception
that is thrown into a thread (``PyThreadState_SetAsyncExc``, a debugger) ends it between two. And
one that has no memory for its first steps never says that it lives: ``start()`` waits for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Thread(threading.Thread):
    """A daemon thread. Its last call is ``at_end(self)``, also if ``target`` was never called.

    ``_bootstrap`` is private to ``threading``, and there is no other place: it is the first call
    in a new thread, made before any tracer is installed, and the last to return.
    """

    def __init__(
        self, target: Callable[[], object], name: str, at_end: Callable[[Thread], object]
    ) -> None:
        super().__init__(target=target, name=name, daemon=True)
        self._at_end = at_end

    def _bootstrap(self) -> None:
        try:
            super()._bootstrap()  # type: ignore[misc]
        finally:
            try:
                self._at_end(self)
            finally:
                self._started.set()  # type: ignore[attr-defined]  # start() waits for this
