"""What is done to files by their paths: the calls of ``os``, each made by a thread of the pool.

Cancelled, a call that no thread has begun does not happen; one that has begun goes on. Each raises
the OSError of its system call: FileNotFoundError, PermissionError, ...
"""

from __future__ import annotations

import os
import shutil
import stat as modes
from typing import TYPE_CHECKING, AnyStr

from ..jobs.file_call import FileCall
from ..streams.byte_stream import byte_view
from .file import Path, own

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


async def mkdir(path: Path, mode: int = 0o777, *, parents: bool = False) -> None:
    """Make a folder, with the permissions ``mode`` less the umask.

    With ``parents``, also the folders on the way there; it may be there already. See mkdir(2). ::

        await fs.mkdir("data/2024", parents=True)
    """
    if parents:
        await FileCall(os.makedirs, path, mode, True)
    else:
        await FileCall(os.mkdir, path, mode)


async def rmdir(path: Path) -> None:
    """Remove an empty folder. See rmdir(2)."""
    await FileCall(os.rmdir, path)


async def remove(path: Path) -> None:
    """Remove a file or a symbolic link. See unlink(2)."""
    await FileCall(os.remove, path)


async def remove_tree(path: Path) -> None:
    """Remove a folder and all that is in it; symbolic links are not followed."""
    await FileCall(shutil.rmtree, path)


async def rename(path: Path, new_path: Path) -> None:
    """Give a file or folder another path, in one step. A file that is there is replaced.
    See rename(2)."""
    await FileCall(os.rename, path, new_path)


async def link(path: Path, new_path: Path) -> None:
    """Give a file a second name. See link(2)."""
    await FileCall(os.link, path, new_path)


async def symlink(target: Path, path: Path) -> None:
    """Make ``path`` a symbolic link to ``target``. See symlink(2)."""
    await FileCall(os.symlink, target, path)


async def readlink(path: AnyStr | os.PathLike[AnyStr]) -> AnyStr:
    """Where a symbolic link leads; bytes if ``path`` is bytes. See readlink(2)."""
    return await FileCall(os.readlink, path)


async def chmod(path: Path, mode: int) -> None:
    """Set the permissions. See chmod(2)."""
    await FileCall(os.chmod, path, mode)


async def utime(path: Path, times: tuple[float, float] | None = None) -> None:
    """Set the times of the last access and change, in seconds; None: now. See utimensat(2)."""
    await FileCall(os.utime, path, times)


async def stat(path: Path) -> os.stat_result:
    """What there is to know of a file; of the one that a symbolic link leads to. See stat(2)."""
    return await FileCall(os.stat, path)


async def lstat(path: Path) -> os.stat_result:
    """As ``stat``, of a symbolic link itself. See lstat(2)."""
    return await FileCall(os.lstat, path)


async def exists(path: Path) -> bool:
    """Whether there is something; False also if a symbolic link leads nowhere.

    OSError if that cannot be said (PermissionError, ...).
    """
    return await FileCall(_mode_of, path) is not None


async def is_file(path: Path) -> bool:
    """Whether it is a regular file, perhaps by a symbolic link. OSError as in ``exists``."""
    mode = await FileCall(_mode_of, path)
    return mode is not None and modes.S_ISREG(mode)


async def is_dir(path: Path) -> bool:
    """Whether it is a folder, perhaps by a symbolic link. OSError as in ``exists``."""
    mode = await FileCall(_mode_of, path)
    return mode is not None and modes.S_ISDIR(mode)


def _mode_of(path: Path) -> int | None:
    try:
        return os.stat(path).st_mode  # noqa: PTH116  # a path may be bytes
    except (FileNotFoundError, NotADirectoryError):
        return None


async def listdir(path: AnyStr | os.PathLike[AnyStr]) -> list[AnyStr]:
    """The names in a folder, in no order; bytes if ``path`` is bytes. See readdir(3)."""
    return await FileCall(os.listdir, path)


async def scandir(path: AnyStr | os.PathLike[AnyStr]) -> list[os.DirEntry[AnyStr]]:
    """What is in a folder, with its kind, in no order: a list of ``os.DirEntry``.

    ``is_dir`` and ``is_file`` of an entry need no system call, unless it is a symbolic link. ::

        folders = [entry.name for entry in await fs.scandir("/etc") if entry.is_dir()]
    """
    return await FileCall(_scan, path)


def _scan(path: AnyStr | os.PathLike[AnyStr]) -> list[os.DirEntry[AnyStr]]:
    with os.scandir(path) as entries:
        return list(entries)


async def read_bytes(path: Path) -> bytes:
    """The whole of a file. One thread opens, reads and closes it. ::

    text = (await fs.read_bytes("/etc/hostname")).decode()
    """
    return await FileCall(_read_bytes, path)


def _read_bytes(path: Path) -> bytes:
    with open(path, "rb", 0) as file:  # noqa: PTH123
        return file.readall()


async def write_bytes(path: Path, data: ReadableBuffer) -> None:
    """Write ``data`` to a file, which is made, or emptied first. One thread does it all.

    By an error (ENOSPC, ...) a part may have been written. Cancelled after the thread has begun,
    it is written all the same.
    """
    await FileCall(_write_bytes, path, own(byte_view(data, "data")))


def _write_bytes(path: Path, data: bytes) -> None:
    with open(path, "wb", 0) as file, memoryview(data) as view:  # noqa: PTH123
        written = 0
        while written < len(view):
            written += file.write(view[written:])
