"""process/: programs that are started, waited for and ended."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import trale_py
from tests.conftest import open_fds
from tests.support.net_helpers import TIMEOUT, run
from trale_py import (
    CancelScope,
    TaskCancelled,
    gather,
    move_on_after,
    race,
    sleep,
    spawn,
    spawn_blocking,
    tasks,
    yield_now,
)
from trale_py.process import PIPE, Process
from trale_py.process import child as child_module
from trale_py.process import process as process_module
from trale_py.process.child import Child
from trale_py.process.start import Started, start

SLEEP = ["sleep", "600"]


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    yield
    until(lambda: children() == set())


def until(condition: Any) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def children() -> set[int]:
    """Of this process, zombies included."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                found.add(int(folder.name))
    return found


async def rest(stream: trale_py.FdStream | None) -> bytes:
    """All that comes until the end."""
    assert stream is not None
    return b"".join([data async for data in chunks(stream)])


async def chunks(stream: trale_py.FdStream) -> AsyncIterator[bytes]:
    while data := await stream.read():
        yield data


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


# -- what a program gets, and how it ends ------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_wait_returns_its_exit_status(status: int) -> None:
    async def main() -> None:
        program = await Process.spawn(["sh", "-c", f"exit {status}"])
        assert await program.wait() == status
        assert (await program.wait(), program.returncode) == (status, status)
        assert repr(program) == f"<Process {program.pid} returncode={status}>"

    run(main())


@pytest.mark.parametrize("how", ["kill", "terminate", "send_signal"])
def test_it_is_ended_by_a_signal(how: str) -> None:
    async def main() -> None:
        program = await Process.spawn(SLEEP)
        assert program.returncode is None
        assert repr(program) == f"<Process {program.pid} running>"
        args = (signal.SIGUSR1,) if how == "send_signal" else ()
        await spawn_blocking(getattr(program, how), *args)  # from any thread
        signum = {"kill": 9, "terminate": 15, "send_signal": signal.SIGUSR1}[how]
        assert await program.wait() == -signum

    run(main())


def test_its_pipes_are_streams() -> None:
    async def main() -> None:
        script = "read line; echo $line $line; echo oops >&2; cat"
        async with Process.spawn(
            ["sh", "-c", script], stdin=PIPE, stdout=PIPE, stderr=PIPE
        ) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            assert program.stderr is not None
            await program.stdin.write_all(b"hello\nrest")
            program.stdin.close()
            lines = [line async for line in program.stdout.lines()]
            assert lines == [b"hello hello", b"rest"]
            assert await rest(program.stderr) == b"oops\n"
            assert await program.wait() == 0

    run(main())


def test_what_is_not_a_pipe_is_none_and_stdin_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "output"

    async def main() -> None:
        with path.open("wb") as file:
            program = await Process.spawn(
                ["sh", "-c", "cat; echo $0 $PWD $X; echo error >&2", "name"],
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=tmp_path,
                env={"X": "value", "PATH": os.environ["PATH"]},
            )
        assert (program.stdin, program.stdout, program.stderr) == (None, None, None)
        assert await program.wait() == 0

    run(main())
    assert path.read_text() == f"name {tmp_path} value\nerror\n"


def test_a_programs_end_of_a_pipe_blocks_and_ours_does_not() -> None:
    async def main() -> None:
        source = "import os; print([os.get_blocking(fd) for fd in (0, 1)])"
        async with Process.spawn(
            [sys.executable, "-c", source], stdin=PIPE, stdout=PIPE
        ) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            assert not os.get_blocking(program.stdin.fileno())
            assert await rest(program.stdout) == b"[True, True]\n"

    run(main())


def test_a_program_inherits_no_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        os.set_inheritable(file.fileno(), True)

        async def main() -> bytes:
            async with Process.spawn(["ls", "/proc/self/fd"], stdout=PIPE) as program:
                return await rest(program.stdout)

        assert run(main()).split() == [b"0", b"1", b"2", b"3"]  # 3 is that of ls


