"""Unix sockets: names and their files, descriptors that travel, credentials, full queues."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

import trale_py
from tests.conftest import open_fds
from tests.support.net_helpers import TIMEOUT
from trale_py import (
    ClosedResourceError,
    Event,
    Socket,
    TaskCancelled,
    TcpStream,
    UnixDatagram,
    UnixListener,
    UnixStream,
    block_on,
    gather,
    move_on_after,
    socketpair,
    spawn,
    timeout,
    yield_now,
)
from trale_py.net import socket_base, socket_file


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "socket")


async def echo(stream: UnixStream) -> None:
    async with stream:
        while data := await stream.read():
            await stream.write_all(data)


@pytest.mark.parametrize("name", ["path", "bytes", "PathLike", "abstract", "picked"])
def test_streams_by_each_kind_of_name(tmp_path: Path, name: str) -> None:
    file = tmp_path / "socket"
    at: Any = {
        "path": str(file),
        "bytes": bytes(file),
        "PathLike": file,
        "abstract": f"\0trale_py-{os.getpid()}",
        "picked": "",
    }[name]

    async def main() -> None:
        async with UnixListener.bind(at) as listener:
            assert file.exists() == (name not in ("abstract", "picked"))
            address = listener.local_addr
            connecting = spawn(UnixStream.connect(address))
            serving = spawn(echo(await listener.accept()))
            async with await connecting as stream:
                assert stream.peer_addr == address
                await stream.write_all([b"one\n", b"two"])
                await stream.shutdown()
                assert [line async for line in stream.lines()] == [b"one", b"two"]
            await serving
        assert not file.exists()

    block_on(main())


def test_socketpair_is_two_streams() -> None:
    async def main() -> None:
        one, other = socketpair()
        async with one, other:
            await gather(one.write_all(b"x" * 1_000_000), other.read_exact(1_000_000))
            assert one.peer_credentials == (os.getpid(), os.getuid(), os.getgid())
            assert one.peer_credentials.uid == os.getuid()

    block_on(main())


def test_the_error_of_a_connect_names_the_path(path: str) -> None:
    with pytest.raises(FileNotFoundError, match="socket"):
        block_on(UnixStream.connect(path))
    Path(path).touch()
    with pytest.raises(ConnectionRefusedError, match="socket"):
        block_on(UnixStream.connect(path))


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ("x" * 108, ValueError),  # the kernel's 108 bytes have the zero byte at the end
        ("\0" + "x" * 108, ValueError),
        ("a\0b", ValueError),
        (5, TypeError),
        (("a", 1), TypeError),
    ],
)
def test_bad_paths_are_refused_at_the_call(bad: Any, error: Any) -> None:
    for call in (UnixListener.bind, UnixStream.connect, UnixDatagram.bind):
        with pytest.raises(error, match="path must"):
            call(bad)


def test_names_may_be_as_long_as_the_kernel_has_them(tmp_path: Path) -> None:
    async def main() -> None:
        for name in (f"{tmp_path}/".ljust(107, "x"), b"\0".ljust(108, b"x")):
            with UnixDatagram.bind(name) as sock, UnixDatagram.unbound() as sender:
                assert sock.local_addr == name
                await sender.send_to(b"one", name)
                assert await sender.send_many([(b"many", name)]) == 1
                assert [await sock.recv(), await sock.recv()] == [b"one", b"many"]

    block_on(timeout(TIMEOUT, main()))


# -- files of sockets -----------------------------------------------------------------------


def stale(path: str) -> None:
    """The file of a socket that nobody has open."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)


@pytest.mark.parametrize("relative", [False, True])
def test_C19_a_stale_file_with_a_long_path(
    relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * (150 if relative else 103 - len(str(tmp_path))))
    folder.mkdir()
    monkeypatch.chdir(folder)
    name = "s" if relative else f"{folder}/s"
    stale(name)
    with UnixListener.bind(name, replace_stale=True) as listener:
        assert listener.local_addr == name
    assert list(folder.iterdir()) == []


def test_a_stale_file_is_in_use_unless_asked(path: str) -> None:
    stale(path)
    with pytest.raises(OSError, match="socket") as caught:
        UnixListener.bind(path)
    assert caught.value.errno == errno.EADDRINUSE
    with UnixListener.bind(path, replace_stale=True) as listener:
        assert listener.local_addr == path


@pytest.mark.parametrize("what", ["listener", "file", "folder", "link"])
def test_nothing_but_a_dead_socket_is_replaced(path: str, tmp_path: Path, what: str) -> None:
    with contextlib.ExitStack() as stack:
        if what == "listener":
            stack.enter_context(UnixListener.bind(path))
        elif what == "file":
            Path(path).write_text("of somebody's")
        elif what == "folder":
            Path(path).mkdir()
        else:
            Path(path).symlink_to(tmp_path / "elsewhere")
        before = Path(path).lstat()
        with pytest.raises(OSError, match="in use"):
            UnixListener.bind(path, replace_stale=True)
        after = Path(path).lstat()
        assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)


