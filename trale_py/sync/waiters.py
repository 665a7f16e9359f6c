"""Waiters: tasks and threads in one line, for something that one of them gets.

Everything in this folder and in ``channel`` is a few fields, a ReentrantGate, and one or two
collections of Waiters. The fields are read and written with the gate's lock held, for a few steps.
(Permits, locks and channels are in C too, and need no gate there: native/python/waiters_core.h.)

A Waiter tries (``_attempt``), and if that fails it stands in line. The caller that then has what it
waits for *grants* it. R16: a Ctrl-C may come in the midst of that, in a user's thread, and
neither may the grant be lost nor the waiter sleep on. So the order, under the lock, is:

1. wake the waiter: this only makes it look again, for which it needs the lock;
2. store ``_result``, in one statement with what it is taken from: this is the grant;
3. take the waiter out of the line; one that was left there is passed over.

Cut off after 1, nothing has happened. Python looks for signals at calls and at the ends of
loops, not within a statement that only stores; ``with lock:`` it does not take apart either.

A waiter that goes away (cancelled, too late, interrupted) takes itself out, and if it was
granted something already, ``_give_back`` hands that on.

R12: a waiter that goes away may be a coroutine that the garbage collector drops, in any
thread and at any allocation, so perhaps in one that holds this very lock; a signal handler
may likewise notify or close. What is done there goes through ``ReentrantGate.call``, which leaves
it in ``late`` if this thread is inside already. The thread that leaves the lock looks into
``late``. No thread waits there for one that could be waiting for it: a holder calls only
wakers, and collections do not nest.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Final, TypeVar

from ..base.durations import NEVER, Duration, to_timeout
from ..base.errors import RuntimeClosed
from ..core import current
from ..core.engine import accelerated
from ..core.future import PENDING, Pending, Ready, guest_context, poll_until_ready
from ..core.latch import acquire_lock
from ..core.leaf import Operation
from ..core.waker import Context

T = TypeVar("T")

NOTHING: Final[Any] = object()  # not granted
TURN: Final[Any] = object()  # granted: that the next attempt comes before all others
_TAKEN: Final[Any] = object()  # it was granted, and the waiter has it


class ReentrantGate:
    """The lock of one object, and what could not be done while this thread held it."""

    __slots__ = ("late", "lock")

    def __init__(self) -> None:
        # It counts, as a __del__ that comes in the midst must be told apart from another thread.
        self.lock: threading.RLock = threading.RLock()
        self.late: deque[Callable[[], object]] = deque()

    def call(self, function: Callable[[], object]) -> None:
        """Call it with the lock held, now or, inside of it, soon. From anywhere."""
        if self.lock._is_owned():  # type: ignore[attr-defined]
            self.late.append(function)
            return
        try:
            with self.lock:
                function()
        finally:
            if self.late:
                self.settle()

    def settle(self) -> None:
        """After leaving the lock: do what came meanwhile."""
        while self.late and not self.lock._is_owned():  # type: ignore[attr-defined]
            with self.lock:
                while self.late:
                    self.late.popleft()()


class Waiters(OrderedDict["Waiter[Any]", None]):
    """The waiters, in order. Call its methods with the gate's lock held."""

    __slots__ = ()

    def first(self) -> Waiter[Any] | None:
        """The one whose turn it is, or None."""
        while self:
            waiter = next(iter(self))
            if waiter._result is NOTHING:
                return waiter
            del self[waiter]
        return None

    def grant(self, waiter: Waiter[T], result: T) -> None:
        waiter._wake()
        waiter._result = result
        self.pop(waiter, None)

    def wake_all(self) -> None:
        """Have all of them look again. They stay where they are."""
        for waiter in self:
            waiter._wake()


