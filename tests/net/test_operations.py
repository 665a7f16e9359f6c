"""The operations of sockets as futures: polled by hand, handed on, awaited again."""

from __future__ import annotations

import contextlib
import errno
import gc
import warnings
import weakref
from collections.abc import Iterator
from typing import Any, TypeVar

import pytest

from tests.support.net_helpers import TIMEOUT, parked, raw_tcp_pair, stream_and_peer
from trale_py import (
    PENDING,
    ClosedResourceError,
    Context,
    Future,
    Pending,
    Ready,
    TcpStream,
    block_on,
    spawn,
)

T = TypeVar("T")


class PollOnce(Future["Ready[T] | Pending"]):
    """What one poll of a future returns."""

    def __init__(self, future: Future[T]) -> None:
        self._future = future

    def poll(self, cx: Context) -> Ready[Ready[T] | Pending]:
        return Ready(self._future.poll(cx))


class ByHand(Future[T]):
    """Polls another future, and never awaits it."""

    def __init__(self, future: Future[T]) -> None:
        self._future = future

    def poll(self, cx: Context) -> Ready[T] | Pending:
        return self._future.poll(cx)


async def awaited(future: Future[T]) -> T:
    return await future


def test_an_operation_wakes_the_task_that_polled_it_last() -> None:
    with stream_and_peer() as (stream, peer):
        read = stream.read()
        assert block_on(PollOnce(read)) is PENDING
        handle = parked(ByHand(read))
        peer.sendall(b"x")
        assert handle.join(TIMEOUT) == b"x"


def test_an_operation_that_was_polled_by_hand_may_be_awaited() -> None:
    async def poll_and_await(read: Future[bytes]) -> bytes:
        assert await PollOnce(read) is PENDING
        return await read

    with stream_and_peer() as (stream, peer):
        handle = parked(poll_and_await(stream.read()))
        peer.sendall(b"x")
        assert handle.join(TIMEOUT) == b"x"


def test_an_operation_is_awaited_by_one_task_at_a_time() -> None:
    with stream_and_peer() as (stream, peer):
        read = stream.read()
        handle = parked(awaited(read))
        with pytest.raises(RuntimeError, match="again: it can be awaited once"):
            block_on(awaited(read))
        peer.sendall(b"x")
        assert handle.join(TIMEOUT) == b"x"


def test_a_closed_stream_says_so_before_it_says_that_it_is_busy() -> None:
    with stream_and_peer() as (stream, peer):
        handle = parked(awaited(stream.read()))
        with pytest.raises(ClosedResourceError):
            block_on(read_of_a_stream_being_closed(stream))
        peer.sendall(b"x")
        assert handle.join(TIMEOUT) == b"x"


async def read_of_a_stream_being_closed(stream: TcpStream) -> None:
    stream._io.closed = True  # by another thread, whose request to close it is still to come
    try:
        await stream.read()
    finally:
        stream._io.closed = False


@pytest.mark.parametrize(
    ("raised", "comes_out"),
    [
        (OSError(errno.EBADF, "closed"), ClosedResourceError),
        (ValueError("of the call itself"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_a_call_raises_when_the_socket_was_closed_in_it(
    raised: BaseException, comes_out: type[BaseException]
) -> None:
    with stream_and_peer() as (stream, _):

        def call() -> None:
            stream.close()
            raise raised

        with pytest.raises(comes_out):
            block_on(awaited(stream._reading(call)))


@contextlib.contextmanager
def unclosed_is_fine() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


class Friend(TcpStream):
    """A stream with attributes of the user's."""

    other: Any


@pytest.mark.parametrize("cycle", ["owner", "function"])
def test_a_stream_in_a_cycle_with_its_own_operation_is_closed_by_the_collector(cycle: str) -> None:
    with raw_tcp_pair() as (ours, peer):
        stream = Friend.from_socket(ours)
        if cycle == "owner":
            stream.other = stream.read()
        else:
            stream.other = stream._reading(lambda stream=stream: None)
        stream.other._hand_over()
        gone = weakref.ref(stream)
        with unclosed_is_fine():
            del stream
            gc.collect()
        assert gone() is None
        assert peer.recv(1) == b""


def test_the_collector_survives_an_operation_on_a_memoryview_in_a_cycle() -> None:
    with raw_tcp_pair() as (ours, peer):
        view = memoryview(bytearray(1))  # older than the stream, so the collector comes to it first
        stream = Friend.from_socket(ours)
        stream.other = stream._io.send(stream, view)
        stream.other._hand_over()
        with unclosed_is_fine():
            del stream, view
            gc.collect()
        assert peer.recv(1) == b""


def test_the_collector_leaves_alone_what_a_task_waits_for() -> None:
    with stream_and_peer() as (stream, peer):
        handle = parked(awaited(stream.read()))
        gc.collect()
        peer.sendall(b"x")
        assert handle.join(TIMEOUT) == b"x"
    assert spawn(awaited(handle)).join(TIMEOUT) == b"x"
