"""Async generators: those that tasks have left half-way are closed by tasks of their own.

An executor's thread has Python's hooks set to these. So one that is first iterated in a task is
known here. If it is dropped, in whatever thread, a task closes it; the end of the runtime closes
the rest.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

from ..base.log import report
from .coroutine import name_of
from .run_queue import make_call


class AsyncGenerators:
    """Those of one runtime. Executor's thread, if nothing else is said."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime  # the Runtime, whose part this is
        self._live: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._dropped: dict[AsyncGenerator[Any, Any], None] = {}  # and not yet being closed

    def set_hooks(self) -> None:
        sys.set_asyncgen_hooks(self._live.add, self._finalize)

    def close_all(self) -> None:
        generators = list(self._live)
        self._live.clear()
        while self._dropped:
            generators.append(self._dropped.popitem()[0])
        for generator in generators:
            make_call(partial(self._close, generator))

    def _finalize(self, generator: AsyncGenerator[Any, Any]) -> None:
        """It was dropped half-way, in any thread, perhaps by the garbage collector."""
        self._dropped[generator] = None
        self._runtime.publish(partial(self._close_dropped, generator))

    def _close_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self._dropped.pop(generator, generator) is None:  # else the runtime's end has come by
            self._close(generator)

    def _close(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._runtime._start_task(_aclose(generator), f"aclose {name_of(generator)}")


async def _aclose(generator: AsyncGenerator[Any, Any]) -> None:
    try:
        await generator.aclose()
    except BaseException as error:
        report("closing the async generator %r failed", generator, error=error)
