"""Process: a program that runs beside this one."""

from __future__ import annotations

import contextlib
import errno
import signal
import subprocess
import warnings
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self, TypeAlias

from ..base.closeable import Opening
from ..base.errors import RuntimeClosed
from ..core import current
from ..core.contract import RuntimeLike
from ..jobs.file_call import FileCall
from ..scopes.cancel_scope import CancelScope
from ..streams.byte_stream import ByteStream
from ..streams.fd_stream import FdStream, PlainFile
from ..timers.timer import sleep
from .child import Child, EndOf
from .start import REFUSED, Started, start

if TYPE_CHECKING:
    from os import PathLike

    Arg: TypeAlias = str | bytes | PathLike[str] | PathLike[bytes]
    Args: TypeAlias = Arg | list[Arg] | list[str] | list[bytes] | tuple[Arg, ...]
    Stream: TypeAlias = int | IO[Any] | None

# How soon to look again, if the kernel tells of an end that has not come (to a debugger it has).
_LOOK_AGAIN_SECONDS = 0.01


class Process:
    """A program that was started by ``Process.spawn``.

    ``stdin``, ``stdout`` and ``stderr`` are byte streams where PIPE was asked for, else None. ::

        async with Process.spawn(["sort"], stdin=PIPE, stdout=PIPE) as sort:
            await sort.stdin.write_all(b"b\\na\\n")
            sort.stdin.close()
            async for line in sort.stdout.lines():
                print(line)

    Leaving ``async with`` kills it and waits for its end. Dropped while it runs, it goes on, with a
    ResourceWarning, and is reaped at its end. See pidfd_open(2); trio's and Tokio's Process.
    """

    def __init__(self, args: Args, started: Started) -> None:
        self._args = args
        self._child = started.child
        self._runtime: RuntimeLike = current.runtime()
        self._entered = False
        self._pipes = {name: FdStream(PlainFile(fd)) for name, fd in started.pipes.items()}

    @classmethod
    def spawn(
        cls,
        args: Args,
        *,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
        start_new_session: bool = True,
        **options: Any,
    ) -> Opening[Self]:
        """Start a program: ``await`` it, or enter it with ``async with``.

        ``args``, the streams (None: ours; PIPE, DEVNULL, STDOUT, a descriptor or a file) and
        ``options`` (``cwd``, ``env``, ``pass_fds``, ``shell``, ``user``, ``umask``, ...) are those
        of subprocess.Popen, but for ``preexec_fn`` and what is for text: ValueError.

        The program is the first of a session and a group of its own, so that signals reach what it
        starts as well, and Ctrl-C at the terminal does not. A program that uses the terminal needs
        ``start_new_session=False``; signals are then for itself only.

        A thread starts it, by vfork(2). Cancelled, it has not been started, or it has been killed.
        OSError (FileNotFoundError, PermissionError, EMFILE, ...) as from subprocess.
        """
        for name, reason in REFUSED.items():
            if options.get(name):
                raise ValueError(f"{name} cannot be used: {reason}")
        streams = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        for name, stream in streams.items():
            if isinstance(stream, ByteStream):
                raise TypeError(
                    f"{name} must be PIPE, a descriptor or a file, not {stream!r}:"
                    " programs do not expect one that does not block"
                )
        options["start_new_session"] = start_new_session
        return Opening(cls._spawn(args, streams, options))

    @classmethod
    async def _spawn(cls, args: Args, streams: dict[str, Stream], options: dict[str, Any]) -> Self:
        return cls(args, await _start(args, streams, options))

    @property
    def args(self) -> Args:
        """What it was started with."""
        return self._args

    @property
    def pid(self) -> int:
        """Its number; after its end it may be another's."""
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """How it ended: its exit status, or -15 if signal 15 ended it. None while it runs, and if
        other code has waited for it."""
        self._child.look()
        return self._child.returncode

    @property
    def stdin(self) -> FdStream | None:
        """Where it reads from. Close it to have the program find the end."""
        return self._pipes.get("stdin")

    @property
    def stdout(self) -> FdStream | None:
        """What it writes."""
        return self._pipes.get("stdout")

    @property
    def stderr(self) -> FdStream | None:
        """What it writes to its standard error."""
        return self._pipes.get("stderr")

    async def wait(self) -> int:
        """Wait for its end; returns ``returncode``. In any number of tasks, and again.

        It does not wait for those that the program has started, nor for the end of its pipes.
        Cancelled, it only stops waiting. ChildProcessError if other code has waited for it: then it
        is not known how it ended. RuntimeClosed in a fork's child.
        """
        self._check_parent()
        await _end_of(self._child)
        if not self._entered:
            self._child.reap()
        if self._child.returncode is None:
            raise ChildProcessError(
                errno.ECHILD, f"other code has waited for process {self.pid}, or SIGCHLD is ignored"
            )
        return self._child.returncode

    def send_signal(self, signum: int) -> None:
        """Send it a signal, and all of its group, unless it has no group of its own.

        Nothing happens if it has ended, and its end was waited for. From any thread. OSError
        (PermissionError).
        """
        self._check_parent()
        self._child.signal(signum)

    def terminate(self) -> None:
        """Send it SIGTERM, see ``send_signal``."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL, see ``send_signal``."""
        self.send_signal(signal.SIGKILL)

    async def __aenter__(self) -> Self:
        self._entered = True  # its group can be signalled until the block is left
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Kill it, and wait for its end, also if cancelled; close the pipes."""
        for stream in self._pipes.values():
            stream.close()
        if self._child.is_ours:
            self._child.signal(signal.SIGKILL)
            self._entered = False
            with CancelScope(shield=True), contextlib.suppress(ChildProcessError):
                await self.wait()

    def _check_parent(self) -> None:
        if not self._child.is_ours:
            raise RuntimeClosed(f"process {self.pid} is the parent's, and this is a forked child")

    def __del__(self) -> None:
        if not hasattr(self, "_pipes") or not self._child.is_ours:
            return
        if self._child.look():
            self._child.reap()
            return
        text = f"{self!r} was dropped while it runs"
        with contextlib.suppress(RuntimeClosed):
            self._runtime.spawn(_reap(self._child), name=f"end of process {self.pid}")
        warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        if not self._child.look():
            state = "running"
        elif self._child.returncode is None:
            state = "ended"
        else:
            state = f"returncode={self._child.returncode}"
        return f"<Process {self.pid} {state}>"


async def _end_of(child: Child) -> None:
    await EndOf(child)
    while not child.look():
        await sleep(_LOOK_AGAIN_SECONDS)
        await EndOf(child)


async def _reap(child: Child) -> None:
    """Wait for the end of a child whose Process is gone."""
    await _end_of(child)
    child.reap()


_NOT_TAKEN = object()


async def _start(args: Args, streams: dict[str, Stream], options: dict[str, Any]) -> Started:
    """Have a thread start it.

    R87: the await may be cut off just as the thread has started it. Then the program must be ended,
    once, by the thread or by the task. Both enter in ``taken`` what they know, by one C call, and
    the second to come has it to do.
    """
    taken: dict[None, object] = {}

    def run() -> Started:
        started = start(args, streams, options)
        if taken.setdefault(None, started) is not started:
            started.undo()
        return started

    try:
        return await FileCall(run)
    except BaseException:
        started = taken.setdefault(None, _NOT_TAKEN)
        if isinstance(started, Started):  # a thread ends it, as that waits
            current.runtime().files._submit(FileCall(started.undo))
        raise
