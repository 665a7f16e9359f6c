"""process.run: a program from its start to its end."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.net_helpers import run
from trale_py import block_on, gather, move_on_after, process
from trale_py.process import PIPE, CalledProcessError, TimeoutExpired

from .test_programs import is_alive, no_child_is_left, until

__all__ = ["no_child_is_left"]  # a fixture


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (["true"], {}),
        (["false"], {}),
        (["echo", "out"], {"capture_output": True}),
        (["sh", "-c", "echo out; echo err >&2; exit 3"], {"capture_output": True}),
        (["sh", "-c", "echo out; echo err >&2"], {"stdout": PIPE, "stderr": subprocess.STDOUT}),
        (["sh", "-c", "echo err >&2"], {"stderr": PIPE}),
        (["cat"], {"input": b"bytes", "capture_output": True}),
        (["cat"], {"input": bytearray(1_000_000), "stdout": PIPE}),
        (["true"], {"input": bytes(1_000_000)}),  # which it does not read
        ("echo $0", {"shell": True, "capture_output": True}),
        (["cat"], {"capture_output": True}),
        (["kill", "-9", "0"], {}),
    ],
)
def test_it_does_what_subprocess_does(args: Any, options: dict[str, Any]) -> None:
    theirs = {"stdin": subprocess.DEVNULL} if "input" not in options else {}
    theirs["start_new_session"] = True
    assert repr(block_on(process.run(args, **options))) == repr(
        subprocess.run(args, **theirs, **options)
    )


def test_check_raises() -> None:
    with pytest.raises(CalledProcessError) as raised:
        block_on(process.run(["sh", "-c", "echo out; exit 3"], capture_output=True, check=True))
    assert (raised.value.returncode, raised.value.stdout) == (3, b"out\n")
    assert block_on(process.run(["true"], check=True)).returncode == 0


@pytest.mark.parametrize("limit", [0.2, timedelta(seconds=0.2)])
def test_a_timeout_kills_the_whole_group(limit: Any, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    script = f"echo out; sleep 600 & echo $! > {path}.new; mv {path}.new {path}; wait"

    async def main() -> None:
        with pytest.raises(TimeoutExpired) as raised:
            while not path.exists():  # the machine may be busy: then once more
                await process.run(["sh", "-c", script], capture_output=True, timeout=limit)
        error = raised.value
        assert isinstance(error, subprocess.TimeoutExpired)
        assert isinstance(error, TimeoutError)
        assert str(error).endswith("timed out after 0.2 seconds")
        assert error.stdout in (b"out\n", b"")

    block_on(main())
    if path.exists():
        until(lambda: not is_alive(int(path.read_text())))


def test_a_timeout_though_the_program_has_ended_and_another_holds_its_pipe() -> None:
    """The group is killed all the same: its number is not another's as long as we wait."""

    async def main() -> bytes:
        written = b""
        while not written:  # the machine may be busy
            with pytest.raises(TimeoutExpired) as raised:
                await process.run(["sh", "-c", "sleep 600 & echo $!"], stdout=PIPE, timeout=1)
            written = raised.value.stdout
        return written

    pid = int(block_on(main()))
    until(lambda: not is_alive(pid))


def test_the_error_of_a_timeout_can_be_copied() -> None:
    error = TimeoutExpired(["sleep"], 1.5, b"out", b"err")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.cmd, copy.timeout, copy.output, copy.stderr) == (["sleep"], 1.5, b"out", b"err")
    assert str(copy) == str(error)
    assert (error.errno, error.args) == (None, (["sleep"], 1.5, b"out", b"err"))


def test_cancelled_it_kills_the_program() -> None:
    async def main() -> None:
        with move_on_after(0.05) as scope:
            await process.run(["sleep", "600"])
        assert scope.cancelled_caught

    run(main())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"input": b"", "stdin": PIPE}, ValueError),
        ({"input": "text"}, TypeError),
        ({"capture_output": True, "stdout": PIPE}, ValueError),
        ({"capture_output": True, "stderr": PIPE}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"text": True}, ValueError),
    ],
)
def test_wrong_arguments_are_refused(options: Any, error: type[Exception]) -> None:
    name = next(reversed(options))
    with pytest.raises(error, match=name):
        block_on(process.run(["true"], **options))


def test_a_hundred_at_once() -> None:
    async def main() -> None:
        done = await gather(
            *(process.run(["sh", "-c", f"exit {n}"], capture_output=True) for n in range(100))
        )
        assert [one.returncode for one in done] == [*range(100)]

    run(main())


def test_in_a_script(run_script: Any) -> None:
    result = run_script(
        f"""
        import sys
        import trale_py
        from trale_py import block_on
        assert not {{"subprocess", "trale_py.process"}} & set(sys.modules)
        args = [{sys.executable!r}, "-c", "print(6 * 7)"]
        done = block_on(trale_py.process.run(args, capture_output=True))
        print(done.stdout.decode(), end="")
        """
    )
    assert (result.stdout, result.stderr) == ("42\n", "")


@pytest.mark.slow
def test_others_go_on_while_programs_start_from_a_large_process(run_script: Any) -> None:
    """fork(2) would copy the tables of two gigabytes for each."""
    result = run_script(
        """
        import time
        from trale_py import TaskGroup, block_on, now, process, sleep

        large = bytearray(1 << 31)
        for n in range(0, len(large), 4096):
            large[n] = 1

        async def main():
            late = []
            async def tick():
                while True:
                    due = now() + 0.001
                    await sleep(0.001)
                    late.append(now() - due)
            async with TaskGroup() as group:
                ticker = group.spawn(tick())
                for _ in range(20):
                    await process.run(["true"], check=True)
                ticker.cancel()
            print(max(late) < 1.0, len(late) > 0)
            print(f"{max(late) * 1000:.1f} ms late at most", flush=True)

        block_on(main())
        """
    )
    assert result.stdout.startswith("True True\n"), result.stderr
    print(result.stdout)


def test_the_umask_and_the_folder_are_the_programs(tmp_path: Path) -> None:
    block_on(process.run(["touch", "file"], cwd=tmp_path, umask=0o077, check=True))
    assert os.stat(tmp_path / "file").st_mode & 0o777 == 0o600  # noqa: PTH116
