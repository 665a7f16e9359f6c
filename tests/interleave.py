"""Run one piece of code in the midst of another: at its first line, its second, and so on.

That is what a ``__del__`` does that the garbage collector runs, and, as far as the
interpreter lock lets threads see each other's steps, what another thread does. Each
place is tried, so a race that exists is found every time, not once in a while.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any


class Interleaving:
    """Runs ``intruder`` before the n-th line of ``module`` that ``function`` executes."""

    def __init__(self, n: int, module: ModuleType, intruder: Callable[[], object]) -> None:
        self._left = n
        self._file = module.__file__
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
        if frame.f_code.co_filename != self._file:
            return None
        if event == "line" and not self.happened:
            self._left -= 1
            if self._left < 0:
                self.happened = True
                sys.settrace(None)
                self._intruder()
        return self._trace


def everywhere(
    module: ModuleType, attempt: Callable[[Callable[[Callable[[], object]], Interleaving]], None]
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
            made.append(Interleaving(n, module, intruder))
            return made[0]

        attempt(at)
        if not made[0].happened:
            return n
        n += 1
