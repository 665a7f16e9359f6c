"""The end of a plain ``with``, so that no Ctrl-C cuts it off.

R28: Python looks for a Ctrl-C when a function of Python's begins, and whenever a call of a C
function returns. If that is at the beginning of ``__exit__``, or in the midst of it, what the block
had taken stays taken: a permit is lost, a lock is locked for ever, tasks run on.
``threading.Lock`` does not know this, as its ``__exit__`` is in C. So this one is in C too: what
it calls may be cut off anywhere, and is called again then. In Python, what remains is the very
beginning of ``__exit__``.
"""

from __future__ import annotations

from types import TracebackType

from .engine import accelerated


@accelerated
class WithBlock:
    """Base of what is left by a plain ``with`` in threads."""

    __slots__ = ()

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

    def _exit(self, exc: BaseException | None) -> None:
        """Leave the block, which ends by ``exc``."""
        raise NotImplementedError

    def _exit_again(self, error: BaseException, exc: BaseException | None) -> None:
        """``_exit`` was ended by ``error``: do what it has not done. ``error`` is then raised."""
        raise NotImplementedError
