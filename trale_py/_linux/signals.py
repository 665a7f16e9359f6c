"""Receivers of signals, as sets of signal numbers; the handler is in signals.c."""

from __future__ import annotations

import os
from collections.abc import Iterable

from . import library


def open_receiver(eventfd: int, signums: Iterable[int], *, chain: bool) -> int:
    """Have ``eventfd`` written to at each of these signals; the receiver's number. OSError."""
    _, lib = library()
    result = lib.trale_signals_open(eventfd, sum(1 << (signum - 1) for signum in signums), chain)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def take(receiver: int) -> set[int]:
    """The signals that have come since the last call."""
    _, lib = library()
    return _numbers(lib.trale_signals_take(receiver))


def close_receiver(receiver: int) -> set[int]:
    """End a receiver. Returns the signals whose handler other code has replaced; that one stays."""
    _, lib = library()
    return _numbers(lib.trale_signals_close(receiver))


def forget() -> None:
    """In a fork's child: restore the handlers from before the parent's receivers."""
    _, lib = library()
    lib.trale_signals_forget()


def _numbers(signals: int) -> set[int]:
    return {n + 1 for n in range(signals.bit_length()) if signals >> n & 1}
