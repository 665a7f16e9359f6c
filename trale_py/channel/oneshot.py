"""oneshot(): one value, once."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from ..base.closeable import Closing
from ..base.durations import Duration
from .closed import Closed
from .queue import Receiver, Sender, channel

T = TypeVar("T")


def oneshot() -> tuple[OneshotSender[Any], OneshotReceiver[Any]]:
    """A channel for one value: ``(tx, rx)``. For a reply, for example. ::

        tx, rx = oneshot()
        spawn(compute(tx))           # ends with tx.send(result)
        print(rx.recv_blocking())    # in a task: await rx.recv()

    A sender that is dropped without having sent closes it. After Tokio's `oneshot
    <https://docs.rs/tokio/latest/tokio/sync/oneshot/>`_.
    """
    tx, rx = channel(1)
    return OneshotSender(tx), OneshotReceiver(rx)


class OneshotSender(Generic[T]):
    """The end that sends, once."""

    __slots__ = ("_tx",)

    def __init__(self, tx: Sender[T]) -> None:
        self._tx = tx

    def send(self, value: T) -> None:
        """Send; never waits; from any thread. Closed, with the value, if that was done before,
        or if the channel is closed."""
        if not self._tx._core.send_last(value):
            raise Closed(value)

    def close(self) -> None:
        """Send nothing: a waiting receiver gets Closed. From anywhere."""
        self._tx.close()

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._tx.closed

    def __del__(self) -> None:
        if hasattr(self, "_tx") and not self._tx.closed:
            self._tx.close()

    def __repr__(self) -> str:
        return f"<OneshotSender{' closed' if self.closed else ''}>"


class OneshotReceiver(Closing, Generic[T]):
    """The end that receives. The value is taken once; after that, and after close(), Closed."""

    __slots__ = ("_rx",)

    def __init__(self, rx: Receiver[T]) -> None:
        self._rx = rx

    def recv(self) -> Coroutine[Any, Any, T]:
        """Wait for the value and take it. Cancelled, it is still there. Closed: none will come."""
        return self._rx.recv()

    def recv_blocking(self, timeout: Duration | None = None) -> T:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError."""
        return self._rx.recv_blocking(timeout)

    def try_recv(self) -> T:
        """The value, or WouldBlock if it has not come, or Closed. Never waits."""
        return self._rx.try_recv()

    def close(self) -> None:
        """Have the sender fail. What was sent can still be received. From anywhere."""
        self._rx.close()

    def __repr__(self) -> str:
        return f"<OneshotReceiver values={len(self._rx)}{' closed' if self._rx.closed else ''}>"
