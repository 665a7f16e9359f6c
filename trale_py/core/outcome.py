"""Outcome: the result of a task, kept until it is asked for.

The task and its JoinHandle share one. The executor settles it, once; handles take from
it. An error that was not retrieved must not vanish: it is logged when it cannot be any
more. Task and handle may end in either order and in different threads, so the question
"was it retrieved?" is one dict entry, popped once (R9).
"""

from __future__ import annotations

import logging
import threading
from types import CodeType, TracebackType
from typing import Any, Generic, TypeVar, cast

from ..base.errors import RuntimeClosed, TaskCancelled, is_a, traceback_of
from ..base.log import report
from .engine import accelerated
from .latch import Latch

T = TypeVar("T")


@accelerated
class Outcome(Latch, Generic[T]):
    """The result of a task, once the latch is open: ``error``, or else the value.

    The executor's thread writes it. ``abandoned`` is the exception, a flag that only ever
    goes up: no handle is left that could ask. ``id``, ``name`` and the place of the spawn stay
    known when
    the task is gone.
    """

    __slots__ = (
        "_traceback",
        "_unclaimed",
        "_value",
        "abandoned",
        "cancelled",
        "code",
        "error",
        "id",
        "name",
        "offset",
    )

    def __init__(
        self,
        task_id: int,
        name: str,
        site: tuple[CodeType | None, int],
        unclaimed: dict[int, Outcome[object]],
    ) -> None:
        super().__init__()
        self.id: int = task_id
        self.name: str = name
        self.code: CodeType | None = site[0]  # where it was spawned
        self.offset: int = site[1]
        self.error: BaseException | None = None
        self.abandoned: bool = False
        self.cancelled: bool = False
        self._value: T | None = None
        self._traceback: TracebackType | None = None
        self._unclaimed = unclaimed  # the runtime's errors that are not yet retrieved

    def __repr__(self) -> str:
        return f"<task {self.id} {self.name!r}>"

    def spawned_at(self) -> str:
        return line_of(self.code, self.offset)

    def delivers(self) -> bool:
        # Of a task that was cancelled too, a waiter that is cancelled has nothing to learn. If it
        # got TaskCancelled, a cancelled group whose tasks await each other would fail by that.
        return self.opened and not self.cancelled

    def succeed(self, value: T) -> None:
        self._value = value
        self.open()

    def cancel(self, error: TaskCancelled) -> None:
        self.cancelled = True
        self.fail(error, report=False)

    def fail(self, error: BaseException, *, report: bool = True) -> None:
        """Settle with ``error``; ``report`` says whether to log it if it is never retrieved."""
        self.error = error
        self._traceback = traceback_of(error)
        if report:
            self._unclaimed[self.id] = cast("Outcome[object]", self)
        self.open()
        if self.abandoned:
            self.report_unclaimed()

    def abandon(self) -> bool:
        """The last handle is gone. True: the caller must call report_unclaimed(), on the executor.

        R9: abandon() raises its flag, then looks for an error; fail() stores the error,
        then looks at the flag. If both see each other, report_unclaimed() still logs it once.
        """
        self.abandoned = True
        return self.id in self._unclaimed

    def report_unclaimed(self) -> None:
        """Log the error if it has not been taken. Executor's thread only."""
        if self._unclaimed.pop(self.id, None) is None:
            return
        exiting = not threading.main_thread().is_alive()
        if not exiting or not is_a(self.error, RuntimeClosed):  # which would say just that
            report(
                "task %d (%s), spawned at %s, failed, and its error was never retrieved",
                self.id,
                self.name,
                self.spawned_at(),
                error=self.error,
            )

    def claim(self) -> BaseException | None:
        """The error, if there is one. From now on it counts as taken."""
        self._unclaimed.pop(self.id, None)
        return self.error

    def unwrap(self) -> T:
        """Return the value or raise the error, with the traceback it had in the task."""
        error = self.claim()
        if error is None:
            return cast(T, self._value)
        try:
            # Each raise adds frames to the exception's own traceback: start from the task's.
            # By the base class: a user's class may have its own idea of with_traceback().
            raise BaseException.with_traceback(error, self._traceback)
        finally:
            # The traceback keeps this frame, and those of our callers: none may keep the error.
            del error, self


def line_of(code: CodeType | None, offset: int) -> str:
    """file:line of a spawn. The offset in the bytecode is at hand there, the line is looked for."""
    if code is None:
        return "?"
    for start, end, line in code.co_lines():
        if start <= offset < end:
            return f"{code.co_filename}:{line}"
    return f"{code.co_filename}:?"


# How many tasks one line names.
_SHOWN = 10


def listed(outcomes: list[Outcome[Any]]) -> str:
    """The tasks of ``outcomes``, for people."""
    shown = [
        f"task {outcome.id} ({outcome.name}), spawned at {outcome.spawned_at()}"
        for outcome in outcomes[:_SHOWN]
    ]
    if len(outcomes) > _SHOWN:
        shown.append(f"and {len(outcomes) - _SHOWN} more")
    return "; ".join(shown)


def name_outcomes(outcomes: list[Outcome[Any] | None], message: str) -> None:
    """Log which tasks these are, those that have not ended: ``message`` % (how many, which)."""
    live = [outcome for outcome in outcomes if outcome is not None]
    if live:
        report(message, len(live), listed(live), level=logging.WARNING)