@pytest.mark.parametrize("name", ["preexec_fn", "text", "universal_newlines", "encoding", "errors"])
def test_what_is_not_supported_is_refused_at_the_call(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be used: "):
        Process.spawn(["true"], **{name: "value"})


def test_a_stream_that_does_not_block_is_refused() -> None:
    reader, writer = trale_py.pipe()
    with reader, writer, pytest.raises(TypeError, match="stdin must be PIPE"):
        Process.spawn(["true"], stdin=reader)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("args", "options", "error"),
    [
        (["/no/such/program"], {}, FileNotFoundError),
        (["/etc/passwd"], {}, PermissionError),
        (["true", "nul\0"], {}, ValueError),
        (["true", "x" * 3_000_000], {}, OSError),
        (["true"], {"cwd": "/no/such/folder"}, FileNotFoundError),
        (["true"], {"no_such_option": 1}, TypeError),
        ([], {}, (ValueError, IndexError)),
        ([1], {}, TypeError),
        (["true"], {"stdout": "text"}, AttributeError),
    ],
)
def test_I6_a_start_that_fails_leaves_nothing(args: Any, options: Any, error: Any) -> None:
    async def main() -> None:
        fds = open_fds()
        for _ in range(3):
            with pytest.raises(error):
                await Process.spawn(args, **{"stdin": PIPE, "stdout": PIPE, **options})
        assert open_fds() == fds

    run(main())


@pytest.mark.parametrize("left", [0, 3, 6, 7, 11])
def test_I6_at_the_limit_of_descriptors(left: int, run_script: Any) -> None:
    """With so many left it starts, or it raises EMFILE: and then nothing is left of it."""
    result = run_script(
        f"""
        import os, resource, errno
        from pathlib import Path
        from trale_py import block_on
        from trale_py.process import PIPE, Process

        async def main():
            async with Process.spawn(["true"], stdin=PIPE, stdout=PIPE, stderr=PIPE) as program:
                await program.wait()

        block_on(main())
        fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
        free = [fd for fd in range(64) if fd not in fds[:-1]][:{left}]
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, ((free[-1] + 1 if free else 0), limit[1]))
        try:
            block_on(main())
            print("started")
        except OSError as error:
            print(errno.errorcode[error.errno])
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        assert sorted(int(fd) for fd in os.listdir("/proc/self/fd")) == fds
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            block_on(main())
            print("and again")
        """
    )
    first, *rest = result.stdout.splitlines()
    assert first == ("started" if left > 9 else first)
    assert first in ("started", "EMFILE"), result.stderr
    assert rest == ["and again"], result.stderr


# -- waiting -----------------------------------------------------------------------------------


def test_I3_two_tasks_wait_for_one_program() -> None:
    async def main() -> None:
        program = await Process.spawn(SLEEP)
        waits = [spawn(program.wait()) for _ in range(3)]
        await yield_now()
        program.kill()
        assert [await wait for wait in waits] == [-9, -9, -9]

    run(main())


def test_I7_a_wait_that_is_cancelled_only_stops_waiting() -> None:
    async def main() -> None:
        async with Process.spawn(SLEEP) as program:
            with move_on_after(0.001) as scope:
                await program.wait()
            assert scope.cancelled_caught
            assert program.returncode is None
            program.terminate()
            assert await program.wait() == -15

    run(main())


def test_I7_a_wait_that_is_cancelled_as_the_program_ends_returns() -> None:
    async def main() -> None:
        program = await Process.spawn(SLEEP)
        wait = spawn(program.wait())
        while wait._runtime.task_of(wait.id).state != "waiting":
            await yield_now()
        program.kill()
        until(program._child.look)  # this task keeps the executor until then
        wait.cancel()
        assert await wait == -9

    run(main())


