"""What a short count and EAGAIN mean, and whose the buffer is when an await has ended."""

from __future__ import annotations

import ctypes
import errno
import mmap
import socket
import struct
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.net_helpers import TIMEOUT, Flag, executor_turn, reset, settle, stream_and_peer
from trale_py import (
    EventFd,
    Interest,
    Reactor,
    TcpListener,
    TcpStream,
    UdpSocket,
    block_on,
    move_on_after,
    spawn,
    timeout,
)
from trale_py.net import listener as net_listener
from trale_py.net.socket_base import finish_connect

Pair = tuple[TcpStream, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with stream_and_peer() as pair:
        yield pair


def run(awaitable: Any) -> Any:
    return spawn(awaitable).join(TIMEOUT)


# -- a page of the user's that is not there ------------------------------------------------------


@pytest.fixture
def cut_off() -> Iterator[mmap.mmap]:
    """A mapped file of which only the first third is there."""
    with tempfile.TemporaryFile() as file:
        file.truncate(3 * mmap.PAGESIZE)
        mapped = mmap.mmap(file.fileno(), 3 * mmap.PAGESIZE)
        file.truncate(mmap.PAGESIZE)
        yield mapped
        mapped.close()


@pytest.mark.parametrize("name", ["write", "write_all"])
def test_B11_a_send_cut_short_by_a_fault_raises_it(
    name: str, pair: Pair, cut_off: mmap.mmap
) -> None:
    async def main() -> None:
        stream, _ = pair
        done = 0
        while done < len(cut_off):
            with memoryview(cut_off) as view, view[done:] as rest:
                done += await getattr(stream, name)(rest) or len(rest)

    with pytest.raises(OSError, match="Bad address") as caught:
        run(main())
    assert caught.value.errno == errno.EFAULT


def test_B10_a_read_cut_short_by_a_fault_loses_nothing(pair: Pair, cut_off: mmap.mmap) -> None:
    stream, peer = pair
    peer.sendall(bytes(2 * mmap.PAGESIZE))
    settle()
    with memoryview(cut_off) as view:
        got = 0
        with pytest.raises(OSError, match="Bad address"):
            while True:
                got += run(stream.readinto(view[got:]))
    assert got <= mmap.PAGESIZE
    assert len(run(stream.read_exact(mmap.PAGESIZE))) == mmap.PAGESIZE


# -- EAGAIN that does not mean to wait -------------------------------------------------------------

IP_LOCAL_PORT_RANGE = 51  # Linux 6.3


@pytest.mark.parametrize("name", ["send_to", "send_to a name", "send_many", "connect"])
def test_D4_no_port_is_left_to_send_from(name: str) -> None:
    with UdpSocket.bind("0.0.0.0:0") as taken:
        port = taken.local_addr[1]
        sock = socket.socket(type=socket.SOCK_DGRAM)
        try:
            both = struct.pack("I", port << 16 | port)
            sock.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, both)
        except OSError:
            sock.close()
            pytest.skip("the kernel is older than 6.3")
        with UdpSocket.from_socket(sock) as udp:
            calls: dict[str, Any] = {
                "send_to": lambda: udp.send_to(b"x", ("127.0.0.1", port)),
                "send_to a name": lambda: udp.send_to(b"x", ("localhost", port)),
                "send_many": lambda: udp.send_many([(b"x", ("127.0.0.1", port))]),
                "connect": lambda: udp.connect(("127.0.0.1", port)),
            }
            with pytest.raises(OSError, match="no local port is free"):
                run(calls[name]())


def test_connect_waits_only_while_it_is_not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoName:
        def getsockopt(self, *args: int) -> int:
            return 0

        def getpeername(self) -> None:
            raise OSError(self.code, "getpeername")

        code = errno.ENOTCONN

    sock: Any = NoName()
    with pytest.raises(BlockingIOError):
        finish_connect(sock)
    sock.code = errno.EBADF
    with pytest.raises(OSError, match="getpeername"):
        finish_connect(sock)


