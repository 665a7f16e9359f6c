"""The programs of the exit matrix: what is alive x how the program ends, here and under asyncio.

``python tests/support/exit_cells.py`` runs all of them and prints the tables of docs/lifecycle.md.
``python tests/support/exit_cells.py trale sleeping return`` is one of them.
"""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import trale_py

# -- the two runtimes -----------------------------------------------------------------------------


class Trale:
    Cancelled: type[BaseException] = trale_py.Cancelled
    sleep = staticmethod(trale_py.sleep)

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> Any:
        return trale_py.spawn(coro)

    def join(self, handle: Any) -> Any:
        return handle.join()


class Asyncio:
    """A loop in a daemon thread, which is how a script gets what Trale has of itself."""

    def __init__(self) -> None:
        import asyncio  # its own programs only: the others begin sooner without

        self.asyncio = asyncio
        self.Cancelled: type[BaseException] = asyncio.CancelledError
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def sleep(self, seconds: float) -> Any:
        return self.asyncio.sleep(min(seconds, 1e6))

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> Any:
        return self.asyncio.run_coroutine_threadsafe(coro, self.loop)

    def join(self, handle: Any) -> Any:
        return handle.result()


def say(text: str) -> None:
    """In one system call: two threads must not mix their lines."""
    os.write(1, text.encode() + b"\n")


# -- what is alive: each returns when it is so ----------------------------------------------------


class Alive:
    def __init__(self, runtime: Trale | Asyncio) -> None:
        self.run = runtime
        self.there = threading.Event()

    def start(self, coro: Coroutine[Any, Any, Any]) -> None:
        self.run.spawn(coro)
        self.there.wait()

    def nothing(self) -> None:
        self.run.join(self.run.spawn(_nothing()))

    def sleeping(self) -> None:
        """A task with a ``finally`` block that waits for nothing."""

        async def task() -> None:
            try:
                self.there.set()
                await self.run.sleep(math.inf)
            finally:
                say("cleaned up")

        self.start(task())

    def swallows(self) -> None:
        """A task that swallows its cancellation and goes on."""

        async def task() -> None:
            self.there.set()
            while True:
                try:
                    await self.run.sleep(math.inf)
                except self.run.Cancelled:
                    pass

        self.start(task())

    def spins(self) -> None:
        """A task that never gives way."""

        async def task() -> None:
            self.there.set()
            while True:
                pass

        self.start(task())

    def generator(self) -> None:
        """An async generator, half-way through."""

        async def numbers() -> AsyncGenerator[int, None]:
            try:
                yield 1
            finally:
                await self.run.sleep(0)
                say("cleaned up")

        async def task() -> None:
            KEPT.append(numbers())
            await anext(KEPT[0])

        self.run.join(self.run.spawn(task()))

    def failed(self) -> None:
        """A task that has failed, and its error was never retrieved."""

        async def task() -> None:
            self.there.set()
            raise ValueError("nobody took me")

        KEPT.append(self.run.spawn(task()))
        self.there.wait()

    def daemon(self) -> None:
        """A daemon thread that waits for a task."""

        def joins() -> None:
            handle = self.run.spawn(_sleep_for_ever(self.run))
            self.there.set()
            self.run.join(handle)

        threading.Thread(target=joins, daemon=True).start()
        self.there.wait()

    def thread(self) -> None:
        """A thread of the program's that goes on using the runtime for a while."""

        def joins() -> None:
            handle = self.run.spawn(_sleep_a_little(self.run))
            self.there.set()
            self.run.join(handle)
            say("thread done")

        threading.Thread(target=joins).start()
        self.there.wait()

    def regex(self) -> None:
        """A ``finally`` block with a call into C that keeps the interpreter's lock for ever."""
        self.stuck_in_c(lambda: re.match("(a+)+$", "a" * 60 + "b"))

    def power(self) -> None:
        self.stuck_in_c(lambda: 3 ** (10**9))

    def stuck_in_c(self, call: Callable[[], object]) -> None:
        async def task() -> None:
            try:
                self.there.set()
                await self.run.sleep(math.inf)
            finally:
                call()

        self.start(task())


KEPT: list[Any] = []


async def _nothing() -> None: ...


async def _sleep_for_ever(run: Trale | Asyncio) -> None:
    await run.sleep(math.inf)


async def _sleep_a_little(run: Trale | Asyncio) -> None:
    await run.sleep(0.1)


# -- how it ends ----------------------------------------------------------------------------------


