"""Sockets that others have too: handed out, taken over, duplicated, closed behind our back."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.net_helpers import (
    TIMEOUT,
    awaiting,
    executor_turn,
    parked,
    raw_tcp_pair,
    stream_and_peer,
)
from trale_py import TcpListener, TcpStream, UdpSocket, spawn
from trale_py.core import current


def run(awaitable: Any) -> Any:
    return spawn(awaitable).join(TIMEOUT)


# -- classes of the user's ---------------------------------------------------------------------

OVERRIDABLE = ["recv", "recv_into", "send", "sendall", "sendmsg", "accept", "recvfrom", "sendto"]


@pytest.mark.parametrize("name", OVERRIDABLE)
def test_a_class_that_has_a_call_of_its_own_is_not_taken_over(name: str) -> None:
    def own(self: socket.socket, *args: Any) -> Any:
        pytest.fail("called")

    kind = type("Own", (socket.socket,), {name: own})
    for cls, type_ in (
        (TcpStream, socket.SOCK_STREAM),
        (TcpListener, socket.SOCK_STREAM),
        (UdpSocket, socket.SOCK_DGRAM),
    ):
        with kind(type=type_) as sock:
            with pytest.raises(TypeError, match=rf"sock must be a plain socket, .*own {name}\(\)"):
                cls.from_socket(sock)  # type: ignore[attr-defined]
            assert sock.fileno() >= 0


def test_an_ssl_socket_is_not_taken_over() -> None:
    context = ssl.create_default_context()
    with raw_tcp_pair() as (ours, _):
        wrapped = context.wrap_socket(ours, server_hostname="x", do_handshake_on_connect=False)
        with wrapped, pytest.raises(TypeError, match="sock must be a plain socket"):
            TcpStream.from_socket(wrapped)


def test_a_class_that_overrides_nothing_of_it_is_taken_over() -> None:
    class Named(socket.socket):
        name = "mine"

    with raw_tcp_pair() as (ours, peer):
        named = Named(fileno=ours.detach())
        with TcpStream.from_socket(named) as stream:
            peer.sendall(b"x")
            assert run(stream.read()) == b"x"


# -- R33: the number means another file ------------------------------------------------------------


def by_close(stream: TcpStream) -> None:
    stream.socket.close()


def by_detach(stream: TcpStream) -> None:
    os.close(stream.socket.detach())


def by_number(stream: TcpStream) -> None:
    os.close(stream.socket.fileno())


WAYS = [by_close, by_detach, by_number]


@contextmanager
def reused(number: int) -> Iterator[socket.socket]:
    """A socket of somebody else's gets that number; the other end of its pair."""
    mine, theirs = socket.socketpair()
    assert number in (mine.fileno(), theirs.fileno())
    if theirs.fileno() == number:
        mine, theirs = theirs, mine
    with mine, theirs:
        theirs.settimeout(TIMEOUT)
        yield theirs


@pytest.fixture
def reports(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.ERROR, logger="trale_py")
    return caplog


def taken_over() -> Iterator[tuple[TcpStream, socket.socket]]:
    with raw_tcp_pair() as (ours, peer):
        yield TcpStream.from_socket(ours), peer