def test_a_bind_that_fails_after_all_leaves_no_file(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: UnixListener, backlog: int) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(UnixListener, "_listen", fail)
    with pytest.raises(OSError, match=r"no memory: .*socket"):
        UnixListener.bind(path)
    assert not Path(path).exists()


def test_close_leaves_a_file_that_is_anothers(path: str) -> None:
    listener = UnixListener.bind(path)
    Path(path).unlink()
    with UnixListener.bind(path):
        listener.close()
        assert stat.S_ISSOCK(Path(path).lstat().st_mode)
    assert not Path(path).exists()


def test_close_finds_the_file_after_a_chdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listener = UnixListener.bind("relative")
    monkeypatch.chdir("/")
    listener.close()
    assert list(tmp_path.iterdir()) == []


def test_a_listener_taken_over_keeps_its_file(path: str) -> None:
    """As one of systemd's: who has bound it sees to its file."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    handed = socket.socket(fileno=sock.detach())  # LISTEN_FDS: a number, and nothing else
    with UnixListener.from_socket(handed) as listener:
        assert listener.local_addr == path
        block_on(UnixStream.connect(path)).close()
        block_on(listener.accept()).close()
    assert Path(path).exists()


def test_R80_two_that_replace_the_same_dead_file(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes between the first one's look and its unlink: it keeps what it has bound."""
    stale(path)
    second: list[UnixListener] = []
    plain = socket_file._remove

    def remove(file: Path, *args: Any) -> bool:
        if not second:
            monkeypatch.setattr(socket_file, "_remove", plain)
            second.append(UnixListener.bind(path, replace_stale=True))
        return plain(file, *args)

    monkeypatch.setattr(socket_file, "_remove", remove)
    with pytest.raises(OSError, match="in use"):
        UnixListener.bind(path, replace_stale=True)
    with second[0]:
        block_on(UnixStream.connect(path)).close()


# -- descriptors ------------------------------------------------------------------------------


def test_descriptors_travel_and_are_close_on_exec() -> None:
    async def main() -> None:
        one, other = socketpair()
        reading, writing = os.pipe()
        async with one, other:
            assert await one.send_fds([b"a", b"b"], [reading, writing]) == 2
            os.close(reading)
            os.close(writing)
            data, fds, flags = await other.recv_fds(10)
            assert data == b"ab"
            assert not flags & socket.MSG_CTRUNC
            assert [os.get_inheritable(fd) for fd in fds] == [False, False]
            os.write(fds[1], b"x")
            assert os.read(fds[0], 1) == b"x"
            for fd in fds:
                os.close(fd)
            await one.write_all(b"none")
            assert await other.recv_fds(10) == (b"none", [], 0)

    block_on(main())


@pytest.mark.parametrize("maxfds", [0, 1, 2])
def test_more_descriptors_than_asked_for_are_closed_and_told(maxfds: int) -> None:
    before = open_fds()

    async def main() -> None:
        one, other = socketpair()
        async with one, other:
            await one.send_fds(b"x", [0, 1, 2])
            data, fds, flags = await other.recv_fds(10, maxfds)
            assert (data, fds) == (b"x", [])
            assert flags & socket.MSG_CTRUNC

    block_on(main())
    assert open_fds() == before


def test_descriptors_read_away_by_a_plain_read_do_not_leak() -> None:
    before = open_fds()

    async def main() -> None:
        one, other = socketpair()
        async with one, other:
            await one.send_fds(b"x", [0, 1, 2])
            assert await other.read() == b"x"
            await one.send_fds(b"y", [0])  # never read

    block_on(main())
    assert open_fds() == before


@pytest.mark.parametrize(
    ("buffers", "fds", "error", "says"),
    [
        (b"", [0], ValueError, "1 byte or more"),
        (b"x", ["0"], TypeError, "fds must be"),
        (b"x", [0] * 254, ValueError, "at most 253"),
        (5, [0], TypeError, "bytes-like"),
    ],
)
def test_bad_descriptors_are_refused(buffers: Any, fds: Any, error: Any, says: str) -> None:
    one, other = socketpair()
    with one, other, pytest.raises(error, match=says):
        block_on(one.send_fds(buffers, fds))


def test_a_cancelled_receive_has_taken_no_descriptor() -> None:
    async def main() -> None:
        one, other = socketpair()
        async with one, other:
            with move_on_after(0.01) as scope:
                await other.recv_fds(10)
            assert scope.cancelled_caught
            await one.send_fds(b"x", [0])
            _, fds, _ = await other.recv_fds(10)
            assert len(fds) == 1
            os.close(fds[0])

    block_on(main())


# -- full queues ------------------------------------------------------------------------------


