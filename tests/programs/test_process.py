"""Programs: started, fed, waited for and ended. No zombie and no descriptor is left of them."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import open_fds
from tests.support.net_helpers import TIMEOUT
from trale_py import (
    block_on,
    gather,
    move_on_after,
    process,
    sleep,
    spawn,
    timeout,
)
from trale_py.process import PIPE, STDOUT, Process
from trale_py.process import process as process_module


def children() -> set[str]:
    """The processes that this one has, zombies too: each thread has its own."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            found.update((task / "children").read_text().split())
    return found


@pytest.fixture(autouse=True)
def no_child_and_no_descriptor_is_left() -> Any:
    before = children()
    yield
    gc.collect()
    block_on(timeout(TIMEOUT, _no_children_but(before)))


def python(program: str, *args: str) -> list[str]:
    return [sys.executable, "-S", "-c", program, *args]


async def gone(pid: int) -> None:
    """Return when there is no such process, or it is a zombie of somebody else's."""
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        await sleep(0.001)


def test_run_gives_what_subprocess_gives() -> None:
    done = block_on(
        process.run(["sh", "-c", "cat; echo no >&2; exit 3"], input=b"yes", capture_output=True)
    )
    assert done.returncode == 3
    assert done.stdout == b"yes"
    assert done.stderr == b"no\n"
    assert isinstance(done, subprocess.CompletedProcess)
    assert block_on(process.run(["true"])).stdout is None


def test_run_from_many_threads() -> None:
    codes: list[int] = []

    def work() -> None:
        codes.append(block_on(process.run(["sh", "-c", "exit 7"])).returncode)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert codes == [7] * 8


def test_check_raises_with_what_was_written() -> None:
    with pytest.raises(process.CalledProcessError) as caught:
        block_on(process.run(["sh", "-c", "echo out; exit 2"], check=True, capture_output=True))
    assert caught.value.returncode == 2
    assert caught.value.stdout == b"out\n"


@pytest.mark.parametrize("seconds", [0.1, timedelta(milliseconds=100)])
def test_a_timeout_kills_the_whole_group(seconds: Any) -> None:
    program = "sleep 1000 & echo $!; sleep 1000"
    with pytest.raises(process.TimeoutExpired) as caught:
        block_on(process.run(["sh", "-c", program], stdout=PIPE, timeout=seconds))
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, subprocess.TimeoutExpired)
    assert caught.value.timeout == 0.1
    block_on(timeout(TIMEOUT, gone(int(caught.value.output))))


def test_cancelled_it_is_killed() -> None:
    async def main() -> None:
        with move_on_after(0.05) as scope:
            await process.run(["sleep", "1000"])
        assert scope.cancelled_caught

    block_on(main())


def test_both_ways_through_pipes_larger_than_a_pipe() -> None:
    data = os.urandom(3_000_000)
    done = block_on(process.run(["cat"], input=data, stdout=PIPE))
    assert done.stdout == data


def test_a_program_that_reads_nothing() -> None:
    assert block_on(process.run(["true"], input=bytes(1_000_000))).returncode == 0


def test_streams_of_a_process() -> None:
    async def main() -> None:
        async with Process.spawn(["sort"], stdin=PIPE, stdout=PIPE, stderr=STDOUT) as sort:
            assert sort.stdin is not None
            assert sort.stdout is not None
            assert sort.stderr is None
            await sort.stdin.write_all(b"b\na\n")
            sort.stdin.close()
            assert [line async for line in sort.stdout.lines()] == [b"a", b"b"]
            assert await sort.wait() == 0
            assert await sort.wait() == 0
            assert sort.returncode == 0
        assert sort.args == ["sort"]
        assert "returncode=0" in repr(sort)

    block_on(main())


def test_leaving_the_block_kills_and_waits() -> None:
    async def main() -> Process:
        async with await Process.spawn(["sleep", "1000"]) as program:
            assert program.returncode is None
            assert "running" in repr(program)
        assert program.returncode == -signal.SIGKILL
        return program

    program = block_on(main())
    with contextlib.suppress(ProcessLookupError):
        os.kill(program.pid, 0)
        pytest.fail("it is there")


@pytest.mark.parametrize("how", ["terminate", "kill", "send_signal"])
def test_signals(how: str) -> None:
    async def main() -> int:
        async with Process.spawn(["sleep", "1000"]) as program:
            if how == "send_signal":
                program.send_signal(signal.SIGUSR1)
            else:
                getattr(program, how)()
            return await program.wait()

    expected = {"terminate": signal.SIGTERM, "kill": signal.SIGKILL, "send_signal": signal.SIGUSR1}
    assert block_on(main()) == -expected[how]


def test_a_signal_after_the_end_reaches_no_stranger() -> None:
    async def main() -> None:
        program = await Process.spawn(["true"])
        await program.wait()
        program.kill()
        program.terminate()

    block_on(main())


