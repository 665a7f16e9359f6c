"""broadcast(): every receiver gets every value, if it keeps up."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from ..base.durations import Duration
from ..base.errors import WouldBlock
from ..sync.waiters import NOTHING, Waiter, block, check_capacity
from .announce import Announcements, Announcer
from .closed import Closed, Lagged
from .iteration import UntilClosed

T = TypeVar("T")


def broadcast(capacity: int) -> tuple[BroadcastSender[Any], BroadcastReceiver[Any]]:
    """A channel that gives every value to every receiver: ``(tx, rx)``.

    Sending never waits. The last ``capacity`` values (1 or more) are kept; a receiver that is
    further behind gets Lagged, which counts what it missed, and then the oldest that is there.
    ``tx.subscribe()`` makes more receivers. ::

        tx, rx = broadcast(16)
        other = tx.subscribe()
        tx.send("news")
        await rx.recv(), await other.recv()

    After Tokio's `broadcast <https://docs.rs/tokio/latest/tokio/sync/broadcast/>`_.
    """
    core: _Core[Any] = _Core(check_capacity(capacity, "capacity", 1))
    return BroadcastSender(core), BroadcastReceiver(core, 0)


class _Core(Announcements[T]):
    __slots__ = ("capacity", "sent", "values")

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity: int = capacity
        self.values: list[T] = []  # value n is at n % capacity: it grows so far, and goes round
        self.sent: int = 0  # how many, which is the number of the next

    def add(self, value: T) -> None:
        number = self.sent
        at = number % self.capacity
        # R16: one statement that only stores. The count is first: what is overwritten may have a
        # __del__, which finds the value stored as well.
        self.sent, self.values[at : at + 1] = number + 1, (value,)


class BroadcastSender(Announcer[T]):
    """The end to send by; any number of tasks and threads may share it."""

    __slots__ = ()
    _core: _Core[T]

    def __init__(self, core: _Core[T]) -> None:
        self._core = core

    def subscribe(self) -> BroadcastReceiver[T]:
        """A receiver of what is sent from now on."""
        return BroadcastReceiver(self._core, self._core.sent)

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<BroadcastSender sent={self._core.sent}{state}>"


class BroadcastReceiver(UntilClosed[T], Generic[T]):
    """One place in what is sent. Shared by several, each value goes to one of them."""

    __slots__ = ("_core", "_next")

    def __init__(self, core: _Core[T], number: int) -> None:
        self._core = core
        self._next = number  # of the next value to receive; guarded by the gate's lock

    def recv(self) -> Coroutine[Any, Any, T]:
        """Wait for the next value. Cancelled, it takes none.

        Lagged(n) if n values were missed; the wait after that gets the oldest that is there.
        Closed once the channel is closed and everything was received.
        """
        return _Receive(self)

    def recv_blocking(self, timeout: Duration | None = None) -> T:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        return block(_Receive[T](self), timeout)

    def try_recv(self) -> T:
        """The next value without waiting: WouldBlock if it has not come. From any thread."""
        gate = self._core.gate
        try:
            with gate.lock:
                value = self._take()
        finally:
            gate.settle()
        if value is NOTHING:
            raise WouldBlock("no new value was sent")
        return value  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the channel, for all. From anywhere."""
        self._core.close()

    def _take(self) -> Any:
        """The next value, or NOTHING if there is none. The lock is held."""
        core = self._core
        if self._next == core.sent:
            if core.closed:
                raise Closed
            return NOTHING
        oldest = core.sent - core.capacity
        if self._next < oldest:
            missed, self._next = oldest - self._next, oldest
            raise Lagged(missed)
        value, self._next = core.values[self._next % core.capacity], self._next + 1
        return value

    def __repr__(self) -> str:
        behind = self._core.sent - self._next
        return f"<BroadcastReceiver behind={behind}{' closed' if self._core.closed else ''}>"


class _Receive(Waiter[T]):
    __slots__ = ("_receiver",)

    def __init__(self, receiver: BroadcastReceiver[T]) -> None:
        self._receiver = receiver
        super().__init__(receiver._core.gate, receiver._core.waiters)

    def _attempt(self) -> bool:
        self._result = self._receiver._take()
        return self._result is not NOTHING

    def __repr__(self) -> str:
        return f"<recv of {self._receiver!r}>"
