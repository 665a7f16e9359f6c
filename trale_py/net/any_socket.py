"""Socket: a socket of any family and type, with socket's own calls, awaited. See socket(7)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from ..core.leaf import checkpoint
from ..streams.byte_stream import byte_view, check_count, views
from ..streams.io import LARGEST_READ, NOW, NOW_NOSIGNAL
from .listener import check_backlog
from .socket_base import BaseSocket, connect_now

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_INET = (socket.AF_INET, socket.AF_INET6)


class Socket(BaseSocket):
    """A socket of any kind: SEQPACKET, vsock, netlink, raw where that is allowed.

    Its calls are those of ``socket.socket`` and take what they take, but each that may wait is
    awaited. Several tasks may receive and several may send. For TCP, UDP and Unix streams the
    classes of their own know more. ::

        sock = Socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        sock.bind((0, 1))
        data, ancillary, flags, addr = await sock.recvmsg(65536)
    """

    def __init__(self, family: int, type: int, proto: int = 0) -> None:
        super().__init__(socket.socket(family, type | socket.SOCK_NONBLOCK, proto))

    @classmethod
    def _take(cls, sock: socket.socket) -> Self:
        taken = cls.__new__(cls)
        BaseSocket.__init__(taken, sock)
        return taken

    @classmethod
    def _check_kind(cls, sock: socket.socket) -> None:
        """Any."""

    @property
    def local_addr(self) -> Any:
        """The address of this end, as getsockname(2) tells it."""
        self._check_open()
        return self._sock.getsockname()

    def bind(self, address: Any) -> None:
        """bind(2). Never waits: in an IPv4 or IPv6 address the host must be a literal."""
        self._check_open()
        self._sock.bind(self._checked(address))

    def listen(self, backlog: int = 1024) -> None:
        """listen(2)."""
        check_backlog(backlog)
        self._check_open()
        self._sock.listen(backlog)

    def accept(self) -> Coroutine[Any, Any, tuple[Socket, Any]]:
        """Wait for a connection; return it and its address. Cancelled, it has taken none.

        ClosedResourceError once closed, OSError from accept(2).
        """
        return self._reading(self._accept)

    def _accept(self) -> tuple[Socket, Any]:
        self._set_nonblocking()
        sock, address = self._sock.accept()
        sock.setblocking(False)
        return self._take(sock), address

    async def connect(self, address: Any) -> None:
        """Wait for a connection to ``address``. OSError from connect(2).

        Cancelled, it may go on being made: close the socket then. ValueError for a host that is
        no literal. While a Unix listener's backlog is full, it tries again.
        """
        checked = self._checked(address)
        await checkpoint()
        self._check_open()
        self._set_nonblocking()
        await connect_now(self, checked)

    def recv(self, n: int, flags: int = 0) -> Coroutine[Any, Any, bytes]:
        """Wait for at most ``n`` bytes. Cancelled, it has received nothing. See recv(2)."""
        check_count(n, "n", 0)
        return self._reading(partial(self._sock.recv, min(n, LARGEST_READ), flags | NOW))

    def recvmsg(
        self, n: int, ancbufsize: int = 0, flags: int = 0
    ) -> Coroutine[Any, Any, tuple[bytes, list[tuple[int, int, bytes]], int, Any]]:
        """Wait for a message: ``data, ancillary, flags, address``, as socket's.

        At most ``n`` bytes, and ancillary data of ``ancbufsize`` (``socket.CMSG_SPACE``).
        Descriptors in it are close-on-exec, and the caller's to close. What was cut off is told
        by MSG_TRUNC and MSG_CTRUNC in the flags. Cancelled, it has received nothing. See
        recvmsg(2).
        """
        check_count(n, "n", 0)
        check_count(ancbufsize, "ancbufsize", 0)
        flags |= NOW | socket.MSG_CMSG_CLOEXEC
        return self._reading(partial(self._sock.recvmsg, min(n, LARGEST_READ), ancbufsize, flags))

    async def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Wait for room, and send what there is room for; returns how many bytes. See send(2)."""
        view = byte_view(data, "data")
        return await self._writing(partial(self._sock.send, view, flags | NOW_NOSIGNAL), view)

    async def sendmsg(
        self,
        buffers: Iterable[ReadableBuffer],
        ancdata: Iterable[tuple[int, int, ReadableBuffer]] = (),
        flags: int = 0,
        address: Any = None,
    ) -> int:
        """Wait for room, and send a message; returns how many bytes. Arguments: as socket's.

        Cancelled, it has sent nothing. ValueError for a host that is no literal. See sendmsg(2).
        """
        parts = views(list(buffers))
        to = None if address is None else self._checked(address)
        call = partial(self._sock.sendmsg, parts, list(ancdata), flags | NOW_NOSIGNAL, to)
        if self._sock.family == socket.AF_UNIX and to is not None:
            return await self._insist(call)
        return await self._writing(call)

    def shutdown(self, how: int) -> None:
        """shutdown(2): ``socket.SHUT_RD``, ``SHUT_WR`` or ``SHUT_RDWR``. Never waits."""
        self._check_open()
        self._sock.shutdown(how)

    def _checked(self, address: Any) -> Any:
        """ValueError for a host name, which connect(2) and the like would look up, and wait."""
        if self._sock.family in _INET and isinstance(address, tuple) and address:
            host = address[0]
            try:
                literal = host == "" or ipaddress.ip_address(host)
            except ValueError:
                literal = False
            if literal is False:
                raise ValueError(
                    f"the host must be an IP address, not {host!r}: a Socket looks up no names"
                )
        return address
