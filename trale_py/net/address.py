"""Addresses: what users may write, and what the kernel is given.

    ("127.0.0.1", 5000)   "127.0.0.1:5000"   ("localhost", 5000)   "localhost:5000"
    ("::1", 5000)         "[::1]:5000"       ("fe80::1", 5000, flowinfo, scope_id)

An empty host stands for all of this machine's IPv4 addresses, where one binds.

A literal is what the module ``ipaddress`` takes. getaddrinfo(3) reads more as one: "127.1",
"0x7f.1" and "1" as numbers, "*" as any address. A program that compares hosts with a
list would not see what these mean, so they are refused.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from functools import partial
from typing import NamedTuple, TypeAlias

from .._linux.sockaddr import SocketAddress
from ..core import current
from ..jobs.job import BlockingCall

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

Address: TypeAlias = str | tuple[str, int] | tuple[str, int, int, int]

_FORMS = '("127.0.0.1", 5000), "127.0.0.1:5000", "[::1]:5000" or ("::1", 5000, flowinfo, scope_id)'


class Endpoint(NamedTuple):
    """An address the kernel understands, and the family of its socket."""

    family: socket.AddressFamily
    address: SocketAddress


class HostPort(NamedTuple):
    """A checked address whose host may still be a name."""

    host: str
    port: int
    rest: tuple[int, ...]  # flowinfo and scope_id, or nothing

    def literal(self) -> Endpoint | None:
        """The endpoint, if the host is an IP address; None if it is a name."""
        family = _family_of(self.host)
        if family == socket.AF_INET:
            return Endpoint(socket.AF_INET, (self.host, self.port))
        if family is None:
            return None
        try:
            return self._look_up(socket.AI_NUMERICHOST)[0]
        except socket.gaierror:  # a zone that this machine does not have: "fe80::1%eth9"
            return None

    def look_up(self) -> list[Endpoint]:
        """All endpoints of the host. Blocks while name servers are asked. socket.gaierror."""
        return self._look_up(0)

    def _look_up(self, flags: int) -> list[Endpoint]:
        found = socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM, flags=flags | socket.AI_NUMERICSERV
        )
        endpoints = []
        for family, _, _, _, address in found:
            if family == socket.AF_INET6 and self.rest:
                flow, scope = self.rest
                address = (str(address[0]), int(address[1]), flow, scope)
            if family in (socket.AF_INET, socket.AF_INET6):
                endpoints.append(Endpoint(family, address))  # type: ignore[arg-type]
        return endpoints


def parse(address: Address) -> HostPort:
    """Check an address. ValueError for another shape, TypeError for another type."""
    rest: tuple[int, ...] = ()
    if isinstance(address, str):
        host, port = _split(address)
    elif isinstance(address, tuple):
        if len(address) not in (2, 4):
            raise _bad(address, f"it has {len(address)} parts")
        host, *numbers = address
        if not isinstance(host, str):
            raise _bad(address, f"the host must be a str, not {host!r}")
        for number in numbers:
            if not isinstance(number, int):
                raise _bad(address, f"the port and what follows must be int, not {number!r}")
        # Plain ones: getaddrinfo() takes no IntEnum for a port.
        port, rest = int(numbers[0]), tuple(map(int, numbers[1:]))
    else:
        raise TypeError(f"the address addr must be {_FORMS}, not {address!r}")
    if not 0 <= port <= 65535:
        raise _bad(address, f"the port must be 0 to 65535, not {port}")
    if rest and not (0 <= rest[0] < 2**20 and 0 <= rest[1] < 2**32):
        raise _bad(address, "flowinfo has 20 bits, scope_id 32")
    _check_host(address, host)
    return HostPort(host, port, rest)


def _split(address: str) -> tuple[str, int]:
    host, colon, digits = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon:
        raise _bad(address, "it has no port")
    if not digits.isdecimal() or not digits.isascii() or len(digits) > 5:
        raise _bad(address, f"the port must be 0 to 65535, not {digits[:20]!r}")
    if ":" in host and not bracketed:
        raise _bad(address, "an IPv6 address goes in brackets")
    if bracketed and ":" not in host:
        raise _bad(address, "only an IPv6 address goes in brackets")
    return host[1:-1] if bracketed else host, int(digits)


def _check_host(address: Address, host: str) -> None:
    if "\0" in host or len(host) > 255:
        raise _bad(address, "that is not a host name")
    if host == "" or _family_of(host) is not None:
        return
    try:
        socket.getaddrinfo(host, 0, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):  # a name; the idna codec has its say first
        return
    raise _bad(address, f"{host!r} is neither an IP address nor a host name")


def _family_of(host: str) -> socket.AddressFamily | None:
    """Of which family this literal is; None if it is none."""
    with contextlib.suppress(OSError, ValueError):  # of IPv4 it takes the same, ten times as fast
        socket.inet_pton(socket.AF_INET, host)
        return socket.AF_INET
    try:
        return _FAMILIES[ipaddress.ip_address(host).version]
    except ValueError:
        return None


def to_bind(address: Address) -> Endpoint:
    """An address of this machine, to bind to. A name needs a lookup: ValueError."""
    target = parse(address)
    if target.host == "":
        target = target._replace(host="0.0.0.0")
    elif target.host == "localhost":
        target = target._replace(host="127.0.0.1")
    endpoint = target.literal()
    if endpoint is None:
        raise ValueError(
            f"cannot bind to {address!r}: the host must be an IP address, '' or 'localhost', "
            "because bind does not resolve names"
        )
    return endpoint


async def resolve(address: HostPort) -> list[Endpoint]:
    """The endpoints of an address, at least one; names are looked up in another thread.

    socket.gaierror for an unknown one.
    """
    endpoint = address.literal()
    if endpoint is not None:
        return [endpoint]
    return await BlockingCall(partial(_look_up_all, address), current.runtime().names)


def to_connect(address: Address) -> HostPort:
    """An address to connect or send to."""
    target = parse(address)
    if target.host == "":
        raise _bad(address, "it has no host")
    return target


def _look_up_all(address: HostPort) -> list[Endpoint]:
    """As ``look_up``, at least one; the errors name the host."""
    try:
        endpoints = address.look_up()
    except UnicodeError as error:  # what the idna codec raises for labels it cannot encode
        raise socket.gaierror(
            socket.EAI_NONAME, f"{address.host!r} is not a host name: {error}"
        ) from error
    except OSError as error:
        raise type(error)(error.errno, f"{error.strerror}: {address.host!r}") from None
    if not endpoints:
        raise socket.gaierror(socket.EAI_NONAME, f"no IP address: {address.host!r}")
    return endpoints


def show(address: object) -> str:
    """An address as people write it, for messages."""
    if isinstance(address, tuple) and len(address) >= 2:
        host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
        return f"{host}:{address[1]}"
    return repr(address)


def _bad(address: object, why: str) -> ValueError:
    return ValueError(f"bad address {address!r}: {why}; right would be {_FORMS}")
