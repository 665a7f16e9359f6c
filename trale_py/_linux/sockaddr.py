"""Socket addresses as the kernel has them, to and from what Python's sockets show.

The standard library converts them for one datagram at a time, inside recvfrom() and
sendto(). Here they come and go by the batch, each in the bytes of a struct sockaddr_in6.
"""

from __future__ import annotations

import socket
import struct
from functools import lru_cache
from typing import Final, TypeAlias

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]  # as getsockname() has it

SIZE: Final = 28  # TRALE_NAME
NONE: Final = bytes(SIZE)  # for a socket that is connected

# The family, the scope: in the machine's order of bytes. The rest: in the network's, so as bytes.
_IPV4: Final = struct.Struct("=H2s4s20x")  # family, port, address; ip(7)
_IPV6: Final = struct.Struct("=H2s4s16sI")  # family, port, flow, address, scope; ipv6(7)


def encode(family: int, host: str, port: int, flow: int = 0, scope: int = 0) -> bytes:
    """The kernel's form of an address. OSError if ``host`` is no literal of that family."""
    address = socket.inet_pton(family, host)
    if family == socket.AF_INET:
        return _IPV4.pack(family, port.to_bytes(2, "big"), address)
    return _IPV6.pack(family, port.to_bytes(2, "big"), flow.to_bytes(4, "big"), address, scope)


@lru_cache(maxsize=1024)  # many datagrams come from few addresses
def decode(name: bytes) -> SocketAddress:
    """What Python shows for it: a 2-tuple for IPv4, a 4-tuple for IPv6."""
    family, port, flow, address, scope = _IPV6.unpack(name)
    if family == socket.AF_INET6:
        return (
            socket.inet_ntop(family, address),
            int.from_bytes(port, "big"),
            int.from_bytes(flow, "big"),
            scope,
        )
    _, port, address = _IPV4.unpack(name)
    return socket.inet_ntop(socket.AF_INET, address), int.from_bytes(port, "big")
