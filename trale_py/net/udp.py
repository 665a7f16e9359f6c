"""UDP. See udp(7); trale's futures/udp.rs."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from .address import (
    Address,
    Endpoint,
    HostPort,
    SocketAddress,
    resolve,
    show,
    to_bind,
    to_connect,
)
from .base import BaseSocket, byte_view

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_LARGEST = 65535  # no UDP datagram is longer


class UdpSocket(BaseSocket):
    """A UDP socket. Several tasks may receive and several may send.

    ::

        sock = UdpSocket.bind("127.0.0.1:9998")
        async for data, addr in sock:
            await sock.send_to(data, addr)
    """

    KIND = socket.SOCK_DGRAM

    @classmethod
    def bind(cls, addr: Address) -> Self:
        """A socket on ``addr``: an IP address, ``""`` (all IPv4) or ``"localhost"``, and a port.

        Port 0 has the kernel pick one: see ``local_addr``. Never waits; works before the
        runtime is started. ValueError for a host name, OSError from bind(2).
        """
        family, address = to_bind(addr)
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.bind(address)
            return cls.from_socket(sock)
        except OSError as error:
            sock.close()
            raise OSError(error.errno, f"{error.strerror}: {show(address)}") from None
        except BaseException:
            sock.close()
            raise

    async def recv_from(self, n: int = _LARGEST) -> tuple[bytes, SocketAddress]:
        """Wait for a datagram; return it and its sender. ``b""`` is a datagram like any other.

        One of more than ``n`` bytes cannot be had whole: OSError (EMSGSIZE), and it is gone.
        Cancelled, it has received nothing. ClosedResourceError once closed; OSError from
        recvfrom(2), on a connected socket ConnectionRefusedError if nobody listens there.
        """
        _check_size(n)
        if n >= _LARGEST:
            call = partial(self._sock.recvfrom, n)
        else:
            call = partial(_receive_whole, self._sock, n)
        received: tuple[bytes, SocketAddress] = await self._reading(call)
        return received

    async def recv(self, n: int = _LARGEST) -> bytes:
        """As ``recv_from``, without the sender: for a connected socket."""
        data, _ = await self.recv_from(n)
        return data

    def send_to(self, data: ReadableBuffer, addr: Address) -> Coroutine[Any, Any, int]:
        """Send ``data`` as one datagram to ``addr``; returns its length.

        Waits while the socket's buffer is full; a host name is looked up in another thread.
        Cancelled, it has sent nothing. ValueError and TypeError for a bad address at the
        call, OSError (EMSGSIZE, ENETUNREACH, ...) from sendto(2).
        """
        return self._send_to(data, to_connect(addr))

    async def _send_to(self, data: ReadableBuffer, target: HostPort) -> int:
        view = byte_view(data, "data")
        endpoint = await self._find(target)
        return await self._writing(partial(self._sock.sendto, view, endpoint.address))

    async def send(self, data: ReadableBuffer) -> int:
        """As ``send_to``, to where the socket is connected; OSError (EDESTADDRREQ) if it is not."""
        return await self._writing(partial(self._sock.send, byte_view(data, "data")))

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


def _receive_whole(sock: socket.socket, n: int) -> tuple[bytes, SocketAddress]:
    data, _, flags, address = sock.recvmsg(n)
    if flags & socket.MSG_TRUNC:
        raise OSError(
            errno.EMSGSIZE, f"a datagram from {show(address)} has more than {n} bytes; it is lost"
        )
    return data, address


def _check_size(n: int) -> None:
    if not isinstance(n, int):
        raise TypeError(f"n has to be an int, not {n!r}")
    if n < 0:
        raise ValueError(f"n is {n}; it has to be 0 or more")
