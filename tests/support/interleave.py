"""Run one piece of code in the midst of another: at its first line, its second, and so on.

That is what a ``__del__`` does that the garbage collector runs, and, as far as the
interpreter lock lets threads see each other's steps, what another thread does. Each
place is tried, so a race that exists is found every time, not once in a while.
"""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Callable
from types import CodeType, FrameType, ModuleType
from typing import Any


class Interleaving:
    """Runs ``intruder`` before the n-th line of ``module`` that ``function`` executes.

    Of a package: of any module in it.
    """

    def __init__(self, n: int, module: ModuleType, intruder: Callable[[], object]) -> None:
        self._left = n
        file = str(module.__file__)
        self._file = file.removesuffix("__init__.py")
        self._intruder = intruder
        self.happened = False

    def run(self, function: Callable[[], Any]) -> Any:
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            return function()
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(self._file):
            return None
        if event == "line" and not self.happened:
            self._left -= 1
            if self._left < 0:
                self.happened = True
                sys.settrace(None)
                self._intruder()
        return self._trace


class Signal(Interleaving):
    """Runs ``intruder`` where Python looks for signals for the n-th time, as a handler.

    That is after a call, at the end of a loop's round and at the beginning of a function, not
    at every line: a ``with`` that begins or ends is not taken apart.
    """

    def run(self, function: Callable[[], Any]) -> Any:
        sys._getframe().f_trace_opcodes = True  # from 3.12 on, settrace() looks for this here
        return super().run(function)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(self._file):
            return None
        if event == "call":
            frame.f_trace = self._trace  # from 3.13 on, it has to stand here for the next line
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        last = self.__dict__.setdefault("_last", {})
        if event == "exception":
            last[frame] = ""  # a call that has raised: Python does not look there
        if event == "opcode" and not self.happened:
            if last.get(frame, "").startswith(("CALL", "JUMP_BACKWARD", "RESUME")):
                self._left -= 1
            last[frame] = opcodes(frame.f_code)[frame.f_lasti]
            if self._left < 0:
                self.happened = True
                sys.settrace(None)
                last.clear()
                self._intruder()
        return self._trace


@functools.cache
def opcodes(code: CodeType) -> dict[int, str]:
    return {step.offset: step.opname for step in dis.get_instructions(code)}


def everywhere(
    module: ModuleType,
    attempt: Callable[[Callable[[Callable[[], object]], Interleaving]], None],
    kind: type[Interleaving] = Interleaving,
) -> int:
    """Call ``attempt(at)`` for each place; ``at(intruder)`` is the interleaving of that place.

    Returns how many places there were.
    """
    n = 0
    while True:
        made: list[Interleaving] = []

        def at(
            intruder: Callable[[], object], n: int = n, made: list[Interleaving] = made
        ) -> Interleaving:
            made.append(kind(n, module, intruder))
            return made[0]

        attempt(at)
        if not made[0].happened:
            return n
        n += 1