class Waiter(Operation[T]):
    """One wait of one task, as a future, or of one thread, by ``block``."""

    __slots__ = ("_gate", "_result", "_waiters", "_wake")

    def __init__(self, gate: ReentrantGate, waiters: Waiters) -> None:
        self._gate = gate
        self._waiters = waiters
        self._result: Any = NOTHING
        self._wake: Callable[[], object]
        super().__init__()

    # What the objects define. The lock is held.

    def _attempt(self) -> bool:
        """Take it if it can be had, into ``_result``; it is tried again at every wake."""
        raise NotImplementedError

    def _at_once(self) -> Any:
        """What it waits for, if that need not be waited for; or NOTHING. A short cut: the lock is
        not held, and nothing is left behind."""
        return NOTHING

    def _joined(self) -> None:
        """It has come into the line."""

    def _keeps(self) -> bool:
        """Whether it was let through by what cannot be given to another."""
        return False

    def _give_back(self) -> None:
        """``_result`` was granted and is not used, or it left the line: serve the next waiter."""

    # The two faces.

    def __await__(self) -> Generator[Pending, None, T]:
        self._use()
        return self._at_once_or_wait()

    def _at_once_or_wait(self) -> Generator[Pending, None, T]:
        cx = current.thread.context
        if cx is not None and cx._budget > 0 and not cx._cancelled and self._result is NOTHING:
            found = self._at_once()
            if found is not NOTHING:
                cx._budget -= 1
                self._result = _TAKEN
                return found  # type: ignore[no-any-return]
        return (yield from poll_until_ready(self, self._advance))

    def _look(self, wake: Callable[[], object]) -> bool:
        gate = self._gate
        try:
            with gate.lock:
                self._wake = wake
                if self._result is not NOTHING and self._result is not TURN:
                    return True
                first = self._result is TURN
                waiters = self._waiters
                if self._attempt():
                    if waiters:
                        waiters.pop(self, None)
                    return True
                self._result = NOTHING
                if self not in waiters:
                    waiters[self] = None
                    if first:
                        waiters.move_to_end(self, last=False)
                    self._joined()
                return False
        finally:
            if gate.late:
                gate.settle()

    def _advance(self, cx: Context) -> Ready[T] | Pending:
        # What was granted stays so: to see that it was, the lock is not needed.
        waiting = self._result is NOTHING or self._result is TURN
        if waiting and not self._look(cx.waker.wake):
            return PENDING
        result, self._result = self._result, _TAKEN
        return Ready(result)

    def _look_or_park(self, parked: threading.Lock) -> bool:
        """For a thread: is there a result? If not, ``parked`` will be released."""
        return self._look(partial(_unpark, parked))

    def _delivered(self) -> bool:
        # R23: it leaves the line in the same step. Else it could still be let through, and count
        # as one that was, between this look and its drop().
        gate = self._gate
        try:
            with gate.lock:
                if self._keeps():
                    return True
                self._waiters.pop(self, None)
                return False
        finally:
            if gate.late:
                gate.settle()

    def _stand_in_line(self) -> None:
        """Before ``block``: to be in line already when something else is let go."""
        self._hand_over()
        self._look(_nobody_yet)

    def _take_back(self) -> None:
        self._gate.call(self._withdraw)

    def _withdraw(self) -> None:
        self._waiters.pop(self, None)
        if self._result is not _TAKEN:
            self._give_back()
            self._result = _TAKEN


@accelerated
def block(operation: Coroutine[Any, Any, T], timeout: Duration | None) -> T:
    """Have this thread wait for what is a Waiter, at most ``timeout`` seconds (None: for ever).

    TimeoutError after that; KeyboardInterrupt in the main thread at a Ctrl-C; WouldDeadlock
    on an executor's thread, always, also if there were no need to wait. What it raises, it has
    taken nothing.
    """
    wait: Waiter[T] = operation  # type: ignore[assignment]  # cast() is a call, and this is hot
    wait._use()
    try:
        # Most of these waits need not wait, and then none of park() is needed.
        may_look = timeout is None and current.thread.runtime is None
        if not may_look or not wait._look(_nobody_yet):
            park(wait, timeout)
        return wait._result  # type: ignore[no-any-return]
    except BaseException:
        wait.drop()
        raise


def park(wait: Waiter[Any], timeout: Duration | None) -> None:
    """Return when it has a result. If it raises instead, the caller must drop the wait."""
    seconds = -1 if timeout is None else to_timeout(timeout, "timeout")
    refuse_on_executor()
    process = os.getpid()
    parked = threading.Lock()
    parked.acquire()
    if wait._look_or_park(parked):
        return
    deadline = time.monotonic() + seconds
    while True:
        left = max(0.0, deadline - time.monotonic()) if seconds >= 0 else -1
        if not acquire_lock(parked, left, process) and not wait._delivered():
            raise TimeoutError(f"timed out after {timeout} seconds")
        if os.getpid() != process:
            raise RuntimeClosed("this wait was the parent's, and this is a forked child")
        if wait._look_or_park(parked):
            return


def _nobody_yet() -> None:
    pass


def refuse_on_executor() -> None:
    """WouldDeadlock on the executor's thread: a wait there would block the task that ends it."""
    current.refuse_to_block(
        "this would block the executor's thread; in a task, await the method without _blocking"
    )


def who_asks() -> object:
    """The task that is being polled, or asyncio's, or the thread: the owner of a lock."""
    return current.thread.context or guest_context() or this_thread()


_here = threading.local()


class _Thread:
    """Stands for a thread. Not its ident: when it has ended, another is given that."""

    __slots__ = ("native_id",)

    def __init__(self) -> None:
        self.native_id = threading.get_native_id()


def this_thread() -> object:
    """What stands for it."""
    mine = _here.__dict__
    return mine.get("me") or mine.setdefault("me", _Thread())


def name_owner(owner: Any) -> str:
    """Of ``who_asks()``, in words. Cold."""
    if not isinstance(owner, Context):
        return f"thread {owner.native_id}"
    task = owner._runtime.task_of(owner.waker._task_id)
    return "a task that has ended" if task is None else f"task {task._id} ({task._name})"


def seconds_left(deadline: int) -> float:
    """Until that time on the clock, in nanoseconds."""
    return math.inf if deadline == NEVER else max(0, deadline - time.monotonic_ns()) / 10**9


def _unpark(parked: threading.Lock) -> None:
    # Woken twice, it is released once. The gate's lock is held: no other thread releases it now.
    if parked.locked():
        parked.release()


def check_capacity(value: object, argument: str, least: int) -> int:
    """A count that a user has given."""
    if not isinstance(value, int):
        raise TypeError(f"{argument} must be an int, not {value!r}")
    if value < least:
        raise ValueError(f"{argument} must be {least} or more, not {value!r}")
    if value > sys.maxsize:
        raise OverflowError(f"{argument} is too large: {value!r}")
    return value
