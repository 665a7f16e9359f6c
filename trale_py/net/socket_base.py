"""What all sockets here have in common, beside what all descriptors have: how one is taken over."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, Self, TypeVar

from .._linux.sockaddr import SocketAddress
from ..base.log import report
from ..streams.base_stream import BaseStream
from ..streams.descriptor import Descriptor
from ..timers.timer import sleep
from .address import show

T = TypeVar("T")

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
    _told = False  # that it was set blocking

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
        cls._check_kind(sock)
        if sock.fileno() < 0:
            raise ValueError(f"{sock!r} is closed")
        sock.setblocking(False)
        taken = cls._take(sock)
        taken._share()
        return taken

    @classmethod
    def _take(cls, sock: socket.socket) -> Self:
        return cls(sock)

    @classmethod
    def _check_kind(cls, sock: socket.socket) -> None:
        if sock.type != cls._KIND or sock.family not in cls._FAMILIES:
            raise ValueError(f"{cls.__name__} cannot take over {sock!r}")

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

    def _set_nonblocking(self) -> None:
        """O_NONBLOCK is the open file's: another process that shares the file may have cleared it.

        accept(2) and connect(2) have no MSG_DONTWAIT, so the flag is looked at before each call. If
        it is cleared between this look and the call, SO_RCVTIMEO bounds the wait of a listener
        made by ``bind``.
        """
        if fcntl.fcntl(self._sock.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK:
            return
        os.set_blocking(self._sock.fileno(), False)
        if not self._told:
            self._told = True
            report("%r was set to blocking mode; it is non-blocking again", self)

    async def _insist(self, call: Callable[[], T]) -> T:
        """Send by ``call``. D7: no event tells of room in a Unix peer's queue, so try again."""
        for pause in pauses():
            sent = await self._writing(partial(_unless_full, call))
            if sent is not None:
                return sent
            await sleep(pause)
        raise AssertionError("an endless loop has ended")

    def _before_close(self) -> None:
        if self._sock.type == socket.SOCK_STREAM:
            with contextlib.suppress(OSError):
                _do_not_linger(self._sock)

    def _where(self) -> str:
        where = show(self._sock.getsockname())
        with contextlib.suppress(OSError):  # it has no peer
            where += f" -> {show(self._sock.getpeername())}"
        return where


class InetSocket(BaseSocket):
    """A socket with IPv4 or IPv6 addresses."""

    @property
    def local_addr(self) -> SocketAddress:
        """The address of this end, as getsockname(2) tells it."""
        self._check_open()
        address: SocketAddress = self._sock.getsockname()
        return address


class SocketStream(BaseSocket, BaseStream):
    """A connected socket as a byte stream."""

    _KIND = socket.SOCK_STREAM

    async def _end_writing(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise


@contextlib.contextmanager
def closed_on_error(sock: BaseSocket, where: str) -> Iterator[None]:
    """Close ``sock`` if the block fails; an OSError then has the address in its message."""
    try:
        yield
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"{error.strerror}: {where}") from None
    except BaseException:
        sock.close()
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


def _unless_full(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except BlockingIOError:
        return None


async def connect_now(owner: BaseSocket, address: Any) -> None:
    """connect(2), and the wait for it. OSError if it fails.

    C17: where the backlog of a Unix listener is full, connect(2) says EAGAIN. No event will tell
    when there is room, so it is tried again and again.
    """
    for pause in pauses():
        code = owner._sock.connect_ex(address)  # how it ends may be planned below
        if code != errno.EAGAIN or owner._sock.family != socket.AF_UNIX:
            break
        await sleep(pause)
        owner._check_open()
    if code in (errno.EINPROGRESS, errno.EINTR):
        # Registered only now: before connect() a socket reports OUT and HUP.
        await owner._writing(partial(finish_connect, owner._sock))
    elif code != 0:
        raise OSError(code, os.strerror(code))


def pauses() -> Iterator[float]:
    """Seconds to wait between tries, where no event tells that one will succeed: 1 ms to 0.1 s."""
    pause = 0.001
    while True:
        yield pause
        pause = min(pause * 2, 0.1)


def finish_connect(sock: socket.socket) -> None:
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
