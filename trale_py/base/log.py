"""What cannot be raised to anybody is logged, as ``logging.getLogger("trale_py")``."""

from __future__ import annotations

import contextlib
import logging

_log = logging.getLogger("trale_py")


def report(
    message: str,
    *args: object,
    error: BaseException | None = None,
    level: int = logging.ERROR,
) -> None:
    """Log an error. Never raises: a broken handler or filter must not take the runtime with it."""
    with contextlib.suppress(BaseException):
        _log.log(level, message, *args, exc_info=error)
