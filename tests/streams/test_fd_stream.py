"""FdStream: pipes, fifos, terminals, and what is always ready."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.net_helpers import TIMEOUT, Events, executor_turn, parked, run, settle
from trale_py import ClosedResourceError, FdStream, Reactor, TaskCancelled, pipe

Terminal = tuple[FdStream, int]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A pseudo-terminal: its master, and the number of its other side."""
    master, other = os.openpty()
    with FdStream.from_fd(master) as stream:
        yield stream, other
    try:
        os.close(other)
    except OSError as error:
        assert error.errno == errno.EBADF


def test_a_pipe_shows_what_it_is() -> None:
    reader, writer = pipe()
    assert repr(reader) == f"<FdStream fd={reader.fileno()}>"
    reader.close()
    writer.close()
    assert (reader.closed, reader.fileno(), repr(reader)) == (True, -1, "<FdStream closed>")


def test_descriptors_are_close_on_exec_and_non_blocking() -> None:
    ours, theirs = os.pipe()
    os.set_inheritable(ours, True)
    streams = [*pipe(), FdStream.from_fd(ours), FdStream.from_fd(theirs)]
    for stream in streams:
        assert not os.get_inheritable(stream.fileno())
        assert not os.get_blocking(stream.fileno())
        stream.close()


def test_B12_the_end_of_a_pipe_is_the_end() -> None:
    reader, writer = pipe()
    with reader:
        run(writer.write_all(b"last"))
        waiting = parked(reader.read_exact(5))
        writer.close()
        with pytest.raises(EOFError):
            waiting.join(TIMEOUT)
        assert run(reader.read()) == b""


def test_B13_a_pipe_that_nobody_reads() -> None:
    reader, writer = pipe()
    with writer:
        waiting = parked(writer.write_all(bytes(1 << 20)))
        reader.close()
        with pytest.raises(BrokenPipeError):
            waiting.join(TIMEOUT)


@pytest.mark.parametrize("close_first", [False, True])
def test_C10_no_write_dies_of_SIGPIPE(close_first: bool, run_script: Any) -> None:
    result = run_script(f"""
        import signal
        from trale_py import block_on, pipe
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        async def main():
            for other, one in (pipe(),):
                if {close_first}:
                    other.close()
                else:
                    await one.write_all(b"x")
                    other.close()
                for data in (b"y", [b"y", b"z"]):
                    try:
                        await one.write_all(data)
                    except (BrokenPipeError, ConnectionResetError):
                        print("error")
                one.close()
        block_on(main())
        assert signal.SIGPIPE not in signal.sigpending()
        assert signal.SIGPIPE not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    """)
    assert (result.stdout, result.stderr, result.returncode) == ("error\n" * 2, "", 0)


def test_B26_a_fifo_whose_writers_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with FdStream.from_fd(os.open(path, os.O_RDONLY | os.O_NONBLOCK)) as reader:
        for word in (b"one", b"two"):
            with FdStream.from_fd(os.open(path, os.O_WRONLY)) as writer:
                waiting = parked(reader.read())
                run(writer.write_all(word))
                assert waiting.join(TIMEOUT) == word
            settle()
            assert run(reader.read()) == b""


def test_B26_a_terminal_that_is_closed_and_opened_again(terminal: Terminal) -> None:
    stream, other = terminal
    name = os.ttyname(other)
    waiting = parked(stream.read())
    os.close(other)
    assert waiting.join(TIMEOUT) == b""
    space = bytearray(10)
    assert run(stream.readinto(space)) == 0
    again = os.open(name, os.O_RDWR | os.O_NOCTTY)
    try:
        waiting = parked(stream.read())
        os.write(again, b"hello")
        assert waiting.join(TIMEOUT) == b"hello"
    finally:
        os.close(again)


def test_a_terminal_is_read_line_by_line_to_its_end(terminal: Terminal) -> None:
    stream, other = terminal
    with FdStream.from_fd(os.dup(other)) as typed:
        run(stream.write_all(b"one\ntwo\nthree\n"))
        assert [run(typed.read()) for _ in range(3)] == [b"one\n", b"two\n", b"three\n"]
        run(stream.write_all(b"\x04"))
        assert run(typed.read()) == b""


def test_a_terminal_has_no_half_close(terminal: Terminal) -> None:
    stream, other = terminal
    tty.setraw(other)
    with pytest.raises(OSError, match="no half-close") as caught:
        run(stream.shutdown())
    assert caught.value.errno == errno.EOPNOTSUPP
    run(stream.write_all(b"still"))


def test_the_end_of_writing_closes_a_pipe() -> None:
    reader, writer = pipe()
    with reader:
        run(writer.shutdown())
        assert writer.closed
        assert run(reader.read()) == b""
        with pytest.raises(ClosedResourceError):
            run(writer.write_all(b"x"))