@pytest.fixture
def pausing(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Set when a connect or a send has found no room, and pauses before it tries again."""
    pausing = Event()

    async def sleep(seconds: float) -> None:
        pausing.set()
        await trale_py.sleep(seconds)

    monkeypatch.setattr(socket_base, "sleep", sleep)
    return pausing


def test_C17_a_full_backlog_is_waited_for(path: str, pausing: Event) -> None:
    """connect(2) says EAGAIN then, and no event tells when there is room."""

    async def main() -> None:
        async with UnixListener.bind(path, backlog=0) as listener:
            connecting = [spawn(UnixStream.connect(path)) for _ in range(5)]
            await pausing.wait()
            for _ in connecting:
                (await listener.accept()).close()
            for handle in connecting:
                (await handle).close()

    block_on(timeout(TIMEOUT, main()))


def test_C17_a_connect_to_a_full_backlog_can_be_cancelled(path: str, pausing: Event) -> None:
    before = open_fds()

    async def main() -> None:
        async with UnixListener.bind(path, backlog=0):
            first = await UnixStream.connect(path)
            connecting = spawn(UnixStream.connect(path))
            await pausing.wait()
            connecting.cancel()
            with pytest.raises(TaskCancelled):
                await connecting
            with pytest.raises(TimeoutError, match="socket"):
                await UnixStream.connect(path, timeout=0.02)
            first.close()

    block_on(main())
    assert open_fds() == before


def test_datagrams(path: str, tmp_path: Path) -> None:
    async def main() -> None:
        named = str(tmp_path / "sender")
        with UnixDatagram.bind(path) as sock, UnixDatagram.bind(named) as sender:
            assert await sender.send_to(b"one", path) == 3
            assert await sender.send_to(b"", path) == 0
            assert await sock.recv_from() == (b"one", named)
            assert await sock.recv() == b""
            await sender.connect(path)
            assert await sender.send_many([(b"a", path), (b"b", None)]) == 2
            assert [data for data, _ in await sock.recv_many(10)] == [b"a", b"b"]
            await sender.send(b"x" * 2000)
            with pytest.raises(OSError, match="more than 1000 bytes"):
                await sock.recv_from(1000)
        assert not Path(path).exists()
        one, other = UnixDatagram.pair()
        with one, other:
            await one.send(b"pair")
            assert await other.recv_from() == (b"pair", "")

    block_on(timeout(TIMEOUT, main()))


def test_D7_a_full_queue_of_datagrams_is_waited_for(path: str, pausing: Event) -> None:
    count = 200  # more than net.unix.max_dgram_qlen

    async def send() -> None:
        with UnixDatagram.unbound() as sock:
            for n in range(count):
                await sock.send_to(b"%d" % n, path)

    async def main() -> None:
        with UnixDatagram.bind(path) as sock:
            sending = spawn(send())
            await pausing.wait()
            got = [int(await sock.recv()) for _ in range(count)]
            assert got == list(range(count))
            await sending

    block_on(timeout(TIMEOUT, main()))


def test_close_wakes_who_waits(path: str) -> None:
    async def main() -> None:
        listener = UnixListener.bind(path)
        accepting = spawn(listener.accept())
        one, other = socketpair()
        reading = spawn(one.recv_fds(1))
        await yield_now()
        listener.close()
        one.close()
        for handle in (accepting, reading):
            with pytest.raises(ClosedResourceError):
                await handle
        other.close()

    block_on(main())


# -- any socket --------------------------------------------------------------------------------


def test_seqpacket(path: str) -> None:
    async def main() -> None:
        with Socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(path)
            listener.listen()
            with Socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                await client.connect(path)
                server, _ = await listener.accept()
                with server:
                    await client.send(b"one")
                    await client.sendmsg([b"t", b"wo"])
                    assert await server.recv(100) == b"one"
                    data, ancillary, flags, _ = await server.recvmsg(2)
                    assert (data, ancillary) == (b"tw", [])
                    assert flags & socket.MSG_TRUNC
                    client.shutdown(socket.SHUT_WR)
                    assert await server.recv(100) == b""

    block_on(timeout(TIMEOUT, main()))


def test_netlink() -> None:
    async def main() -> None:
        with Socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
            sock.bind((0, 0))
            request = (  # RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, an ifinfomsg of zeros
                (32).to_bytes(4, "little") + bytes([18, 0, 1, 3]) + bytes(8) + bytes(16)
            )
            await sock.send(request)
            data, _, _, _ = await sock.recvmsg(65536)
            assert int.from_bytes(data[4:6], "little") == 16  # RTM_NEWLINK

    block_on(timeout(TIMEOUT, main()))


def test_a_host_name_is_refused_where_it_would_be_looked_up() -> None:
    with (
        Socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(ValueError, match="looks up no names"),
    ):
        sock.bind(("example.org", 5))


def test_from_socket_refuses_other_kinds() -> None:
    one, other = socket.socketpair()
    with one, other:
        with pytest.raises(ValueError, match="TcpStream cannot take over"):
            TcpStream.from_socket(one)
        with pytest.raises(ValueError, match="UnixDatagram cannot take over"):
            UnixDatagram.from_socket(one)


def test_many_threads_and_one_listener(path: str) -> None:
    async def serve(listener: UnixListener) -> None:
        async for stream in listener:
            spawn(echo(stream))

    got: list[bytes] = []

    def talk() -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            sock.sendall(b"hello")
            sock.shutdown(socket.SHUT_WR)
            got.append(sock.recv(100))

    with UnixListener.bind(path) as listener:
        server = spawn(serve(listener))
        threads = [threading.Thread(target=talk) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
        server.cancel()
    assert got == [b"hello"] * 20
