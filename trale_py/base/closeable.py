"""Closing: whatever has a ``close()`` can stand in a ``with``.

``close()`` never waits here, so ``with`` and ``async with`` do the same, and leaving either is
no checkpoint.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """``with thing:`` and ``async with thing:`` close it at the end, however that comes."""

    __slots__ = ()

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()
