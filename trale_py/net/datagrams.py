"""What datagram sockets of every family have in common: sizes, cutting, batches."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from .. import _linux
from ..streams.byte_stream import byte_view, check_count
from ..streams.io import NOW
from .address import show

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def receive(sock: socket.socket, n: int) -> tuple[bytes, Any]:
    """recvmsg(2): a datagram and its sender. OSError (EMSGSIZE) if it has more than ``n`` bytes."""
    data, _, flags, address = sock.recvmsg(n, 0, NOW)
    if flags & socket.MSG_TRUNC:
        raise too_long(f"a datagram from {show(address)} has more than {n} bytes; it is lost")
    return data, address


def too_long(why: str) -> OSError:
    return OSError(errno.EMSGSIZE, why)


def batch_of(max: int) -> int:
    """How many datagrams a call of recv_many asks for."""
    check_count(max, "max")
    return min(max, _linux.BATCH)


def first_pairs(pairs: object) -> list[tuple[ReadableBuffer, Any]]:
    """The first pairs of data and address, as many as one system call takes."""
    if not isinstance(pairs, Sequence):
        raise TypeError(f"pairs must be a list of (data, addr), not {type(pairs).__name__}")
    found = list(islice(pairs, _linux.BATCH))
    for pair in found:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"pairs must be a list of (data, addr), but it contains {pair!r}")
    return found


def cut(data: ReadableBuffer, n: int) -> bytes:
    """One byte more than can be sent is as wrong as a gigabyte, and less to copy."""
    if type(data) is bytes:
        return data[: n + 1]
    with byte_view(data, "data") as view:
        return bytes(view[: n + 1])
