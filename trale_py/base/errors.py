"""Every exception that trale_py raises on its own behalf.

The kernel's errors come through as ``OSError`` and its subclasses, time limits as
the built-in ``TimeoutError``. What stands here is what neither of them says.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, InvalidStateError
from types import TracebackType
from typing import Any, NoReturn, TypeGuard, TypeVar

__all__ = [
    "BusyResourceError",
    "Cancelled",
    "ClosedResourceError",
    "DelimiterNotFound",
    "IncompleteRead",
    "InvalidStateError",
    "RuntimeClosed",
    "TaskCancelled",
    "WouldBlock",
    "WouldDeadlock",
]


class Cancelled(BaseException):
    """You are being cancelled: clean up, and let it go on. ``reason`` is what cancel() was given.

    Raised by the executor at a checkpoint inside a cancelled scope, and taken away by that
    scope. Not an Exception, so that ``except Exception`` does not stop it, and not to be made:
    to cancel, call ``cancel()`` of a scope, a handle or a group's scope.
    """

    __module__ = "trale_py"

    reason: object

    def __init__(self) -> None:
        raise TypeError("do not create Cancelled: call cancel() on a scope or a handle")

    @classmethod
    def _with_reason(cls, reason: object) -> Cancelled:
        """For the executor."""
        error = cls.__new__(cls, *_reasons(reason))
        error.reason = reason
        return error

    def __reduce__(self) -> tuple[object, ...]:
        return _copied, (type(self), self.args), self.__dict__


def _copied(cls: type[Cancelled], args: tuple[object, ...]) -> Cancelled:
    return cls.__new__(cls, *args)


class TaskCancelled(CancelledError):
    """The task that was joined or awaited had been cancelled. ``reason``: why, if it was said."""

    __module__ = "trale_py"

    def __init__(self, reason: object = None) -> None:
        super().__init__(*_reasons(reason))
        self.reason = reason


def _reasons(reason: object) -> tuple[object, ...]:
    return () if reason is None else (reason,)


class RuntimeClosed(RuntimeError):
    """The runtime this belongs to has been shut down, has failed, or stayed behind at a fork."""

    __module__ = "trale_py"


class WouldDeadlock(RuntimeError):
    """A blocking wait on the executor's own thread, which alone could end that wait."""

    __module__ = "trale_py"


class WouldBlock(Exception):
    """A ``try_`` operation would have had to wait."""

    __module__ = "trale_py"


class ClosedResourceError(Exception):
    """This program closed the socket, timer or descriptor, perhaps while it was waited for."""

    __module__ = "trale_py"


class BusyResourceError(Exception):
    """Another task is already using this side of the stream."""

    __module__ = "trale_py"


class IncompleteRead(EOFError):
    """The stream ended before ``read_exact`` had all its bytes.

    ``partial`` holds what did arrive; ``expected`` is how many bytes were asked for.
    """

    __module__ = "trale_py"

    def __init__(self, partial: bytes, expected: int) -> None:
        super().__init__(f"the stream ended after {len(partial)} of {expected} bytes")
        self.partial = partial
        self.expected = expected

    def __reduce__(self) -> tuple[type[IncompleteRead], tuple[bytes, int]]:
        return type(self), (self.partial, self.expected)


class DelimiterNotFound(ValueError):
    """``read_until`` met its limit before the delimiter. What it read stays readable."""

    __module__ = "trale_py"


# How the library touches an error of the user's. Its class may define anything: a ``__setattr__``
# that refuses, a ``__class__`` that lies, a ``__traceback__`` that raises. So the library uses the
# base class's own means, and never asks whether an error is true or equal to something.

traceback_of: Callable[[BaseException], TracebackType | None]
traceback_of = vars(BaseException)["__traceback__"].__get__
set_traceback: Callable[[BaseException, TracebackType | None], None]
set_traceback = vars(BaseException)["__traceback__"].__set__
stop_value: Callable[[StopIteration], Any] = vars(StopIteration)["value"].__get__
_context_of = vars(BaseException)["__context__"].__get__
_set_context = vars(BaseException)["__context__"].__set__

E = TypeVar("E", bound=BaseException)


def is_a(error: object, kind: type[E]) -> TypeGuard[E]:
    """isinstance() by the real type: that asks ``error.__class__`` too."""
    return issubclass(type(error), kind)


def stand_in(error: BaseException) -> RuntimeError:
    """What is delivered in place of an error that cannot be handled. That is its cause."""
    name = type.__dict__["__qualname__"].__get__(type(error))
    instead = RuntimeError(f"an exception of class {name} cannot be handled")
    instead.__cause__ = error
    return instead


def raise_as_it_was(error: BaseException) -> NoReturn:
    """Raise an error that was caught elsewhere; what it says of its cause and context stays.

    A plain ``raise`` in the midst of handling another error would replace ``__context__``.
    """
    context = _context_of(error)
    try:
        raise error
    finally:
        _set_context(error, context)
        del error, context  # the traceback would lead back to them
