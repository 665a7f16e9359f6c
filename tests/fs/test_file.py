"""fs/file.py: an open file as a stream of bytes, whose calls are made by threads."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trale_py
from tests.conftest import open_fds
from tests.support.interleave import Interleaving
from tests.support.net_helpers import TIMEOUT, run
from trale_py import (
    BusyResourceError,
    ClosedResourceError,
    DelimiterNotFound,
    IncompleteRead,
    JoinHandle,
    RuntimeClosed,
    block_on,
    move_on_after,
    spawn,
    spawn_blocking,
    yield_now,
)
from trale_py.core.runtime import Runtime
from trale_py.fs import File, open_file
from trale_py.fs.open_file import OpenFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\r\nthree")
    return path


class Fifo:
    """A file whose reads last until the test says so."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.other = os.open(path, os.O_RDWR)  # which does not wait for anybody

    def write(self, data: bytes) -> None:
        os.write(self.other, data)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    fifo = Fifo(tmp_path / "fifo")
    yield fifo
    os.close(fifo.other)


async def begun(file: File, before: object = None) -> None:
    """Until a thread is in the file's last call, which comes after ``before``."""
    while file._last is None or file._last is before or not file._last._fate:
        await yield_now()


async def cut_off(file: File, operation: Any) -> None:
    """Cancel ``operation`` when a thread is in it."""
    before = file._last
    task = spawn(operation)
    await begun(file, before)
    task.cancel()
    with pytest.raises(trale_py.TaskCancelled):
        await task


# -- a stream of bytes -------------------------------------------------------------------------


def test_it_is_a_stream_of_bytes(path: Path) -> None:
    async def main() -> None:
        async with File.open(path) as file:
            assert await file.read(2) == b"on"
            assert await file.read_until(b"\n") == b"e\n"
            assert await file.peek(3) == b"two"
            assert await file.read_exact(3) == b"two"
            with pytest.raises(DelimiterNotFound):
                await file.read_until(b"ee", limit=3)
            buffer = bytearray(3)
            assert await file.readinto(buffer) == 3
            assert buffer == b"\r\nt"
            with pytest.raises(IncompleteRead):
                await file.read_exact(100)
            assert await file.read() == b""

    run(main())


def test_its_lines(path: Path) -> None:
    async def main() -> list[bytes]:
        async with File.open(path) as file:
            return [line async for line in file]

    assert run(main()) == [b"one", b"two", b"three"]


def test_a_line_may_be_of_any_length(path: Path) -> None:
    path.write_bytes(b"x" * 200_000 + b"\nend\n")

    async def main() -> list[int]:
        async with File.open(path) as file:
            return [len(line) async for line in file]

    assert run(main()) == [200_000, 3]


def test_read_to_end_is_what_is_left(path: Path) -> None:
    async def main() -> None:
        async with File.open(path) as file:
            await file.read_until(b"\n")
            assert await file.read_to_end() == b"two\r\nthree"
            assert await file.read_to_end() == b""

    run(main())


@pytest.mark.parametrize(
    "data",
    [b"bytes", bytearray(b"array"), memoryview(b"view")[1:], [b"a", b"", bytearray(b"b")], b"", []],
)
def test_what_can_be_written(path: Path, data: Any) -> None:
    async def main() -> None:
        async with File.create(path) as file:
            await file.write_all(data)

    run(main())
    assert path.read_bytes() == (b"".join(data) if isinstance(data, list) else bytes(data))


OPERATIONS = st.one_of(
    st.tuples(st.just("read"), st.integers(1, 20)),
    st.tuples(st.just("readline")),
    st.tuples(st.just("write"), st.binary(max_size=20)),
    st.tuples(st.just("seek"), st.integers(0, 40)),
    st.tuples(st.just("forward"), st.integers(0, 5)),
    st.tuples(st.just("end")),
    st.tuples(st.just("tell")),
    st.tuples(st.just("truncate")),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(OPERATIONS, max_size=12))
