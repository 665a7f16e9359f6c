"""A FIFO of tasks that wait to be handed something: what Notify and Mutex are built on.

Handing over and waking are two moments: what a task was handed is its own from the
first on, whoever comes meanwhile. If the task is cancelled between the two, it was
handed in vain, and ``Waiting.drop`` gives it to the next (``pass_on``).

Executor's thread only, but for ``drop``, which the garbage collector may run anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

from .. import current
from ..future import PENDING, Future, Pending, Ready
from ..waker import Context, Waker


class WaitQueue:
    """Who waits, in the order they came."""

    __slots__ = ("pass_on", "waiting")

    def __init__(self, pass_on: Callable[[], object]) -> None:
        self.waiting: dict[Waiting, Waker] = {}
        self.pass_on = pass_on  # called with what a cancelled waiter has not used

    def __len__(self) -> int:
        return len(self.waiting)

    def wake_one(self) -> bool:
        """Hand it to the first in the queue. False: nobody waits."""
        for waiter in list(self.waiting):
            waker = self.waiting.pop(waiter, None)
            if waker is not None:
                waiter.handed = True
                waker.wake()
                return True
        return False


class Waiting(Future[None]):
    """A place in a queue. Ready when its turn has come."""

    __slots__ = ("_queue", "handed")

    def __init__(self, queue: WaitQueue) -> None:
        self._queue = queue
        self.handed = False

    def poll(self, cx: Context) -> Ready[None] | Pending:
        if self.handed:
            return Ready(None)
        self._queue.waiting[self] = cx.waker  # polled again, it keeps its place
        return PENDING

    def drop(self) -> None:
        # Popped by one side only: by wake_one(), which hands over, or here.
        if self._queue.waiting.pop(self, None) is None and self.handed:
            current.runtime().call_on_executor(self._queue.pass_on)
