"""Unix sockets: streams, listeners and pairs. See unix(7)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Coroutine, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from ..base.durations import Duration, to_ns
from ..core.leaf import checkpoint
from ..scopes.combine import timeout as in_time
from ..streams.byte_stream import check_count, views
from ..streams.io import LARGEST_READ, NOW_NOSIGNAL
from .ancillary import LARGEST_PASS, Credentials, check_fds, pack_fds, peer_credentials, receive_fds
from .listener import BaseListener, check_backlog
from .socket_base import BaseSocket, SocketStream, closed_on_error, connect_now
from .socket_file import (
    AnyPath,
    SocketFile,
    UnixAddress,
    check_path,
    has_file,
    remove_stale,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class UnixSocket(BaseSocket):
    """A socket with the addresses of unix(7), and the file that its bind has made."""

    _FAMILIES = (socket.AF_UNIX,)

    _file_of_bind: SocketFile | None = None

    @property
    def local_addr(self) -> UnixAddress:
        """The name of this end, as getsockname(2) tells it; ``""`` if it has none."""
        self._check_open()
        address: UnixAddress = self._sock.getsockname()
        return address

    def _bind(self, name: UnixAddress, replace_stale: bool) -> None:
        """bind(2). From here on ``close()`` removes the file that it has made."""
        try:
            self._sock.bind(name)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not (replace_stale and has_file(name)):
                raise
            remove_stale(name, self._sock.type)
            self._sock.bind(name)
        if has_file(name):
            self._file_of_bind = SocketFile(name)

    def _before_close(self) -> None:
        # First the file, then the socket: while that answers, nobody takes the file for stale.
        if self._file_of_bind is not None:
            self._file_of_bind.remove()
        super()._before_close()

    def _where(self) -> str:
        name = self._sock.getsockname()
        return repr(name) if name else ""


class UnixStream(UnixSocket, SocketStream):
    """A Unix stream connection. Made by ``connect``, ``UnixListener.accept`` and ``socketpair``.

    ::

        async with await UnixStream.connect("/run/service.sock") as stream:
            await stream.write_all(b"hello\\n")
    """

    @classmethod
    def connect(
        cls, path: AnyPath, *, timeout: Duration | None = None
    ) -> Coroutine[Any, Any, Self]:
        """Wait for a connection to ``path``, for at most ``timeout`` seconds if given.

        A path may be str, bytes or PathLike; one that begins with ``"\\0"`` is an abstract name.
        While the listener's backlog is full, it tries again, at growing distances up to 0.1 s, as
        no event tells. Cancelled, it leaves no connection and no descriptor. OSError
        (FileNotFoundError, ConnectionRefusedError, ...) with the path in it; TimeoutError;
        TypeError and ValueError for a bad path at the call. See connect(2).
        """
        name = check_path(path)
        if timeout is None:
            return cls._connect(name)
        to_ns(timeout, "timeout")
        return cls._connect_in_time(name, timeout)

    @classmethod
    async def _connect_in_time(cls, name: UnixAddress, seconds: Duration) -> Self:
        try:
            return await in_time(seconds, cls._connect(name))
        except TimeoutError:
            raise TimeoutError(f"timed out after {seconds} seconds: {name!r}") from None

    @classmethod
    async def _connect(cls, name: UnixAddress) -> Self:
        await checkpoint()  # before connect(2): cancelled, it does not knock at the peer's door
        stream = cls(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        with closed_on_error(stream, repr(name)):
            await connect_now(stream, name)
        return stream

    @property
    def peer_addr(self) -> UnixAddress:
        """The name of the other end; ``""`` if it has none, as clients mostly."""
        self._check_open()
        address: UnixAddress = self._sock.getpeername()
        return address

    @property
    def peer_credentials(self) -> Credentials:
        """``pid, uid, gid`` of the process at the other end, as it connected or listened.

        By the kernel's word, not the peer's. See SO_PEERCRED in unix(7).
        """
        self._check_open()
        return peer_credentials(self._sock)

    def send_fds(
        self, buffers: ReadableBuffer | Sequence[ReadableBuffer], fds: Iterable[int]
    ) -> Coroutine[Any, Any, int]:
        """Send ``fds``, descriptors, with the first byte of ``buffers``; returns how many bytes.

        They stay open here, and the peer gets copies. Waits for room. Fewer bytes than there are
        may go out, and the descriptors with them: write the rest by ``write_all``. Cancelled, it
        has sent nothing. ValueError without a byte, or for more than 253 descriptors;
        otherwise as ``write``. See SCM_RIGHTS in unix(7). ::

            await stream.send_fds(b"x", [file.fileno()])
        """
        return self._send_fds(views(buffers), check_fds(fds))

    async def _send_fds(self, parts: list[memoryview], fds: list[int]) -> int:
        parts = [part for part in parts if part.nbytes]
        if not parts:
            raise ValueError("buffers must have 1 byte or more, not 0: descriptors go with a byte")
        with self._side(self._writer):
            await self._no_wait()
            self._io.check_whole()
            call = partial(self._sock.sendmsg, parts, pack_fds(fds), NOW_NOSIGNAL)
            return await self._writing(call)

    def recv_fds(
        self, n: int, maxfds: int = LARGEST_PASS
    ) -> Coroutine[Any, Any, tuple[bytes, list[int], int]]:
        """Wait for bytes and what descriptors come with them: ``data, fds, flags``.

        At most ``n`` bytes and ``maxfds`` descriptors, which are the caller's to close, and
        close-on-exec. If more than ``maxfds`` came, or this process has no room for them,
        ``flags`` has ``socket.MSG_CTRUNC`` and ``fds`` is empty: none of them is left open. What
        was read ahead (by ``read_until``, ``peek``) comes without: the kernel has closed those.
        Otherwise as ``read``.
        """
        check_count(n, "n")
        check_count(maxfds, "maxfds", 0)
        return self._recv_fds(min(n, LARGEST_READ), min(maxfds, LARGEST_PASS))

    async def _recv_fds(self, n: int, maxfds: int) -> tuple[bytes, list[int], int]:
        with self._side(self._reader):
            await self._no_wait()
            if self._io.buffer:
                return self._io.take(n), [], 0
            return await self._reading(partial(receive_fds, self._sock, n, maxfds))


class UnixListener(UnixSocket, BaseListener[UnixStream]):
    """A socket that accepts Unix stream connections.

    ::

        async with UnixListener.bind("/run/service.sock", replace_stale=True) as listener:
            async for stream in listener:
                spawn(serve(stream))

    One that systemd hands over: ``UnixListener.from_socket(socket.socket(fileno=3))``; its file
    stays.
    """

    @classmethod
    def bind(cls, path: AnyPath, *, backlog: int = 1024, replace_stale: bool = False) -> Self:
        """Listen on ``path``; ``"\\0name"`` is an abstract name, ``""`` has the kernel pick one.

        OSError (EADDRINUSE) if there is a file of that name. With ``replace_stale`` it is replaced
        if it is a socket's that nobody has open any more. ``close()`` removes the file, if it is
        still this one's. Who may connect: see the permissions of the folder and of the file. Never
        waits; works before the runtime is started. TypeError and ValueError for a bad path.
        """
        name = check_path(path)
        check_backlog(backlog)
        listener = cls(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        with closed_on_error(listener, repr(name)):
            listener._bind(name, replace_stale)
            listener._listen(backlog)
            if listener._file_of_bind is not None:
                listener._file_of_bind.check()  # before it listens, it looks as stale as any
        return listener

    def _wrap(self, sock: socket.socket, address: object) -> UnixStream:
        return UnixStream(sock)


def socketpair() -> tuple[UnixStream, UnixStream]:
    """Two Unix streams that are connected. See socketpair(2).

    Never waits; works before the runtime is started. OSError (EMFILE).
    """
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    return UnixStream(one), UnixStream(other)
