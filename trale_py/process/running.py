"""run: a program from its start to its end, in one call."""

from __future__ import annotations

import contextlib
import math
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ..base.durations import Duration, to_ns
from ..scopes.cancel_scope import move_on_after
from ..scopes.task_group import TaskGroup
from ..streams.byte_stream import byte_view
from ..streams.fd_stream import FdStream
from .process import Process

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from .process import Args, Stream


class TimeoutExpired(subprocess.TimeoutExpired, TimeoutError):
    """A program did not end in time, and was killed.

    ``output`` and ``stderr`` are what it had written, where that was asked for.

    It is a subprocess.TimeoutExpired, and the TimeoutError that all timeouts are here.
    """

    __module__ = "trale_py.process"

    def __init__(
        self, cmd: Args, timeout: float, output: bytes | None = None, stderr: bytes | None = None
    ) -> None:
        super().__init__(cmd, timeout, output, stderr)
        self.args = (cmd, timeout, output, stderr)  # for copies; OSError leaves it empty


async def run(
    args: Args,
    *,
    input: ReadableBuffer | None = None,
    capture_output: bool = False,
    check: bool = False,
    timeout: Duration | None = None,
    stdin: Stream = subprocess.DEVNULL,
    stdout: Stream = None,
    stderr: Stream = None,
    **options: Any,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end: as subprocess.run, with bytes only.

    ``input`` is what it reads. With ``capture_output``, or with PIPE, what it writes is in
    ``stdout`` and ``stderr`` of the result. Then it waits for the end of these too, which another
    program that has inherited them may hold open. The other arguments are those of
    ``Process.spawn``.

    ``check``: CalledProcessError if its returncode is not 0. After ``timeout`` seconds the program
    and its whole group are killed, and TimeoutExpired is raised. Cancelled, it is killed likewise.
    In a script: ``block_on(process.run([...]))``. OSError as from ``Process.spawn``. ::

        done = await process.run(["git", "status"], capture_output=True, check=True, timeout=10)
        print(done.stdout.decode())
    """
    if input is not None:
        byte_view(input, "input").release()
        if stdin != subprocess.DEVNULL:
            raise ValueError("stdin and input cannot be used together")
    if capture_output and (stdout is not None or stderr is not None):
        raise ValueError("stdout and stderr cannot be used together with capture_output")
    seconds = math.inf if timeout is None else timeout
    to_ns(seconds, "timeout")
    streams = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
    if input is not None:
        streams["stdin"] = subprocess.PIPE
    if capture_output:
        streams["stdout"] = streams["stderr"] = subprocess.PIPE
    written = {
        name: bytearray() for name in ("stdout", "stderr") if streams[name] == subprocess.PIPE
    }
    in_time = False
    with move_on_after(seconds):
        async with Process.spawn(args, **streams, **options) as process:  # type: ignore[arg-type]
            await _attend(process, input, written)
            returncode = await process.wait()
            in_time = True
    output = {name: bytes(data) for name, data in written.items()}
    if not in_time:
        assert timeout is not None
        limit = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        raise TimeoutExpired(args, limit, output.get("stdout"), output.get("stderr"))
    if check and returncode:
        raise subprocess.CalledProcessError(
            returncode, args, output.get("stdout"), output.get("stderr")
        )
    return subprocess.CompletedProcess(args, returncode, output.get("stdout"), output.get("stderr"))


async def _attend(
    process: Process, input: ReadableBuffer | None, written: dict[str, bytearray]
) -> None:
    """Feed it, and collect what it writes, to the end."""
    if process.stdin is None and not written:
        return
    async with TaskGroup() as group:
        if process.stdin is not None:
            group.spawn(_feed(process.stdin, b"" if input is None else input))
        for name, data in written.items():
            group.spawn(_collect(getattr(process, name), data))


async def _feed(stdin: FdStream, data: ReadableBuffer) -> None:
    with stdin, contextlib.suppress(BrokenPipeError):  # it need not read all, as in subprocess
        await stdin.write_all(data)


async def _collect(stream: FdStream, data: bytearray) -> None:
    while more := await stream.read():
        data += more
