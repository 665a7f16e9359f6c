"""watch: what happens to files and folders, as events that a task iterates over.

A rename is two events of the kernel's, with one cookie, and nothing promises that they are read
together. So the first one is kept for a moment until the second one comes; without a second one the
file has left the watched folders, and is told of as deleted.

Of a new folder the kernel says nothing but its name; what is made in it before it is watched
would go unnoticed. So it is watched first and then looked through. What is made between the two is
found by both, and told once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias

import linuxfd

from ..base.errors import ClosedResourceError
from ..core.leaf import checkpoint
from ..jobs.file_call import FileCall
from ..scopes.cancel_scope import move_on_after
from ..streams.async_fd import AsyncFd
from .file import Path
from .inotify import Inotify, Told

Kind: TypeAlias = Literal[
    "created", "modified", "closed", "moved", "deleted", "ignored", "overflow"
]

_KINDS: Final[tuple[tuple[int, Kind], ...]] = (
    (linuxfd.IN_CREATE, "created"),
    (linuxfd.IN_MODIFY | linuxfd.IN_ATTRIB, "modified"),
    (linuxfd.IN_CLOSE_WRITE, "closed"),
    (linuxfd.IN_DELETE | linuxfd.IN_DELETE_SELF, "deleted"),
)
_SECOND_HALF_SECONDS = 0.01  # the kernel tells the two halves of a rename one after the other


@dataclass(frozen=True, slots=True)
class FileEvent:
    """One thing that has happened.

    ``kind``: ``"created"``; ``"modified"``, its content or its attributes; ``"closed"`` after
    writing; ``"moved"`` from ``path`` to ``dest``; ``"deleted"``; ``"ignored"``: it is
    gone, and nothing more will come; ``"overflow"``: the kernel has dropped events, so look for
    yourself. A name that is not UTF-8 is as ``os.fsdecode`` has it.
    """

    kind: Kind
    path: str
    dest: str | None = None
    is_dir: bool = False


class FileWatch:
    """What ``fs.watch`` gives: enter it, and iterate over it."""

    def __init__(self, path: Path, *, recursive: bool) -> None:
        self._root = os.fsdecode(path)
        self._recursive = recursive
        self._inotify: Inotify | None = None
        self._fd: AsyncFd | None = None
        self._paths: dict[int, str] = {}  # by the number of the watch
        self._root_watch = -1
        self._told: deque[Told] = deque()  # by the kernel, and not looked at yet
        self._ready: deque[FileEvent] = deque()
        self._found: set[str] = set()  # in new folders; of these the kernel may tell too
        self._from: tuple[Told, str] | None = None  # the first half of a rename

    async def __aenter__(self) -> Self:
        """Begin to watch. OSError (FileNotFoundError, EMFILE, ENOSPC, ...)."""
        if self._fd is not None:
            raise RuntimeError(f"{self!r} has already been entered; call watch() again")
        self._inotify = Inotify()
        self._fd = AsyncFd(self._inotify)
        try:
            await FileCall(self._begin)
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._close()

    def __aiter__(self) -> AsyncIterator[FileEvent]:
        return self

    async def __anext__(self) -> FileEvent:
        """Wait for the next event. Cancelled, it takes none.

        ClosedResourceError outside of the block; BusyResourceError if another task waits here.
        """
        await checkpoint()
        while not self._ready:
            if self._inotify is None or self._fd is None:
                raise ClosedResourceError(f"{self!r} is not open")
            await self._look(self._inotify, self._fd)
        return self._ready.popleft()

    async def _look(self, inotify: Inotify, fd: AsyncFd) -> None:
        """Take what the kernel has told one step further."""
        if not self._told:
            if self._from is None:
                await fd.readable()
            else:
                with move_on_after(_SECOND_HALF_SECONDS):
                    await fd.readable()
            self._told.extend(inotify.read())
            if not self._told:
                self._end_rename()
                return
        while self._told:
            told = self._told.popleft()
            folder = self._take(told)
            if folder is not None:  # by a thread; cut off, it is told of again
                self._told.appendleft(told)
                found = await FileCall(self._watch_tree, folder)
                self._told.popleft()
                self._take_new(told, folder, found)

    # -- what the kernel tells -------------------------------------------------------------------

    def _take(self, told: Told) -> str | None:
        """Make events of it. A path: a new folder, which must be watched first."""
        if told.mask & linuxfd.IN_Q_OVERFLOW:
            self._end_rename()
            self._ready.append(FileEvent("overflow", self._root))
            return None
        folder = self._paths.get(told.watch)
        if folder is None:  # late: it is not watched any more
            return None
        path = os.path.join(folder, told.name) if told.name else folder  # noqa: PTH118
        is_dir = bool(told.mask & linuxfd.IN_ISDIR)
        if self._from is not None and not self._is_second_half(told):
            self._end_rename()
        if told.mask & linuxfd.IN_IGNORED:
            del self._paths[told.watch]
            if told.watch == self._root_watch:
                self._ready.append(FileEvent("ignored", self._root))
        elif told.mask & linuxfd.IN_MOVED_FROM:
            self._from = told, path
        elif told.mask & linuxfd.IN_MOVED_TO and self._from is not None:
            self._end_rename(path)
        elif told.mask & (linuxfd.IN_CREATE | linuxfd.IN_MOVED_TO):
            if is_dir and self._recursive:
                return path
            self._take_new(told, path, [])
        elif not told.name and told.watch != self._root_watch:
            pass  # a folder's own event, which the folder above it has too
        else:
            kind = next((kind for mask, kind in _KINDS if told.mask & mask), None)
            if kind is not None:
                if kind == "deleted":
                    self._found.discard(path)
                self._ready.append(FileEvent(kind, path, None, is_dir))
        return None

    def _is_second_half(self, told: Told) -> bool:
        assert self._from is not None
        return bool(told.mask & linuxfd.IN_MOVED_TO) and told.cookie == self._from[0].cookie

    def _take_new(self, told: Told, path: str, found: list[tuple[str, bool]]) -> None:
        is_dir = bool(told.mask & linuxfd.IN_ISDIR)
        for new, new_is_dir in [(path, is_dir), *found]:
            if new in self._found:
                self._found.discard(new)
            else:
                self._ready.append(FileEvent("created", new, None, new_is_dir))
        self._found.update(new for new, _ in found)

    def _end_rename(self, dest: str | None = None) -> None:
        """The second half has come, or it will not come: then the file has left."""
        if self._from is None:
            return
        (told, path), self._from = self._from, None
        is_dir = bool(told.mask & linuxfd.IN_ISDIR)
        if is_dir:
            self._move_watches(path, dest)
        kind: Kind = "deleted" if dest is None else "moved"
        self._ready.append(FileEvent(kind, path, dest, is_dir))

    def _move_watches(self, path: str, dest: str | None) -> None:
        """A folder has moved, and with it those that are in it."""
        for watch, watched in list(self._paths.items()):
            if watched == path or watched.startswith(path + "/"):
                if dest is not None:
                    self._paths[watch] = dest + watched[len(path) :]
                elif self._inotify is not None:
                    del self._paths[watch]
                    self._inotify.remove(watch)

    # -- watches: by a thread --------------------------------------------------------------------

    def _begin(self) -> None:
        assert self._inotify is not None
        self._root_watch = self._inotify.add(self._root, follow=True)
        self._paths[self._root_watch] = self._root
        if self._recursive and os.path.isdir(self._root):  # noqa: PTH112
            for path, is_dir in self._scan(self._root):
                if is_dir:
                    self._watch_tree(path)

    def _watch_tree(self, folder: str) -> list[tuple[str, bool]]:
        """Watch a folder and those in it; what is in them, and whether it is a folder."""
        found: list[tuple[str, bool]] = []
        folders = [folder]
        # Read once for each: its task may close it meanwhile, and then this is over.
        while folders and (inotify := self._inotify) is not None:
            path = folders.pop()
            try:
                self._paths.setdefault(inotify.add(path, follow=False), path)
                inside = list(self._scan(path))
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue  # it is gone again, or not for us
            found += inside
            folders += [new for new, is_dir in inside if is_dir]
        return found

    def _scan(self, path: str) -> Iterator[tuple[str, bool]]:
        with os.scandir(path) as entries:
            for entry in entries:
                yield entry.path, entry.is_dir(follow_symlinks=False)

    def _close(self) -> None:
        inotify, self._inotify = self._inotify, None
        if inotify is not None and self._fd is not None:
            self._fd.close()
            inotify.close()

    def __repr__(self) -> str:
        state = "open" if self._inotify is not None else "new" if self._fd is None else "closed"
        return f"<FileWatch {self._root!r} {state}>"


def watch(path: Path, *, recursive: bool = False) -> FileWatch:
    """Watch a file or a folder: ``async with fs.watch(path) as events``, then ``async for``.

    Of a folder it tells what happens to what is directly in it; with ``recursive`` also to what is
    in its folders, those that are made meanwhile included; symbolic links in it are not followed.
    A file that leaves is ``"deleted"``, one that comes is ``"created"``. Events that the task is
    too slow for are kept by the kernel, as many as the sysctl fs.inotify.max_queued_events says:
    then ``"overflow"``.

    One task at a time iterates. OSError at the entry: FileNotFoundError, or at a limit EMFILE or
    ENOSPC, which names the sysctl. ::

        async with fs.watch("/etc", recursive=True) as events:
            async for event in events:
                print(event.kind, event.path)

    See inotify(7).
    """
    return FileWatch(path, recursive=recursive)
