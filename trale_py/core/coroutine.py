"""Coroutines: what may be spawned or awaited, and the errors for anything else."""

from __future__ import annotations

import contextlib
import inspect
import opcode
import re
import sys
from collections.abc import Coroutine
from types import CodeType, CoroutineType, FrameType
from typing import Any, TypeVar

from ..base.errors import traceback_of
from .future import Future
from .leaf import close_unused, hand_over, is_leaf

T = TypeVar("T")

_RAISE = opcode.opmap["RAISE_VARARGS"]
PREFIX = __name__.partition(".")[0] + "."


def as_coroutine(coro: object) -> Coroutine[Any, Any, Any]:
    """``coro`` as something that a task can run, or a TypeError that says what to do."""
    if type(coro) is CoroutineType:
        return coro
    if isinstance(coro, Future):
        hand_over(coro)
        waiting = _await(coro)
        waiting.__qualname__ = name_of(coro)  # type: ignore[attr-defined]
        return waiting
    if isinstance(coro, Coroutine):
        return coro
    if inspect.isasyncgen(coro):
        hint = "iterate over an async generator with async for"
    elif inspect.isasyncgenfunction(coro):
        hint = "call this async generator function, and iterate over the result with async for"
    elif inspect.iscoroutinefunction(coro):
        hint = "did you forget to call it?"
    elif callable(coro):
        hint = "did you forget to call it? A plain function runs in a thread: spawn_blocking()"
    elif isinstance(coro, (list, tuple, set)):
        hint = "did you mean gather(*aws)?"
    elif inspect.isawaitable(coro):
        hint = "write an async def that awaits it"
    else:
        hint = "call an async def to get one"
    raise TypeError(f"spawn() takes a coroutine or a trale_py Future, not {coro!r}: {hint}")


def close_refused(source: object) -> None:
    """What was handed to a call that refuses it, or a list of that: nobody will await it.

    But for an operation that some other task awaits: that goes on.
    """
    if isinstance(source, Future):
        close_unused(source)
    elif isinstance(source, Coroutine):
        source.close()
    elif isinstance(source, (list, tuple, set)):
        for one in source:
            close_refused(one)


async def _await(future: Future[T]) -> T:
    return await future


def name_of(coro: object) -> str:
    """Its name; of an operation the one it was called by, which its repr begins with."""
    name = getattr(coro, "__qualname__", None)
    if isinstance(name, str):
        return name
    shown = re.match(r"<(\w+)", repr(coro)) if is_leaf(coro) else None
    return type(coro).__qualname__ if shown is None else shown[1]


def caller() -> tuple[CodeType | None, int]:
    """Where in the user's code the spawn stands, code and offset. For Runtime._spawn."""
    frame: FrameType | None = sys._getframe(3)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(PREFIX):
        frame = frame.f_back
    return (None, 0) if frame is None else (frame.f_code, frame.f_lasti)


def is_unstarted(coro: Coroutine[Any, Any, Any]) -> bool:
    """Whether its first step is still to come."""
    if type(coro) is CoroutineType:
        return coro.cr_frame is not None and not coro.cr_suspended and not coro.cr_running
    frame = getattr(coro, "cr_frame", None)
    suspended = getattr(coro, "cr_suspended", False)  # compiled coroutines may have neither
    running = getattr(coro, "cr_running", False)
    return not suspended and not running and (frame is not None or not hasattr(coro, "cr_frame"))


def was_raised(error: BaseException) -> bool:
    """Whether a ``raise`` in somebody's code made this error, and not ``close()`` of a coroutine.

    close() makes its GeneratorExit where the coroutine is suspended, so the innermost entry of the
    traceback stands at the ``await`` or ``yield``.
    """
    innermost = traceback_of(error)
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    if innermost is None:
        return False
    return innermost.tb_frame.f_code.co_code[innermost.tb_lasti] == _RAISE


def foreign(yielded: object) -> RuntimeError:
    """What to throw in where a task awaited something of another library."""
    what = f"an object of {type(yielded).__module__}.{type(yielded).__qualname__}"
    with contextlib.suppress(BaseException):  # whatever a repr may do
        what = f"{yielded!r}, {what}"
    if yielded is None:
        what = "a bare yield (asyncio.sleep(0)? here it is yield_now())"
    return RuntimeError(
        f"a trale_py task awaited {what}, which belongs to another library: only its "
        "own event loop can wake it. Bridge: await it there, and have that loop call set() of a "
        "trale_py Event, which this task awaits."
    )
