"""Both ends of a plain ``with``, so that no Ctrl-C cuts them off.

R28: Python looks for a Ctrl-C when a function of Python's begins, and whenever a call of a C
function returns. If that is at the beginning of ``__exit__``, or in the midst of it, what the block
had taken stays taken: a permit is lost, a lock is locked for ever, tasks run on.
``threading.Lock`` does not know this, as its ``__exit__`` is in C. So this one is in C too: what
it calls may be cut off anywhere, and is called again then. In Python, what remains is the very
beginning of ``__exit__``.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from .engine import accelerated


@accelerated
class WithBlock:
    """Base of what is left by a plain ``with`` in threads."""

    __slots__ = ()

    def __enter__(self) -> Any:
        try:
            entered = self._enter()
        except BaseException as error:
            self._exit_again(error, None)
            raise
        return entered

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            self._exit(exc)
        except BaseException as error:
            self._exit_again(error, exc)
            raise

    def _enter(self) -> Any:
        """Take it, and return what stands after ``as``."""
        raise NotImplementedError

    def _exit(self, exc: BaseException | None) -> None:
        """Leave the block, which ends by ``exc``."""
        raise NotImplementedError

    def _exit_again(self, error: BaseException, exc: BaseException | None) -> None:
        """``_enter`` or ``_exit`` was ended by ``error``, which is raised after this: give back
        what was taken and is not given back."""
        raise NotImplementedError


@accelerated
class Releasable:
    """Base of a guard that is to be released before it is dropped.

    R29: an exception in a ``__del__`` is printed and gone, and so is a Ctrl-C that Python finds
    as a ``__del__`` of Python's begins. So C asks whether there is anything to do, here and for
    operations (Forgettable in leaf.py). The Python engine asks in Python, and loses some.
    """

    __slots__ = ()
    _held: bool = False

    def __del__(self) -> None:
        try:
            held = self._held
        except AttributeError:  # it was cut off in __init__
            return
        if held:
            self._dropped()

    def _dropped(self) -> None:
        """Release it, and warn that it was not released."""
        raise NotImplementedError