def test_a_session_of_its_own_unless_told_otherwise() -> None:
    show = ["sh", "-c", "ps -o sid= -p $$"]
    if not Path("/bin/ps").exists():
        show = python("import os; print(os.getsid(0))")

    def session(**options: Any) -> int:
        return int(block_on(process.run(show, stdout=PIPE, **options)).stdout)

    assert session() != os.getsid(0)
    assert session(start_new_session=False) == os.getsid(0)


def test_a_grandchild_that_keeps_the_pipe_open_does_not_hold_up_wait() -> None:
    async def main() -> None:
        async with Process.spawn(["sh", "-c", "sleep 1000 & echo $!"], stdout=PIPE) as program:
            assert program.stdout is not None
            grandchild = int(await program.stdout.read_until(b"\n"))
            assert await program.wait() == 0
        await gone(grandchild)  # leaving the block has killed the group

    block_on(timeout(TIMEOUT, main()))


def test_reaped_by_other_code_is_told() -> None:
    async def main() -> None:
        program = await Process.spawn(["sleep", "1000"])
        waiting = spawn(program.wait())
        program.kill()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(program.pid, 0)
        try:
            assert await waiting == -9  # it was faster
        except ChildProcessError as error:
            assert "other code has waited" in str(error)
            assert program.returncode is None
        program.kill()

    block_on(timeout(TIMEOUT, main()))


def test_sigchld_ignored_is_told() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(ChildProcessError):
            block_on(process.run(["true"]))
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_no_handler_of_sigchld_is_touched() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda signum, _: seen.append(signum))
    try:
        block_on(process.run(["true"]))
        assert signal.getsignal(signal.SIGCHLD) is not before
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_hundred_at_once() -> None:
    before = open_fds()

    async def main() -> list[int]:
        done = await gather(*(process.run(["sh", "-c", f"exit {n}"]) for n in range(100)))
        return [each.returncode for each in done]

    assert block_on(main()) == list(range(100))
    assert open_fds() == before


def test_no_descriptor_is_inherited() -> None:
    show = python("import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))")

    async def main() -> None:
        outs = await gather(*(process.run(show, stdout=PIPE, stdin=PIPE) for _ in range(10)))
        assert {out.stdout for out in outs} == {b"[0, 1, 2, 3]\n"}

    block_on(main())


@pytest.mark.parametrize(
    ("args", "options", "error"),
    [
        (["/nowhere/program"], {}, FileNotFoundError),
        (["/etc/passwd"], {}, PermissionError),
        (["true"], {"cwd": "/nowhere"}, FileNotFoundError),
        (["a\0b"], {}, ValueError),
    ],
)
def test_what_cannot_be_started_leaves_nothing(args: Any, options: Any, error: Any) -> None:
    before = open_fds()
    with pytest.raises(error):
        block_on(process.run(args, capture_output=True, **options))
    assert open_fds() == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"preexec_fn": print}, "preexec_fn cannot be used"),
        ({"text": True}, "text cannot be used"),
        ({"encoding": "utf-8"}, "encoding cannot be used"),
    ],
)
def test_options_that_are_refused(options: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Process.spawn(["true"], **options)


def test_input_and_stdin_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="stdin and input"):
        block_on(process.run(["true"], input=b"", stdin=PIPE))
    with pytest.raises(ValueError, match="capture_output"):
        block_on(process.run(["true"], capture_output=True, stdout=PIPE))


def test_R87_cut_off_as_it_is_started_leaves_no_program() -> None:
    started: list[Process] = []

    async def main() -> None:
        for round_ in range(60):
            with move_on_after(round_ * 0.0001):
                started.append(await Process.spawn(["sleep", "1000"]))
        for program in started:
            program.kill()
            await program.wait()
        await _no_children_but(before)

    before = children()
    block_on(timeout(TIMEOUT, main()))


async def _no_children_but(before: set[str]) -> None:
    while children() - before:
        await sleep(0.001)


def test_dropped_while_it_runs_it_goes_on_and_is_reaped() -> None:
    async def main() -> None:
        programs = [await Process.spawn(["sleep", "1000"])]
        pid = programs[0].pid
        with pytest.warns(ResourceWarning, match="was dropped while it runs"):
            programs.clear()
        os.kill(pid, signal.SIGKILL)
        await _no_children_but(children() - {str(pid)})

    block_on(timeout(TIMEOUT, main()))


def test_in_a_forks_child_it_is_refused(run_script: Any) -> None:
    run_script(
        """
        import os
        from trale_py import RuntimeClosed, block_on, process

        program = block_on(process.Process.spawn(["sleep", "1000"]).__aenter__())
        pid = os.fork()
        if pid == 0:
            try:
                program.kill()
            except RuntimeClosed:
                os._exit(5)
            os._exit(6)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
        program.kill()
        assert block_on(program.wait()) == -9
        block_on(program.__aexit__(None, None, None))
        """
    )


def test_it_is_started_by_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started_in: list[str] = []
    plain = process_module.start

    def start(*args: Any) -> Any:
        started_in.append(threading.current_thread().name)
        return plain(*args)

    monkeypatch.setattr(process_module, "start", start)
    block_on(process.run(["true"]))
    assert len(started_in) == 1
    assert "executor" not in started_in[0]
