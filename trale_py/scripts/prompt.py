"""The prompt of ``python -m trale_py``: Python's own, where ``await`` works at the top level.

A line with ``await`` is one task on the executor; others run in the main thread. Both have the
prompt's context variables.
"""

from __future__ import annotations

import ast
import code
import contextlib
import contextvars
import inspect
import sys
import types
from typing import Any

import trale_py

from ..base.errors import is_a
from ..core.executor import block_on, spawn
from ..core.join import JoinHandle


class Prompt(code.InteractiveConsole):
    def __init__(self, names: dict[str, Any]) -> None:
        super().__init__(names)
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._context = contextvars.copy_context()

    def runcode(self, code: types.CodeType) -> None:
        if not code.co_flags & inspect.CO_COROUTINE:
            self._context.run(super().runcode, code)
            return
        line = types.FunctionType(code, self.locals)
        handle: JoinHandle[Any] = spawn(line(), name="prompt", context=self._context)
        try:
            handle.join()
        except SystemExit:
            raise
        except BaseException as error:
            if is_a(error, KeyboardInterrupt):
                handle.cancel("Ctrl-C")
            self.showtraceback()


def run() -> None:
    """Read and run lines until the end of the input, or ``exit()``."""
    names = {name: getattr(trale_py, name) for name in trale_py.__all__}
    names |= {"__name__": "__main__", "__builtins__": __builtins__, "trale_py": trale_py}
    with contextlib.suppress(ImportError):
        import readline
        import rlcompleter

        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
    block_on(_started())
    banner = (
        f"Python {sys.version.split()[0]}, trale_py {trale_py.__version__} ({trale_py.engine} "
        "engine); await works here, and all names of trale_py are imported."
    )
    Prompt(names).interact(banner, exitmsg="")


async def _started() -> None:
    """A first task: a runtime that cannot start is told of before the prompt."""
