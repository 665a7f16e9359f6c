"""How programs end, by processes that do: the matrix, and what does not fit into it."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.exit_cells import CELLS, RUN_CELLS, Result, run_all

Script = Callable[..., "subprocess.CompletedProcess[str]"]


# -- what the design relies on, and what may be met at the very end ---------------------------


@pytest.fixture(scope="module")
def results() -> dict[tuple[str, str], Result]:
    return run_all("trale", CELLS)


STATUS = {
    "returns": 0,
    "exits": 3,
    "raises": 1,
    "ctrl_c": -signal.SIGINT,
    "sigterm": -signal.SIGTERM,
    "os_exit": 5,
}
ABRUPT = ("sigterm", "os_exit")  # the interpreter does not exit; the process does
STDOUT = {
    "sleeping": ["cleaned up"],
    "generator": ["cleaned up"],
    "thread": ["thread done"],
}
# How long it takes at least. Two seconds are the grace, four what the alarm is set to.
SECONDS = {"swallows": 1, "spins": 1, "regex": 2, "power": 2}


@pytest.mark.slow
@pytest.mark.parametrize(("alive", "end"), CELLS)
def test_H14_the_matrix(alive: str, end: str, results: dict[tuple[str, str], Result]) -> None:
    check(alive, end, results[alive, end])


@pytest.fixture(scope="module")
def results_of_run() -> dict[tuple[str, str], Result]:
    return run_all("run", RUN_CELLS)


@pytest.mark.slow
@pytest.mark.parametrize(("alive", "end"), RUN_CELLS)
def test_H14_the_matrix_of_run(
    alive: str, end: str, results_of_run: dict[tuple[str, str], Result]
) -> None:
    check(alive, end, results_of_run[alive, end], shows_frames=True)


def check(alive: str, end: str, result: Result, *, shows_frames: bool = False) -> None:
    """``shows_frames``: main's traceback comes through ours, as ``run`` has called it."""
    status, stdout, stderr, seconds = result
    in_c = alive in ("regex", "power")
    assert status == (-signal.SIGALRM if in_c else STATUS[end]), stderr
    assert stdout == ([] if end in ABRUPT else STDOUT.get(alive, []))
    least = 0 if end in ABRUPT else SECONDS.get(alive, 0)
    assert least <= seconds < least + 6
    if in_c:
        assert "most recent call first" in stderr
        assert "exit_cells.py" in stderr
        assert "in <lambda>" in stderr  # which made the call
        return
    if alive == "failed" and end not in ABRUPT:
        assert stderr.count("its error was never retrieved") == 1
        assert stderr.count("ValueError: nobody took me") == 1
        stderr = stderr.replace("Traceback", "", 1)
    elif alive in ("swallows", "spins") and end not in ABRUPT:
        (named,) = [line for line in stderr.splitlines(True) if "did not end within 2 s" in line]
        assert "exit_cells.py" in named
        stderr = stderr.replace(named, "")
    else:
        assert "trale_py/" not in stderr or end == "ctrl_c" or shows_frames
    last = {"raises": "KeyError: 'mine'", "ctrl_c": "KeyboardInterrupt"}.get(end, "")
    assert last in stderr
    assert stderr.count("Traceback") == bool(last)
    assert bool(stderr) == bool(last or (alive == "failed" and end not in ABRUPT))


# -- what the design relies on, and what may be met at the very end ---------------------------