def test_the_position_is_where_a_plain_file_has_it(
    tmp_path: Path, operations: list[tuple[Any, ...]]
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for path in (ours, theirs):
        path.write_bytes(b"one\ntwo\nthree\n" * 3)

    async def main() -> None:
        with theirs.open("r+b") as plain:
            async with File.open(ours, "r+b") as file:
                for name, *args in operations:
                    match name:
                        case "read":
                            assert await file.read(*args) == plain.read(*args)
                        case "readline":
                            assert await file.read_until(b"\n") == plain.readline()
                        case "write":
                            await file.write_all(*args)
                            plain.write(*args)
                        case "seek":
                            assert await file.seek(*args) == plain.seek(*args)
                        case "forward":
                            assert await file.seek(*args, os.SEEK_CUR) == plain.seek(*args, 1)
                        case "end":
                            assert await file.seek(0, os.SEEK_END) == plain.seek(0, 2)
                        case "tell":
                            assert await file.tell() == plain.tell()
                        case "truncate":
                            assert await file.truncate() == plain.truncate()

    run(main())
    assert ours.read_bytes() == theirs.read_bytes()


def test_pread_and_pwrite_leave_the_position(path: Path) -> None:
    async def main() -> None:
        async with File.open(path, "r+b") as file:
            assert await file.read(2) == b"on"
            assert await file.pread(3, 4) == b"two"
            assert await file.pread(3, 1000) == b""
            assert await file.pwrite(b"TWO", 4) == 3
            assert await file.read(5) == b"e\nTWO"
            assert await file.tell() == 7

    run(main())


def test_sync_and_stat(path: Path) -> None:
    async def main() -> None:
        async with File.open(path, "ab") as file:
            assert await file.tell() == 14
            await file.write_all(b"!")
            await file.sync()
            await file.sync(metadata=False)
            assert (await file.stat()).st_size == 15
            assert file.name == path

    run(main())


# -- opening -----------------------------------------------------------------------------------


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("mode", [m + u for m in ("rb", "wb", "ab", "xb") for u in ("", "+")])
def test_the_modes_are_those_of_open(tmp_path: Path, mode: str, exists: bool) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    if exists:
        ours.write_bytes(b"there")
        theirs.write_bytes(b"there")

    async def with_ours() -> Any:
        try:
            async with File.open(ours, mode) as file:
                flags = fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & ~os.O_LARGEFILE
                return flags, await file.tell(), ours.read_bytes()
        except OSError as error:
            return type(error)

    def with_theirs() -> Any:
        try:
            with theirs.open(mode) as file:
                flags = fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & ~os.O_LARGEFILE
                return flags, file.tell(), theirs.read_bytes()
        except OSError as error:
            return type(error)

    assert run(with_ours()) == with_theirs()


@pytest.mark.parametrize("mode", ["r", "w", "rt", "b", "rwb", "", "rb++", "rbb", "U"])
def test_another_mode_is_refused_at_the_call(path: Path, mode: str) -> None:
    with pytest.raises(ValueError, match="mode must be one of bytes"):
        File.open(path, mode)


def test_the_umask_is_respected_and_programs_inherit_nothing(run_script: Any) -> None:
    result = run_script(
        """
        import fcntl, os, tempfile
        from trale_py import block_on
        from trale_py.fs import File

        async def main(path):
            async with File.create(path) as file:
                assert fcntl.fcntl(file.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
                print(oct((await file.stat()).st_mode & 0o777))

        with tempfile.TemporaryDirectory() as folder:
            for umask in (0o077, 0o022, 0):
                os.umask(umask)
                block_on(main(f"{folder}/{umask}"))
        """
    )
    assert result.stdout.split() == ["0o600", "0o644", "0o666"], result.stderr


def test_bytes_are_paths_too(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe"

    async def main() -> str:
        async with File.create(path) as file:
            await file.write_all(b"x")
            return repr(file)

    assert "udcff" in run(main())


@pytest.mark.parametrize(
    ("where", "error"),
    [("nothing", FileNotFoundError), ("", IsADirectoryError), ("file/x", NotADirectoryError)],
)
def test_an_open_that_fails_leaves_nothing(path: Path, where: str, error: type[OSError]) -> None:
    async def main() -> None:
        with pytest.raises(error, match=r"file|direct"):
            await File.open(path.parent / where)

    run(main())


def test_I11_an_open_that_was_cut_off_closes_what_it_gets(fifo: Fifo) -> None:
    """A fifo is opened for reading once there is a writer."""
    os.close(fifo.other)
    fds = open_fds()

    async def main() -> None:
        task = spawn(File.open(fifo.path))
        while not trale_py.core.current.runtime().files._running:
            await yield_now()
        task.cancel()
        with pytest.raises(trale_py.TaskCancelled):
            await task

    run(main())
    writer = os.open(fifo.path, os.O_WRONLY)  # waits for the thread, which is in open(2)
    os.set_blocking(writer, False)
    with pytest.raises(BrokenPipeError):
        while True:
            try:
                os.write(writer, b"x" * 4096)
            except BlockingIOError:
                continue
    os.close(writer)
    assert open_fds() == fds
    fifo.other = os.open(fifo.path, os.O_RDWR)


# -- errors of the disk --------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["write", "write_all", "pwrite"])
def test_I13_a_full_disk_is_an_error(how: str) -> None:
    async def main() -> None:
        async with File.open("/dev/full", "wb") as file:
            for _ in range(2):
                with pytest.raises(OSError, match="No space left"):
                    await (file.pwrite(b"x", 0) if how == "pwrite" else getattr(file, how)(b"x"))

    run(main())


def test_I13_a_short_write_and_then_a_full_disk(run_script: Any) -> None:
    """The limit of a file's size, as the disk's end: a write(2) is short, the next fails."""
    result = run_script(
        """
        import errno, resource, tempfile
        from trale_py import block_on
        from trale_py.fs import File, write_bytes

        async def main(path):
            async with File.create(path) as file:
                assert await file.write(b"x" * 100) == 100
                assert await file.write(b"x" * 1000) == 924
                for call in (file.write(b"x"), file.write_all(b"x"), file.pwrite(b"x", 5000)):
                    try:
                        await call
                    except OSError as error:
                        print(error.errno == errno.EFBIG)
                await file.truncate(0)
                await file.seek(0)
                try:
                    await file.write_all([b"x" * 1000, b"x" * 1000])
                except OSError as error:
                    print(error.errno == errno.EFBIG, await file.tell())
                await file.seek(0)
                await file.write_all(b"it goes on")
            try:
                await write_bytes(path, b"x" * 2000)
            except OSError as error:
                print(error.errno == errno.EFBIG)

        with tempfile.TemporaryDirectory() as folder:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
            block_on(main(folder + "/file"))
        """
    )
    assert result.stdout.split() == ["True", "True", "True", "True", "1024", "True"], result.stderr


def test_I13_a_small_disk() -> None:
    unshare = shutil.which("unshare")
    source = (
        "import errno\n"
        "from trale_py import block_on, fs\n"
        "async def main():\n"
        "    async with fs.File.create('/tmp/file') as file:\n"
        "        try:\n"
        "            await file.write_all(bytes(200_000))\n"
        "        except OSError as error:\n"
        "            assert error.errno == errno.ENOSPC\n"
        "            assert await file.tell() == 65536\n"
        "            print('full')\n"
        "block_on(main())\n"
    )
    script = 'mount -t tmpfs -o size=64k none /tmp && exec "$0" -W error -c "$1"'
    command = [str(unshare), "-m", "sh", "-c", script, sys.executable]
    if unshare is None or subprocess.run([*command, ""], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    done = subprocess.run([*command, source], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("full\n", "")


def test_I13_the_error_of_a_write_that_was_cut_off_is_raised_by_the_next(path: Path) -> None:
    async def main() -> None:
        async with File.open(path, "r+b") as file:
            entered, leave = [], []

            def full(fd: int, data: bytes) -> int:
                entered.append(fd)
                while not leave:
                    pass
                raise OSError(errno.ENOSPC, "no room")

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(trale_py.fs.file.os, "write", full)
                await cut_off(file, file.write_all(b"x"))
                while not entered:
                    await yield_now()
                leave.append(True)
                with pytest.raises(OSError, match="no room"):
                    await file.tell()
            assert await file.read(3) == b"one"  # told once

    run(main())


def test_I14_a_file_of_many_gigabytes(path: Path) -> None:
    """Sparse: it takes no room."""
    far = 5 * 2**30

    async def main() -> None:
        async with File.open(path, "r+b") as file:
            assert await file.truncate(far) == far
            assert await file.pwrite(b"end", far) == 3
            assert await file.seek(-3, os.SEEK_END) == far
            assert await file.read() == b"end"
            assert await file.tell() == far + 3
            assert await file.pread(10, far) == b"end"
            assert await file.pread(4, 3 * 2**30) == bytes(4)
            assert (await file.stat()).st_size == far + 3

    run(main())


def test_I14_a_file_that_shrinks_while_it_is_read(path: Path) -> None:
    path.write_bytes(b"x" * 200_000)

    async def main() -> None:
        async with File.open(path) as file:
            assert len(await file.read(1000)) == 1000
            os.truncate(path, 1500)
            assert len(await file.read_to_end()) == 500
            os.truncate(path, 0)
            assert await file.read() == b""
            assert await file.pread(10, 0) == b""
            with pytest.raises(IncompleteRead):
                await file.read_exact(1)
            path.write_bytes(b"y" * 2000)
            assert await file.read() == b"y" * 500

    run(main())


# -- cut off -----------------------------------------------------------------------------------


def test_what_a_read_that_was_cut_off_has_read_is_there_for_the_next(fifo: Fifo) -> None:
    async def main() -> None:
        async with File.open(fifo.path) as file:
            for _ in range(3):
                await cut_off(file, file.read())
                fifo.write(b"hello\n")
                assert await file.read(2) == b"he"
                assert await file.read_until(b"\n") == b"llo\n"

    run(main())


def test_a_read_until_that_was_cut_off_has_read_nothing(fifo: Fifo) -> None:
    async def main() -> None:
        async with File.open(fifo.path) as file:
            fifo.write(b"hel")
            assert await file.peek(3) == b"hel"
            await cut_off(file, file.read_until(b"\n"))
            fifo.write(b"lo\n")
            assert await file.read_until(b"\n") == b"hello\n"

    run(main())


def test_a_write_that_was_cut_off_is_done_before_the_next(fifo: Fifo) -> None:
    """A fifo has room for less than is written, so the writes last until it is read."""
    size = 300_000

    async def main() -> None:
        async with File.open(fifo.path, "wb") as file:
            await cut_off(file, file.write_all(b"a" * size))
            with move_on_after(0) as scope:
                await file.write_all(b"b" * size)  # waits, and does not happen
            assert scope.cancelled_caught
            last = spawn(file.write_all(b"c" * size))
            async with File.open(fifo.path) as reader:
                assert await reader.read_exact(2 * size) == b"a" * size + b"c" * size
            await last

    run(main())


def test_a_call_that_no_thread_has_begun_does_not_happen(path: Path, fifo: Fifo) -> None:
    async def main() -> None:
        pool = trale_py.core.current.runtime().files
        readers = [await File.open(fifo.path) for _ in range(pool.limit)]
        reads: list[JoinHandle[bytes]] = [spawn(file.read(1)) for file in readers]
        for file in readers:
            await begun(file)
        with move_on_after(0.01) as scope:
            await File.open(path, "wb")  # which would empty it
        assert scope.cancelled_caught
        assert pool.queued == 0
        fifo.write(b"x" * len(readers))
        for read in reads:
            assert await read == b"x"
        for file in readers:
            async with file:
                pass

    run(main())
    assert path.read_bytes() != b""


def test_I8_reads_that_never_end_and_were_given_up_keep_nobody(path: Path, fifo: Fifo) -> None:
    async def main() -> None:
        pool = trale_py.core.current.runtime().files
        files = [await File.open(fifo.path) for _ in range(pool.limit + 3)]
        for file in files:
            await cut_off(file, file.read(1))
        async with File.open(path) as file:
            assert await file.read(3) == b"one"
        for file in files:
            file.close()
        fifo.write(b"x" * len(files))
        for file in files:
            while file._file._fds:
                await yield_now()

    run(main())


def test_I8_jobs_of_users_do_not_keep_files_from_being_read(path: Path) -> None:
    leave = threading.Event()
    pool = trale_py.Executor.get().blocking_pool
    jobs = [spawn_blocking(leave.wait, TIMEOUT) for _ in range(pool.limit)]

    async def main() -> bytes:
        async with File.open(path) as file:
            return await file.read(3)

    assert run(main()) == b"one"
    leave.set()
    for job in jobs:
        assert job.join(TIMEOUT)


def test_I10_a_read_that_never_ends_keeps_no_process_from_ending(run_script: Any) -> None:
    result = run_script(
        """
        import os, tempfile
        from trale_py import block_on, move_on_after, spawn
        from trale_py.fs import File

        async def main(path):
            file = await File.open(path)
            with move_on_after(0.05):
                await file.read()
            spawn(file.read())  # and one that nobody cancels

        with tempfile.TemporaryDirectory() as folder:
            os.mkfifo(folder + "/fifo")
            other = os.open(folder + "/fifo", os.O_RDWR)
            block_on(main(folder + "/fifo"))
        print("end")
        """
    )
    assert result.stdout == "end\n", result.stderr
    assert result.returncode == 0


# -- closing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "thread", "async with"])
def test_closing_wakes_the_task_that_waits(fifo: Fifo, how: str) -> None:
    async def main() -> None:
        file = await File.open(fifo.path)
        read = spawn(file.read())
        await begun(file)
        if how == "close":
            file.close()
        elif how == "thread":
            await spawn_blocking(file.close)
        else:
            async with file:
                pass
        with pytest.raises(ClosedResourceError):
            await read
        with pytest.raises(ClosedResourceError):
            await file.read()
        with pytest.raises(ClosedResourceError):
            file.fileno()
        os.fstat(file._file.fd)  # not closed under the thread that reads
        fifo.write(b"x")
        while file._file._fds:
            await yield_now()

    run(main())


def test_closing_wakes_a_task_that_waits_for_the_end_of_another_call(fifo: Fifo) -> None:
    async def main() -> None:
        file = await File.open(fifo.path)
        await cut_off(file, file.read())
        read = spawn(file.read())
        await yield_now()
        file.close()
        with pytest.raises(ClosedResourceError):
            await read
        fifo.write(b"x")
        while file._file._fds:
            await yield_now()

    run(main())


def test_R86_closed_at_each_line_of_a_threads_call(tmp_path: Path) -> None:
    """It is never closed between the thread's look and its call, and always closed once."""
    path = tmp_path / "file"
    n, happened = 0, True
    while happened:
        opened = OpenFile(os.open(path, os.O_RDWR | os.O_CREAT))
        closing = Interleaving(n, open_file, opened.close)
        try:
            closing.run(lambda opened=opened: opened.use(os.fstat))
        except ClosedResourceError:
            assert closing.happened
        opened.close()
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(opened.fd)
        assert opened._fds == []
        n, happened = n + 1, closing.happened
    assert n > 4


def test_R86_a_thread_begins_at_each_line_of_a_close(tmp_path: Path) -> None:
    path = tmp_path / "file"
    n, happened = 0, True
    while happened:
        opened = OpenFile(os.open(path, os.O_RDWR | os.O_CREAT))

        def use(opened: OpenFile = opened) -> None:
            try:
                opened.use(os.fstat)
            except ClosedResourceError:
                pass

        thread = Interleaving(n, open_file, use)
        thread.run(opened.close)
        assert opened._fds == []
        n, happened = n + 1, thread.happened
    assert n > 2


def test_a_close_that_fails_is_raised_by_async_with(path: Path) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match="Bad file"):
            async with File.open(path) as file:
                os.close(file.fileno())

    run(main())


def test_a_close_that_fails_is_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        file = await File.open(path)
        os.close(file.fileno())
        file.close()
        file.close()
        while file._file._fds:
            await yield_now()

    run(main())
    assert "closing" in caplog.text
    assert "Bad file descriptor" in caplog.text


def test_a_cancelled_block_closes_its_file(path: Path) -> None:
    async def main() -> None:
        with trale_py.CancelScope() as scope:
            async with File.open(path) as file:
                scope.cancel()
                await trale_py.sleep(TIMEOUT)
        assert file.closed
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(file._file.fd)

    run(main())


def test_a_file_that_is_dropped_is_closed_and_says_so(path: Path) -> None:
    async def main() -> int:
        files = [await File.open(path)]
        fd = files[0].fileno()
        with pytest.warns(ResourceWarning, match="unclosed <File '.*file'>"):
            files.clear()
        return fd

    fd = run(main())

    async def closed() -> None:
        while os.path.exists(f"/proc/self/fd/{fd}"):  # noqa: PTH110
            await yield_now()

    run(closed())


def test_it_shows_its_name(path: Path) -> None:
    async def main() -> None:
        async with File.open(path) as file:
            assert repr(file) == f"<File '{path}'>"
        assert repr(file) == f"<File '{path}' closed>"

    run(main())


# -- who may use it ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["read", "write", "tell"])
def test_one_task_at_a_time_has_the_position(fifo: Fifo, how: str) -> None:
    async def main() -> None:
        async with File.open(fifo.path, "r+b") as file:
            read = spawn(file.read(1))
            await begun(file)
            with pytest.raises(BusyResourceError):
                await (file.write_all(b"x") if how == "write" else getattr(file, how)())
            fifo.write(b"x")
            assert await read == b"x"

    run(main())


def test_pread_and_pwrite_run_beside_each_other(path: Path) -> None:
    async def main() -> None:
        async with File.open(path, "r+b") as file:
            await trale_py.gather(*(file.pwrite(bytes([n]), n) for n in range(50)))
            found = await trale_py.gather(*(file.pread(1, n) for n in range(50)))
            assert b"".join(found) == bytes(range(50))

    run(main())


@pytest.mark.parametrize("how", ["read", "write_all", "tell", "pread", "stat"])
def test_a_task_of_another_runtime_is_refused(path: Path, runtime: Runtime, how: str) -> None:
    file = block_on(File.open(path, "r+b"))
    args = {"write_all": (b"x",), "pread": (1, 0)}.get(how, ())

    async def other() -> None:
        with pytest.raises(RuntimeClosed, match="belongs to another runtime"):
            await getattr(file, how)(*args)

    runtime.spawn(other()).join(TIMEOUT)

    async def close() -> None:
        async with file:
            pass

    block_on(close())


def test_in_a_forks_child_it_is_the_parents(path: Path, run_script: Any) -> None:
    result = run_script(
        f"""
        import os
        from trale_py import RuntimeClosed, block_on
        from trale_py.fs import File
        file = block_on(File.open({str(path)!r}))
        assert block_on(file.read(3)) == b"one"
        if (child := os.fork()) == 0:
            try:
                block_on(file.read())
            except RuntimeClosed:
                file.close()
                try:
                    os.fstat(file._file.fd)
                except OSError:
                    os._exit(7)
            os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        async def rest():
            async with file:
                print(await file.read(2))
        block_on(rest())
        """
    )
    assert result.stdout == "7\nb'\\nt'\n", result.stderr


def test_it_is_a_regular_file_that_mode_says(path: Path) -> None:
    async def main() -> int:
        async with File.open(path) as file:
            return (await file.stat()).st_mode

    assert stat.S_ISREG(run(main()))
