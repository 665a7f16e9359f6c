"""Host names to addresses and back, for people: the sockets look up by themselves."""

from __future__ import annotations

import socket
from functools import partial

from .._linux.sockaddr import SocketAddress
from ..core import current
from ..core.leaf import checkpoint
from ..jobs.job import BlockingCall
from .address import Address, parse
from .address import resolve as endpoints_of


async def resolve(host: str, port: int = 0) -> list[SocketAddress]:
    """Look up a host name, in another thread: its addresses, with ``port``, the best one first.

    They can be given to ``connect`` and, if they are this machine's, to ``bind``. A literal needs
    no look-up. Cancelled, it stops waiting. socket.gaierror for an unknown name; ValueError and
    TypeError for what is no host or no port. See getaddrinfo(3). ::

        for address in await resolve("example.org", 80):
            print(address)
    """
    target = parse((host, port))
    await checkpoint()  # a literal needs no other
    found = await endpoints_of(target)
    return [endpoint.address for endpoint in found]


async def reverse_lookup(addr: Address) -> str:
    """Look up the name of the host at an address, in another thread.

    ``addr`` is an address with a literal, as ``("192.0.2.1", 0)`` or ``peer_addr`` of a stream.
    Cancelled, it stops waiting. socket.gaierror if it has no name; ValueError for a host name.
    See getnameinfo(3).
    """
    target = parse(addr)
    endpoint = target.literal()
    if endpoint is None:
        raise ValueError(f"addr must have an IP address, not the name {target.host!r}")
    look_up = partial(_name_of, endpoint.address)
    return await BlockingCall(look_up, current.runtime().names)


def _name_of(address: SocketAddress) -> str:
    try:
        return socket.getnameinfo(address, socket.NI_NAMEREQD)[0]
    except OSError as error:
        raise type(error)(error.errno, f"{error.strerror}: {address[0]!r}") from None
