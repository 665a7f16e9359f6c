"""Linux calls that neither Python nor linuxfd wraps, bound by cffi.

cffi drops the GIL around each call. That is right where one call does much, as here: up to
64 datagrams. It would be wrong for the small calls made for every message: when another
thread computes, a thread that drops the GIL gets it back after 5 ms (see docs/design.md).

    declarations.h              the contract of the C
    batch.c  signals.c          the C
    clock_timer.c
    signals.py                  what Python makes of signals.c
    clock_timer.py              what Python makes of clock_timer.c
    build.py                    how it is compiled, into _ffi
    sockaddr.py                 addresses as the kernel has them

This file imports in no time. What was compiled is loaded when it is first used, so a
checkout that was not built works but for these calls.

The GIL is dropped while the kernel writes into memory of ours, so two calls at the same
time need two memories: a call takes one out of ``_spaces`` and puts it back.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from .sockaddr import SIZE, decode

if TYPE_CHECKING:
    from ._ffi import _FFI, CData, _Lib

BATCH: Final = 64  # TRALE_DATAGRAMS: datagrams in one system call
SLOT: Final = 65536  # TRALE_SLOT: one byte more than any datagram of UDP has


class _Space:
    """Memory to receive into: 4 MiB of addresses, of which only what is written to is there.

    Fresh pages are the kernel's to clear, at the first datagram that reaches them, and they
    stay for the next call. Small datagrams need a page per slot, 256 KiB in all.
    """

    __slots__ = ("_names", "_slots", "lengths", "name_lengths", "names", "slots")

    def __init__(self, ffi: _FFI) -> None:
        # Not shared: a forked child has its own copy.
        self._slots = mmap.mmap(-1, BATCH * SLOT, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._slots.madvise(mmap.MADV_NOHUGEPAGE)  # the first byte would cost two MiB
        self._names = bytearray(BATCH * SIZE)
        self.slots: CData = ffi.from_buffer(self._slots)
        self.names: CData = ffi.from_buffer(self._names)
        self.lengths: CData = ffi.new(f"unsigned int[{BATCH}]")
        self.name_lengths: CData = ffi.new(f"unsigned int[{BATCH}]")

    def take(self, lengths: list[int], name_lengths: list[int]) -> list[tuple[bytes, Any]]:
        slots, names = self._slots, bytes(self._names)
        return [
            (slots[n * SLOT : n * SLOT + length], decode(names[n * SIZE : n * SIZE + name_length]))
            for n, (length, name_length) in enumerate(zip(lengths, name_lengths, strict=True))
            if length <= SLOT
        ]


_loaded: tuple[_FFI, _Lib] | None = None
_spaces: list[_Space] = []  # not in use just now: as many as were in use at the same time


def recv_many(fd: int, count: int) -> tuple[list[tuple[bytes, Any]], int]:
    """What is there, at most ``count`` (1 to 64) datagrams and who sent them. Never waits.

    Fewer than ``count``: there were no more, or the next call raises an error. Also returns how
    many came that were longer than SLOT bytes, and are lost. BlockingIOError if there is none;
    OSError from recvmmsg(2). MemoryError if there is no room for the copies: what was received
    is lost then.
    """
    ffi, lib = library()
    try:
        space = _spaces.pop()
    except IndexError:
        space = _Space(ffi)
    try:
        result = lib.trale_recv_many(
            fd, space.slots, space.names, space.name_lengths, space.lengths, count
        )
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        lengths, names = (ffi.unpack(part, result) for part in (space.lengths, space.name_lengths))
        datagrams = space.take(lengths, names)
        return datagrams, result - len(datagrams)
    finally:
        _spaces.append(space)


def send_many(fd: int, datagrams: Sequence[bytes], names: Sequence[bytes]) -> int:
    """Send 1 to 64 datagrams, each to its name (see sockaddr); how many were sent. Never waits.

    BlockingIOError if there is no room; OSError from sendmmsg(2), about the first datagram.
    """
    _, lib = library()
    name_lengths, lengths = ([len(one) for one in many] for many in (names, datagrams))
    result = lib.trale_send_many(
        fd, b"".join(datagrams), b"".join(names), name_lengths, lengths, len(lengths)
    )
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def library() -> tuple[_FFI, _Lib]:
    """What was compiled, loaded at the first call."""
    global _loaded
    if _loaded is not None:
        return _loaded
    try:
        from ._ffi import ffi, lib
    except ImportError as error:
        # At the limit of descriptors that is the cause, and no import says so: OSError, EMFILE.
        os.close(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        raise ImportError(f"trale_py._linux is not built: pip install -e . ({error})") from error
    assert (lib.TRALE_DATAGRAMS, lib.TRALE_SLOT, lib.TRALE_NAME) == (BATCH, SLOT, SIZE)
    _loaded = ffi, lib
    return _loaded
