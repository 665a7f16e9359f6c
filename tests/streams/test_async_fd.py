"""AsyncFd: waiting for a descriptor that somebody else reads, writes and closes."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.net_helpers import (
    TIMEOUT,
    CutOff,
    GaveUp,
    awaiting,
    executor_turn,
    fill,
    parked,
    settle,
    stream_and_peer,
)
from trale_py import AsyncFd, BusyResourceError, ClosedResourceError, Interest, block_on, spawn

Pair = tuple[socket.socket, socket.socket]


def wait(fd: AsyncFd, interest: Interest) -> Any:
    return fd.readable() if interest is Interest.READABLE else fd.writable()


def empty(sock: socket.socket) -> None:
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while sock.recv(1 << 20):
            pass


def test_waits_until_there_is_something_to_read(pair: Pair) -> None:
    ours, peer = pair
    with AsyncFd(ours) as fd:
        handle = parked(fd.readable())
        assert not handle.done()
        peer.send(b"x")
        handle.join(TIMEOUT)
        assert ours.recv(1) == b"x"


def test_waits_until_there_is_room_to_write(pair: Pair) -> None:
    ours, peer = pair
    fill(ours)
    with AsyncFd(ours) as fd:
        handle = parked(fd.writable())
        settle()
        assert not handle.done()
        empty(peer)
        handle.join(TIMEOUT)
        assert ours.send(b"x") == 1


def test_level_triggered_what_is_left_is_told_again(pair: Pair) -> None:
    ours, peer = pair
    peer.send(b"xyz")
    with AsyncFd(ours) as fd:
        for _ in range(3):
            spawn(fd.readable()).join(TIMEOUT)
            assert len(ours.recv(1)) == 1
        handle = parked(fd.readable())
        settle()
        assert not handle.done()
        peer.send(b"x")
        handle.join(TIMEOUT)


@pytest.mark.parametrize("how", ["end", "reset"])
def test_the_end_and_an_error_count_as_readable(how: str) -> None:
    with stream_and_peer() as (stream, peer), AsyncFd(stream.socket) as fd:
        handle = parked(fd.readable())
        if how == "reset":
            stream.socket.send(b"not read by the peer, which resets it therefore")
        peer.close()
        handle.join(TIMEOUT)


@pytest.mark.parametrize("make", [lambda s: s, lambda s: s.fileno()], ids=["object", "int"])
def test_takes_a_number_or_an_object(make: Any, pair: Pair) -> None:
    with AsyncFd(make(pair[0])) as fd:
        assert fd.fileno() == pair[0].fileno()
        spawn(fd.writable()).join(TIMEOUT)


def test_a_closed_descriptor_is_refused() -> None:
    closed = socket.socket()
    closed.close()
    for bad in (-1, closed):
        with pytest.raises(ValueError, match="fd must be an open descriptor"):
            AsyncFd(bad)


@pytest.mark.parametrize("bad", ["0", None, 1.5, b"x"])
def test_what_is_no_descriptor_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="fd must be"):
        AsyncFd(bad)


def test_a_number_that_is_not_open_is_an_error_of_the_wait() -> None:
    number = os.dup(0)
    os.close(number)
    with AsyncFd(number) as fd, pytest.raises(OSError, match="Bad file descriptor"):
        spawn(fd.readable()).join(TIMEOUT)


@pytest.mark.parametrize("interest", [Interest.READABLE, Interest.WRITABLE])
def test_B6_a_second_waiter_is_refused_and_the_first_unaffected(
    interest: Interest, pair: Pair
) -> None:
    ours, peer = pair
    fill(ours)
    with AsyncFd(ours) as fd:
        first = parked(wait(fd, interest))
        with pytest.raises(BusyResourceError, match=str(interest.name)):
            spawn(wait(fd, interest)).join(TIMEOUT)
        settle()
        assert not first.done()
        if interest is Interest.READABLE:
            peer.send(b"x")
        else:
            empty(peer)
        first.join(TIMEOUT)
        second = spawn(wait(fd, interest))  # the place is free again
        second.join(TIMEOUT)


def test_one_waiter_in_each_direction(pair: Pair) -> None:
    ours, peer = pair
    fill(ours)
    with AsyncFd(ours) as fd:
        reading, writing = parked(fd.readable()), parked(fd.writable())
        peer.send(b"x")
        reading.join(TIMEOUT)
        settle()
        assert not writing.done()
        empty(peer)
        writing.join(TIMEOUT)


def test_it_does_not_own_the_descriptor(pair: Pair) -> None:
    ours, peer = pair
    with AsyncFd(ours) as fd:
        spawn(fd.writable()).join(TIMEOUT)
    assert fd.closed
    peer.send(b"x")
    assert ours.recv(1) == b"x"


@pytest.mark.parametrize("closer", ["task", "thread"])
@pytest.mark.parametrize("interest", [Interest.READABLE, Interest.WRITABLE])
def test_B1_close_while_waiting(interest: Interest, closer: str, pair: Pair) -> None:
    fill(pair[0])
    fd = AsyncFd(pair[0])

    async def close() -> None:
        fd.close()

    handle = parked(wait(fd, interest))
    if closer == "task":
        block_on(close())
    else:
        thread = threading.Thread(target=fd.close)
        thread.start()
        thread.join(TIMEOUT)
    with pytest.raises(ClosedResourceError):
        handle.join(TIMEOUT)


def test_close_between_the_claim_and_the_registration(pair: Pair) -> None:
    """Another thread closes while poll() has its place but no registration yet."""
    fd = AsyncFd(pair[0])
    claim = fd._claim

    def claim_and_close(*args: Any) -> None:
        claim(*args)
        thread = threading.Thread(target=fd.close)
        thread.start()
        thread.join(TIMEOUT)

    fd._claim = claim_and_close  # type: ignore[method-assign]
    with pytest.raises(ClosedResourceError):
        spawn(fd.readable()).join(TIMEOUT)


def test_after_close_every_wait_is_refused(pair: Pair) -> None:
    fd = AsyncFd(pair[0])
    fd.close()
    fd.close()
    for interest in Interest:
        with pytest.raises(ClosedResourceError, match="closed"):
            spawn(wait(fd, interest)).join(TIMEOUT)


def test_two_on_one_descriptor(pair: Pair) -> None:
    ours, peer = pair
    with AsyncFd(ours) as one, AsyncFd(ours) as two:
        waiting = [parked(one.readable()), parked(two.readable())]
        peer.send(b"x")
        for handle in waiting:
            handle.join(TIMEOUT)
        empty(ours)
        stays = parked(two.readable())
        one.close()
        peer.send(b"y")
        stays.join(TIMEOUT)


def test_beside_a_stream_of_the_same_descriptor() -> None:
    with stream_and_peer() as (stream, peer), AsyncFd(stream.socket) as fd:
        reading, waiting = parked(stream.read()), parked(fd.readable())
        peer.send(b"x")
        waiting.join(TIMEOUT)
        assert reading.join(TIMEOUT) == b"x"
        fd.close()
        peer.send(b"y")
        assert spawn(stream.read()).join(TIMEOUT) == b"y"


def test_the_stream_of_the_same_descriptor_is_closed() -> None:
    with stream_and_peer() as (stream, _), AsyncFd(stream.socket) as fd:
        reading, waiting = parked(stream.read()), parked(fd.readable())
        stream.close()
        waiting.join(TIMEOUT)
        with pytest.raises(ClosedResourceError):
            reading.join(TIMEOUT)


def test_T7_the_descriptor_is_closed_behind_it_and_its_number_reused() -> None:
    ours, peer = socket.socketpair()
    number = ours.fileno()
    stale = AsyncFd(ours)
    waiting = parked(stale.readable())
    ours.close()
    peer.close()
    ours, peer = socket.socketpair()
    with ours, peer:
        assert number in (ours.fileno(), peer.fileno())
        other = peer if number == ours.fileno() else ours
        with AsyncFd(number) as fresh:
            reading = parked(fresh.readable())
            waiting.join(TIMEOUT)  # woken, to see for itself what became of its descriptor
            stale.close()
            settle()
            assert not reading.done()
            other.send(b"x")
            reading.join(TIMEOUT)


@pytest.mark.parametrize("interest", [Interest.READABLE, Interest.WRITABLE])
def test_B20_a_regular_file_is_always_ready(interest: Interest, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as file, AsyncFd(file) as fd:
        for _ in range(3):
            spawn(wait(fd, interest)).join(TIMEOUT)


def test_B9_one_waiter_is_cut_off_the_other_direction_is_not(pair: Pair) -> None:
    """Both become ready while the executor is busy; the reader is cut off in that same turn."""
    ours, peer = pair
    fill(ours)
    with AsyncFd(ours) as fd:
        cut = CutOff(awaiting(fd.readable()))
        reading, writing = parked(cut), parked(fd.writable())
        ready, go = threading.Event(), threading.Event()

        async def busy() -> None:
            ready.set()
            assert go.wait(TIMEOUT)
            cut.cut()

        blocker = spawn(busy())
        assert ready.wait(TIMEOUT)
        peer.send(b"x")
        empty(peer)
        go.set()
        blocker.join(TIMEOUT)
        with pytest.raises(GaveUp):
            reading.join(TIMEOUT)
        writing.join(TIMEOUT)
        spawn(fd.readable()).join(TIMEOUT)  # and the data is there for the next


def test_a_wait_that_is_cut_off_leaves_nothing(pair: Pair) -> None:
    ours, peer = pair
    with AsyncFd(ours) as fd:
        cut = CutOff(awaiting(fd.readable()))
        handle = parked(cut)
        cut.cut()
        with pytest.raises(GaveUp):
            handle.join(TIMEOUT)
        executor_turn()
        next_one = parked(fd.readable())
        peer.send(b"x")
        next_one.join(TIMEOUT)


def test_B26_a_fifo_whose_writers_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with AsyncFd(reader) as fd:
            for text in (b"one", b"two"):
                handle = parked(fd.readable())
                writer = os.open(path, os.O_WRONLY)
                os.write(writer, text)
                handle.join(TIMEOUT)
                assert os.read(reader, 10) == text
                end = parked(fd.readable())
                os.close(writer)
                end.join(TIMEOUT)
                assert os.read(reader, 10) == b""
                # HUP stays until the next writer comes: open one to clear it
                os.close(os.open(path, os.O_RDWR))
    finally:
        os.close(reader)


def test_the_repr_tells_the_number_and_whether_it_is_closed(pair: Pair) -> None:
    fd = AsyncFd(pair[0])
    assert repr(fd) == f"<AsyncFd {pair[0].fileno()}>"
    fd.close()
    assert "closed" in repr(fd)
