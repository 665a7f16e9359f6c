"""Names of Unix sockets, and their files: who may remove one. See unix(7).

A name is a path (str, bytes or PathLike), or an abstract name, which begins with a zero byte and
has no file, or ``""``: bound to that, the kernel picks an abstract one.

A file outlives its socket
    A program that was killed leaves one, and bind(2) says EADDRINUSE. Whether anybody listens
    there is known by connecting to it.

Whose file it is (R80)
    Two that start at the same time may find the same dead file::

        A: connects, is refused               B: connects, is refused
        A: unlinks it, binds its own
                                              B: unlinks *A's file*, binds its own

    So no path is unlinked that was looked at a moment ago. It is renamed to a name of our own,
    which one of the two does. Then it is compared with what was looked at, and asked once more
    whether it is dead, as a new file may have the number of an old one. If it is another, it is
    put back.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import stat
from pathlib import Path
from typing import TypeAlias

UnixAddress: TypeAlias = str | bytes  # as getsockname() has it
AnyPath: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Identity: TypeAlias = tuple[int, int]

LONGEST = 108  # bytes in a name, with the zero byte that ends a path; see unix(7)


def check_path(path: AnyPath) -> UnixAddress:
    """A name for the kernel. TypeError, ValueError: it is none."""
    try:
        name = os.fspath(path)
    except TypeError:
        raise TypeError(f"path must be a str, bytes or PathLike, not {path!r}") from None
    raw = os.fsencode(name)
    longest = LONGEST if raw.startswith(b"\0") else LONGEST - 1
    if len(raw) > longest:
        raise ValueError(f"path must have at most {longest} bytes, not {len(raw)}: {name!r}")
    if b"\0" in raw and not raw.startswith(b"\0"):
        raise ValueError(f"path must have no zero byte but the first of an abstract name: {name!r}")
    return name


def has_file(name: UnixAddress) -> bool:
    return os.fsencode(name)[:1] not in (b"", b"\0")


class SocketFile:
    """The file that a bind of ours has made. In a fork's child it does nothing."""

    def __init__(self, name: UnixAddress) -> None:
        self._path = _absolute(name)
        self._identity = identity(self._path)
        self._process = os.getpid()

    def check(self) -> None:
        """OSError (EADDRINUSE): somebody has put a file of theirs in its place."""
        if identity(self._path) != self._identity:
            raise in_use()

    def remove(self) -> None:
        """Unless it is another one by now."""
        if self._identity is not None and os.getpid() == self._process:
            # As long as the socket is open, no other file has the number of its file.
            _remove(self._path, self._identity)


def remove_stale(name: UnixAddress, kind: int) -> None:
    """Remove the file of a socket that nobody has open. OSError (EADDRINUSE): it is another."""
    path = _absolute(name)
    found = identity(path)
    if found is None or not _is_dead(path, kind) or not _remove(path, found, kind):
        raise in_use()


def in_use() -> OSError:
    return OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def identity(path: Path) -> Identity | None:
    """Which socket file this is; None if there is none, or no socket."""
    with contextlib.suppress(OSError):
        status = path.lstat()
        if stat.S_ISSOCK(status.st_mode):
            return status.st_dev, status.st_ino
    return None


def _absolute(name: UnixAddress) -> Path:
    return Path(os.fsdecode(name)).absolute()


def _is_dead(path: Path, kind: int) -> bool:
    # By a descriptor: an absolute path may be longer than a socket's name can be.
    try:
        file = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        with socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK) as probe:
            return probe.connect_ex(f"/proc/self/fd/{file}") == errno.ECONNREFUSED
    finally:
        os.close(file)


def _remove(path: Path, expected: Identity, dead: int | None = None) -> bool:
    """R80: rename, look, and only then unlink. ``dead``: if it is a dead socket's, of this type."""
    if identity(path) != expected:
        return False
    aside = path.with_name(f".{secrets.token_hex(4)}")
    try:
        path.rename(aside)
    except OSError:
        return False
    right = identity(aside) == expected and (dead is None or _is_dead(aside, dead))
    if not right:
        with contextlib.suppress(OSError):  # a third one has bound the path meanwhile
            path.hardlink_to(aside)
    aside.unlink()
    return right
