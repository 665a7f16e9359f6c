"""Files: opened as streams of bytes, and what is done to them by their paths.

============================  ==========================================================
``File.open(path)``           a stream of bytes with a position; ``pread``, ``pwrite``
``read_bytes(path)``, ...     a whole file in one call
``mkdir``, ``stat``, ...      what ``os`` does with paths
``watch(path)``               what happens to files and folders, as events
============================  ==========================================================

The kernel has no call that would not wait for a disk, so threads of their own pool make
them: at most 16, which jobs of ``spawn_blocking`` cannot keep busy.
"""

from .events import FileEvent, watch
from .file import File
from .paths import (
    chmod,
    exists,
    is_dir,
    is_file,
    link,
    listdir,
    lstat,
    mkdir,
    read_bytes,
    readlink,
    remove,
    remove_tree,
    rename,
    rmdir,
    scandir,
    stat,
    symlink,
    utime,
    write_bytes,
)

__all__ = [
    "File",
    "FileEvent",
    "chmod",
    "exists",
    "is_dir",
    "is_file",
    "link",
    "listdir",
    "lstat",
    "mkdir",
    "read_bytes",
    "readlink",
    "remove",
    "remove_tree",
    "rename",
    "rmdir",
    "scandir",
    "stat",
    "symlink",
    "utime",
    "watch",
    "write_bytes",
]


def __dir__() -> list[str]:
    return sorted(__all__)
