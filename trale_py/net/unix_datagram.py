"""UnixDatagram: datagrams that neither get lost nor overtake each other. See unix(7)."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from .. import _linux
from .._linux import sockaddr
from ..core.leaf import checkpoint
from ..streams.byte_stream import byte_view, check_count
from ..streams.io import NOW_NOSIGNAL
from .ancillary import Credentials, peer_credentials
from .datagrams import batch_of, cut, first_pairs, receive, too_long
from .socket_base import closed_on_error, connect_now
from .socket_file import AnyPath, UnixAddress, check_path
from .unix import UnixSocket

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_USUAL = 65536  # bytes; a datagram may be longer, as the sender's SO_SNDBUF allows


class UnixDatagram(UnixSocket):
    """A Unix datagram socket. Several tasks may receive and several may send.

    ::

        sock = UnixDatagram.bind("/run/log.sock")
        async for data, addr in sock:
            print(data)
    """

    _KIND = socket.SOCK_DGRAM

    _lost = 0  # datagrams of a batch that were too long; the next receive says so

    @classmethod
    def bind(cls, path: AnyPath, *, replace_stale: bool = False) -> Self:
        """A socket that others can send to. Path, file and errors: as ``UnixListener.bind``."""
        name = check_path(path)
        bound = cls.unbound()
        with closed_on_error(bound, repr(name)):
            bound._bind(name, replace_stale)
        return bound

    @classmethod
    def unbound(cls) -> Self:
        """A socket without a name: it sends, and nobody can answer but a peer it is paired with."""
        return cls(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Two that are connected. See socketpair(2)."""
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        one, other = socket.socketpair(socket.AF_UNIX, kind)
        return cls(one), cls(other)

    @property
    def peer_credentials(self) -> Credentials:
        """As ``UnixStream.peer_credentials``, for one of a pair."""
        self._check_open()
        return peer_credentials(self._sock)

    # -- receiving -----------------------------------------------------------------------------

    def recv_from(self, n: int = _USUAL) -> Coroutine[Any, Any, tuple[bytes, UnixAddress]]:
        """Wait for a datagram; return it and its sender (``""``: it has no name).

        ``b""`` is a datagram like any other. One of more than ``n`` bytes cannot be had whole:
        OSError (EMSGSIZE), and it is gone. Cancelled, it has received nothing.
        ClosedResourceError once closed; OSError from recvmsg(2).
        """
        check_count(n, "n", 0)
        return self._reading(partial(self._receive, n))

    def _receive(self, n: int) -> tuple[bytes, UnixAddress]:
        self._check_lost()
        data, address = receive(self._sock, n)
        return data, address or ""

    async def recv(self, n: int = _USUAL) -> bytes:
        """As ``recv_from``, without the sender."""
        data, _ = await self.recv_from(n)
        return data

    async def recv_many(self, max: int) -> list[tuple[bytes, UnixAddress]]:
        """Wait for a datagram; return it and what came after it, in one system call.

        As ``UdpSocket.recv_many``. One of more than 65,536 bytes cannot be had so: it is lost, and
        OSError (EMSGSIZE) says so, at the next call if others came with it.
        """
        return await self._reading(partial(self._receive_many, batch_of(max)))

    def _receive_many(self, count: int) -> list[tuple[bytes, UnixAddress]]:
        self._check_lost()
        datagrams, self._lost = _linux.recv_many(self._sock.fileno(), count)
        if not datagrams:
            self._check_lost()
        return datagrams

    def _check_lost(self) -> None:
        lost, self._lost = self._lost, 0
        if lost:
            raise too_long(f"{lost} datagrams had more than {_linux.SLOT} bytes; they are lost")

    def __aiter__(self) -> AsyncIterator[tuple[bytes, UnixAddress]]:
        return self

    async def __anext__(self) -> tuple[bytes, UnixAddress]:
        return await self.recv_from()

    # -- sending -------------------------------------------------------------------------------

    def send_to(self, data: ReadableBuffer, path: AnyPath) -> Coroutine[Any, Any, int]:
        """Send ``data`` as one datagram to ``path``; returns its length.

        While the receiver's queue is full it tries again, at growing distances up to 0.1 s, as no
        event tells. Cancelled, it has sent nothing. TypeError and ValueError for a bad path at the
        call; OSError (ConnectionRefusedError, EMSGSIZE, ...) from sendto(2).
        """
        return self._send_to(byte_view(data, "data"), check_path(path))

    async def _send_to(self, view: memoryview, name: UnixAddress) -> int:
        with view:
            return await self._insist(partial(self._sock.sendto, view, NOW_NOSIGNAL, name))

    async def send(self, data: ReadableBuffer) -> int:
        """As ``send_to``, to where the socket is connected; OSError (ENOTCONN) if it is not."""
        view = byte_view(data, "data")
        return await self._writing(partial(self._sock.send, view, NOW_NOSIGNAL), view)

    def send_many(
        self, pairs: Sequence[tuple[ReadableBuffer, AnyPath | None]]
    ) -> Coroutine[Any, Any, int]:
        """Send many datagrams, ``[(data, path), ...]``, in one system call; returns how many.

        As ``UdpSocket.send_many``; a path of None: to where the socket is connected.
        """
        checked = [
            (data, sockaddr.NONE if path is None else sockaddr.encode_unix(check_path(path)))
            for data, path in first_pairs(pairs)
        ]
        return self._send_many(checked)

    async def _send_many(self, pairs: list[tuple[ReadableBuffer, bytes]]) -> int:
        if not pairs:
            await checkpoint()
            self._check_open()
            return 0
        longest = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        datagrams = [cut(data, longest) for data, _ in pairs]
        names = [name for _, name in pairs]
        return await self._insist(partial(_linux.send_many, self._sock.fileno(), datagrams, names))

    def connect(self, path: AnyPath) -> Coroutine[Any, Any, None]:
        """Send to ``path`` from now on, and receive only from there. See connect(2)."""
        return self._connect(check_path(path))

    async def _connect(self, name: UnixAddress) -> None:
        await checkpoint()
        self._check_open()
        await connect_now(self, name)
