"""Calls that ``fs`` and ``process`` make: in a pool of their own, not behind the jobs of users."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ..core import current
from ..core.future import PENDING, Pending, Ready
from ..core.leaf import Operation
from ..core.waker import Context
from .job import BlockingCall

T = TypeVar("T")


class FileCall(BlockingCall[T]):
    """``function(*args)`` in a thread of that pool.

    Cancelled, a call that is queued never runs. One that a thread has begun goes on, and what it
    returns or raises is dropped; that thread does not count against the pool's limit any more.
    """

    def __init__(self, function: Callable[..., T], *args: Any) -> None:
        super().__init__(partial(function, *args), current.runtime().files)

    def runs(self) -> bool:
        """Whether a thread is in it, though its await is over."""
        return not self._ended and not self.give_up()

    def cut_short(self, error: BaseException) -> None:
        """End the await by ``error``, and leave the thread alone with it. Executor's thread."""
        if not self._ended:
            if not self.give_up():
                self._pool._abandon(self)
            self.error = error
            self._finish()


class Over(Operation[None]):
    """Wait until a call is over whose own await was cut off.

    It leaves its waker in the place of that await's, and then looks; the thread marks the call as
    ended, and then wakes what it finds there (R4).
    """

    __slots__ = ("_call",)

    def __init__(self, call: FileCall[Any]) -> None:
        self._call = call
        super().__init__()

    def _advance(self, cx: Context) -> Ready[None] | Pending:
        self._call._waker = cx.waker
        return PENDING if self._call.runs() else Ready(None)

    def __repr__(self) -> str:
        return f"<end of {self._call!r}>"