def test_C6_an_accept_that_fails_for_good_backs_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls, slept = [], []

    def refused(self: TcpListener) -> None:
        calls.append(None)
        raise OSError(errno.EPERM, "a filter's")

    async def sleep(seconds: float) -> None:
        slept.append(len(calls))
        if len(slept) == 3:
            raise InterruptedError

    monkeypatch.setattr(TcpListener, "_accept", refused)
    monkeypatch.setattr(net_listener, "sleep", sleep)
    with TcpListener.bind("127.0.0.1:0") as listener, pytest.raises(InterruptedError):
        run(anext(aiter(listener)))
    assert slept == [101, 102, 103]
    assert [record.getMessage().count("cannot accept") for record in caplog.records] == [1]


# -- buffers --------------------------------------------------------------------------------


def test_the_buffer_is_free_when_the_await_was_cancelled(pair: Pair) -> None:
    async def main() -> None:
        stream, _ = pair
        for size, call in ((10, stream.readinto), (20_000_000, stream.write_all)):
            buffer = bytearray(size)
            with move_on_after(0):
                await call(buffer)
            buffer.clear()
            if call == stream.readinto:
                buffer = bytearray(size)
                try:
                    await timeout(0, call(buffer))
                except TimeoutError:
                    buffer.clear()

    run(main())


def test_the_buffer_is_free_when_the_await_failed(pair: Pair) -> None:
    async def main() -> None:
        stream, peer = pair
        reset(peer)
        buffer = bytearray(20_000_000)
        try:
            await stream.write_all(buffer)
        except OSError:
            buffer.clear()
        assert not buffer
        buffer = bytearray(10)
        handle = spawn(stream.write(buffer))
        with pytest.raises(OSError, match="pipe"):
            await handle
        buffer.clear()
        assert handle.done()

    run(main())


@pytest.mark.parametrize("name", ["send_to", "send_to a name", "send", "send_many"])
def test_the_buffer_of_a_datagram_is_free_when_it_failed(name: str) -> None:
    async def main() -> None:
        with UdpSocket.bind("127.0.0.1:0") as udp:
            address: Any = udp.local_addr
            await udp.connect(address)
            buffer = bytearray(70_000)
            calls: dict[str, Any] = {
                "send_to": lambda: udp.send_to(buffer, address),
                "send_to a name": lambda: udp.send_to(buffer, ("localhost", address[1])),
                "send": lambda: udp.send(buffer),
                "send_many": lambda: udp.send_many([(buffer, address)]),
            }
            try:
                await calls[name]()
            except OSError as error:
                assert error.errno == errno.EMSGSIZE
                buffer.clear()
            assert not buffer

    run(main())


SHAPES: list[Any] = [
    b"",
    memoryview(bytearray(12)).cast("B", (3, 4)),
    memoryview(b"abcdef")[::2],
    memoryview((ctypes.c_int * 3)(1, 2, 3)),
    (ctypes.c_int * 2)(1, 2),
    (ctypes.c_int * 4 * 0)(),
    memoryview((ctypes.c_char * 0 * 4)()),
]


@pytest.mark.parametrize("data", SHAPES, ids=range(len(SHAPES)))
def test_data_of_any_shape_is_written(data: Any, pair: Pair) -> None:
    stream, peer = pair
    expected = memoryview(data).tobytes()
    assert run(stream.write(data)) == len(expected)
    run(stream.write_all(data))
    stream.close()
    executor_turn()
    received = b""
    while part := peer.recv(100):
        received += part
    assert received == expected * 2


