"""What the guards of Mutex and RwLock share: one is held until it is released, once."""

from __future__ import annotations

import warnings
from typing import Self

from ..base.errors import is_a
from ..core.with_block import WithBlock


class BaseGuard(WithBlock):
    """``with guard:`` releases it at the end. If garbage-collected while held, it warns."""

    __slots__ = ()
    _held: bool

    def release(self) -> None:
        """Unlock. From any thread. RuntimeError the second time."""
        self._check()
        self._unlock()

    def _unlock(self) -> None:
        """The second time it does nothing. From anywhere."""
        raise NotImplementedError

    def _check(self) -> None:
        """RuntimeError once it was released."""
        if not self._held:
            raise RuntimeError("this guard has been released")

    def __enter__(self) -> Self:
        return self

    def _exit(self, exc: BaseException | None) -> None:
        self.release()

    def _exit_again(self, error: BaseException, exc: BaseException | None) -> None:
        if not is_a(error, RuntimeError):  # it was not refused
            self._unlock()


def warn_held(lock: object, stacklevel: int) -> None:
    """A guard of ``lock`` is being garbage-collected, and was not released."""
    text = f"a guard of {lock!r} was garbage-collected without being released"
    warnings.warn(text, ResourceWarning, stacklevel=stacklevel + 1)
