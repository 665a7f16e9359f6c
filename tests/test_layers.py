"""The structure of the package: imports go down only, and the public names are pinned."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import trale_py

PACKAGE = Path(trale_py.__file__).parent

# From the bottom up. A module imports only what stands above its own line in this list.
LAYERS = [
    ["base", "base.supported", "base.errors", "base.threads", "base.closeable", "base.durations"],
    ["base.log"],
    ["_linux._ffi", "_linux.build", "_linux.sockaddr"],
    ["_linux"],
    ["_linux.signals"],
    ["core"],
    ["_native"],
    ["core.engine"],
    [
        "core.timer_heap",
        "core.scope_tree",
        "core.thread_state",
        "core.wakeup_fds",
        "core.with_block",
    ],
    ["core.waker", "core.source", "core.current"],
    ["core.run_queue", "core.poller"],
    ["core.future", "core.registration"],
    ["core.leaf"],
    ["core.latch", "core.coroutine"],
    ["core.outcome"],
    ["core.task"],
    ["core.reactor", "core.join", "core.process_exit"],
    ["core.thread_pool"],
    ["core.executor", "core.runtime_end"],
    ["core.runtime"],
    ["scopes", "timers", "jobs", "streams"],
    ["scopes.cancel_scope", "timers.timer", "jobs.job", "streams.async_fd"],
    ["streams.signals"],
    ["scopes.task_group", "scopes.combine"],
    ["sync.waiters"],
    ["sync.plain_locks"],
    ["sync.event", "sync.notify", "sync.mutex", "sync.semaphore", "sync.rwlock"],
    ["sync.condition", "sync.barrier", "sync.once_cell", "sync.event_fd"],
    ["sync"],
    ["channel.closed"],
    ["channel.announce", "channel.iteration"],
    ["channel.plain_queue"],
    ["channel.queue", "channel.broadcast", "channel.watch"],
    ["channel.oneshot"],
    ["channel"],
    ["net.address", "net.plain_io"],
    ["net.socket_base"],
    ["net.stream", "net.udp", "net.happy_eyeballs"],
    ["net.tcp"],
    ["net"],
    [""],
]

COMPILED = {"_native", "_linux._ffi"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path) -> set[str]:
    """Modules of the package that this one needs at run time."""
    found = set()
    tree = ast.parse(path.read_text())
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    package = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and id(node) not in for_types:
            base = package[: len(package) - node.level + 1]
            if node.module:
                found.add(".".join([*base, node.module]))
            else:
                names = [".".join([*base, alias.name]) for alias in node.names]
                found.update(name if _is_module(name) else ".".join(base) for name in names)
    return found


def _is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split("."))
    return name in COMPILED or path.is_dir() or path.with_suffix(".py").exists()


def test_imports_go_down_only() -> None:
    height = {name: n for n, layer in enumerate(LAYERS) for name in layer}
    modules = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    assert set(modules) | COMPILED == set(height)
    wrong = [
        f"{name} imports {other}"
        for name, path in modules.items()
        for other in imports(path)
        if height[other] >= height[name]
    ]
    assert wrong == []


def test_the_public_names() -> None:
    assert set(trale_py.__all__) == {
        "PENDING",
        "Barrier",
        "Condition",
        "EventFd",
        "OnceCell",
        "RwGuard",
        "RwLock",
        "AsyncFd",
        "TaskGroup",
        "TaskStatus",
        "as_completed",
        "gather",
        "race",
        "timeout",
        "CancelScope",
        "Cancelled",
        "TaskCancelled",
        "current_effective_deadline",
        "fail_after",
        "move_on_after",
        "BusyResourceError",
        "ClosedResourceError",
        "Context",
        "DelimiterNotFound",
        "Event",
        "Executor",
        "Future",
        "Guard",
        "IncompleteRead",
        "Interest",
        "Interval",
        "InvalidStateError",
        "JoinHandle",
        "Mutex",
        "Notify",
        "Pending",
        "Reactor",
        "Semaphore",
        "Ready",
        "Registration",
        "RuntimeClosed",
        "Task",
        "TcpListener",
        "TcpStream",
        "Timer",
        "UdpSocket",
        "Waker",
        "WouldBlock",
        "WouldDeadlock",
        "block_on",
        "current_task",
        "engine",
        "interval",
        "now",
        "open_signal_receiver",
        "sleep",
        "sleep_until",
        "spawn",
        "spawn_blocking",
        "tasks",
        "yield_now",
    }
    for name in trale_py.__all__:
        thing = getattr(trale_py, name)
        assert name in ("PENDING", "engine") or thing.__doc__, name


def test_submodules_are_loaded_at_first_use(run_script: Any) -> None:
    result = run_script(
        """
        import sys
        import trale_py
        assert "trale_py.channel" not in sys.modules
        tx, rx = trale_py.channel.channel(1)
        try:
            trale_py.no_such_thing
        except AttributeError as error:
            print(error)
        """
    )
    assert "no_such_thing" in result.stdout, result.stderr
