"""Waker and Context: how a future that cannot finish yet says whom to call back.

A future's ``poll`` is given a Context. If it must wait, it hands ``cx.waker`` to
the part that will know when to try again (the reactor, another task, a thread)
and returns PENDING. That part later calls ``wake()``, and the task is polled again.

wake() is legal always and harmless twice: on a task that is queued or has finished it
does nothing. It says "look again", never "it is done": a future that is polled looks
for itself.
"""

from __future__ import annotations

from typing import Protocol

from .contract import RuntimeLike
from .engine import accelerated


class Wakes(Protocol):
    """A RunQueue, for its wakers."""

    def wake(self, task_id: int) -> None:
        """Have a task polled again. Any thread, any time, any number of times."""


@accelerated
class Waker:
    """Requeues one task of one runtime. Obtained from ``Context.waker``.

    It names its task by id, and ids are never used twice: a waker that outlives its task
    is inert, and keeps nothing of it alive. Wakers of the same task compare equal.

    After `std::task::Waker <https://doc.rust-lang.org/std/task/struct.Waker.html>`_.
    """

    __slots__ = ("_run_queue", "_task_id")

    def __init__(self, run_queue: Wakes, task_id: int) -> None:
        self._run_queue = run_queue
        self._task_id = task_id

    def wake(self) -> None:
        """Have the task polled again. It will be, at least once, after this call.

        From any thread, a signal handler or a ``__del__``; any number of times. Never
        waits, never raises.
        """
        self._run_queue.wake(self._task_id)

    def will_wake(self, other: Waker) -> bool:
        """Whether ``other`` wakes the same task: then it need not be stored anew."""
        if not isinstance(other, type(self)):
            raise TypeError(f"other must be a Waker, not {other!r}")
        return self == other

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return self._task_id == other._task_id and self._run_queue is other._run_queue

    def __hash__(self) -> int:
        return hash((id(self._run_queue), self._task_id))

    def __repr__(self) -> str:
        return f"<Waker of task {self._task_id}>"


@accelerated
class Context:
    """What a future is polled with: the waker of the task that is polling it.

    The library's own futures also find the task's runtime here, so that none of them
    must search for it.
    """

    __slots__ = ("_budget", "_cancelled", "_end", "_last_look", "_pushed", "_runtime", "waker")

    def __init__(self, waker: Waker, runtime: RuntimeLike) -> None:
        self.waker: Waker = waker
        self._runtime = runtime
        self._budget = 0  # operations left to the task in this turn; see Task.poll
        self._end = [True]  # popped once: popping it claims the task's end
        self._pushed = False  # the task was given to the run-queue, which takes it once
        self._cancelled = False  # the task is inside a cancelled scope; see scope_tree.py
        # The task is cancelled and was resumed only to see whether its wait is over; code that
        # finds that it is clears this. See Task.poll.
        self._last_look = False

    def _claim_end(self) -> bool:
        """True for one caller: the task has ended, and it is this one's to say how. Any thread."""
        try:
            return self._end.pop()
        except IndexError:
            return False

    def __repr__(self) -> str:
        return f"<Context {self.waker!r}>"
