"""What asyncio takes for the running loop of an executor's thread, while the guest has no turn.

Code of a trale_py task is no code of asyncio's: ``asyncio.sleep`` or ``create_task`` in it would
wait for ever, and ``asyncio.run`` would block the executor. With a running loop that refuses
everything they say so, and say what to write.
"""

from __future__ import annotations

import contextlib
from typing import Any, NoReturn

from ..base.errors import is_a

HINT = (
    "this is a trale_py task, and not code of asyncio's: await aio(fn, ...) runs fn in an "
    "asyncio task of this runtime"
)

# How asyncio says that a loop runs already, which it finds out without asking that loop.
_RUNS_ALREADY = ("running event loop", "another loop is running")


class NotInATurn:
    """Each use of it raises RuntimeError."""

    def create_task(self, coro: Any, **options: object) -> NoReturn:
        with contextlib.suppress(AttributeError):
            coro.close()  # or it would also be said that it was never awaited
        raise RuntimeError(HINT)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(HINT)

    def __hash__(self) -> int:  # asyncio looks for the current task by the loop
        raise RuntimeError(HINT)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return "<trale_py's executor: no event loop of asyncio's>"


stub = NotInATurn()


def add_hint(error: BaseException) -> None:
    """Have the error of ``asyncio.run`` in a task name ``aio``, too."""
    if is_a(error, RuntimeError) and any(words in str(error) for words in _RUNS_ALREADY):
        error.add_note(HINT)
