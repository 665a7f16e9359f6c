"""What every test stands on: the default runtime, and the proof that nothing was left in it."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent

# What is tested is what is installed, not what lies beside the tests: "python -m" and "python -c"
# put the folder that they run in first, here and in processes that tests start.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
os.environ["PYTHONSAFEPATH"] = "1"

from trale_py import Waker, block_on, tasks
from trale_py.base import log
from trale_py.core import current
from trale_py.core.runtime import Runtime
from trale_py.core.timer_heap import TimerEntry

pytest.register_assert_rewrite("tests.support.crowd")


@pytest.fixture(scope="module", autouse=True)
def frozen_heap() -> None:
    """Hide from the collector what was there before this module: each test collects twice."""
    gc.collect()
    gc.freeze()


async def nothing() -> None:
    """A task that ends at once: when it has, whatever was published before it is done."""


def settle_reactor(runtime: Runtime) -> None:
    """Return when the reactor has seen to all timers that were handed to it before.

    Also in a task, which keeps the executor meanwhile.
    """
    entries: list[TimerEntry] = []
    nobody = Waker(runtime.run_queue, 0)
    runtime.call_on_executor(lambda: entries.append(runtime.reactor._add_timer(1, nobody)))
    pause, deadline = threading.Event(), time.monotonic() + 20
    while not entries or entries[0].waker is not None:
        assert time.monotonic() < deadline, "the reactor does not answer"
        pause.wait(0.0005)
    assert runtime.reactor._poller.timers >= 0  # takes the lock, if there is one: the turn is over


def assert_tables_empty(runtime: Runtime) -> None:
    gc.collect()
    runtime.spawn(nothing()).join(20)
    settle_reactor(runtime)
    runtime.spawn(nothing()).join(20)
    assert runtime.tasks() == []
    assert runtime.run_queue.live() == []
    assert runtime.unclaimed == {}
    assert runtime.reactor._poller.sources == {}
    assert runtime.reactor._poller.timers == 0


def open_fds() -> set[str]:
    return {fd.name for fd in Path("/proc/self/fd").iterdir() if fd.exists()}


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    block_on(nothing())
    gc.collect()
    fds = open_fds()
    yield
    assert log.flush(20)  # or the next test would be shown these
    runtime = current.default_runtime()
    assert_tables_empty(runtime)
    assert tasks() == []
    if runtime.reactor._thread is not None:
        assert open_fds() == fds


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """pytest's own. A thread handles the reports, so a look at what was caught waits for that."""

    class Flushed(type(caplog)):  # type: ignore[misc]
        @property
        def handler(self) -> Any:
            assert log.flush(20)
            return super().handler

    caplog.__class__ = Flushed
    return caplog


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """A runtime of the test's own, beside the default one."""
    own = Runtime()
    yield own
    if not own.gone:
        assert_tables_empty(own)
    own.shutdown()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets: ours, which does not block, and the peer."""
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        peer.settimeout(20)
        yield ours, peer


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python source in a process of its own, so that a hang or a crash is a result."""

    def run(source: str, *args: str, timeout: float = 50) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "script.py"
        script.write_text(
            "import faulthandler, sys; faulthandler.dump_traceback_later(45, exit=True)\n"
            f"sys.path.append({str(ROOT)!r})  # for what it imports of the tests\n"
            + textwrap.dedent(source)
        )
        return subprocess.run(
            [sys.executable, "-W", "error", str(script), *args],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
