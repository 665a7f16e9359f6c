"""CPython's own tests of asyncio, on the guest loop: ``make check-asyncio``.

    python -m tests.cpython.asyncio_tests [module ...]

A new event loop is one that is driven by turns on the executor's thread, as the guest is. Its
``run_forever`` hands it over and waits. skips.txt says what is left out, and why. Each module runs
in a process of its own; the last line counts all of them.
"""

from __future__ import annotations

import asyncio
import fnmatch
import importlib
import os
import re
import subprocess
import sys
import threading
import unittest
import warnings
from pathlib import Path
from typing import Any

from trale_py import Executor
from trale_py._asyncio.guest import Guest
from trale_py._asyncio.loop import GuestLoop

HERE = Path(__file__).parent
MODULES = [
    "base_events",
    "buffered_proto",
    "context",
    "events",
    "futures",
    "futures2",
    "locks",
    "pep492",
    "protocols",
    "queues",
    "runners",
    "selector_events",
    "sendfile",
    "server",
    "sock_lowlevel",
    "ssl",
    "sslproto",
    "streams",
    "subprocess",
    "taskgroups",
    "tasks",
    "threads",
    "timeouts",
    "transports",
    "unix_events",
    "waitfor",
]
SECONDS = 600
Selector = asyncio.SelectorEventLoop


class Handed(Guest):
    """The turns of one ``run_forever``."""

    def __init__(self, runtime: Any, loop: Loop) -> None:
        self.ended = threading.Event()
        self.error: BaseException | None = None
        loop.handed = self
        loop._thread_id = threading.get_ident()
        super().__init__(runtime, loop)
        loop._set_coroutine_origin_tracking(loop.get_debug())
        self.wake()

    def _run(self) -> None:
        loop = self.loop
        try:
            for _ in range(16):
                loop._run_once()
                if loop._stopping or not loop._ready:  # type: ignore[attr-defined]
                    break
        except BaseException as error:
            self.error = error

    def _see_to_next(self) -> None:
        loop: Any = self.loop
        if self.error is None and not loop._stopping:
            super()._see_to_next()
            return
        loop._stopping = False
        loop.woken_by_calls(False)
        loop._set_coroutine_origin_tracking(False)
        loop._thread_id = loop.handed = None
        loop.guest_selector.news = True  # the next one asks first
        self._detach()
        self.ended.set()


class Waiting:
    """What wakes a loop that nobody runs: nothing."""

    is_turning = True

    def wake(self) -> None: ...


class Loop(GuestLoop):
    handed: Handed | None = None

    def __init__(self) -> None:
        super().__init__(Executor.get()._runtime, Waiting())  # type: ignore[arg-type]
        self._turns: Any = self
        self._thread_id = None
        self._default_executor = None
        self.woken_by_calls(False)
        self.is_turning = True

    def wake(self) -> None:
        if self.handed is not None:
            self.handed.wake()

    def run_forever(self) -> Any:
        self._check_closed()
        self._check_running()  # type: ignore[attr-defined]
        made: list[Handed] = []
        runtime = Executor.get()._runtime
        begun = threading.Event()
        runtime.publish(lambda: (made.append(Handed(runtime, self)), begun.set()))
        begun.wait()
        made[0].ended.wait()
        if made[0].error is not None:
            try:
                raise made[0].error
            finally:
                del made

    run_until_complete = asyncio.BaseEventLoop.run_until_complete  # type: ignore[assignment]
    stop = asyncio.BaseEventLoop.stop  # type: ignore[assignment]
    is_running = asyncio.BaseEventLoop.is_running
    add_signal_handler = asyncio.SelectorEventLoop.add_signal_handler
    remove_signal_handler = asyncio.SelectorEventLoop.remove_signal_handler
    shutdown_default_executor = asyncio.BaseEventLoop.shutdown_default_executor
    getaddrinfo = asyncio.BaseEventLoop.getaddrinfo
    getnameinfo = asyncio.BaseEventLoop.getnameinfo

    def close(self) -> None:
        if self._thread_id is not None:
            raise RuntimeError("Cannot close a running event loop")
        Selector.close(self)


def patch() -> None:
    """The loops that the tests make by name are ours, too."""

    class Policy(asyncio.DefaultEventLoopPolicy):
        _loop_factory = Loop  # type: ignore[assignment]

    asyncio.set_event_loop_policy(Policy())
    made = asyncio.SelectorEventLoop

    def selector_event_loop(selector: Any = None) -> Any:
        return Loop() if selector is None else made(selector)

    for module in (asyncio, asyncio.unix_events):
        module.SelectorEventLoop = selector_event_loop  # type: ignore[attr-defined]


def skips() -> list[str]:
    """Patterns of test ids."""
    lines = (HERE / "skips.txt").read_text().splitlines()
    version = ".".join(map(str, sys.version_info[:2]))
    found = []
    for line in lines:
        pattern, _, reason = line.partition("#")
        words = pattern.split()
        if words and reason and (len(words) == 1 or version in words[1:]):
            found.append(words[0])
    return found


def select(suite: Any, patterns: list[str]) -> list[Any]:
    if isinstance(suite, unittest.TestSuite):
        return [test for part in suite for test in select(part, patterns)]
    return [] if any(fnmatch.fnmatch(suite.id(), pattern) for pattern in patterns) else [suite]


def run_here(name: str) -> int:
    patch()
    warnings.simplefilter("default")
    module = importlib.import_module(f"test.test_asyncio.test_{name}")
    tests = select(unittest.defaultTestLoader.loadTestsFromModule(module), skips())
    result = unittest.TextTestRunner(verbosity=1).run(unittest.TestSuite(tests))
    return 0 if result.wasSuccessful() else 1


def run(name: str) -> tuple[int, list[str]]:
    """How many tests have run, and what went wrong."""
    command = [sys.executable, "-m", "tests.cpython.asyncio_tests", "--here", name]
    environment = {**os.environ, "TRALE_AIOFASTNET": "0"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment
        )
    except subprocess.TimeoutExpired as error:
        return 0, [f"{name}: not ended in {SECONDS} s: {str(error.stderr)[-300:]}"]
    count = re.search(r"Ran (\d+) tests", done.stderr)
    wrong = re.findall(r"^(?:ERROR|FAIL): .*$", done.stderr, re.MULTILINE)
    if done.returncode and not wrong:
        wrong = [f"{name}: exit status {done.returncode}: {done.stderr[-300:]}"]
    return int(count[1]) if count else 0, wrong


def main(names: list[str]) -> int:
    total, failed = 0, 0
    for name in names or MODULES:
        count, wrong = run(name)
        total += count
        failed += len(wrong)
        print(f"{name}: {count} run, {len(wrong)} not passing", *wrong, sep="\n    ", flush=True)
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        sys.exit(run_here(sys.argv[2]))
    sys.exit(main(sys.argv[1:]))