def connected() -> Iterator[tuple[TcpStream, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = run(TcpStream.connect(server.getsockname()))
        peer, _ = server.accept()
    with peer:
        yield stream, peer


@pytest.mark.parametrize("make", [taken_over, connected])
@pytest.mark.parametrize("close", WAYS)
@pytest.mark.parametrize("data_is_there", [True, False])
def test_B4_R33_closed_behind_the_streams_back_and_reused(
    make: Callable[[], Iterator[tuple[TcpStream, socket.socket]]],
    close: Callable[[TcpStream], None],
    data_is_there: bool,
    reports: pytest.LogCaptureFixture,
) -> None:
    """Neither reads nor writes nor closes what is another's, and does not wait for it."""

    async def main(stream: TcpStream, peer: socket.socket) -> None:
        peer.sendall(b"12")
        assert await stream.read(1) == b"1"
        if not data_is_there:
            assert await stream.read() == b"2"
        number = stream.socket.fileno()
        close(stream)
        with reused(number) as theirs:
            theirs.sendall(b"another's")
            for operation in (
                stream.read,
                lambda: stream.readinto(bytearray(9)),
                lambda: stream.read_exact(3),
                lambda: stream.write(b"ours"),
                lambda: stream.write_all(b"ours"),
            ):
                with pytest.raises(OSError, match="Bad file descriptor") as caught:
                    await operation()
                assert caught.value.errno == errno.EBADF
            stream.close()
            theirs.sendall(b"still open")
            theirs.setblocking(False)
            with pytest.raises(BlockingIOError):
                theirs.recv(1)

    for stream, peer in make():
        run(main(stream, peer))
        assert stream.closed
    assert "closing a TcpStream failed" in reports.text


@pytest.mark.parametrize("close", WAYS)
def test_B4_R33_who_waits_is_told_when_a_stream_gets_the_number(
    close: Callable[[TcpStream], None],
) -> None:
    with raw_tcp_pair() as (ours, _), raw_tcp_pair() as (other, other_peer):
        old = TcpStream.from_socket(ours)
        reader = parked(old.read())
        number = old.socket.fileno()
        close(old)
        os.dup2(other.fileno(), number)
        with TcpStream.from_socket(socket.socket(fileno=number)) as new:
            newer = parked(new.read())
            with pytest.raises(OSError, match="Bad file descriptor") as caught:
                reader.join(TIMEOUT)
            assert caught.value.errno == errno.EBADF
            other_peer.sendall(b"new")
            assert newer.join(TIMEOUT) == b"new"
            old.close()
            executor_turn()
            other_peer.sendall(b"newer")
            assert run(new.read()) == b"newer"


def test_B4_R33_closed_before_the_first_operation() -> None:
    with raw_tcp_pair() as (ours, _):
        stream = TcpStream.from_socket(ours)
        number = ours.fileno()
        ours.close()
        with reused(number):
            with pytest.raises(OSError, match="Bad file descriptor"):
                run(stream.read())
            assert current.default_runtime().reactor._poller.sources == {}
            stream.close()
            executor_turn()


@pytest.mark.parametrize("receive", ["recv_from", "recv_many", "send_to", "send_many", "connect"])
def test_B4_R33_of_datagrams_too(receive: str) -> None:
    async def main() -> None:
        udp = UdpSocket.bind("127.0.0.1:0")
        address = udp.local_addr
        os.close(udp.socket.fileno())
        operation: Any = {
            "recv_from": lambda: udp.recv_from(),
            "recv_many": lambda: udp.recv_many(2),
            "send_to": lambda: udp.send_to(b"x", address),
            "send_many": lambda: udp.send_many([(b"x", address)]),
            "connect": lambda: udp.connect(address),
        }[receive]
        with reused(udp._sock.fileno()):
            with pytest.raises(OSError, match="Bad file descriptor"):
                await operation()
            udp.close()

    run(main())


# -- time limits and O_NONBLOCK, which belong to the object and to the open file ------------

OPERATIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "read": lambda stream, listener, udp: stream.read(),
    "read_until": lambda stream, listener, udp: stream.read_until(b"\n"),
    "readinto": lambda stream, listener, udp: stream.readinto(bytearray(9)),
    "write": lambda stream, listener, udp: filled(stream),
    "write_all": lambda stream, listener, udp: stream.write_all(bytes(30_000_000)),
    "accept": lambda stream, listener, udp: listener.accept(),
    "recv_from": lambda stream, listener, udp: udp.recv_from(),
    "recv_from(10)": lambda stream, listener, udp: udp.recv_from(10),
    "recv": lambda stream, listener, udp: udp.recv(),
    "recv_many": lambda stream, listener, udp: udp.recv_many(8),
}


async def filled(stream: TcpStream) -> None:
    while True:
        await stream.write(bytes(1_000_000))


@pytest.fixture
def sockets() -> Iterator[list[Any]]:
    with (
        TcpListener.bind("127.0.0.1:0") as listener,
        UdpSocket.bind("127.0.0.1:0") as udp,
        stream_and_peer() as (stream, _),
    ):
        yield [stream, listener, udp]


def by_a_duplicate(sock: socket.socket) -> None:
    with socket.fromfd(sock.fileno(), sock.family, sock.type) as duplicate:
        duplicate.setblocking(True)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    "spoil",
    [by_a_duplicate, lambda sock: sock.settimeout(60), lambda sock: sock.setblocking(True)],
    ids=["duplicate", "settimeout", "setblocking"],
)
def test_B27_a_socket_set_blocking_stops_nobody(
    name: str, spoil: Callable[[socket.socket], None], sockets: list[Any]
) -> None:
    """If the executor sat in the call, the next task would never begin, and time would run out."""
    for owner in sockets:
        spoil(owner.socket)
    handle = parked(awaiting(OPERATIONS[name](*sockets)))
    executor_turn()
    assert not handle.done()
    handle.cancel()
    executor_turn()


def test_B27_a_listener_set_blocking_says_so_once(
    sockets: list[Any], reports: pytest.LogCaptureFixture
) -> None:
    listener = sockets[1]
    for _ in range(3):
        os.set_blocking(listener.socket.fileno(), True)
        parked(listener.accept()).cancel()
        executor_turn()
    assert [record.getMessage() for record in reports.records] == [
        f"{listener!r} was set to blocking mode; it is non-blocking again"
    ]


def test_B27_cleared_after_the_look_the_wait_is_bounded(
    sockets: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = sockets[1]
    monkeypatch.setattr(
        TcpListener, "_set_nonblocking", lambda self: os.set_blocking(self._sock.fileno(), True)
    )
    handle = parked(listener.accept())
    executor_turn()
    handle.cancel()


def test_what_is_accepted_has_no_time_limit(sockets: list[Any]) -> None:
    listener = sockets[1]
    with socket.create_connection(listener.local_addr), run(listener.accept()) as stream:
        limit = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)
        assert limit == bytes(16)


# -- SO_LINGER ------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["a task", "a thread", "never awaited"])
def test_close_does_not_linger(where: str) -> None:
    with raw_tcp_pair() as (ours, peer):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
        stream = TcpStream.from_socket(ours)
        sent = 0
        try:
            while True:
                sent += ours.send(bytes(65536))
        except BlockingIOError:
            pass  # the peer does not read, so close(2) would wait

        async def close() -> None:
            stream.close()

        started = time.monotonic()
        if where == "a task":
            parked(stream.read())
            run(close())
        elif where == "a thread":
            parked(stream.read())
            stream.close()
            executor_turn()
        else:
            stream.close()
        assert time.monotonic() - started < 30
        assert ours.fileno() == -1
        received = 0
        while data := peer.recv(1 << 20):  # all of it is sent nevertheless
            received += len(data)
        assert received == sent


def test_close_with_a_linger_of_zero_resets() -> None:
    with stream_and_peer() as (stream, peer):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
