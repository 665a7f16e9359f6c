"""What travels beside the bytes of a socket: descriptors, and who sent them. See unix(7)."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from ..streams.io import NOW

Ancillary: TypeAlias = list[tuple[int, int, bytes]]  # level, type, data: as recvmsg() has it

LARGEST_PASS: Final = 253  # descriptors in one message: SCM_MAX_FD
_UCRED = struct.Struct("iII")


class Credentials(NamedTuple):
    """Who is at the other end of a Unix socket: process, user, group."""

    pid: int
    uid: int
    gid: int


def peer_credentials(sock: socket.socket) -> Credentials:
    """Of the process that connected, or listened, as of that moment. SO_PEERCRED."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Credentials(*_UCRED.unpack(data))


def pack_fds(fds: Iterable[int]) -> list[tuple[int, int, Any]]:
    """For sendmsg(). TypeError, ValueError for what is no list of descriptors."""
    numbers = array.array("i", check_fds(fds))
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)] if numbers else []


def check_fds(fds: Iterable[int]) -> list[int]:
    numbers = list(fds)
    for fd in numbers:
        if not isinstance(fd, int):
            raise TypeError(f"fds must be a list of descriptors, but it contains {fd!r}")
    if len(numbers) > LARGEST_PASS:
        raise ValueError(f"fds must be at most {LARGEST_PASS}, not {len(numbers)}")
    return numbers


def receive_fds(sock: socket.socket, n: int, maxfds: int) -> tuple[bytes, list[int], int]:
    """recvmsg(2). If there were more than ``maxfds``, none: those that came are closed."""
    space = socket.CMSG_SPACE(maxfds * 4) if maxfds else 0
    flags = NOW | socket.MSG_CMSG_CLOEXEC
    data, ancillary, got, _ = sock.recvmsg(n, space, flags)
    got &= ~socket.MSG_CMSG_CLOEXEC  # which is what we have asked for
    fds = fds_of(ancillary)
    if got & socket.MSG_CTRUNC or len(fds) > maxfds:  # room is rounded up: one more may come
        close_all(fds)
        return data, [], got | socket.MSG_CTRUNC
    return data, fds, got


def fds_of(ancillary: Ancillary) -> list[int]:
    fds: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) // 4 * 4])
            fds += numbers
    return fds


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
