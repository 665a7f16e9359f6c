"""What broadcast and watch share: every receiver gets each value, and a send never waits."""

from __future__ import annotations

from typing import Generic, TypeVar

from ..sync.waiters import ReentrantGate, Waiters
from .closed import Closed

T = TypeVar("T")


class Announcements(Generic[T]):
    """The middle of such a channel. All of it belongs to the gate's lock."""

    __slots__ = ("closed", "gate", "waiters")

    def __init__(self) -> None:
        self.closed: bool = False
        self.gate: ReentrantGate = ReentrantGate()
        self.waiters: Waiters = Waiters()

    def add(self, value: T) -> None:
        """Keep it, by a statement that only stores: see R16 in sync/waiters.py. Lock held."""
        raise NotImplementedError

    def send(self, value: T) -> None:
        """Wake all and add it; Closed, with the value, once closed. From any thread."""
        closed = False

        def send() -> None:
            nonlocal closed
            if self.closed:
                closed = True
                return
            self.waiters.wake_all()
            self.add(value)

        self.gate.call(send)
        if closed:
            raise Closed(value)

    def close(self) -> None:
        """From anywhere; the second time nothing."""
        self.gate.call(self._close)

    def _close(self) -> None:
        self.waiters.wake_all()
        self.closed = True


class Announcer(Generic[T]):
    """The end that sends; any number of tasks and threads may share it."""

    __slots__ = ("_core",)
    _core: Announcements[T]

    def send(self, value: T) -> None:
        """Send to all receivers. Never waits; from any thread. Closed, with the value."""
        self._core.send(value)

    def close(self) -> None:
        """Send nothing more: receivers get what was sent, then Closed. From anywhere."""
        self._core.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._core.closed
