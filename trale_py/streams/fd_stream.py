"""FdStream: pipes, fifos, terminals and the like as byte streams. See pipe(7), pty(7).

Other holders of the open file
    O_NONBLOCK belongs to the open file, not to the descriptor: another process that shares the file
    may clear it, and read(2) has no MSG_DONTWAIT. So a descriptor that came from elsewhere is
    looked at before each call. Our own pipes are not: no other process has our end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Self

from .base_stream import BaseStream

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_PTMX = os.makedev(5, 2)  # what every master is, see pts(4)


class FdStream(BaseStream):
    """A byte stream over a descriptor that is no socket. Made by ``from_fd`` and ``pipe``.

    A read of a pseudo-terminal's master whose other side is closed is the end (``b""``), and goes
    on when that is opened again, as with a fifo. A regular file is always ready: its reads and
    writes may wait for the disk, and the executor with them; ``fs.File`` does without. ::

        master, terminal = os.openpty()
        async with FdStream.from_fd(master) as stream:
            print(await stream.read_until(b"\\n"))
    """

    def __init__(self, file: PlainFile) -> None:
        super().__init__(file)
        self._io.plain = True

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """Take over descriptor ``fd``: set it non-blocking and close-on-exec.

        From here on it is closed by this object. Never waits. OSError (EBADF) for one that is not
        open; ValueError for a socket (``TcpStream.from_socket`` and the like) and for a directory.
        """
        if not isinstance(fd, int):
            raise TypeError(f"fd must be an int, not {fd!r}")
        kind = os.fstat(fd).st_mode
        if stat.S_ISSOCK(kind):
            raise ValueError(f"fd {fd} is a socket: use from_socket() of the class of its kind")
        if stat.S_ISDIR(kind):
            raise ValueError(f"fd {fd} is a directory, which has no bytes to read")
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
        stream = cls(PlainFile(fd))
        stream._share()
        return stream

    def fileno(self) -> int:
        """The number of the descriptor, to set options. Do not close it. -1 once closed."""
        if self._io.closed:
            return -1
        self._share()
        return self._sock.fileno()  # type: ignore[no-any-return]

    async def shutdown(self) -> None:
        """End the writing: a pipe is closed, as it has one direction.

        OSError (EOPNOTSUPP) for what is open for both, a terminal: it has no half-close.
        BusyResourceError while another task writes.
        """
        await super().shutdown()

    async def _end_writing(self) -> None:
        if fcntl.fcntl(self._sock.fileno(), fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY:
            raise OSError(
                errno.EOPNOTSUPP, f"{os.strerror(errno.EOPNOTSUPP)}: {self!r} has no half-close"
            )
        self.close()

    def _check_ours(self) -> None:
        super()._check_ours()
        if not fcntl.fcntl(self._sock.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK:
            os.set_blocking(self._sock.fileno(), False)


def pipe() -> tuple[FdStream, FdStream]:
    """A new pipe: ``reader, writer``. See pipe(2).

    Never waits; works before the runtime is started. OSError (EMFILE). ::

        reader, writer = pipe()
        await writer.write_all(b"hello\\n")
    """
    made = [FdStream(PlainFile(fd)) for fd in os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)]
    return made[0], made[1]


class PlainFile:
    """A descriptor with the methods of a socket that a stream needs. Non-blocking."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def recv(self, n: int, _flags: int) -> bytes:
        try:
            return os.read(self._fd, n)
        except OSError as error:
            self._raise_unless_end(error)
            return b""

    def recv_into(self, buffer: WriteableBuffer, _n: int, _flags: int) -> int:
        try:
            return os.readv(self._fd, [buffer])
        except OSError as error:
            self._raise_unless_end(error)
            return 0

    def _raise_unless_end(self, error: OSError) -> None:
        """EIO of a pseudo-terminal's master means that the other side is closed."""
        if error.errno != errno.EIO or os.fstat(self._fd).st_rdev != _PTMX:
            raise error

    def send(self, data: ReadableBuffer, _flags: int) -> int:
        with _no_sigpipe():
            return os.write(self._fd, data)

    def sendmsg(self, parts: Sequence[ReadableBuffer], _ancillary: object, _flags: int) -> int:
        with _no_sigpipe():
            return os.writev(self._fd, parts)

    def close(self) -> None:
        os.close(self.detach())

    def detach(self) -> int:
        fd, self._fd = self._fd, -1
        return fd


@contextlib.contextmanager
def _no_sigpipe() -> Iterator[None]:
    """A write to a pipe that no process reads raises SIGPIPE, and write(2) has no MSG_NOSIGNAL.

    Python ignores the signal, but a program may have given it its deadly meaning back.
    """
    if signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
    try:
        yield
    except BrokenPipeError:
        signal.sigtimedwait([signal.SIGPIPE], 0)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
