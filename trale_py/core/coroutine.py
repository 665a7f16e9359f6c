"""Coroutines: what may be spawned or awaited, and the errors for anything else."""

from __future__ import annotations

import contextlib
import gc
import inspect
import opcode
import re
import sys
from collections.abc import Coroutine
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, TypeVar

from ..base.errors import traceback_of
from .contract import TaskLike
from .future import Future, poll_until_ready
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
    """What was handed to a call that refuses it, or a list of that: it will not be awaited.

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
    """Where in the user's code the spawn stands, code and offset. For Runtime._start_task."""
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


# Where a coroutine, an async generator and a generator say what they wait for.
_AWAITS = ("cr_await", "ag_await", "gi_yieldfrom")
_FRAMES = (CoroutineType, AsyncGeneratorType, GeneratorType)
_STEPS = (*_FRAMES, Future)
# What Python puts in between, which does not say it.
_BETWEEN = {
    "coroutine_wrapper",
    "async_generator_asend",
    "async_generator_athrow",
    "anext_awaitable",
}


def leaf_of(coro: object) -> object:
    """What the awaits of a suspended coroutine end in: a Future, or what another library has there.

    None: it runs, has not begun, or has ended. Any thread.
    """
    awaited: object = None
    while coro is not None:
        awaited, coro = coro, _awaited_by(coro)
    return None if isinstance(awaited, _FRAMES) else awaited


def _awaited_by(awaiting: object) -> object:
    """One step down. None: it awaits nothing, or it is a leaf."""
    if isinstance(awaiting, GeneratorType) and awaiting.gi_code is poll_until_ready.__code__:
        frame = awaiting.gi_frame
        return None if frame is None else frame.f_locals.get("future")
    if isinstance(awaiting, Future):
        return None
    for name in _AWAITS:
        if hasattr(awaiting, name):
            return getattr(awaiting, name)
    if not _is_between(awaiting):
        return None
    referents = gc.get_referents(awaiting)
    return next((one for one in referents if isinstance(one, _STEPS) or _is_between(one)), None)


def _is_between(awaiting: object) -> bool:
    return type(awaiting).__module__ == "builtins" and type(awaiting).__name__ in _BETWEEN


def describe(task: TaskLike) -> str:
    """What a task does, in words: its state or, if it waits, what for. Any thread; cold. ::

    describe(task)  # "read of <TcpStream fd=7 127.0.0.1:5000 -> 127.0.0.1:40312>"
    """
    if task.state != "waiting":
        return task.state
    leaf = leaf_of(task.coro)
    try:
        if isinstance(leaf, Future):
            return leaf._describe()
        return "waiting" if leaf is None else f"{leaf!r}, which belongs to another library"
    except Exception as error:  # of a repr, perhaps the user's
        return f"an object of {type(leaf).__qualname__}, whose repr raised {type(error).__name__}"


def was_raised(error: BaseException) -> bool:
    """Whether a ``raise`` in the user's code made this error, and not ``close()`` of a coroutine.

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
        "own event loop can wake it. Code of asyncio's runs in asyncio tasks: await aio(fn, ...). "
        "Another library's must run in its own loop, and can call set() of a trale_py Event, which "
        "this task awaits."
    )
