"""channel(): a queue of values, each of which goes to one receiver.

A sender that waits does not hand its value over: it waits for a *slot*, room for one
value, and when that was granted it puts the value in itself. So a cancelled send has sent
nothing. Without capacity (0) the slots are the receivers that wait.

A receiver that waits is granted the value. One that goes away with a value it has not
used gives it to the next, or puts it back in front.

What is the case between two steps:

- while a receiver waits, the buffer is empty;
- while a sender waits, there is no free slot;
- once closed, there are no waiters.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Coroutine
from typing import Any, Final, Generic, TypeVar

from ..base.closeable import Closing
from ..base.durations import Duration
from ..base.errors import WouldBlock
from ..sync.waiters import NOTHING, block, check_capacity
from .closed import Closed
from .iteration import UntilClosed
from .queue_core import QueueCore

T = TypeVar("T")

UNLIMITED: Final = sys.maxsize


def channel(capacity: int | None) -> tuple[Sender[Any], Receiver[Any]]:
    """A queue for at most ``capacity`` values: ``(sender, receiver)``.

    0: a sender waits until a receiver takes its value from its hands. None: there is always
    room. Both ends may be used by any number of tasks, of any runtime, and threads; values are
    received in the order they were sent. May be made anywhere, before the runtime exists too. ::

        tx, rx = channel(100)
        spawn(consume(rx))      # async for value in rx: ...
        tx.send_blocking(1)     # in this script; in a task: await tx.send(1)
        tx.close()              # what was sent is still received

    After Go's channels and Tokio's `mpsc <https://docs.rs/tokio/latest/tokio/sync/mpsc/>`_.
    """
    limit = UNLIMITED if capacity is None else check_capacity(capacity, "capacity", 0)
    core: QueueCore[Any] = QueueCore(limit)
    return Sender(core), Receiver(core)


class _End(Closing, Generic[T]):
    """What both ends can do."""

    __slots__ = ("_core",)

    def __init__(self, core: QueueCore[T]) -> None:
        self._core = core

    @property
    def capacity(self) -> int | None:
        """As given to ``channel``."""
        capacity = self._core.capacity
        return None if capacity == UNLIMITED else capacity

    @property
    def closed(self) -> bool:
        """Whether it was closed, by either end. There may still be something to receive."""
        return self._core.closed

    def close(self) -> None:
        """Close the channel for all. From anywhere; the second time nothing.

        Senders fail from now on, waiting ones too; receivers get what was sent, then Closed.
        """
        self._core.close()

    def __len__(self) -> int:
        """How many values were sent and not received."""
        return len(self._core.buffer)

    def __bool__(self) -> bool:
        return True  # an end that has nothing in it is still an end

    def __repr__(self) -> str:
        core = self._core
        size = "unbounded" if self.capacity is None else f"capacity={self.capacity}"
        waiting = f"senders={len(core.senders)} receivers={len(core.receivers)}"
        state = " closed" if core.closed else ""
        return f"<{type(self).__name__} {size} values={len(self)} waiting: {waiting}{state}>"


class Sender(_End[T]):
    """The end to send by; any number of tasks and threads may share it."""

    __slots__ = ()

    def send(self, value: T) -> Coroutine[Any, Any, None]:
        """Send, and wait while there is no room. Cancelled, it has not sent.

        Closed, with the value, once the channel is closed.
        """
        return self._core.send(value)

    def send_blocking(self, value: T, timeout: Duration | None = None) -> None:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        block(self._core.send(value), timeout)

    def try_send(self, value: T) -> None:
        """Send without waiting, from any thread: WouldBlock if there is no room now."""
        if not self._core.try_send(value):
            raise WouldBlock("the channel is full")


class Receiver(_End[T], UntilClosed[T]):
    """The end to receive by; of several tasks and threads, each value goes to one.

    ``async for`` in tasks and ``for`` in threads go on until the channel is closed and empty.
    """

    __slots__ = ()

    def recv(self) -> Coroutine[Any, Any, T]:
        """Wait for a value and take it. Cancelled, it takes none.

        Closed once the channel is closed and everything was received.
        """
        return self._core.recv()

    def recv_blocking(self, timeout: Duration | None = None) -> T:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        return block(self._core.recv(), timeout)

    async def recv_many(self, max: int) -> list[T]:
        """Wait for a value, and take what is there with it: 1 to ``max`` values, in order.

        Cancelled, it takes none. Closed once the channel is closed and everything was received.
        After Tokio's ``recv_many``.
        """
        most = check_capacity(max, "max", 1)
        return self._with_what_is_there(await self._core.recv(), most)

    def recv_many_blocking(self, max: int, timeout: Duration | None = None) -> list[T]:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        most = check_capacity(max, "max", 1)
        return self._with_what_is_there(block(self._core.recv(), timeout), most)

    def _with_what_is_there(self, first: T, most: int) -> list[T]:
        values = [first]
        with contextlib.suppress(Closed):
            while len(values) < most and (value := self._core.try_recv()) is not NOTHING:
                values.append(value)
        return values

    def try_recv(self) -> T:
        """Take a value without waiting, from any thread: WouldBlock if there is none now."""
        value = self._core.try_recv()
        if value is NOTHING:
            raise WouldBlock("the channel is empty")
        return value  # type: ignore[no-any-return]
