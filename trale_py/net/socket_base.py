"""What all sockets here have in common, beside what all descriptors have: how one is taken over."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from typing import ClassVar, Self

from .._linux.sockaddr import SocketAddress
from ..streams.base_stream import BaseStream
from ..streams.descriptor import Descriptor
from .address import show

# What a class of sockets may do in a way of its own (ssl.SSLSocket does), and we would not.
_CALLS = (
    "accept",
    "recv",
    "recv_into",
    "recvfrom",
    "recvfrom_into",
    "recvmsg",
    "recvmsg_into",
    "send",
    "sendall",
    "sendmsg",
    "sendto",
)
_LINGER = struct.Struct("ii")  # a struct linger; see socket(7)


class BaseSocket(Descriptor):
    """A non-blocking socket and its place in the reactor."""

    _KIND: ClassVar[socket.SocketKind]
    _FAMILIES: ClassVar[tuple[int, ...]] = (socket.AF_INET, socket.AF_INET6)

    _sock: socket.socket

    @classmethod
    def from_socket(cls, sock: socket.socket) -> Self:
        """Take over a socket of the standard library; it is set non-blocking.

        From here on it is closed by this object. TypeError for a class that sends or receives in
        a way of its own, as ``ssl.SSLSocket``; ValueError for a socket of another kind.
        """
        if not isinstance(sock, socket.socket):
            raise TypeError(f"sock must be a socket, not {sock!r}")
        own = [name for name in _CALLS if getattr(type(sock), name) is not _plain(name)]
        if own:
            raise TypeError(
                f"sock must be a plain socket, not {sock!r}: its own {own[0]}() would not be called"
            )
        if sock.type != cls._KIND or sock.family not in cls._FAMILIES:
            raise ValueError(f"{cls.__name__} cannot take over {sock!r}")
        if sock.fileno() < 0:
            raise ValueError(f"{sock!r} is closed")
        sock.setblocking(False)
        taken = cls(sock)
        taken._share()
        return taken

    @property
    def socket(self) -> socket.socket:
        """The standard library's socket underneath, to set options. Do not close it.

        If it is closed all the same, operations raise OSError (EBADF). A task that waits already
        is told when a socket of the runtime gets the number; the kernel does not say it.
        """
        self._share()
        return self._sock

    def _check_ours(self) -> None:
        super()._check_ours()
        if self._sock.gettimeout() != 0.0:  # Python would wait for that long, in poll(2)
            self._sock.setblocking(False)

    @property
    def local_addr(self) -> SocketAddress:
        """The address of this end, as getsockname(2) tells it."""
        self._check_open()
        address: SocketAddress = self._sock.getsockname()
        return address

    def _before_close(self) -> None:
        if self._KIND == socket.SOCK_STREAM:
            with contextlib.suppress(OSError):
                _do_not_linger(self._sock)

    def _where(self) -> str:
        where = show(self._sock.getsockname())
        with contextlib.suppress(OSError):  # it has no peer
            where += f" -> {show(self._sock.getpeername())}"
        return where


class SocketStream(BaseSocket, BaseStream):
    """A connected socket as a byte stream."""

    _KIND = socket.SOCK_STREAM

    async def _end_writing(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise


def _plain(name: str) -> object:
    return getattr(socket.socket, name)


def _do_not_linger(sock: socket.socket) -> None:
    """Have close(2) return at once, whatever SO_LINGER says.

    With a time set there, close(2) waits until the peer has everything, or for that time, and a
    non-blocking socket is no exception (socket(7)). It does nothing else in that time: whether
    it has waited or not, the kernel goes on sending afterwards. So waiting would
    achieve nothing. A time of 0 is another matter: it has close(2) reset the connection.
    """
    on, seconds = _LINGER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size))
    if on and seconds:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(0, 0))
