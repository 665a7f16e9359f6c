"""File: an open file as a stream of bytes.

The kernel has no non-blocking form of reading a file, so a thread of a pool makes each call. One
that has begun cannot be interrupted. If its await is cut off (cancelled, timed out), it goes on,
and the next operation first waits for its end. So no two calls move the position at once, and

- what a read has got by then is there for the next read: nothing is lost;
- what a write was given is written; its error is raised by the next operation.

``_unread`` and the stream's buffer are what was read ahead of the user. A thread uses them during
such a call only, and the executor's thread between them.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar

from ..base.closeable import Opening
from ..base.errors import ClosedResourceError, RuntimeClosed
from ..base.log import report
from ..core import current
from ..core.contract import RuntimeLike
from ..core.leaf import checkpoint
from ..jobs.file_call import FileCall, Over
from ..scopes.cancel_scope import CancelScope
from ..streams.byte_stream import ByteStream, byte_view, check_count, views
from ..streams.io import LARGEST_READ
from .open_file import OpenFile

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ..streams.byte_stream import Data

T = TypeVar("T")

Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_FLAGS: Final = {
    "r": 0,
    "w": os.O_CREAT | os.O_TRUNC,
    "a": os.O_CREAT | os.O_APPEND,
    "x": os.O_CREAT | os.O_EXCL,
}
_MODES: Final = {
    kind + update: flags | (os.O_RDWR if update else os.O_WRONLY if kind != "r" else os.O_RDONLY)
    for kind, flags in _FLAGS.items()
    for update in ("", "+")
}


class File(ByteStream):
    """An open file, of bytes: made by ``File.open`` and ``File.create``.

    It has what every stream of bytes has (``read``, ``read_exact``, ``read_until``, ``lines``,
    ``write_all``, ...), and a position, which one task at a time may use: BusyResourceError in a
    second one. ``pread`` and ``pwrite`` have their own, and any number may run at once. Threads
    of a pool of their own make the calls, so the executor never waits for a disk.

    Cancelled, a call that no thread has begun does not happen. One that has begun goes on, and the
    next operation waits for it: what it has read is there for the next read, and what it was to
    write is written. ClosedResourceError once closed, also for tasks that wait; RuntimeClosed in a
    task of another runtime. ::

        async with File.open("notes") as file:
            async for line in file:
                print(line.decode())

    After Tokio's `File <https://docs.rs/tokio/latest/tokio/fs/struct.File.html>`_.
    """

    def __init__(self, opened: OpenFile, name: Path) -> None:
        super().__init__()
        self._writer = self._reader  # both move the position
        self._file = opened
        self._name = name
        self._runtime: RuntimeLike = current.runtime()
        self._calls: dict[FileCall[Any], None] = {}  # that are awaited now
        self._last: FileCall[Any] | None = None  # of those that move the position
        self._unread = b""
        self._late_error: OSError | None = None  # of a write whose await was cut off

    # -- opening and closing ---------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path, mode: str = "rb") -> Opening[Self]:
        """Open a file: ``await`` it, or enter it with ``async with``, which closes the file.

        ``mode`` is that of the built-in ``open``, for bytes: ``"rb"``, ``"wb"``, ``"ab"``,
        ``"xb"``, each also with ``+``. A new file gets the permissions 0o666 less the umask; no
        program that is started inherits the descriptor. Cancelled, it leaves no descriptor, but
        perhaps an empty file. ValueError at the call for another mode; OSError (FileNotFoundError,
        IsADirectoryError, ...). Opening a fifo waits for the other side. See open(2).
        """
        flags = _MODES.get(mode.replace("b", "", 1)) if "b" in mode else None
        if flags is None:
            raise ValueError(f"mode must be one of bytes, as 'rb' or 'r+b', not {mode!r}")
        return Opening(cls._open(path, flags))

    @classmethod
    def create(cls, path: Path) -> Opening[Self]:
        """Open a new, empty file for writing; one that is there is emptied. See ``open``."""
        return cls.open(path, "wb")

    @classmethod
    async def _open(cls, path: Path, flags: int) -> Self:
        return cls(await FileCall(_open, path, flags), path)

    def close(self) -> None:
        """Close the file. Tasks that wait get ClosedResourceError. Twice is fine. From anywhere.

        Never waits: a thread of the pool closes the descriptor, when the calls that have begun are
        over, and an error is logged. ``async with`` waits for it, and raises the error.
        """
        if self._mark_closed():
            self._runtime.call_on_executor(self._close)
            if self._runtime.gone:  # now or just before: nothing published would be called
                self._close_now()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Close the file and wait for that, also if cancelled. OSError from close(2)."""
        if self._mark_closed():
            self._cut_calls_short()
            with CancelScope(shield=True):
                await FileCall(self._file.close)

    def _mark_closed(self) -> bool:
        """False: it is closed already."""
        first = not self._io.closed
        self._io.closed = self._file.closing = True
        return first

    def _close(self) -> None:
        """Executor's thread."""
        self._cut_calls_short()
        try:
            self._runtime.files._submit(FileCall(self._close_now))
        except RuntimeError:  # there is no thread to be had
            self._close_now()

    def _close_now(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            report("closing %r failed: %s", self._name, error)

    def _cut_calls_short(self) -> None:
        calls = [*self._calls, *([] if self._last is None else [self._last])]
        for call in calls:
            call.cut_short(ClosedResourceError("this File was closed"))

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._io.closed

    @property
    def name(self) -> Path:
        """The path that it was opened by."""
        return self._name

    def fileno(self) -> int:
        """The descriptor. Do not close it; its position is not where the last read has ended."""
        self._check_open()
        return self._file.fd

    # -- at the position -------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Its lines, without the line ends, of any length."""
        return self.lines(limit=sys.maxsize)

    async def read_to_end(self) -> bytes:
        """What is left, up to the end of the file. Cancelled, it has read nothing."""
        with self._side(self._reader):
            await self._no_wait()
            while data := await self._read_some(LARGEST_READ):
                self._io.buffer.extend(data)
            return self._io.take(len(self._io.buffer))

    def write_all(self, data: Data) -> Coroutine[Any, Any, None]:
        """Write all of ``data``, a bytes-like object or a list of such, at the position.

        By an error (ENOSPC, ...) a part may have been written; ``tell()`` says how much. Cancelled
        after a thread has begun, it is written all the same. See write(2).
        """
        return self._write_list(views(data))

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position: to ``offset`` from the beginning; or from the position or from the
        end, with ``os.SEEK_CUR`` or ``os.SEEK_END``. Returns the new one. See lseek(2)."""
        return await self._positioned(self._seek_in_thread, offset, whence)

    async def tell(self) -> int:
        """The position: where the next read or write begins."""
        return await self._positioned(self._seek_in_thread, 0, os.SEEK_CUR)

    async def truncate(self, size: int | None = None) -> int:
        """Cut the file off at ``size``, or at the position; or extend it with zeros.

        The position stays. Returns the new size. See ftruncate(2).
        """
        return await self._positioned(self._truncate_in_thread, size)

    async def _positioned(self, function: Callable[..., T], *args: object) -> T:
        with self._side(self._reader):
            await self._no_wait()
            return await self._move(function, *args)

    async def _read_some(self, n: int) -> bytes:
        if not self._unread:
            await self._move(self._read_in_thread, n)
        data, self._unread = self._unread[:n], self._unread[n:]
        return data

    async def _write_some(self, data: memoryview) -> int:
        return await self._move(self._write_in_thread, own(data))

    async def _write_list(self, buffers: list[memoryview]) -> None:
        parts = [own(view) for view in buffers]
        with self._side(self._writer):
            await self._no_wait()
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            await self._move(self._write_all_in_thread, data)

    async def _end_writing(self) -> None:
        """A file has no other side that would wait for it."""

    async def _move(self, function: Callable[..., T], *args: object) -> T:
        """Have a thread call ``function``, which moves the position. The task has claimed it."""
        call = self._last = FileCall(self._file.use, function, *args)
        try:
            return await self._wait(call)
        except OSError:
            self._late_error = None
            raise

    async def _no_wait(self) -> None:
        """Before an operation: the end of an earlier one whose await was cut off."""
        await checkpoint()
        self._check_open()
        if self._last is not None and self._last.runs():
            await Over(self._last)
            self._check_open()
        error, self._late_error = self._late_error, None
        if error is not None:
            raise error

    # -- by a thread -----------------------------------------------------------------------------

    def _read_in_thread(self, fd: int, n: int) -> None:
        self._unread = os.read(fd, n)

    def _write_in_thread(self, fd: int, data: ReadableBuffer) -> int:
        self._give_back(fd)
        try:
            return os.write(fd, data)
        except OSError as error:
            self._late_error = error
            raise

    def _write_all_in_thread(self, fd: int, data: bytes) -> None:
        with memoryview(data) as view:
            written = 0
            while written < len(view):
                written += self._write_in_thread(fd, view[written:])

    def _seek_in_thread(self, fd: int, offset: int, whence: int) -> int:
        self._give_back(fd)
        return os.lseek(fd, offset, whence)

    def _truncate_in_thread(self, fd: int, size: int | None) -> int:
        self._give_back(fd)
        size = os.lseek(fd, 0, os.SEEK_CUR) if size is None else size
        os.ftruncate(fd, size)
        return size

    def _give_back(self, fd: int) -> None:
        """Set the kernel's position to that of the user: what was read ahead does not count."""
        ahead = len(self._io.buffer) + len(self._unread)
        if ahead:
            try:
                os.lseek(fd, -ahead, os.SEEK_CUR)
            except OSError as error:
                if error.errno == errno.ESPIPE:  # a fifo, a terminal: what was read stays so
                    return
                raise
            self._io.buffer.clear()
            self._unread = b""

    # -- at an offset, and the whole ---------------------------------------------------------------

    async def pread(self, n: int, offset: int) -> bytes:
        """At most ``n`` bytes from ``offset`` on; ``b""`` at the end. The position stays.

        Any number of tasks may do so at once. See pread(2).
        """
        check_count(n, "n")
        return await self._beside(os.pread, n, offset)

    async def pwrite(self, data: ReadableBuffer, offset: int) -> int:
        """Write ``data`` at ``offset``; returns how many bytes were written. The position stays.

        Any number of tasks may do so at once. See pwrite(2).
        """
        return await self._beside(os.pwrite, own(byte_view(data, "data")), offset)

    async def sync(self, *, metadata: bool = True) -> None:
        """Wait until what was written is on the disk. See fsync(2); without ``metadata``,
        fdatasync(2)."""
        await self._beside(os.fsync if metadata else os.fdatasync)

    async def stat(self) -> os.stat_result:
        """What fstat(2) tells of the file."""
        return await self._beside(os.fstat)

    async def _beside(self, function: Callable[..., T], *args: object) -> T:
        self._check_runtime()
        self._check_open()
        return await self._wait(FileCall(self._file.use, function, *args))

    async def _wait(self, call: FileCall[T]) -> T:
        self._calls[call] = None
        try:
            return await call
        finally:
            del self._calls[call]

    # -- what all objects here have ----------------------------------------------------------------

    def _check_open(self) -> None:
        if self._io.closed:
            raise ClosedResourceError("this File was closed")

    def _check_runtime(self) -> None:
        cx = current.thread.context
        if cx is not None and self._runtime is not cx._runtime:
            raise RuntimeClosed(
                f"this File belongs to another runtime ({self._runtime.gone or 'which is running'})"
            )

    def __del__(self) -> None:
        if hasattr(self, "_late_error") and not self._io.closed:
            text = f"unclosed {self!r}"
            self.close()  # first: the warning may be made an error
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        return f"<File {os.fsdecode(self._name)!r}{' closed' if self._io.closed else ''}>"


def _open(path: Path, flags: int) -> OpenFile:
    """By a thread. If its task was cancelled, the file is closed as it is dropped."""
    opened = OpenFile(os.open(path, flags, 0o666))
    if stat.S_ISDIR(os.fstat(opened.fd).st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if flags & os.O_APPEND:
        try:
            os.lseek(opened.fd, 0, os.SEEK_END)
        except OSError as error:
            if error.errno != errno.ESPIPE:
                raise
    return opened


def own(view: memoryview) -> bytes:
    """Its bytes as an object that nothing changes; copied unless it is one already."""
    whole = view.obj
    return whole if type(whole) is bytes and len(whole) == len(view) else view.tobytes()