class Ends:
    def __init__(self, runtime: Trale | Asyncio) -> None:
        self.run = runtime

    def returns(self) -> None:
        say("ready")

    def exits(self) -> None:
        say("ready")
        sys.exit(3)

    def raises(self) -> None:
        say("ready")
        raise KeyError("mine")

    def ctrl_c(self) -> None:
        """While it waits for a task."""
        handle = self.run.spawn(_sleep_for_ever(self.run))
        say("ready")
        self.run.join(handle)

    def sigterm(self) -> None:
        say("ready")
        while True:
            time.sleep(10)

    def os_exit(self) -> None:
        say("ready")
        os._exit(5)


SIGNALS = {"ctrl_c": signal.SIGINT, "sigterm": signal.SIGTERM}
ENDS = ["returns", "exits", "raises", "ctrl_c", "sigterm", "os_exit"]
ALIVE = ["nothing", "sleeping", "swallows", "generator", "failed", "daemon", "thread"]
CELLS = [(alive, end) for alive in ALIVE for end in ENDS]
# These keep a processor busy for seconds: not every end.
CELLS += [("spins", end) for end in ("returns", "ctrl_c", "sigterm")]
CELLS += [("regex", "returns"), ("power", "returns")]
# ``run`` waits for tasks without a limit, so a task that never ends is not for it.
RUN_CELLS = [(a, e) for a in ("nothing", "sleeping", "generator", "failed") for e in ENDS]


def in_run(alive: str, end: str) -> None:
    """The same where the main thread is the executor: the end comes in main."""
    runtime = Trale()

    async def main() -> None:
        await trale_py.spawn_blocking(getattr(Alive(runtime), alive))
        if end in SIGNALS:
            say("ready")
            await trale_py.sleep(math.inf)
        getattr(Ends(runtime), end)()

    trale_py.run(main)


# -- running them ---------------------------------------------------------------------------------


class Result(NamedTuple):
    status: int
    stdout: list[str]  # after "ready"
    stderr: str
    seconds: float  # from "ready", or the signal, to the end


def run_cell(runtime: str, alive: str, end: str, timeout: float = 30) -> Result:
    with subprocess.Popen(
        [sys.executable, "-W", "error", __file__, runtime, alive, end],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        watchdog = threading.Timer(timeout, process.kill)
        watchdog.start()
        lines = []
        while (line := process.stdout.readline()) not in ("", "ready\n"):
            lines.append(line.strip())
        start = time.monotonic()
        if end in SIGNALS:
            process.send_signal(SIGNALS[end])
        out, err = process.stdout.read(), process.stderr.read()  # both are short
        process.wait()
        watchdog.cancel()
        return Result(
            process.returncode, lines + out.split("\n")[:-1], err, time.monotonic() - start
        )


def run_all(runtime: str, cells: list[tuple[str, str]]) -> dict[tuple[str, str], Result]:
    """Most of them only wait: several at once."""
    with ThreadPoolExecutor(6) as pool:
        results = pool.map(lambda cell: run_cell(runtime, *cell), cells)
        return dict(zip(cells, results, strict=True))


def show(result: Result) -> str:
    """A cell of the table: status, time, what was printed, and what of stderr is not the end's."""
    status = str(result.status) if result.status >= 0 else signal.Signals(-result.status).name
    parts = [status, f"{result.seconds:.1f} s", *result.stdout]
    usual = ("Traceback", "KeyboardInterrupt", "KeyError", " ")
    noise = [line for line in result.stderr.splitlines() if line and not line.startswith(usual)]
    if noise:
        what = {"never retrieved": "logged", "did not end": "named"}
        parts.append(next((say for key, say in what.items() if key in noise[0]), "stacks shown"))
    return ", ".join(parts)


def print_table(title: str, results: dict[tuple[str, str], Result]) -> None:
    print(f"| {title} | " + " | ".join(f"`{end}`" for end in ENDS) + " |")
    print("|---" * (len(ENDS) + 1) + "|")
    for alive in dict(results.keys()):
        row = [show(results[alive, end]) if (alive, end) in results else "" for end in ENDS]
        print(f"| `{alive}` | " + " | ".join(row) + " |")
    print()


def main(arguments: list[str]) -> None:
    if arguments:
        name, alive, end = arguments
        if name == "run":
            in_run(alive, end)
            return
        runtime = Trale() if name == "trale" else Asyncio()
        getattr(Alive(runtime), alive)()
        getattr(Ends(runtime), end)()
        return
    print_table("trale_py", run_all("trale", CELLS))
    print_table("run", run_all("run", RUN_CELLS))
    print_table("asyncio", run_all("asyncio", CELLS))


if __name__ == "__main__":
    main(sys.argv[1:])
