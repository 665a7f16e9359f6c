"""trale_py: an async runtime for Linux, for scripts and for readers who want to know how one works.

::

    from trale_py import sleep, spawn

    async def greet(name):
        await sleep(1)
        return f"Hello {name}!"

    a, b = spawn(greet("A")), spawn(greet("B"))
    print(a.join(), b.join())

To read it, follow a task: executor, task, waker, future, run_queue, then reactor,
source, timer_heap, timer, join.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from .base import supported as _supported  # noqa: F401  # first: it refuses what cannot work

# isort: split
from ._asyncio.bridge import aio
from .base.errors import (
    BusyResourceError,
    Cancelled,
    ClosedResourceError,
    DelimiterNotFound,
    IncompleteRead,
    InvalidStateError,
    RuntimeClosed,
    TaskCancelled,
    WouldBlock,
    WouldDeadlock,
)
from .core.engine import engine
from .core.executor import Executor, block_on, spawn
from .core.face import Runtime, run
from .core.future import PENDING, Future, Pending, Ready
from .core.join import JoinHandle
from .core.leaf import yield_now
from .core.reactor import Reactor
from .core.registration import Interest, Registration
from .core.task import Task, current_task, tasks
from .core.waker import Context, Waker
from .jobs.job import check_cancelled, spawn_blocking
from .net import (
    Credentials,
    Socket,
    TcpListener,
    TcpStream,
    UdpSocket,
    UnixDatagram,
    UnixListener,
    UnixStream,
    resolve,
    reverse_lookup,
    socketpair,
)
from .scopes.cancel_scope import CancelScope, current_effective_deadline, fail_after, move_on_after
from .scopes.combine import as_completed, gather, race, timeout
from .scopes.task_group import TaskGroup
from .scopes.task_status import TaskStatus
from .scripts.join_set import JoinSet
from .scripts.map import map_concurrent
from .scripts.plain_face import blocking
from .scripts.server import Server, serve
from .streams.async_fd import AsyncFd
from .streams.fd_stream import FdStream, pipe
from .streams.signals import open_signal_receiver
from .sync import (
    Barrier,
    BoundedSemaphore,
    CapacityLimiter,
    Condition,
    Event,
    EventFd,
    Guard,
    Mutex,
    Notify,
    OnceCell,
    RwGuard,
    RwLock,
    Semaphore,
    StopToken,
)
from .timers.clock_sleep import sleep_until_wall
from .timers.timer import Interval, Timer, interval, now, sleep, sleep_until

if TYPE_CHECKING:
    from . import channel as channel
    from . import fs as fs
    from . import process as process
    from . import tls as tls

__version__ = "0.2.0.dev0"

__all__ = [
    "PENDING",
    "AsyncFd",
    "Barrier",
    "BoundedSemaphore",
    "BusyResourceError",
    "CancelScope",
    "Cancelled",
    "CapacityLimiter",
    "ClosedResourceError",
    "Condition",
    "Context",
    "Credentials",
    "DelimiterNotFound",
    "Event",
    "EventFd",
    "Executor",
    "FdStream",
    "Future",
    "Guard",
    "IncompleteRead",
    "Interest",
    "Interval",
    "InvalidStateError",
    "JoinHandle",
    "JoinSet",
    "Mutex",
    "Notify",
    "OnceCell",
    "Pending",
    "Reactor",
    "Ready",
    "Registration",
    "Runtime",
    "RuntimeClosed",
    "RwGuard",
    "RwLock",
    "Semaphore",
    "Server",
    "Socket",
    "StopToken",
    "Task",
    "TaskCancelled",
    "TaskGroup",
    "TaskStatus",
    "TcpListener",
    "TcpStream",
    "Timer",
    "UdpSocket",
    "UnixDatagram",
    "UnixListener",
    "UnixStream",
    "Waker",
    "WouldBlock",
    "WouldDeadlock",
    "aio",
    "as_completed",
    "block_on",
    "blocking",
    "check_cancelled",
    "current_effective_deadline",
    "current_task",
    "engine",
    "fail_after",
    "gather",
    "interval",
    "map_concurrent",
    "move_on_after",
    "now",
    "open_signal_receiver",
    "pipe",
    "race",
    "resolve",
    "reverse_lookup",
    "run",
    "serve",
    "sleep",
    "sleep_until",
    "sleep_until_wall",
    "socketpair",
    "spawn",
    "spawn_blocking",
    "tasks",
    "timeout",
    "yield_now",
]

_SUBMODULES = ("channel", "fs", "process", "tls")

# What users of asyncio, trio or threading look for.
_CALLED_HERE = {
    "CancelledError": "Cancelled in the task itself, TaskCancelled in what awaits it",
    "Lock": "Mutex",
    "Queue": "channel.channel(capacity)",
    "all_tasks": "tasks()",
    "create_subprocess_exec": "process.Process.spawn()",
    "create_task": "spawn()",
    "ensure_future": "spawn()",
    "from_thread": "block_on() and spawn(), from any thread",
    "get_event_loop": "Executor.get(); spawn() needs no loop",
    "get_running_loop": "Executor.get(); spawn() needs no loop",
    "move_on_at": "CancelScope(deadline=...)",
    "new_event_loop": "Runtime()",
    "open_connection": "TcpStream.connect()",
    "open_file": "fs.File.open()",
    "open_memory_channel": "channel.channel(capacity)",
    "open_nursery": "TaskGroup()",
    "open_tcp_stream": "TcpStream.connect()",
    "open_unix_connection": "UnixStream.connect()",
    "run_coroutine_threadsafe": "spawn(), from any thread",
    "run_in_executor": "spawn_blocking()",
    "serve_tcp": "serve()",
    "shield": "CancelScope(shield=True)",
    "sleep_forever": "sleep(math.inf)",
    "start_server": "serve()",
    "to_thread": "spawn_blocking()",
    "wait": "gather(), race() or as_completed()",
    "wait_for": "timeout()",
}


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBMODULES, "__version__"})


if not TYPE_CHECKING:  # a type checker would believe that there is a module of every name

    def __getattr__(name: str) -> ModuleType:
        """A submodule, loaded when it is first asked for."""
        if name in _CALLED_HERE:
            raise AttributeError(
                f"module {__name__!r} has no attribute {name!r}: here it is {_CALLED_HERE[name]}"
            )
        if name not in _SUBMODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return importlib.import_module(f".{name}", __name__)
