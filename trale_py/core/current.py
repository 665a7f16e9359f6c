"""Where am I: which runtime's executor is this thread, and which task is it polling?

These few names are all the state the package keeps outside a Runtime object. The
per-thread part is asked for wherever "may I wait here?" or "which task is this?" is
decided. It is never derived from a thread's ident or name: a child forked inside a
task inherits both from the executor, and is not one.

``runtime`` puts ``default_runtime`` here when it is imported, so that the lower layers can
reach it without knowing how one is built.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..base.errors import WouldDeadlock
from .contract import ForeignLoop, RuntimeLike
from .engine import accelerated
from .thread_state import thread as thread

# The interpreter's exit has begun to close the runtime.
exiting = False

# The default runtime, under the one key None. dict.setdefault() is one C call: of threads
# that come at once, all get the one that was first.
default: dict[None, RuntimeLike] = {}

default_runtime: Callable[[], RuntimeLike]

# asyncio's, put here by ``_asyncio`` when that is imported.
foreign_loop: ForeignLoop


@accelerated
def now_ns() -> int:
    """The time on the clock of deadlines of ``runtime()``, in nanoseconds.

    CLOCK_MONOTONIC, unless that is a test's. Any thread.
    """
    here = thread.runtime or thread.chosen or default.get(None)
    return time.monotonic_ns() if here is None else here.now_ns()


def runtime() -> RuntimeLike:
    """The one that this thread acts on: it is its executor, is one of its pool or in its block.

    Elsewhere the default one.
    """
    return thread.runtime or thread.chosen or default_runtime()  # noqa: F821  # see above


def shown(runtime: RuntimeLike) -> str:
    """A runtime, for people."""
    what = "the default runtime" if default.get(None) is runtime else "the runtime"
    return f"{what} {runtime.name!r}"


def refuse_to_block(on_executor: str, runtime: RuntimeLike | None = None) -> None:
    """WouldDeadlock on a thread that itself must run what it waits for.

    That is an executor's thread, with ``on_executor`` as the text, and between two runs that of a
    ``Runtime(thread=False)``. ``runtime`` is whose task is waited for.
    """
    if thread.runtime is not None:
        raise WouldDeadlock(on_executor)
    for one in (thread.chosen, runtime):
        if one is not None and one.home == threading.get_ident():
            raise WouldDeadlock(
                "no thread runs the tasks of this Runtime(thread=False) now: "
                "wait in a coroutine that is given to its run()"
            )
