"""Signals that a task receives, in whatever thread its executor is.

Python runs signal handlers in the main thread, between two bytecodes: late if that thread is in a
long call of C, and on the stack of code that does not expect it. Here a handler in C marks the
signal and writes to an eventfd (``_linux/signals.c``); a task waits for that as for any descriptor.
A signalfd would not do: its signals must be blocked in every thread, and programs that are started
inherit what is blocked.
"""

from __future__ import annotations

import os
import signal
import warnings
from types import TracebackType
from typing import Self

from .._linux import signals as _signals
from ..base.errors import ClosedResourceError
from ..core import process_exit
from ..core.leaf import checkpoint
from .async_fd import AsyncFd

# A thread's own fault, which it cannot go on from, and the two that cannot be handled.
_NOT_TO_BE_RECEIVED = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGKILL,
    signal.SIGSTOP,
}

_open: dict[SignalReceiver, None] = {}


class SignalReceiver:
    """What ``with open_signal_receiver(...)`` gives: iterate over it with ``async for``."""

    def __init__(self, signums: tuple[int, ...], *, chain: bool) -> None:
        self._signums = signums
        self._chain = chain
        self._receiver: int | None = None
        self._come: set[int] = set()  # taken from the handler and not given out yet
        self._fd: AsyncFd | None = None

    def __enter__(self) -> Self:
        if self._fd is not None:
            raise RuntimeError(
                f"{self!r} has already been entered; call open_signal_receiver() again"
            )
        eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._receiver = _signals.open_receiver(eventfd, self._signums, chain=self._chain)
        except BaseException:
            os.close(eventfd)
            raise
        self._fd = AsyncFd(eventfd)
        _open[self] = None
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        replaced = self._close()
        if replaced:
            warnings.warn(
                f"another handler was set for "
                f"{', '.join(_name(signum) for signum in sorted(replaced))} "
                f"while {self!r} was open; it is kept",
                RuntimeWarning,
                stacklevel=2,
            )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> signal.Signals:
        """Wait for a signal. Cancelled, it takes none.

        ClosedResourceError after the ``with`` block, also if it is left meanwhile;
        BusyResourceError if another task waits here.
        """
        await checkpoint()
        while not self._come:
            if self._receiver is None or self._fd is None:
                raise ClosedResourceError(f"{self!r} is not open")
            await self._fd.readable()
            self._come |= self._take()
        signum = min(self._come)
        self._come.remove(signum)
        return signal.Signals(signum)

    def _fileno(self) -> int:
        """The descriptor that can be read when a signal has come: for other event loops."""
        assert self._fd is not None
        return self._fd.fileno()

    def _take(self) -> set[int]:
        """The signals that have come since."""
        return set() if self._receiver is None else set(_signals.take(self._receiver))

    def _close(self) -> set[int]:
        """The signals whose handler other code has replaced."""
        receiver, self._receiver = self._receiver, None
        _open.pop(self, None)
        if receiver is None:  # this is a fork's child, or the exit has closed it
            return set()
        replaced = _signals.close_receiver(receiver)
        self._close_fd()
        return replaced

    def _close_fd(self) -> None:
        assert self._fd is not None
        self._fd.close()
        os.close(self._fd.fileno())

    def _after_fork_in_child(self) -> None:
        self._receiver = None
        self._close_fd()

    def __repr__(self) -> str:
        state = "open" if self._receiver is not None else "new" if self._fd is None else "closed"
        return f"<SignalReceiver {' '.join(map(_name, self._signums))} {state}>"


def open_signal_receiver(*signums: int, chain: bool = False) -> SignalReceiver:
    """Receive signals in a task: ``with open_signal_receiver(SIGTERM) as signals``.

    Receiving begins with the block and ends with it. It may be entered in any thread and in any
    task; ``async for`` runs in a task. Each receiver gets each signal. Signals of one number that
    come faster than they are taken are given out once, as the kernel does it. It works while the
    main thread is in a call of C.

    While a receiver is open, Python hears nothing of its signals: neither the handler that was set
    before, nor the descriptor of ``signal.set_wakeup_fd``. With ``chain=True`` both do, unless
    another receiver of that signal is open without it. When the last one closes, what was there
    before is restored. If another handler was set meanwhile, that one stays, this receiver does
    not hear the signal any more, and leaving the block gives a RuntimeWarning.

    ``signums`` are numbers, as ``signal.SIGTERM``; real-time signals have no name for
    ``signal.Signals`` and cannot be received. TypeError for what is no number, ValueError for a
    number that cannot be received, OSError (EMFILE) for more than 64 receivers at once. In a
    forked child the receiver is closed. ::

        async def stop_on_sigterm():
            with open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for signum in signals:
                    print("stopping:", signum.name)
                    break

    See sigaction(2), signal(7), eventfd(2).
    """
    if not signums:
        raise ValueError("open_signal_receiver() needs at least one signal, as signal.SIGTERM")
    for signum in signums:
        if not isinstance(signum, int):
            raise TypeError(f"signums must be numbers, as signal.SIGTERM, not {signum!r}")
        if signum not in set(signal.Signals) - _NOT_TO_BE_RECEIVED:
            raise ValueError(f"signal {_name(signum)} cannot be received")
    return SignalReceiver(signums, chain=chain)


def _name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return str(signum)


def _after_fork_in_child() -> None:
    if _open:
        _signals.forget()
        for receiver in list(_open):
            receiver._after_fork_in_child()
        _open.clear()


def _at_exit() -> None:
    for receiver in list(_open):
        receiver._close()


def _is_received(signum: int) -> bool:
    return any(signum in receiver._signums for receiver in list(_open))


process_exit.is_received = _is_received
process_exit.at_exit.append(_at_exit)
process_exit.after_fork.append(_after_fork_in_child)
