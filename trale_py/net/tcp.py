"""TCP: listeners and streams. See tcp(7), ip(7); trale's futures/tcp.rs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any, Self

from .._linux.sockaddr import SocketAddress
from ..base.durations import Duration, to_ns
from ..base.log import report
from ..core.executor import in_a_task
from ..core.leaf import checkpoint
from ..scopes.combine import timeout
from ..timers.timer import now, sleep
from .address import Address, Endpoint, HostPort, resolve, show, to_bind, to_connect
from .happy_eyeballs import ATTEMPT_DELAY_SECONDS, connect_first
from .socket_base import BaseSocket, SocketStream

# accept(2): "treat them like EAGAIN by retrying". The connection was lost before we took it.
_LOST = {
    errno.ECONNABORTED,
    errno.EPROTO,
    errno.ENOPROTOOPT,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EOPNOTSUPP,
    errno.EPERM,  # a firewall's rule
}
# The connection still waits, and the system lacks what it takes to accept it.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# A peer that gives up gives up once. If this many calls in a row say so, it is this machine that
# does not want to (a filter, a network that is down), and each try would say it again at once.
_LOST_IN_A_ROW = 100
_BACK_OFF_SECONDS = 0.1
_REPORT_SECONDS = 1.0
_ACCEPT_LIMIT = struct.pack("ll", 0, 100_000)  # a struct timeval; see socket(7), SO_RCVTIMEO
_NO_LIMIT = struct.pack("ll", 0, 0)


class TcpStream(SocketStream):
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
        try:
            if local is not None:
                sock.bind(local.address)
            code = sock.connect_ex(endpoint.address)  # how it ends may be planned below
            if code in (errno.EINPROGRESS, errno.EINTR):
                # Registered only now: before connect() a socket reports OUT and HUP.
                await stream._writing(partial(_finish_connect, sock))
            elif code != 0:
                raise OSError(code, os.strerror(code))
            if _is_its_own_peer(sock):
                raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        except OSError as error:
            stream.close()
            raise OSError(error.errno, f"{error.strerror}: {show(endpoint.address)}") from None
        except BaseException:
            stream.close()
            raise
        return stream


def _finish_connect(sock: socket.socket) -> None:
    """BlockingIOError while the connection is still being made; OSError if it failed.

    SO_ERROR is taken off by reading it, so it is read here and nowhere else: a reset that
    was read away would look like the end of the stream.
    """
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    try:
        sock.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        raise BlockingIOError from None


def _is_its_own_peer(sock: socket.socket) -> bool:
    """Connecting to a free port of this machine, TCP may pick that very port for this end."""
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:  # ENOTCONN: it was connected, and is reset already. The first read will tell.
        return False


class TcpListener(BaseSocket):
    """A socket that accepts TCP connections.

    ::

        listener = TcpListener.bind("127.0.0.1:5000")
        async for stream in listener:
            spawn(serve(stream))
    """

    _KIND = socket.SOCK_STREAM

    _limited = False  # SO_RCVTIMEO is set
    _told = False  # that it was set blocking

    @classmethod
    def bind(cls, addr: Address, *, backlog: int = 1024, reuse_port: bool = False) -> Self:
        """Listen on ``addr``: an IP address, ``""`` (all IPv4) or ``"localhost"``, and a port.

        Port 0 has the kernel pick one: see ``local_addr``. ``backlog`` is how many
        connections may wait to be accepted, ``reuse_port`` sets SO_REUSEPORT. SO_REUSEADDR is
        set. Never waits; works before the runtime is started. ValueError for a host name,
        OSError from bind(2) and listen(2).
        """
        family, address = to_bind(addr)
        if not isinstance(backlog, int):
            raise TypeError(f"backlog must be an int, not {backlog!r}")
        if backlog.bit_length() > 31:
            raise ValueError(f"backlog must be less than 2**31, not {backlog}")
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _ACCEPT_LIMIT)
            sock.listen(backlog)
            listener = cls(sock)
            listener._limited = True
            return listener
        except OSError as error:
            sock.close()
            raise OSError(error.errno, f"{error.strerror}: {show(address)}") from None
        except BaseException:
            sock.close()
            raise

    def accept(self) -> Coroutine[Any, Any, TcpStream]:
        """Wait for a connection. Several tasks may; each connection goes to one of them.

        Cancelled, it has taken none. ClosedResourceError once closed, OSError (EMFILE, ...)
        from accept(2).
        """
        return self._reading(self._accept)

    def _accept(self) -> TcpStream:
        """One accept(2), which does not wait."""
        self._set_nonblocking()
        sock, address = self._sock.accept()
        try:
            sock.setblocking(False)
            if self._limited:  # what is accepted inherits it
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _NO_LIMIT)
            return TcpStream(sock, address)
        except BaseException:
            sock.close()
            raise

    def _set_nonblocking(self) -> None:
        """O_NONBLOCK is the open file's: another process that shares the file may have cleared it.

        accept(2) has no MSG_DONTWAIT, so the flag is looked at before each call. If it is cleared
        between this look and the call, SO_RCVTIMEO bounds the wait of a listener made by ``bind``.
        """
        if fcntl.fcntl(self._sock.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK:
            return
        os.set_blocking(self._sock.fileno(), False)
        if not self._told:
            self._told = True
            report("%r was set to blocking mode; it is non-blocking again", self)

    def __aiter__(self) -> AsyncIterator[TcpStream]:
        """Accept for ever, until the listener is closed (ClosedResourceError).

        A connection that its peer gave up again is skipped. While there are no descriptors
        or no memory for another one, and while each try fails, it tries ten times a second and
        logs once a second.
        """
        return _Incoming(self)


class _Incoming:
    def __init__(self, listener: TcpListener) -> None:
        self._listener = listener
        self._reported_at = -_REPORT_SECONDS

    def __aiter__(self) -> AsyncIterator[TcpStream]:
        return self

    async def __anext__(self) -> TcpStream:
        lost = 0
        while True:
            try:
                return await self._listener.accept()
            except OSError as error:
                lost += error.errno in _LOST
                if error.errno in _EXHAUSTED or lost > _LOST_IN_A_ROW:
                    self._report(error)
                    await sleep(_BACK_OFF_SECONDS)
                elif error.errno not in _LOST:
                    raise

    def _report(self, error: OSError) -> None:
        if now() - self._reported_at >= _REPORT_SECONDS:
            self._reported_at = now()
            report("%r cannot accept: %s; trying again", self._listener, error)
