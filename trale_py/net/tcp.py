"""TCP: listeners and streams. See tcp(7), ip(7); trale's futures/tcp.rs."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Coroutine
from functools import partial
from typing import Any, Self

from .._linux.sockaddr import SocketAddress
from ..base.durations import Duration, to_ns
from ..core.executor import in_a_task
from ..core.leaf import checkpoint
from ..scopes.combine import timeout
from .address import Address, Endpoint, HostPort, resolve, show, to_bind, to_connect
from .happy_eyeballs import ATTEMPT_DELAY_SECONDS, connect_first
from .listener import BaseListener, check_backlog
from .socket_base import InetSocket, SocketStream, closed_on_error, connect_now


class TcpStream(InetSocket, SocketStream):
    """A TCP connection. Made by ``TcpStream.connect`` and ``TcpListener.accept``.

    TCP_NODELAY is set: small writes are sent at once. ::

        async with await TcpStream.connect("127.0.0.1:5000") as stream:
            await stream.write_all(b"hello\\n")
            print(await stream.read_until(b"\\n", limit=100))
    """

    def __init__(self, sock: socket.socket, peer_addr: SocketAddress | None = None) -> None:
        # Of a connection that was reset before it was accepted, getpeername() knows nothing.
        self._peer_addr: SocketAddress = sock.getpeername() if peer_addr is None else peer_addr
        super().__init__(sock)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def peer_addr(self) -> SocketAddress:
        """The address of the other end, as it was when the connection was made."""
        return self._peer_addr

    @classmethod
    def connect(
        cls,
        addr: Address,
        *,
        timeout: Duration | None = None,
        local_addr: Address | None = None,
        happy_eyeballs_delay: Duration = ATTEMPT_DELAY_SECONDS,
    ) -> Coroutine[Any, Any, Self]:
        """Wait for a connection to ``addr``, for at most ``timeout`` seconds if given.

        A host name is looked up in another thread. Of its addresses, IPv6 and IPv4 in turn,
        the next is tried when one has failed, or has not answered for a quarter of a second;
        the first that answers it is. If none does, the error that came last is raised, with
        its address in the message. Cancelled, it leaves no connection and no descriptor.
        ``local_addr`` is where this end is bound to (port 0: any port); addresses of the other
        family are then left out. ``happy_eyeballs_delay`` is that quarter of a second.
        OSError (ConnectionRefusedError, ...), socket.gaierror for an unknown name,
        TimeoutError; ValueError and TypeError for a bad address at the call. See connect(2);
        `RFC 8305 <https://www.rfc-editor.org/rfc/rfc8305>`_, happy eyeballs.
        """
        target = to_connect(addr)
        local = None if local_addr is None else to_bind(local_addr)
        to_ns(happy_eyeballs_delay, "happy_eyeballs_delay")
        if timeout is not None:
            to_ns(timeout, "timeout")
        connecting = cls._connect(target, local, happy_eyeballs_delay)
        if timeout is not None:
            connecting = cls._connect_in_time(target, timeout, connecting)
        return in_a_task(connecting)

    @classmethod
    async def _connect_in_time(
        cls, target: HostPort, seconds: Duration, connecting: Coroutine[Any, Any, Self]
    ) -> Self:
        try:
            return await timeout(seconds, connecting)
        except TimeoutError as error:
            if error.errno is not None:  # the kernel's own, with the address in it
                raise
            where = show((target.host, target.port))
            raise TimeoutError(f"timed out after {seconds} seconds: {where}") from None

    @classmethod
    async def _connect(cls, target: HostPort, local: Endpoint | None, delay: Duration) -> Self:
        await checkpoint()  # before connect(2): cancelled, it does not knock at the peer's door
        endpoints = await resolve(target)
        if local is not None:
            endpoints = [one for one in endpoints if one.family == local.family]
            if not endpoints:
                where = f"{target.host!r} has no address of the family of {show(local.address)}"
                raise OSError(errno.EAFNOSUPPORT, where)
        return await connect_first(endpoints, partial(cls._connect_to, local=local), delay)

    @classmethod
    async def _connect_to(cls, endpoint: Endpoint, local: Endpoint | None) -> Self:
        # Non-blocking from the first moment, and no other code has it yet: so
        # connect(2) does not wait. It has no MSG_DONTWAIT.
        sock = socket.socket(endpoint.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            stream = cls(sock, endpoint.address)
        except BaseException:
            sock.close()
            raise
        with closed_on_error(stream, show(endpoint.address)):
            if local is not None:
                sock.bind(local.address)
            await connect_now(stream, endpoint.address)
            if _is_its_own_peer(sock):
                raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        return stream


def _is_its_own_peer(sock: socket.socket) -> bool:
    """Connecting to a free port of this machine, TCP may pick that very port for this end."""
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:  # ENOTCONN: it was connected, and is reset already. The first read will tell.
        return False


class TcpListener(InetSocket, BaseListener["TcpStream"]):
    """A socket that accepts TCP connections.

    ::

        listener = TcpListener.bind("127.0.0.1:5000")
        async for stream in listener:
            spawn(serve(stream))
    """

    @classmethod
    def bind(cls, addr: Address, *, backlog: int = 1024, reuse_port: bool = False) -> Self:
        """Listen on ``addr``: an IP address, ``""`` (all IPv4) or ``"localhost"``, and a port.

        Port 0 has the kernel pick one: see ``local_addr``. ``backlog`` is how many
        connections may wait to be accepted, ``reuse_port`` sets SO_REUSEPORT. SO_REUSEADDR is
        set. Never waits; works before the runtime is started. ValueError for a host name,
        OSError from bind(2) and listen(2).
        """
        family, address = to_bind(addr)
        check_backlog(backlog)
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener = cls(sock)
        with closed_on_error(listener, show(address)):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
            listener._listen(backlog)
        return listener

    def _wrap(self, sock: socket.socket, address: SocketAddress) -> TcpStream:
        return TcpStream(sock, address)
