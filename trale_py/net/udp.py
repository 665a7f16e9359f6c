"""UDP. See udp(7); trale's futures/udp.rs."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from .. import _linux
from .._linux import sockaddr
from .._linux.sockaddr import SocketAddress
from ..core.leaf import checkpoint
from ..streams.byte_stream import byte_view, check_count, contiguous
from ..streams.io import LARGEST_DATAGRAM, NOW_NOSIGNAL
from .address import Address, Endpoint, HostPort, resolve, show, to_bind, to_connect
from .datagrams import batch_of, cut, first_pairs, receive
from .socket_base import InetSocket, closed_on_error

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class UdpSocket(InetSocket):
    """A UDP socket. Several tasks may receive and several may send.

    ::

        sock = UdpSocket.bind("127.0.0.1:9998")
        async for data, addr in sock:
            await sock.send_to(data, addr)
    """

    _KIND = socket.SOCK_DGRAM

    @classmethod
    def bind(cls, addr: Address) -> Self:
        """A socket on ``addr``: an IP address, ``""`` (all IPv4) or ``"localhost"``, and a port.

        Port 0 has the kernel pick one: see ``local_addr``. Never waits; works before the
        runtime is started. ValueError for a host name, OSError from bind(2).
        """
        family, address = to_bind(addr)
        bound = cls(socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
        with closed_on_error(bound, show(address)):
            bound._sock.bind(address)
        return bound

    def recv_from(
        self, n: int = LARGEST_DATAGRAM
    ) -> Coroutine[Any, Any, tuple[bytes, SocketAddress]]:
        """Wait for a datagram; return it and its sender. ``b""`` is a datagram like any other.

        One of more than ``n`` bytes cannot be had whole: OSError (EMSGSIZE), and it is gone.
        Cancelled, it has received nothing. ClosedResourceError once closed; OSError from
        recvfrom(2), on a connected socket ConnectionRefusedError if no socket is bound there.
        """
        check_count(n, "n", 0)
        if n >= LARGEST_DATAGRAM:
            return self._io.recv_from(self)
        return self._reading(partial(receive, self._sock, n))

    async def recv(self, n: int = LARGEST_DATAGRAM) -> bytes:
        """As ``recv_from``, without the sender: for a connected socket."""
        data, _ = await self.recv_from(n)
        return data

    def send_to(
        self, data: ReadableBuffer, addr: Address
    ) -> Coroutine[Any, Any, int] | Coroutine[Any, Any, int]:
        """Send ``data`` as one datagram to ``addr``; returns its length.

        Waits while the socket's buffer is full; a host name is looked up in another thread.
        Cancelled, it has sent nothing. ValueError and TypeError for a bad address at the
        call, OSError (EMSGSIZE, ENETUNREACH, ...) from sendto(2).
        """
        short_way = self._io.send_to(self, contiguous(data, "data"), addr)
        return short_way or self._send_to(data, to_connect(addr))

    async def _send_to(self, data: ReadableBuffer, target: HostPort) -> int:
        endpoint = await self._find(target)
        view = byte_view(data, "data")
        call = partial(self._sock.sendto, view, NOW_NOSIGNAL, endpoint.address)
        return await self._writing(call, view)

    async def send(self, data: ReadableBuffer) -> int:
        """As ``send_to``, to where the socket is connected; OSError (EDESTADDRREQ) if it is not."""
        view = byte_view(data, "data")
        return await self._writing(partial(self._sock.send, view, NOW_NOSIGNAL), view)

    def _check_eagain(self) -> None:
        """EAGAIN has a second meaning in sendto(2) and connect(2): no local port is free.

        No event would tell when there is one again. A socket that has one waits for room.
        """
        if self._sock.getsockname()[1] == 0:
            raise OSError(errno.EAGAIN, f"{os.strerror(errno.EAGAIN)}: no local port is free")

    async def recv_many(self, max: int) -> list[tuple[bytes, SocketAddress]]:
        """Wait for a datagram; return it and what came after it, in one system call.

        That is 1 to ``max`` datagrams in the order they came, and at most 64: a larger ``max``
        counts as 64. Each is whole, and comes with its sender as from ``recv_from``. For
        floods: what is paid once for each call, many datagrams share. ::

            while True:
                for data, addr in await sock.recv_many(64):
                    count(data)

        Cancelled, it has received nothing. Errors are those of ``recv_from``; one that the
        network reports after the first datagram is raised by the next call. ImportError if the
        package's compiled part is missing. See recvmmsg(2).
        """
        count = batch_of(max)
        # A batch that is short has emptied the queue, and could end readiness as a short read of
        # a stream does. It does not: the next try mostly finds what came while this batch was
        # worked on, and in a flood the way over the reactor is long enough to lose datagrams.
        datagrams, _ = await self._reading(partial(_linux.recv_many, self._sock.fileno(), count))
        return datagrams  # none is too long

    def send_many(
        self, pairs: Sequence[tuple[ReadableBuffer, Address | None]]
    ) -> Coroutine[Any, Any, int]:
        """Send many datagrams, ``[(data, addr), ...]``, in one system call; returns how many.

        The first 64 of ``pairs`` at most, in order; fewer if the socket's buffer is full before
        the end. None at all is sent only if ``pairs`` is empty. The rest is the caller's::

            while pairs:
                del pairs[: await sock.send_many(pairs)]

        An ``addr`` of None: to where the socket is connected. Waits while the buffer is full;
        host names are looked up in another thread. Cancelled, it has sent nothing.

        ValueError and TypeError for a bad address at the call. Errors are those of ``send_to``,
        and about the first datagram. One that fails later ends the batch, and the kernel does
        not say with what: it is the first of the next call, which raises, unless the error was
        a passing one (ConnectionRefusedError is). See sendmmsg(2), BUGS.
        """
        return self._send_many(_check_pairs(pairs))

    async def _send_many(self, pairs: list[tuple[ReadableBuffer, HostPort | None]]) -> int:
        if not pairs:
            await checkpoint()
            self._check_open()
            return 0
        datagrams = [cut(data, LARGEST_DATAGRAM) for data, _ in pairs]
        names: list[bytes] = []
        for _, target in pairs:
            try:
                names.append(await self._name(target))
            except OSError:  # as if sending to it had failed
                if not names:
                    raise
                break
        call = partial(self._send_now, datagrams[: len(names)], names)
        return await self._writing(call)

    def _send_now(self, datagrams: Sequence[bytes], names: Sequence[bytes]) -> int:
        return _linux.send_many(self._sock.fileno(), datagrams, names)

    async def _name(self, target: HostPort | None) -> bytes:
        """The kernel's form of an address; names are looked up."""
        if target is None:
            return sockaddr.NONE
        try:
            return sockaddr.encode(self._sock.family, target.host, target.port, *target.rest)
        except OSError:  # not written as this family's addresses mostly are
            endpoint = await self._find(target)
        return sockaddr.encode(endpoint.family, *endpoint.address)

    def connect(self, addr: Address) -> Coroutine[Any, Any, None]:
        """Send to ``addr`` from now on, and receive only from there. See connect(2).

        Waits only for a host name to be looked up.
        """
        return self._connect(to_connect(addr))

    async def _connect(self, target: HostPort) -> None:
        endpoint = await self._find(target)
        await self._writing(partial(self._sock.connect, endpoint.address))

    async def _find(self, target: HostPort) -> Endpoint:
        """The first address of ``target`` that is of this socket's family."""
        for endpoint in await resolve(target):
            if endpoint.family == self._sock.family:
                return endpoint
        raise OSError(
            errno.EAFNOSUPPORT,
            f"{os.strerror(errno.EAFNOSUPPORT)}: {target.host!r}, and this is {self!r}",
        )

    def __aiter__(self) -> AsyncIterator[tuple[bytes, SocketAddress]]:
        return self

    async def __anext__(self) -> tuple[bytes, SocketAddress]:
        return await self.recv_from()


def _check_pairs(pairs: object) -> list[tuple[ReadableBuffer, HostPort | None]]:
    """The first pairs, as many as one system call takes, with their addresses checked."""
    checked = []
    before, target = None, None
    for data, addr in first_pairs(pairs):
        if addr is not before:  # mostly, many go to one place
            before, target = addr, None if addr is None else to_connect(addr)
        checked.append((data, target))
    return checked
