"""Inotify: what the kernel tells of files, as it tells it. See inotify(7).

The descriptor and the watches are linuxfd's. Its read() is not used: it fails at an overflow, at a
watch that is gone and at a name that is not UTF-8, and the whole batch of events is lost then. So
the events are taken apart here. Nor is its close(), which leaves a descriptor 0 open.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from typing import Final, NamedTuple

import linuxfd

from .open_file import OpenFile

_HEADER: Final = struct.Struct("=iIII")  # watch, mask, cookie, length of the name
_BUFFER: Final = 65536  # one event has 272 bytes at most

WATCHED: Final = (
    linuxfd.IN_CREATE
    | linuxfd.IN_DELETE
    | linuxfd.IN_DELETE_SELF
    | linuxfd.IN_MODIFY
    | linuxfd.IN_ATTRIB
    | linuxfd.IN_CLOSE_WRITE
    | linuxfd.IN_MOVED_FROM
    | linuxfd.IN_MOVED_TO
    | linuxfd.IN_MOVE_SELF
)

_LIMITS: Final = {
    errno.EMFILE: "there are as many as the sysctl fs.inotify.max_user_instances allows, or as"
    " many descriptors as the limit",
    errno.ENOSPC: "there are as many as the sysctl fs.inotify.max_user_watches allows",
}


class Told(NamedTuple):
    """One event, as the kernel has it. ``watch`` is -1 for an overflow."""

    watch: int
    mask: int
    cookie: int
    name: str


class Inotify:
    """A descriptor that is readable when something has happened to what is watched."""

    def __init__(self) -> None:
        """OSError (EMFILE)."""
        try:
            inotify = linuxfd.inotify(nonBlocking=True, closeOnExec=True)
        except OSError as error:
            raise _with_the_limit(error) from None
        self._file = OpenFile(inotify.fileno())  # threads add watches
        inotify._fd = None  # it is not linuxfd's to close any more

    def fileno(self) -> int:
        return self._file.fd

    def add(self, path: str, *, follow: bool) -> int:
        """Watch ``path``; the number of the watch. By a thread, as the path is looked up.

        OSError (FileNotFoundError, ENOSPC, ...); ClosedResourceError.
        """
        return self._file.use(_add, path, follow)

    def remove(self, watch: int) -> None:
        with contextlib.suppress(OSError):  # EINVAL: it was gone already
            self._file.use(linuxfd.inotify_c.inotify_rm_watch, watch)

    def read(self) -> list[Told]:
        """What has happened since. Empty: nothing."""
        try:
            return parse(os.read(self._file.fd, _BUFFER))
        except BlockingIOError:
            return []

    def close(self) -> None:
        self._file.close()


def _add(inotify: int, path: str, follow: bool) -> int:
    flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW | os.O_DIRECTORY)
    # Of a descriptor, since linuxfd refuses a name that is not UTF-8.
    fd = os.open(path, flags)
    try:
        watch: int = linuxfd.inotify_c.inotify_add_watch(inotify, f"/proc/self/fd/{fd}", WATCHED)
    except OSError as error:
        raise _with_the_limit(error) from None
    finally:
        os.close(fd)
    return watch


def parse(data: bytes) -> list[Told]:
    """The events in what was read. Pure."""
    told, at = [], 0
    while at < len(data):
        watch, mask, cookie, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        name = data[at : at + length].rstrip(b"\0")
        told.append(Told(watch, mask, cookie, os.fsdecode(name)))
        at += length
    return told


def _with_the_limit(error: OSError) -> OSError:
    why = _LIMITS.get(error.errno or 0)
    if why is None:
        return error
    return OSError(error.errno, f"{os.strerror(error.errno or 0)}: {why}")
