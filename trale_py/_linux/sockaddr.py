"""Socket addresses as the kernel has them, to and from what Python's sockets show.

The standard library converts them for one datagram at a time, inside recvfrom() and
sendto(). Here they come and go by the batch.
"""

from __future__ import annotations

import os
import socket
import struct
from functools import lru_cache
from typing import Any, Final, TypeAlias

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]  # as getsockname() has it

SIZE: Final = 110  # TRALE_NAME
NONE: Final = b""  # for a socket that is connected

# The family, the scope: in the machine's order of bytes. The rest: in the network's, so as bytes.
_FAMILY: Final = struct.Struct("=H")
_IPV4: Final = struct.Struct("=H2s4s8x")  # family, port, address; ip(7)
_IPV6: Final = struct.Struct("=H2s4s16sI")  # family, port, flow, address, scope; ipv6(7)


def encode(family: int, host: str, port: int, flow: int = 0, scope: int = 0) -> bytes:
    """The kernel's form of an address. OSError if ``host`` is no literal of that family."""
    address = socket.inet_pton(family, host)
    if family == socket.AF_INET:
        return _IPV4.pack(family, port.to_bytes(2, "big"), address)
    return _IPV6.pack(family, port.to_bytes(2, "big"), flow.to_bytes(4, "big"), address, scope)


def encode_unix(name: str | bytes) -> bytes:
    """The kernel's form of a Unix socket's name, see unix(7)."""
    raw = os.fsencode(name)
    return _FAMILY.pack(socket.AF_UNIX) + (raw if raw.startswith(b"\0") else raw + b"\0")


@lru_cache(maxsize=1024)  # many datagrams come from few addresses
def decode(name: bytes) -> Any:
    """What Python shows for it: a 2-tuple for IPv4, a 4-tuple for IPv6, str or bytes for Unix."""
    family = _FAMILY.unpack_from(name)[0] if name else socket.AF_UNIX
    if family == socket.AF_UNIX:
        path = name[_FAMILY.size :]
        return path if path.startswith(b"\0") else os.fsdecode(path.rstrip(b"\0"))
    if family == socket.AF_INET6:
        _, port, flow, address, scope = _IPV6.unpack(name)
        return (
            socket.inet_ntop(family, address),
            int.from_bytes(port, "big"),
            int.from_bytes(flow, "big"),
            scope,
        )
    _, port, address = _IPV4.unpack(name)
    return socket.inet_ntop(socket.AF_INET, address), int.from_bytes(port, "big")