def test_B27_what_was_blocking_is_set_non_blocking() -> None:
    ours, theirs = os.pipe()
    with FdStream.from_fd(ours) as reader, FdStream.from_fd(theirs) as writer:
        for stream in (reader, writer):  # as another process with the same open file might do
            os.set_blocking(stream.fileno(), True)
        waiting = parked(reader.read())
        run(writer.write_all(b"x"))
        assert waiting.join(TIMEOUT) == b"x"
        os.set_blocking(writer.fileno(), True)
        waiting = parked(writer.write_all(bytes(1 << 20)))
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(TaskCancelled):
            waiting.join(TIMEOUT)


FILES: dict[str, Callable[[Path], int]] = {
    "file": lambda tmp: os.open(tmp / "file", os.O_RDWR | os.O_CREAT),
    "memfd": lambda _: os.memfd_create("memory"),
    "null": lambda _: os.open("/dev/null", os.O_RDWR),
    "zero": lambda _: os.open("/dev/zero", os.O_RDWR),
    "urandom": lambda _: os.open("/dev/urandom", os.O_RDWR),
}


@pytest.mark.parametrize("name", FILES)
def test_B20_what_epoll_refuses_is_always_ready(name: str, tmp_path: Path) -> None:
    with FdStream.from_fd(FILES[name](tmp_path)) as stream:
        run(stream.write_all([b"hello ", b"world"]))
        run(stream.write_all(bytes(200_000)))
        if name in ("file", "memfd"):
            os.lseek(stream.fileno(), 0, os.SEEK_SET)
            assert run(stream.read_exact(11)) == b"hello world"
            assert run(stream.read_exact(200_000)) == bytes(200_000)
        if name not in ("zero", "urandom"):
            assert (run(stream.read()), run(stream.read())) == (b"", b"")
        else:
            assert len(run(stream.read_exact(100_000))) == 100_000


def test_B20_a_file_can_be_both_refused_and_read_twice(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"line\n")
    for _ in range(2):
        with FdStream.from_fd(os.open(tmp_path / "file", os.O_RDONLY)) as stream:
            assert run(stream.read_until(b"\n")) == b"line\n"


def test_I13_a_full_disk_is_an_error() -> None:
    stream = FdStream.from_fd(os.open("/dev/full", os.O_WRONLY))
    with stream, pytest.raises(OSError, match="No space left on device"):
        run(stream.write_all(b"x"))


def test_an_idle_pipe_costs_no_turn_of_the_reactor() -> None:
    """T6: a hang-up of which only the writing side hears must not come again and again."""
    reader, writer = pipe()
    with writer:
        run(writer.write_all(b"x"))
        events = Events()
        reader.close()
        events.wait()
        before = Reactor.get()._poller.counts()["events"]
        settle()
        settle()
        assert Reactor.get()._poller.counts()["events"] == before


def test_B4_R33_a_closed_number_is_not_read(terminal: Terminal, caplog: Any) -> None:
    """R33, for what came by its number."""
    stream, _ = terminal
    run(stream.write_all(b"x"))
    os.close(stream.fileno())
    with pytest.raises(OSError, match="was closed elsewhere"):
        run(stream.write_all(b"x"))
    stream.close()
    executor_turn()
    assert "closing a FdStream failed: [Errno 9]" in caplog.text


def test_in_a_forks_child_it_is_closed_only(run_script: Any) -> None:
    result = run_script("""
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from trale_py import RuntimeClosed, block_on, pipe
        reader, writer = pipe()
        block_on(writer.write_all(b"x"))
        block_on(reader.peek())
        pid = os.fork()
        if pid == 0:
            for call in (reader.read, reader.peek, lambda: writer.write_all(b"y")):
                try:
                    block_on(call())
                except RuntimeClosed:
                    continue
                os._exit(1)
            reader.close(), writer.close()
            os._exit(0)
        print(os.waitpid(pid, 0)[1], block_on(reader.read()))
        reader.close(), writer.close()
    """)
    assert (result.stdout, result.stderr) == ("0 b'x'\n", "")


def test_what_cannot_be_taken_over() -> None:
    bad: Any = "0"
    with pytest.raises(TypeError, match="fd must be an int, not '0'"):
        FdStream.from_fd(bad)
    with pytest.raises(OSError, match="Bad file descriptor"):
        FdStream.from_fd(987)
    with socket.socket() as sock, pytest.raises(ValueError, match="is a socket: use from_socket"):
        FdStream.from_fd(sock.fileno())
    folder = os.open("/", os.O_RDONLY)
    with pytest.raises(ValueError, match="is a directory"):
        FdStream.from_fd(folder)
    os.close(folder)


def test_a_packet_ends_a_read_but_not_the_stream() -> None:
    """A short read of a pipe with O_DIRECT is one packet of several."""
    ours, theirs = os.pipe2(os.O_DIRECT)
    with FdStream.from_fd(ours) as reader, FdStream.from_fd(theirs) as writer:
        assert fcntl.fcntl(writer.fileno(), fcntl.F_GETFL) & os.O_DIRECT
        for word in (b"one", b"two"):
            run(writer.write_all(word))
        assert [run(reader.read()), run(reader.read())] == [b"one", b"two"]
