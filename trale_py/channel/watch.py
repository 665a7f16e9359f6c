"""watch(): the newest value only, for any number of receivers."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from ..base.durations import Duration
from ..sync.waiters import Waiter, block
from .announce import Announcements, Announcer
from .closed import Closed

T = TypeVar("T")


def watch(initial: T) -> tuple[WatchSender[T], WatchReceiver[T]]:
    """A value that changes, and a way to wait for that: ``(tx, rx)``.

    Only the newest value is kept: a receiver that looks late misses the ones between. ::

        tx, rx = watch("starting")
        tx.send("running")     # from any thread
        await rx.changed()
        print(rx.borrow())     # running

    After Tokio's `watch <https://docs.rs/tokio/latest/tokio/sync/watch/>`_.
    """
    core = _Core(initial)
    return WatchSender(core), WatchReceiver(core)


class _Core(Announcements[T]):
    __slots__ = ("state",)

    def __init__(self, value: T) -> None:
        super().__init__()
        self.state: tuple[int, T] = (0, value)  # how many were sent, and the last

    def add(self, value: T) -> None:
        self.state = (self.state[0] + 1, value)


class WatchSender(Announcer[T]):
    """The end that changes the value; any number of tasks and threads may share it."""

    __slots__ = ()
    _core: _Core[T]

    def __init__(self, core: _Core[T]) -> None:
        self._core = core

    def subscribe(self) -> WatchReceiver[T]:
        """Another receiver, which has seen the value as it is now."""
        return WatchReceiver(self._core)

    def borrow(self) -> T:
        """The value as it is now."""
        return self._core.state[1]

    def __repr__(self) -> str:
        return f"<WatchSender of {self.borrow()!r}{' closed' if self.closed else ''}>"


class WatchReceiver(Generic[T]):
    """Looks at the value, and waits for it to change."""

    __slots__ = ("_core", "_seen")

    def __init__(self, core: _Core[T]) -> None:
        self._core = core
        self._seen = core.state[0]

    def borrow(self) -> T:
        """The value as it is now. It does not count as seen: that is for ``changed``."""
        return self._core.state[1]

    def has_changed(self) -> bool:
        """Whether ``changed`` would return at once."""
        return self._core.state[0] != self._seen

    def changed(self) -> Coroutine[Any, Any, None]:
        """Wait until there is a value that this receiver has not seen, and count it as seen.

        Cancelled, it stays unseen. Closed if the channel is closed and nothing is unseen.
        """
        return _Changed(self)

    def changed_blocking(self, timeout: Duration | None = None) -> None:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        block(_Changed(self), timeout)

    def close(self) -> None:
        """Close the channel, for all. From anywhere."""
        self._core.close()

    def __repr__(self) -> str:
        return f"<WatchReceiver of {self.borrow()!r}{' closed' if self._core.closed else ''}>"


class _Changed(Waiter[None]):
    __slots__ = ("_receiver",)

    def __init__(self, receiver: WatchReceiver[Any]) -> None:
        self._receiver = receiver
        super().__init__(receiver._core.gate, receiver._core.waiters)

    def _attempt(self) -> bool:
        receiver, core = self._receiver, self._receiver._core
        if receiver._seen != core.state[0]:
            receiver._seen, self._result = core.state[0], None
            return True
        if core.closed:
            raise Closed
        return False

    def __repr__(self) -> str:
        return f"<changed of {self._receiver!r}>"
