"""Leaf: what the library's own awaits end in. One leaf is for one await.

    new  --await-->         used     its await goes on, or has ended
    new  --handed over-->   handed   spawn or a combinator sees to it
    new, handed --poll()--> polled   by hand; then the same task may await it

A leaf that is used is awaited no more. So of two tasks that await it the second is refused, and
a wait that was cut off is not begun again. A refused await changes nothing. A leaf that is freed
while it is new was forgotten, and a warning says so.

An Operation is the leaf that users meet: what ``sleep``, ``read``, ``lock`` and the others return.
It has the methods of a coroutine, and is declared as one, so that a type checker complains about
a forgotten await too. A Timer is a leaf that may be awaited again when its await has ended.
Futures that users write are no leaves: they decide for themselves.

In C: native/python/leaf.c.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, Final, NoReturn, TypeVar

from . import current
from .engine import accelerated
from .future import PENDING, Future, Pending, Ready, poll_until_ready
from .waker import Context, Waker

T_co = TypeVar("T_co", covariant=True)

NEW: Final = 0
HANDED: Final = 1
POLLED: Final = 2
USED: Final = 3


class Leaf(Future[T_co]):
    """A future with that state. Here it changes, and here it is looked at."""

    __slots__ = ("_polled_by", "_state")

    _polled_by: Waker

    def __init__(self) -> None:
        self._state = NEW

    # What each leaf defines.

    def _advance(self, cx: Context) -> Ready[T_co] | Pending:
        """Try to finish, as ``poll`` does."""
        raise NotImplementedError

    def _take_back(self) -> None:
        """Take back what was registered, and pass on what was received and not used.

        May be called more than once.
        """

    # What tasks, and others that poll, come through.

    def __await__(self) -> Generator[Pending, None, T_co]:
        self._use()
        return poll_until_ready(self, self._advance)

    def _use(self) -> None:
        """Its one await, or one wait of a thread, begins. RuntimeError if that was before."""
        if self._state > HANDED and not self._was_polled_here():
            self._refuse()
        self._state = USED

    def _was_polled_here(self) -> bool:
        """Whether it was polled by hand, in the task that awaits it now."""
        cx = current.thread.context
        return self._state == POLLED and cx is not None and cx.waker == self._polled_by

    def _refuse(self) -> NoReturn:
        """RuntimeError: it has had its one await."""
        raise RuntimeError(f"cannot await {self!r} again: it can be awaited once only")

    def poll(self, cx: Context) -> Ready[T_co] | Pending:
        if not hasattr(cx, "waker"):
            raise TypeError(f"cx must be a Context, not {cx!r}")
        if self._state == USED:
            self._refuse()
        self._state, self._polled_by = POLLED, cx.waker
        try:
            step = self._advance(cx)
        except BaseException:
            self.drop()
            raise
        if step is not PENDING:
            self.drop()
        return step

    def drop(self) -> None:
        self._state = USED
        self._take_back()

    def _hand_over(self) -> None:
        """Another object owns it from here on and may drop it: then it was not forgotten."""
        self._state = max(self._state, HANDED)


@accelerated
class Forgettable:
    """What points at a forgotten await: a leaf that is dropped, or asked for what its result has.

    In C, as a Ctrl-C in a ``__del__`` is lost (R29), and as each attribute of a class that has a
    ``__getattr__`` of Python's is found the slow way.
    """

    __slots__ = ()
    _state: int

    def __del__(self) -> None:
        try:
            forgotten = self._state == NEW
        except AttributeError:  # it was cut off in __init__
            return
        if forgotten:
            warn_forgotten(self, stacklevel=3)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(f"{self!r} has no attribute {name!r}: did you forget await?")


class Operation(Forgettable, Leaf[T_co], Coroutine[Any, Any, T_co]):
    """A leaf with the methods of a coroutine."""

    __slots__ = ("_steps",)

    _steps: Generator[Pending, None, T_co]  # for callers that use send() themselves

    def send(self, value: None, /) -> Pending:
        if not hasattr(self, "_steps"):
            self._steps = self.__await__()
        try:
            return next(self._steps)
        except BaseException:
            del self._steps
            raise

    def throw(
        self,
        error: BaseException | type[BaseException],
        value: object = None,
        traceback: TracebackType | None = None,
        /,
    ) -> Pending:
        self.drop()
        raise error

    def close(self) -> None:
        self.drop()


@accelerated  # C calls it; and now that it can, it makes its own operations
def warn_forgotten(operation: object, stacklevel: int = 2) -> None:
    """Warn that it was never awaited. Silent once the interpreter's exit has begun."""
    if not current.exiting and not sys.is_finalizing():
        text = f"{operation!r} was never awaited"
        warnings.warn(text, RuntimeWarning, stacklevel, source=operation)


def is_leaf(source: object) -> bool:
    """Whether it is one of the library's own, in Python or in C."""
    return isinstance(source, Future) and hasattr(source, "_hand_over")


def hand_over(source: Any) -> None:
    """What a spawn or a combinator does with what it was given, if that is a leaf."""
    if is_leaf(source):
        source._hand_over()


def close_unused(source: Future[object]) -> None:
    """End an operation, unless it is being awaited."""
    if isinstance(source, Coroutine) and hasattr(source, "_use"):
        with contextlib.suppress(RuntimeError):
            source._use()


@accelerated
class YieldNow(Operation[None]):
    __slots__ = ("_yielded",)

    def __init__(self) -> None:
        super().__init__()
        self._yielded = False

    def _advance(self, cx: Context) -> Ready[None] | Pending:
        if self._yielded:
            return Ready(None)
        self._yielded = True
        cx.waker.wake()
        return PENDING

    def __repr__(self) -> str:
        return "<yield_now>"


@accelerated
class Checkpoint(Operation[None]):
    __slots__ = ()

    def _advance(self, cx: Context) -> Ready[None] | Pending:
        return Ready(None)

    def __repr__(self) -> str:
        return "<checkpoint>"


def checkpoint() -> Coroutine[Any, Any, None]:
    """For operations that need not wait this time: counts as one, like any other."""
    return Checkpoint()


def yield_now() -> Coroutine[Any, Any, None]:
    """Give way: ``await yield_now()`` puts the task at the end of the run-queue.

    All others that are ready run first. Use it in long computations.
    """
    return YieldNow()
