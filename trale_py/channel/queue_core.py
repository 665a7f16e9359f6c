"""QueueCore, in Python: what both ends of a channel share. See queue.py, which says its law.

All fields belong to the gate's lock.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, TypeVar

from ..core.engine import accelerated
from ..sync.waiters import NOTHING, TURN, ReentrantGate, Waiter, Waiters
from .closed import Closed

T = TypeVar("T")


@accelerated
class QueueCore(Generic[T]):
    """What the two ends of a channel share."""

    __slots__ = ("buffer", "capacity", "closed", "gate", "receivers", "senders", "slots")

    def __init__(self, capacity: int) -> None:
        self.capacity: int = capacity
        self.buffer: deque[T] = deque()
        self.slots: int = 0  # granted to senders that have not put their value in yet
        self.closed: bool = False
        self.gate: ReentrantGate = ReentrantGate()
        self.receivers: Waiters = Waiters()
        self.senders: Waiters = Waiters()

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
            sender._wake()
            self.slots, sender._result = self.slots + 1, TURN
            self.senders.pop(sender, None)

    def send(self, value: T) -> Waiter[None]:
        return _Send(self, value)

    def recv(self) -> Waiter[T]:
        return _Receive(self)

    def send_last(self, value: T) -> bool:
        """Send it, room or not, and close. False: it was closed before. From anywhere."""
        sent = False

        def send_and_close() -> None:
            nonlocal sent
            if not self.closed:
                self.push(value)
                sent = True
                self._close()

        self.gate.call(send_and_close)
        return sent

    def close(self) -> None:
        self.gate.call(self._close)

    def _close(self) -> None:
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

    def __repr__(self) -> str:
        return f"<channel values={len(self.buffer)}>"

    def try_recv(self) -> Any:
        """A value, perhaps out of the hands of a sender that waits, or NOTHING."""
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
                sender = None if self.capacity else self.senders.first()
                if sender is None:
                    return NOTHING
                assert isinstance(sender, _Send)
                sender._wake()
                sender._result = None
                self.senders.pop(sender, None)
                return sender._value
        finally:
            if gate.late:
                gate.settle()


class _Send(Waiter[None]):
    """TURN: it has a slot."""

    __slots__ = ("_core", "_value")

    def __init__(self, core: QueueCore[T], value: T) -> None:
        self._core = core
        self._value = value
        super().__init__(core.gate, core.senders)

    def _attempt(self) -> bool:
        core = self._core
        if self._result is TURN:
            core.slots, self._result = core.slots - 1, NOTHING
        elif core.senders and core.senders.first() not in (None, self):
            return False
        if core.closed:
            raise Closed(self._value)
        if not core.room():  # the receiver whose slot this was has gone
            return False
        core.push(self._value)
        self._result = None
        if core.senders:  # a receiver had waited: the slot is free again
            core.grant_slots()
        return True

    def _at_once(self) -> Any:
        return None if self._core.try_send(self._value) else NOTHING

    def _keeps(self) -> bool:
        return self._result is None  # try_recv() has taken the value out of its hands

    def _give_back(self) -> None:
        if self._result is TURN:
            self._core.slots, self._result = self._core.slots - 1, NOTHING
        self._core.grant_slots()

    def __repr__(self) -> str:
        return f"<send of {self._core!r}>"


class _Receive(Waiter[T]):
    __slots__ = ("_core",)

    def __init__(self, core: QueueCore[T]) -> None:
        self._core = core
        super().__init__(core.gate, core.receivers)

    def _attempt(self) -> bool:
        core = self._core
        if core.receivers and core.receivers.first() not in (None, self):
            return False
        if core.buffer:
            # R16. Not popleft(): a Ctrl-C after that call would find the value in neither place.
            self._result = core.buffer[0]
            del core.buffer[0]
            if core.senders:
                core.grant_slots()
            return True
        if core.closed:
            raise Closed
        return False

    def _at_once(self) -> Any:
        return self._core.try_recv() if self._core.buffer else NOTHING

    def _joined(self) -> None:
        if not self._core.capacity:
            self._core.grant_slots()

    def _give_back(self) -> None:
        core = self._core
        if self._result is NOTHING:
            return
        receiver = core.receivers.first()
        if receiver is None:
            core.buffer.appendleft(self._result)
        else:
            core.receivers.grant(receiver, self._result)

    def __repr__(self) -> str:
        return f"<recv of {self._core!r}>"
