"""``add_signal_handler`` on an executor's thread, where asyncio's own cannot work.

asyncio uses ``signal.set_wakeup_fd``, which is for the main thread. Here a signal receiver of
trale_py's hears the signal, and the loop watches its eventfd like any other descriptor.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..streams.signals import SignalReceiver, open_signal_receiver


class SignalHandlers(asyncio.SelectorEventLoop):
    """Any thread may call these."""

    _signal_handlers: Any  # these are asyncio's, and private
    _check_signal: Any
    _check_closed: Any
    _add_reader: Any
    _remove_reader: Any
    _handle_signal: Any

    def __init__(self, selector: Any) -> None:
        self._receivers: dict[int, SignalReceiver] = {}
        super().__init__(selector)

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        if asyncio.iscoroutine(callback) or asyncio.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._check_signal(sig)
        self._check_closed()
        try:
            receiver = open_signal_receiver(sig)
        except ValueError as error:
            raise RuntimeError(f"sig {sig} cannot be caught") from error
        self.remove_signal_handler(sig)
        receiver.__enter__()
        self._receivers[sig] = receiver
        self._signal_handlers[sig] = asyncio.Handle(callback, args, self, None)
        self.call_soon_threadsafe(self._hear, receiver)

    def remove_signal_handler(self, sig: int) -> bool:
        self._check_signal(sig)
        receiver = self._receivers.pop(sig, None)
        if receiver is None:
            return False
        del self._signal_handlers[sig]
        self._remove_reader(receiver._fileno())
        receiver.__exit__(None, None, None)
        return True

    def remove_signal_handlers(self) -> None:
        for sig in list(self._receivers):
            self.remove_signal_handler(sig)

    def _hear(self, receiver: SignalReceiver) -> None:
        if receiver in self._receivers.values():
            self._add_reader(receiver._fileno(), self._on_signals, receiver)

    def _on_signals(self, receiver: SignalReceiver) -> None:
        for signum in receiver._take():
            self._handle_signal(signum)