@contextmanager
def running(source: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A program that says where it is, line by line."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-u", *options, "-c", textwrap.dedent(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def says(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == line + "\n"


def ends(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.read(), process.stderr.read()
    return process.wait(20), out.splitlines(), err


STUBBORN = """
import math, os, sys, threading
from trale_py import *

def say(text): os.write(1, text.encode() + b"\\n")

async def stubborn():
    say("begun")
    while True:
        try:
            await sleep(math.inf)
        except Cancelled:
            say("cancelled")
            with CancelScope(shield=True):
                await sleep(math.inf)
"""


# The last callback of the exit: it was registered first. After it Python gives SIGINT its default
# back, and a press that comes so late, as on a busy machine it may, would kill the process.
DEAF_AT_LAST = """
import atexit, signal
atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
"""


@pytest.mark.parametrize("presses", [1, 3])
def test_H4_ctrl_c_ends_the_grace_at_once(presses: int) -> None:
    with running(DEAF_AT_LAST + STUBBORN + "spawn(stubborn())\n") as process:
        says(process, "begun")
        says(process, "cancelled")  # the main thread is in the grace
        start = time.monotonic()
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
        assert ends(process) == (0, [], "")
        assert time.monotonic() - start < 1.8


@pytest.mark.slow
def test_H4_ctrl_c_twice_in_a_join_and_then_in_the_grace() -> None:
    with running(STUBBORN + "spawn(stubborn()).join()\n") as process:
        says(process, "begun")
        process.send_signal(signal.SIGINT)
        says(process, "cancelled")
        process.send_signal(signal.SIGINT)
        status, out, err = ends(process)
        assert status == -signal.SIGINT
        assert out == []
        assert err.count("KeyboardInterrupt") in (1, 2)  # the second may come during the first's


@pytest.mark.parametrize("where", ["in the body", "at the end"])
def test_H4_ctrl_c_in_a_group_in_a_script(where: str) -> None:
    """The children are cancelled and have ended before the interrupt comes out, by itself."""
    source = (
        STUBBORN
        + """
async def cleans_up():
    try:
        await sleep(math.inf)
    finally:
        with CancelScope(shield=True):
            await sleep(0.05)
        say("cleaned up")

try:
    with TaskGroup() as group:
        group.spawn(cleans_up())
        block_on(yield_now())
        say("ready")
        if WHERE == "in the body":
            threading.Event().wait()
except BaseException as error:
    say(type(error).__name__)
    raise
"""
    )
    with running(source.replace("WHERE", repr(where))) as process:
        says(process, "ready")
        process.send_signal(signal.SIGINT)
        status, out, err = ends(process)
        assert (status, out) == (-signal.SIGINT, ["cleaned up", "KeyboardInterrupt"])
        assert err.count("Traceback") == 1
        assert "ExceptionGroup" not in err


@pytest.mark.slow
def test_H4_a_second_ctrl_c_in_a_group_stops_the_waiting() -> None:
    source = STUBBORN + "with TaskGroup() as group:\n    group.spawn(stubborn())\n"
    with running(source) as process:
        says(process, "begun")
        process.send_signal(signal.SIGINT)
        says(process, "cancelled")
        process.send_signal(signal.SIGINT)
        status, out, err = ends(process)
        assert (status, out) == (-signal.SIGINT, [])
        *_, last, named = err.splitlines()
        assert last == "KeyboardInterrupt"
        assert "did not end within 2 s" in named


def test_system_exit_in_a_group_in_a_script_is_raised_itself(run_script: Script) -> None:
    result = run_script(
        STUBBORN
        + """
with TaskGroup() as group:
    group.spawn(sleep(math.inf))
    sys.exit(4)
"""
    )
    assert (result.returncode, result.stderr) == (4, "")


# -- what the design relies on, and what may be met at the very end ---------------------------


def test_H14_python_i_works_between_the_lines_and_ends_quietly() -> None:
    """A task runs while the prompt waits for the next line, which comes when the task has run."""
    with running(STUBBORN, "-q", "-i") as process:
        assert process.stdin is not None

        def enter(line: str) -> None:
            assert process.stdin is not None
            process.stdin.write(line + "\n")
            process.stdin.flush()

        enter("async def later(): await sleep(0.05); say('ran')")
        enter("")
        enter("handle = spawn(later())")
        says(process, "ran")
        enter("async def cleans_up():")
        enter("    try: say('begun'); await sleep(math.inf)")
        enter("    finally: say('cleaned up')")
        enter("")
        enter("block_on(cleans_up())")
        says(process, "begun")
        process.send_signal(signal.SIGINT)
        says(process, "cleaned up")
        enter("say('goes on')")
        says(process, "goes on")
        enter("_ = spawn(cleans_up())")
        says(process, "begun")
        process.stdin.close()
        status, out, err = ends(process)
        assert (status, out) == (0, ["cleaned up"])
        assert err.count("Traceback") == err.count("KeyboardInterrupt") == 1


def test_H14_ipython(tmp_path: Path) -> None:
    pytest.importorskip("IPython")
    source = """
        import os, sys
        os.environ["IPYTHONDIR"] = sys.argv[1]
        import IPython
        IPython.start_ipython(["--simple-prompt", "--no-banner", "--no-confirm-exit"])
    """
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(source), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None

        def enter(text: str) -> None:
            assert process.stdin is not None
            process.stdin.write(textwrap.dedent(text) + "\n")
            process.stdin.flush()

        def until(text: str) -> None:
            assert process.stdout is not None
            while text not in (line := process.stdout.readline()):
                assert line, "IPython has ended"

        try:
            exec_lines = STUBBORN.replace("\n\n", "\n")
            enter(f"exec({exec_lines!r})")
            enter("async def give(value): say(f'ran {value}'); return value")
            enter("")
            enter("handle = spawn(give(7))")
            until("ran 7")
            enter("handle.join() * 6")
            until("42")
            enter("spawn(stubborn()).join()")
            until("begun")
            process.send_signal(signal.SIGINT)
            until("KeyboardInterrupt")
            enter("Executor.shutdown(0.01)")
            enter("spawn(give(8)).join()")
            until("ran 8")
            process.stdin.close()
            process.stdout.read()
            assert process.stderr is not None
            err = process.stderr.read()
            assert process.wait(20) == 0, err
            assert "Traceback" not in err
        finally:
            process.kill()


# -- what the design relies on, and what may be met at the very end ---------------------------


def test_H15_both_threads_are_daemons_and_atexit_comes_after_the_programs_threads(
    run_script: Script,
) -> None:
    """A thread that is no daemon uses a running runtime after the main thread has ended."""
    result = run_script(
        """
        import atexit, threading
        from trale_py import *
        async def give(value): return value

        def late():
            threading.main_thread().join()  # over, as far as threads are concerned
            assert block_on(give(7)) == 7
            assert spawn(sleep(0.01)).join() is None
            print("late")

        block_on(give(0))
        assert [t.daemon for t in threading.enumerate()] == [False, True, True]
        threading.Thread(target=late).start()
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "late\n", "")


def test_H16_a_first_spawn_after_the_main_thread_has_ended(run_script: Script) -> None:
    """From 3.12 on no thread can be started then, so the runtime cannot."""
    result = run_script(
        """
        import threading
        from trale_py import *
        async def give(value): return value

        def late():
            threading.main_thread().join()
            try:
                print(block_on(give(7)))
            except RuntimeClosed as error:
                print(error)

        threading.Thread(target=late).start()
        """
    )
    assert result.stdout in ("7\n", "the interpreter is exiting\n")
    if sys.version_info < (3, 12):
        assert result.stdout == "7\n"
    assert (result.returncode, result.stderr) == (0, "")


def test_H16_spawn_in_atexit_callbacks_before_and_after_ours(run_script: Script) -> None:
    """Callbacks run in reverse: what was registered after the import still has a runtime."""
    result = run_script(
        """
        import atexit
        async def give(value): return value
        def use(label):
            import trale_py
            try: print(label, trale_py.block_on(give(label)))
            except trale_py.RuntimeClosed as error: print(label, "refused:", error)
        atexit.register(use, "after")
        import trale_py
        atexit.register(use, "before")
        if True: trale_py.block_on(give(0))
        """
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "before before\nafter refused: the interpreter is exiting\n"


def test_H16_spawn_in_finally_and_del_at_exit(run_script: Script) -> None:
    result = run_script(
        """
        import math, os
        from trale_py import *
        async def give(value): return value
        started = Event()

        async def main():
            try:
                started.set()
                await sleep(math.inf)
            finally:
                try: spawn(give(1))
                except RuntimeClosed: os.write(1, b"refused in finally\\n")

        class Late:
            def __init__(self):
                self.spawn, self.give, self.RuntimeClosed, self.os = spawn, give, RuntimeClosed, os
            def __del__(self):
                try: self.spawn(self.give(1))
                except self.RuntimeClosed: self.os.write(1, b"refused in __del__\\n")

        spawn(main())
        block_on(started.wait())
        late = Late()
        late.cycle = late
        other = Late()
        """
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "refused in finally\n" + "refused in __del__\n" * 2


@pytest.mark.slow
def test_H14_what_did_not_end_is_never_freed_and_makes_no_noise(run_script: Script) -> None:
    """Coroutines of every kind are left when the grace is over: their ``finally`` never runs."""
    result = run_script(
        """
        import math, os
        from trale_py import *
        started = Event()

        async def inner():
            try:
                with CancelScope(shield=True):
                    await sleep(math.inf)
            finally:
                os.write(1, b"must not run\\n")

        async def generator():
            try:
                with CancelScope(shield=True):
                    yield await inner()
            finally:
                os.write(1, b"must not run either\\n")

        async def in_a_group():
            async with TaskGroup() as group:
                group.spawn(inner())
                started.set()

        async def iterates():
            async for _ in generator(): pass

        handles = [spawn(in_a_group()), spawn(iterates()), spawn(gather(inner(), inner()))]
        block_on(started.wait())
        """
    )
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.count("\n") == 1
    assert "did not end within 2 s" in result.stderr
    assert "(in_a_group), spawned at" in result.stderr


@pytest.mark.parametrize("options", [(), ("-X", "dev")])
def test_H14_unfinished_tasks_are_named_under_dev_only(options: tuple[str, ...]) -> None:
    source = """
        import math
        from trale_py import *
        async def forgotten(): await sleep(math.inf)
        spawn(forgotten())
        """
    with running(source, *options) as process:
        status, out, err = ends(process)
    assert (status, out) == (0, [])
    assert err.count("\n") == bool(options)
    if options:
        assert "cancelling the tasks that are still running at the" in err
        assert "(forgotten), spawned at <string>:5" in err


def test_H14_the_program_uses_the_alarm_itself(run_script: Script) -> None:
    result = run_script(
        """
        import atexit, math, os, signal
        def check():
            assert signal.getitimer(signal.ITIMER_REAL)[0] > 50
            assert signal.getsignal(signal.SIGALRM) is handler
            os.write(1, b"left alone\\n")
        atexit.register(check)
        from trale_py import *
        def handler(*_): pass
        signal.signal(signal.SIGALRM, handler)
        signal.alarm(100)
        spawn(sleep(math.inf))
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "left alone\n", "")


def test_H14_the_alarm_is_off_when_our_part_of_the_exit_is_over(run_script: Script) -> None:
    result = run_script(
        """
        import atexit, math, os, signal
        def check():
            assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
            assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
            os.write(1, b"off\\n")
        atexit.register(check)
        from trale_py import *
        spawn(sleep(math.inf))
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "off\n", "")


@pytest.mark.parametrize("where", ["join", "group", "block_on in a loop"])
def test_H14_daemon_threads_that_wait_at_exit_are_quiet(where: str, run_script: Script) -> None:
    result = run_script(
        """
        import contextlib, math, sys, threading
        from trale_py import *
        async def give(value): return value
        there = threading.Barrier(4)

        def waits():
            if sys.argv[1] == "join":
                handle = spawn(sleep(math.inf))
                there.wait()
                handle.join()
            elif sys.argv[1] == "group":
                with TaskGroup() as group:
                    group.spawn(sleep(math.inf))
                    there.wait()
            else:
                handle = spawn(give(1))
                handle.join()
                there.wait()
                while True:
                    with contextlib.suppress(RuntimeClosed):
                        block_on(sleep(0.2))

        for _ in range(3):
            threading.Thread(target=waits, daemon=True).start()
        there.wait()
        """,
        where,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_H17_sigterm_in_a_handler_of_the_programs_own(run_script: Script) -> None:
    """What a service does: SIGTERM becomes SystemExit, and the finally blocks run."""
    result = run_script(
        """
        import math, os, signal, sys
        from trale_py import *
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

        async def main():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                await sleep(math.inf)
            finally:
                print("cleaned up", flush=True)

        spawn(main()).join()
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "cleaned up\n", "")
