"""Ended: the tasks of a JoinSet or of map_concurrent, and a wait, in tasks and threads, for one."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any, Generic, TypeVar

from ..core.join import JoinHandle
from ..sync.waiters import ReentrantGate, Waiter, Waiters

T = TypeVar("T")


class Failed:
    """Stands in the place of a task that could not be spawned."""

    __slots__ = ("_error",)

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def done(self) -> bool:
        return True

    def result(self) -> Any:
        try:
            raise self._error
        finally:
            del self  # the traceback would lead back to the error

    def exception(self) -> BaseException:
        return self._error


class Ended(Generic[T]):
    """Tasks that are taken out in the order of their end, or, ``ordered``, of their spawn.

    ``complete``: nothing will be added, so a wait need not go on once it is empty. The tasks refer
    to this, and this refers to nothing that uses it: that can be dropped meanwhile.
    """

    __slots__ = ("complete", "gate", "line", "ordered", "running", "waiters")

    def __init__(self, *, ordered: bool, complete: bool) -> None:
        self.ordered: bool = ordered
        self.complete: bool = complete
        self.gate: ReentrantGate = ReentrantGate()
        self.waiters: Waiters = Waiters()
        self.running: dict[JoinHandle[T], None] = {}
        self.line: deque[JoinHandle[T] | Failed] = deque()  # to be taken out, from the left

    def add(self, handle: JoinHandle[T]) -> None:
        self.running[handle] = None
        if self.ordered:
            self.line.append(handle)
        call = partial(self.gate.call, partial(self._has_ended, handle))
        if not handle._outcome.call_when_open(call, call):
            call()

    def add_error(self, error: BaseException) -> None:
        """One that could not be spawned. From the thread that spawns."""
        self.gate.call(partial(self._come, Failed(error)))

    def no_more(self) -> None:
        self.gate.call(self._complete)

    def cancel(self, reason: str) -> list[JoinHandle[T]]:
        """Cancel those that run, and return them. From anywhere."""
        running = list(self.running)
        for handle in running:
            handle.cancel(reason)
        return running

    def __len__(self) -> int:
        return len(self.line) if self.ordered else len(self.line) + len(self.running)

    def ready(self) -> bool:
        """Whether one can be taken out at once."""
        return bool(self.line) and (not self.ordered or self.line[0].done())

    # The lock is held.

    def _has_ended(self, handle: JoinHandle[T]) -> None:
        self.waiters.wake_all()  # all: if it was the last one, they have nothing to wait for
        if not self.ordered:
            self.line.append(handle)
        self.running.pop(handle, None)

    def _come(self, one: Failed) -> None:
        self.waiters.wake_all()
        self.line.append(one)

    def _complete(self) -> None:
        self.waiters.wake_all()
        self.complete = True


class TakeOut(Waiter[JoinHandle[T] | Failed | None]):
    """Wait for the next, and take it out. None: there is none, and none will come.

    RuntimeClosed if those that run will never end.
    """

    __slots__ = ("_ended", "_name")

    def __init__(self, ended: Ended[T], name: str) -> None:
        self._ended = ended
        self._name = name
        super().__init__(ended.gate, ended.waiters)

    def _attempt(self) -> bool:
        ended = self._ended
        if ended.ready():
            # R16. Not popleft(): a Ctrl-C after that call would find it in neither place.
            self._result = ended.line[0]
            del ended.line[0]
            return True
        if ended.complete and not ended.running and not ended.line:
            self._result = None
            return True
        for oldest in ended.running:  # no other thread comes between this and its first round
            oldest._check_reachable()  # in a forked child it is the parent's
            break
        return False

    def _give_back(self) -> None:
        if isinstance(self._result, (JoinHandle, Failed)):
            self._ended.line.appendleft(self._result)
            self._waiters.wake_all()

    def __repr__(self) -> str:
        return f"<{self._name}>"
