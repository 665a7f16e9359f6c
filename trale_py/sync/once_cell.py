"""OnceCell: a value that its first user initializes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

from ..base.durations import Duration
from ..core.leaf import checkpoint
from .mutex import Mutex

T = TypeVar("T")

_EMPTY: Final[Any] = object()


class OnceCell(Generic[T]):
    """Empty at first; once it has a value, it keeps it.

    Of several that need the value at once, tasks and threads, the first makes it and the others
    wait. If that one fails or is cancelled, the next tries. ::

        pool = OnceCell()
        connection = await pool.get_or_init(connect)           # async def connect(): ...
        connection = pool.get_or_init_blocking(connect_now)    # def connect_now(): ...

    After Tokio's `OnceCell <https://docs.rs/tokio/latest/tokio/sync/struct.OnceCell.html>`_.
    """

    __slots__ = ("_mutex", "_value")

    def __init__(self) -> None:
        self._value: T = _EMPTY
        self._mutex: Mutex[None] = Mutex()  # held while the value is made

    def is_set(self) -> bool:
        """Whether it has its value."""
        return self._value is not _EMPTY

    def get(self) -> T | None:
        """The value, or None. Never waits."""
        return self._value if self.is_set() else None

    def set(self, value: T) -> None:
        """Give it its value; never waits. RuntimeError if it has one, or if it is being made."""
        guard = self._mutex.try_lock()
        if guard is None:
            raise RuntimeError("the value of this cell is being initialized")
        with guard:
            if self.is_set():
                raise RuntimeError("this cell already has a value")
            self._value = value

    async def get_or_init(self, make: Callable[[], Awaitable[T]]) -> T:
        """The value; if there is none, that of ``await make()``. What make() raises comes out."""
        if self.is_set():
            await checkpoint()
            return self._value
        async with self._mutex:
            if not self.is_set():
                self._value = await make()
        return self._value

    def get_or_init_blocking(self, make: Callable[[], T], timeout: Duration | None = None) -> T:
        """The same in a thread, with a plain function. ``timeout``, in seconds, is for the wait
        for others that make it: TimeoutError."""
        with self._mutex.lock_blocking(timeout):
            if not self.is_set():
                self._value = make()
        return self._value

    def __repr__(self) -> str:
        return f"<OnceCell {repr(self._value) if self.is_set() else 'empty'}>"
