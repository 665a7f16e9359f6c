"""Every exception that trale_py raises on its own behalf.

The kernel's errors come through as ``OSError`` and its subclasses, time limits as
the built-in ``TimeoutError``. What stands here is what neither of them says.
"""

from __future__ import annotations

from concurrent.futures import InvalidStateError

__all__ = [
    "BusyResourceError",
    "ClosedResourceError",
    "DelimiterNotFound",
    "IncompleteRead",
    "InvalidStateError",
    "RuntimeClosed",
    "WouldDeadlock",
]


class RuntimeClosed(RuntimeError):
    """The runtime this belongs to has been shut down, has failed, or stayed behind at a fork."""


class WouldDeadlock(RuntimeError):
    """A blocking wait on the executor's own thread, which alone could end that wait."""


class ClosedResourceError(Exception):
    """This program closed the socket, timer or descriptor, perhaps while it was waited for."""


class BusyResourceError(Exception):
    """Another task is already using this side of the stream."""


class IncompleteRead(EOFError):
    """The stream ended before ``read_exact`` had all its bytes.

    ``partial`` holds what did arrive; ``expected`` is how many bytes were asked for.
    """

    def __init__(self, partial: bytes, expected: int) -> None:
        super().__init__(f"the stream ended after {len(partial)} of {expected} bytes")
        self.partial = partial
        self.expected = expected

    def __reduce__(self) -> tuple[type[IncompleteRead], tuple[bytes, int]]:
        return type(self), (self.partial, self.expected)


class DelimiterNotFound(ValueError):
    """``read_until`` met its limit before the delimiter. What it read stays readable."""
