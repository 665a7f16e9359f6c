"""Latch: a gate that opens once, for threads and for tasks.

A join handle is a latch with a result behind it; so is "the runtime has started".

The executor's thread opens it. A thread that waits hands in a lock of its own, already
locked, and acquires it again: Ctrl-C gets through to a thread that waits for a Python
lock, and nothing is shared that a signal handler could find half done. A task hands in
its waker. Either is a key with something to call.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Hashable
from typing import NoReturn

from . import current
from .engine import accelerated
from .future import PENDING, Pending, Ready
from .leaf import Operation
from .waker import Context


@accelerated
class Latch:
    """Closed, then open for good.

    ``opened`` and the calls are the executor's to make; ``waiters`` takes and gives up
    entries by single dict operations, so anyone may, from anywhere.
    """

    __slots__ = ("opened", "waiters")

    def __init__(self) -> None:
        self.opened: bool = False
        self.waiters: dict[Hashable, Callable[[], object]] = {}

    def open(self) -> None:
        """Let all waiters through, in the order they came. Executor's thread only.

        What a call raises comes out when all have been let through.
        """
        self.opened = True
        failed: BaseException | None = None
        for key in list(self.waiters):
            try:
                # In one statement: if something raises between the two, a waiter is lost.
                self.waiters.pop(key, bool)()
            except BaseException as error:
                failed = error
        if failed is not None:
            raise failed

    def call_when_open(self, key: Hashable, call: Callable[[], object]) -> bool:
        """Leave ``call`` to be called at the opening. False: it is open already.

        Exactly one side makes it so (R8). The waiter stores its entry and then looks at
        ``opened``; the executor sets ``opened`` and then looks at the entries. Whichever
        comes second sees the other. If both do, only one of them pops the entry.
        """
        self.waiters[key] = call
        return not (self.opened and self.waiters.pop(key, None) is not None)

    def forget(self, key: Hashable) -> None:
        """Nothing is to be called for ``key`` any more."""
        self.waiters.pop(key, None)

    def delivers(self) -> bool:
        """Whether a waiter that is cancelled now is let through all the same."""
        return self.opened

    def __repr__(self) -> str:
        return f"<Latch {'open' if self.opened else 'closed'}>"

    def wait_blocking(self, timeout: float = -1) -> bool:
        """Have this thread wait, at most ``timeout`` seconds (-1: for ever). False: too late.

        True also if a signal handler has forked and this is the child. The latch is the parent's.

        Ctrl-C ends the wait in the main thread, by KeyboardInterrupt.
        """
        if self.opened and not current.exiting:
            return True
        process = os.getpid()
        lock = threading.Lock()
        lock.acquire()
        try:
            if not self.call_when_open(lock, lock.release):
                return True
            return acquire_lock(lock, timeout, process)
        finally:
            self.forget(lock)
            freeze_daemon()


def never_return() -> NoReturn:
    """Park this thread for ever. The interpreter frees what modules and ended threads refer to,
    but not what is on the stack of a thread that never comes back."""
    forever = threading.Lock()
    forever.acquire()
    while True:
        forever.acquire()


def freeze_daemon() -> None:
    """At the interpreter's exit, in a daemon thread: do not return.

    There every wait ends, as everything is cancelled. A daemon thread does
    not come back from it: it would only say so on stderr, a moment before Python freezes it."""
    me = threading.current_thread()
    if current.exiting and me.daemon and me is not threading.main_thread():
        never_return()


# Within this time a Ctrl-C is heard, whenever it comes.
_SIGNAL_SECONDS = 0.1


def acquire_lock(lock: threading.Lock, timeout: float, process: int) -> bool:
    """Acquire ``lock``; in the main thread, so that no Ctrl-C is overlooked.

    R13: Python runs signal handlers between bytecodes, and when a signal interrupts the wait.
    One that comes after the last bytecode and before the wait has begun does neither: its
    handler would run when the wait is over, which may be never. So the main thread, which
    alone runs handlers, comes up now and then. It may come up in another process: the handler
    has forked. The thread that would open the latch is in the parent, so that ends the wait too.
    """
    if threading.current_thread() is not threading.main_thread():
        return lock.acquire(timeout=timeout)
    deadline = math.inf if timeout < 0 else time.monotonic() + timeout
    while os.getpid() == process:
        left = deadline - time.monotonic()
        if lock.acquire(timeout=max(0.0, min(left, _SIGNAL_SECONDS))):
            return True
        if left <= 0:
            return False
    return True


@accelerated
class LatchWait(Operation[None]):
    """Wait for a latch in a task."""

    __slots__ = ("_latch",)

    def __init__(self, latch: Latch) -> None:
        self._latch = latch
        super().__init__()

    def _advance(self, cx: Context) -> Ready[None] | Pending:
        if self._latch.opened or not self._latch.call_when_open(self, cx.waker.wake):
            return Ready(None)
        return PENDING

    def _delivered(self) -> bool:
        return self._latch.delivers()

    def _take_back(self) -> None:
        self._latch.forget(self)

    def __repr__(self) -> str:
        return f"<wait of {self._latch!r}>"
