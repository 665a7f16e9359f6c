"""channel(): a queue of values, each of which goes to one receiver.

A sender that waits does not hand its value over: it waits for a *slot*, room for one
value, and when that was granted it puts the value in itself. So a cancelled send has sent
nothing. Without capacity (0) the slots are the receivers that wait.

A receiver that waits is granted the value. One that goes away with a value it has not
used gives it to the next, or puts it back in front.

All fields of ``_Core`` belong to the gate's lock. They keep:

- while a receiver waits, the buffer is empty;
- while a sender waits, there is no free slot;
- once closed, nobody is in line.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Generic, TypeVar

from .. import current
from ..closing import Closing
from ..durations import Duration
from ..errors import WouldBlock
from ..sync.wait_queue import NOTHING, TURN, Gate, Line, Wait, can_go_on, check_capacity
from .closed import Closed
from .iteration import UntilClosed

T = TypeVar("T")


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
    limit = math.inf if capacity is None else check_capacity(capacity, "capacity", 0)
    core: _Core[Any] = _Core(limit)
    return Sender(core), Receiver(core)


class _Core(Generic[T]):
    __slots__ = ("buffer", "capacity", "closed", "gate", "receivers", "senders", "slots")

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.buffer: deque[T] = deque()
        self.slots = 0  # granted to senders that have not put their value in yet
        self.closed = False
        self.gate = Gate()
        self.receivers = Line()
        self.senders = Line()

    def room(self) -> bool:
        return len(self.buffer) + self.slots < (self.capacity or len(self.receivers))

    def push(self, value: T) -> None:
        receiver = self.receivers.first() if self.receivers else None
        if receiver is None:
            self.buffer.append(value)
        else:
            self.receivers.grant(receiver, value)

    def grant_slots(self) -> None:
        while self.senders and self.room():
            sender = self.senders.first()
            if sender is None:
                return
            sender.wake()
            self.slots, sender.result = self.slots + 1, TURN
            self.senders.pop(sender, None)

    def close(self) -> None:
        self.senders.wake_all()
        self.receivers.wake_all()
        self.closed = True
        self.senders.clear()
        self.receivers.clear()

    def try_send(self, value: T) -> bool:
        gate = self.gate
        try:
            with gate.lock:
                if self.closed:
                    raise Closed(value)
                if not self.room():
                    return False
                self.push(value)
                return True
        finally:
            if gate.late:
                gate.settle()

    def try_recv(self, *, from_hands: bool) -> Any:
        """A value, or NOTHING. ``from_hands``: also out of the hands of a sender that waits."""
        gate = self.gate
        try:
            with gate.lock:
                if self.buffer:
                    value = self.buffer.popleft()
                    if self.senders:
                        self.grant_slots()
                    return value
                if self.closed:
                    raise Closed
                sender = self.senders.first() if from_hands and not self.capacity else None
                if sender is None:
                    return NOTHING
                assert isinstance(sender, _Send)
                sender.wake()
                sender.result = None
                self.senders.pop(sender, None)
                return sender.value
        finally:
            if gate.late:
                gate.settle()


class _End(Closing, Generic[T]):
    """What both ends can do."""

    __slots__ = ("_core",)

    def __init__(self, core: _Core[T]) -> None:
        self._core = core

    @property
    def capacity(self) -> int | None:
        """As given to ``channel``."""
        return None if self._core.capacity == math.inf else int(self._core.capacity)

    @property
    def closed(self) -> bool:
        """Whether it was closed, by either end. There may still be something to receive."""
        return self._core.closed

    def close(self) -> None:
        """Close the channel for all. From anywhere; the second time nothing.

        Senders fail from now on, waiting ones too; receivers get what was sent, then Closed.
        """
        self._core.gate.call(self._core.close)

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

    async def send(self, value: T) -> None:
        """Send, and wait while there is no room. Cancelled, it has not sent.

        Closed, with the value, once the channel is closed. (A rendezvous whose value was
        taken by ``try_recv`` in the very turn in which it was cancelled has sent it.)
        """
        core = self._core
        if can_go_on(current.thread.context) and core.try_send(value):
            return
        await _Send(core, value)

    def send_blocking(self, value: T, timeout: Duration | None = None) -> None:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        _Send(self._core, value).block(timeout)

    def try_send(self, value: T) -> None:
        """Send without waiting, from any thread: WouldBlock if there is no room now."""
        if not self._core.try_send(value):
            raise WouldBlock("there is no room in the channel")


class Receiver(_End[T], UntilClosed[T]):
    """The end to receive by; of several tasks and threads, each value goes to one.

    ``async for`` in tasks and ``for`` in threads go on until the channel is closed and empty.
    """

    __slots__ = ()

    async def recv(self) -> T:
        """Wait for a value and take it. Cancelled, it takes none.

        Closed once the channel is closed and everything was received.
        """
        core = self._core
        if core.buffer and can_go_on(current.thread.context):
            value = core.try_recv(from_hands=False)
            if value is not NOTHING:
                return value  # type: ignore[no-any-return]
        return await _Receive(core)

    def recv_blocking(self, timeout: Duration | None = None) -> T:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        return _Receive(self._core).block(timeout)

    def try_recv(self) -> T:
        """Take a value without waiting, from any thread: WouldBlock if there is none now."""
        value = self._core.try_recv(from_hands=True)
        if value is NOTHING:
            raise WouldBlock("there is nothing in the channel")
        return value  # type: ignore[no-any-return]


class _Send(Wait[None]):
    """TURN: it has a slot."""

    __slots__ = ("_core", "value")

    def __init__(self, core: _Core[T], value: T) -> None:
        super().__init__(core.gate, core.senders)
        self._core = core
        self.value = value

    def attempt(self) -> bool:
        core = self._core
        if self.result is TURN:
            core.slots, self.result = core.slots - 1, NOTHING
        elif core.senders and core.senders.first() not in (None, self):
            return False
        if core.closed:
            raise Closed(self.value)
        if not core.room():  # the receiver whose slot this was has gone
            return False
        core.push(self.value)
        self.result = None
        if core.senders:  # a receiver had waited: the slot is free again
            core.grant_slots()
        return True

    def give_back(self) -> None:
        if self.result is TURN:
            self._core.slots, self.result = self._core.slots - 1, NOTHING
        self._core.grant_slots()


class _Receive(Wait[T]):
    __slots__ = ("_core",)

    def __init__(self, core: _Core[T]) -> None:
        super().__init__(core.gate, core.receivers)
        self._core = core

    def attempt(self) -> bool:
        core = self._core
        if core.receivers and core.receivers.first() not in (None, self):
            return False
        if core.buffer:
            # R16. Not popleft(): a Ctrl-C after that call would find the value in neither place.
            self.result = core.buffer[0]
            del core.buffer[0]
            if core.senders:
                core.grant_slots()
            return True
        if core.closed:
            raise Closed
        return False

    def entered(self) -> None:
        if not self._core.capacity:
            self._core.grant_slots()

    def give_back(self) -> None:
        core = self._core
        if self.result is NOTHING:
            return
        receiver = core.receivers.first()
        if receiver is None:
            core.buffer.appendleft(self.result)
        else:
            core.receivers.grant(receiver, self.result)