@pytest.mark.parametrize("start_new_session", [True, False])
def test_I7_a_signal_to_what_has_ended_and_was_waited_for_does_nothing(
    start_new_session: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number may be another's by now."""

    async def main() -> None:
        program = await Process.spawn(["true"], start_new_session=start_new_session)
        assert await program.wait() == 0
        for name in ("kill", "killpg"):
            monkeypatch.setattr(os, name, None)
        program.kill()
        program.send_signal(signal.SIGTERM)

    run(main())


def test_I7_a_signal_to_what_has_ended_unwaited_reaches_its_group(tmp_path: Path) -> None:
    async def main() -> None:
        script = "sleep 600 & echo $!"
        program = await Process.spawn(["sh", "-c", script], stdout=PIPE)
        assert program.stdout is not None
        grandchild = int(await program.stdout.read_until(b"\n"))
        while program.returncode is None:
            await sleep(0.001)
        assert is_alive(grandchild)
        program.kill()
        until(lambda: not is_alive(grandchild))
        assert await program.wait() == 0
        program.stdout.close()

    run(main())


def test_I5_a_grandchild_that_keeps_the_pipe_open_does_not_hold_up_wait() -> None:
    async def main() -> None:
        async with Process.spawn(["sh", "-c", "sleep 600 & exit 3"], stdout=PIPE) as program:
            assert await program.wait() == 3
            assert program.stdout is not None
            with move_on_after(0.01) as scope:
                await program.stdout.read()
            assert scope.cancelled_caught

    run(main())


def test_I2_somebody_else_reaps_it() -> None:
    async def main() -> None:
        program = await Process.spawn(SLEEP)
        os.kill(program.pid, 9)
        await spawn_blocking(os.waitpid, program.pid, 0)
        for _ in range(2):
            with pytest.raises(
                ChildProcessError, match=f"waited for process {program.pid}"
            ) as raised:
                await program.wait()
            assert raised.value.errno == errno.ECHILD
        assert program.returncode is None
        assert repr(program) == f"<Process {program.pid} ended>"
        program.kill()

    run(main())


def test_I2_somebody_else_reaps_it_while_a_task_waits() -> None:
    async def main() -> None:
        program = await Process.spawn(SLEEP)
        wait = spawn(program.wait())
        await yield_now()
        os.kill(program.pid, 9)
        os.waitpid(program.pid, 0)  # in this task: the executor looks later
        with pytest.raises(ChildProcessError):
            await wait

    run(main())


def test_I2_with_sigchld_ignored(run_script: Any) -> None:
    result = run_script(
        """
        import signal
        from trale_py import block_on
        from trale_py.process import Process
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

        async def main():
            for args in (["true"], ["sleep", "0.05"]):
                async with Process.spawn(args) as program:
                    try:
                        await program.wait()
                    except ChildProcessError as error:
                        print("not known")

        block_on(main())
        """
    )
    assert result.stdout == "not known\nnot known\n", result.stderr


def test_sigchld_is_left_alone(run_script: Any) -> None:
    """A handler of the user's hears each one; what it reaps is no harm to others."""
    result = run_script(
        """
        import signal, threading
        from trale_py import block_on
        from trale_py.process import Process
        heard = threading.Event()
        def handler(signum, frame):
            heard.set()
        signal.signal(signal.SIGCHLD, handler)

        async def main():
            program = await Process.spawn(["true"])
            return await program.wait()

        assert block_on(main()) == 0
        assert heard.wait(20)
        assert signal.getsignal(signal.SIGCHLD) is handler
        """
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_I1_readiness_that_is_not_true_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pidfd is readable while a tracer has not let go of the program; waitid(2) knows better."""
    looks = []
    waitid = os.waitid

    def not_yet(kind: int, number: int, options: int) -> Any:
        found = waitid(kind, number, options)
        looks.append(found)
        return None if sum(one is not None for one in looks) < 5 else found

    async def main() -> None:
        program = await Process.spawn(["true"])
        monkeypatch.setattr(child_module.os, "waitid", not_yet)
        assert await program.wait() == 0
        assert len(looks) < 1000  # it does not spin

    run(main())


def test_I2_the_number_is_anothers_before_it_is_asked_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reaped by others between the start and pidfd_open(2): then it means a stranger."""
    stranger = os.pidfd_open(os.getppid())
    monkeypatch.setattr(child_module.os, "pidfd_open", lambda pid: stranger)
    child = Child(os.getppid(), is_group=False)
    assert child.lost
    child.signal(signal.SIGKILL)  # which is not sent
    child.reap()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(stranger)


def test_a_hundred_programs_at_once() -> None:
    async def one(n: int) -> int:
        async with Process.spawn(["sh", "-c", f"echo {n}; exit {n}"], stdout=PIPE) as program:
            assert await rest(program.stdout) == b"%d\n" % n
            return await program.wait()

    async def main() -> None:
        assert await gather(*map(one, range(100))) == tuple(range(100))

    run(main())


# -- the end -----------------------------------------------------------------------------------


def test_async_with_kills_it_and_what_it_has_started() -> None:
    async def main() -> None:
        async with Process.spawn(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=PIPE) as program:
            assert program.stdout is not None
            grandchild = int(await program.stdout.read_until(b"\n"))
        assert program.returncode == -9
        assert program.stdout.closed
        until(lambda: not is_alive(grandchild))

    run(main())


def test_I4_a_program_that_is_blocked_in_a_write_is_killed() -> None:
    async def main() -> None:
        async with Process.spawn(
            ["head", "-c", "1000000", "/dev/zero"], stdout=PIPE, stderr=PIPE
        ) as program:
            assert program.stdout is not None
            await program.stdout.peek(1)
        assert program.returncode in (-9, -13)

    run(main())


def test_a_cancelled_block_kills_it() -> None:
    async def main() -> None:
        with CancelScope() as scope:
            async with Process.spawn(SLEEP) as program:
                scope.cancel()
                await program.wait()
        assert program.returncode == -9

    run(main())


def test_without_a_session_of_its_own_only_the_program_is_signalled() -> None:
    async def main() -> None:
        script = "sleep 600 & echo $!; wait"
        async with Process.spawn(
            ["sh", "-c", script], stdout=PIPE, start_new_session=False
        ) as program:
            assert program.stdout is not None
            grandchild = int(await program.stdout.read_until(b"\n"))
            assert os.getsid(program.pid) == os.getsid(0)
        assert program.returncode == -9
        assert is_alive(grandchild)
        os.kill(grandchild, 9)

    run(main())


def test_a_group_that_the_user_asks_for_is_signalled() -> None:
    async def main() -> None:
        script = "sleep 600 & echo $!; wait"
        async with Process.spawn(
            ["sh", "-c", script], stdout=PIPE, start_new_session=False, process_group=0
        ) as program:
            assert program.stdout is not None
            grandchild = int(await program.stdout.read_until(b"\n"))
        until(lambda: not is_alive(grandchild))

    run(main())


def test_dropped_while_it_runs_it_goes_on_and_is_reaped() -> None:
    async def main() -> int:
        programs = [await Process.spawn(SLEEP)]
        pid = programs[0].pid
        with pytest.warns(ResourceWarning, match=rf"<Process {pid} running> was dropped"):
            programs.clear()
        return pid

    pid = run(main())
    assert is_alive(pid)
    os.kill(pid, 9)
    until(lambda: not tasks())


def test_dropped_after_its_end_it_is_reaped_and_nothing_is_said() -> None:
    async def main() -> None:
        program = await Process.spawn(["true"])
        until(program._child.look)

    run(main())


def test_R87_cut_off_at_the_start_it_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while the thread starts it: the thread ends it."""
    started: list[Started] = []
    leave: list[None] = []

    def slow(*args: Any) -> Started:
        started.append(start(*args))
        until(lambda: leave)
        return started[0]

    monkeypatch.setattr(process_module, "start", slow)

    async def main() -> None:
        task = spawn(Process.spawn(SLEEP, stdin=PIPE))
        while not started:
            await yield_now()
        task.cancel()
        with pytest.raises(TaskCancelled):
            await task

    fds = open_fds()
    run(main())
    leave.append(None)
    until(lambda: started[0].child._reaped)
    until(lambda: open_fds() == fds)


def test_R87_closed_after_the_thread_has_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The coroutine is closed before it has taken what the thread has made: the task ends it."""
    started: list[Started] = []

    async def made(self: Any) -> Started:
        started.append(self._function())
        raise GeneratorExit

    fds = open_fds()

    async def main() -> None:
        monkeypatch.setattr(
            process_module.FileCall, "__await__", lambda self: made(self).__await__()
        )
        with pytest.raises(GeneratorExit):
            await Process.spawn(SLEEP, stdin=PIPE)

    run(main())
    monkeypatch.undo()
    until(lambda: started[0].child._reaped)
    until(lambda: open_fds() == fds)


def test_cancelled_before_a_thread_has_it_nothing_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process_module, "start", None)

    async def main() -> None:
        task = spawn(Process._spawn(["true"], {}, {}))
        task.cancel()
        with pytest.raises(TaskCancelled):
            await task

    run(main())


def test_a_race_of_programs() -> None:
    async def program(seconds: str) -> int:
        async with Process.spawn(["sleep", seconds]) as sleeper:
            return await sleeper.wait()

    assert run(race(program("600"), program("0"))) == 0


def test_in_a_forks_child_it_is_the_parents(run_script: Any) -> None:
    result = run_script(
        """
        import os
        from trale_py import RuntimeClosed, block_on
        from trale_py.process import Process
        program = block_on(Process.spawn(["sleep", "600"]))
        if (child := os.fork()) == 0:
            refused = 0
            for call in (program.kill, lambda: block_on(program.wait())):
                try:
                    call()
                except RuntimeClosed:
                    refused += 1
            del program
            os._exit(refused)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(program.returncode)
        program.kill()
        print(block_on(program.wait()))
        """
    )
    assert result.stdout == "2\nNone\n-9\n", result.stderr


def test_at_the_scripts_end_a_block_kills_its_program(run_script: Any) -> None:
    result = run_script(
        """
        from trale_py import block_on, spawn, Event
        from trale_py.process import Process
        started = Event()
        async def main():
            async with Process.spawn(["sleep", "600"]) as program:
                print(program.pid, flush=True)
                started.set()
                await program.wait()
        spawn(main())
        started.wait_blocking(20)
        """
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert not is_alive(int(result.stdout))
