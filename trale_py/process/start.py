"""How a program is started: by subprocess, in a thread of a pool.

subprocess starts it by vfork(2), which copies nothing of this process, however large that is; the
thread waits until the program is loaded, and all other tasks go on. A ``preexec_fn`` would keep
it from that, and run Python code in a copy of a process with threads, so it is refused.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from typing import Any, Final

from .child import Child

# What subprocess takes, and this does not: the streams are of bytes.
REFUSED: Final = {
    "preexec_fn": "it would run Python code in a copy of a process that has threads",
    "text": "the streams are of bytes",
    "universal_newlines": "the streams are of bytes",
    "encoding": "the streams are of bytes",
    "errors": "the streams are of bytes",
}


class Started:
    """A program, and our ends of its pipes by name: ``"stdin"``, ``"stdout"``, ``"stderr"``."""

    def __init__(self, child: Child, pipes: dict[str, int]) -> None:
        self.child = child
        self.pipes = pipes

    def undo(self) -> None:
        """It is not wanted any more. Waits for its end."""
        for fd in self.pipes.values():
            os.close(fd)
        self.child.end()


def start(args: Any, streams: Mapping[str, Any], options: Mapping[str, Any]) -> Started:
    """By a thread. OSError, ValueError, TypeError from subprocess; it leaves nothing then."""
    ours: dict[str, int] = {}
    theirs: dict[str, Any] = dict(streams)
    try:
        with contextlib.ExitStack() as handed:
            for name, stream in streams.items():
                if stream == subprocess.PIPE:
                    reading, writing = os.pipe2(os.O_CLOEXEC)
                    ours[name] = writing if name == "stdin" else reading
                    theirs[name] = reading if name == "stdin" else writing
                    handed.callback(os.close, theirs[name])
                    os.set_blocking(ours[name], False)  # this end only
            program = subprocess.Popen(args, **theirs, **options)
            # From here on the child is ours. Told so, Popen neither waits for it nor warns.
            program.returncode = 0
        return Started(_adopt(program.pid, options), ours)
    except BaseException:
        for fd in ours.values():
            os.close(fd)
        raise


def _adopt(pid: int, options: Mapping[str, Any]) -> Child:
    is_group = options["start_new_session"] or options.get("process_group") == 0
    try:
        return Child(pid, is_group=is_group)
    except OSError:  # EMFILE: its end could not be waited for
        with contextlib.suppress(ProcessLookupError):
            os.kill(-pid if is_group else pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        raise