@pytest.mark.parametrize("kind", ["fresh", "read ahead"])
def test_readinto_of_any_item(kind: str, pair: Pair) -> None:
    stream, peer = pair
    place = (ctypes.c_int * 2)()
    if kind == "read ahead":
        peer.sendall(b"\n")
        peer.sendall(bytes([1, 0, 0, 0, 2, 0, 0, 0]))
        settle()
        run(stream.read_until(b"\n"))
        if not stream._io.buffer:
            stream._io.buffer.extend(run(stream.read()))
    else:
        peer.sendall(bytes([1, 0, 0, 0, 2, 0, 0, 0]))
        settle()
    assert run(stream.readinto(place)) == 8
    assert list(place) == [1, 2]


def test_readinto_refuses_what_is_not_contiguous(pair: Pair) -> None:
    stream, _ = pair
    with pytest.raises(TypeError, match="buf must be contiguous"):
        run(stream.readinto(memoryview(bytearray(10))[::2]))
    for empty in (bytearray(), memoryview((ctypes.c_char * 0 * 4)())):
        with pytest.raises(ValueError, match="1 or more"):
            run(stream.readinto(empty))


def test_a_read_takes_what_is_there_however_much_it_may(pair: Pair) -> None:
    stream, peer = pair
    for n in (10**13, 10**30):
        peer.sendall(b"x")
        assert run(stream.read(n)) == b"x"
    assert run(stream.read_exact(0)) == b""
    peer.sendall(b"y")
    assert run(stream.read_exact(0)) == b""
    assert run(stream.read_exact(1)) == b"y"


# -- counts and numbers ---------------------------------------------------------------------------


def test_an_eventfd_counts_beyond_32_bits() -> None:
    with EventFd(2**64 - 2) as event:
        assert event.try_wait()
        event.notify_one()
        with pytest.raises(BlockingIOError):
            event.notify_one()
    with EventFd(2**32) as event:
        assert event.try_wait()
        assert event.try_wait()
    for bad in (-1, 2**64 - 1):
        with pytest.raises(ValueError, match="initial must be"):
            EventFd(bad)
    with pytest.raises(TypeError, match="initial must be"):
        EventFd("1")  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["5", None, 2**31, 1.5])
def test_a_bad_backlog_is_named(bad: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="backlog"):
        TcpListener.bind("127.0.0.1:0", backlog=bad)


def test_a_bad_descriptor_is_named() -> None:
    with pytest.raises(TypeError, match="fd must be an int"):
        Reactor.get().register_waker("0", Flag(), Interest.READABLE)  # type: ignore[arg-type]
    for number in (2**31, 2**70, -(2**70)):
        with pytest.raises(OSError, match="Bad file descriptor"):
            Reactor.get().register_waker(number, Flag(), Interest.READABLE)


def test_L5_enospc_of_epoll_names_the_sysctl(monkeypatch: pytest.MonkeyPatch) -> None:
    reactor = Reactor.get()
    poller = reactor._poller

    class Full:
        def watch(self, fd: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name: str) -> Any:
            return getattr(poller, name)

    async def main(stream: TcpStream) -> None:
        monkeypatch.setattr(reactor, "_poller", Full())
        try:
            with pytest.raises(OSError, match=r"sysctl fs\.epoll\.max_user_watches") as caught:
                await stream.read()
        finally:
            monkeypatch.undo()
        assert caught.value.errno == errno.ENOSPC

    with stream_and_peer() as (stream, peer):
        block_on(main(stream))
        peer.sendall(b"x")
        assert run(stream.read()) == b"x"


def test_many_wakers_of_one_descriptor_fire_once_each_and_some_are_taken_back() -> None:
    """20,000 took the native engine seconds, when each was searched for in a list."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        flags = [Flag() for _ in range(20_000)]
        reactor = Reactor.get()
        registrations = [
            reactor.register_waker(ours.fileno(), flag, Interest.READABLE) for flag in flags
        ]
        for registration in registrations[::2]:
            registration.cancel()
        executor_turn()
        theirs.send(b"x")
        flags[1].wait()
        settle()
        assert [flag.count for flag in flags] == [0, 1] * 10_000
        assert reactor._poller.sources == {}
