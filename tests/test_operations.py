"""The operations of sockets as futures: polled by hand, handed on, awaited again."""

from __future__ import annotations

from typing import TypeVar

import pytest

from trale_py import (
    PENDING,
    Context,
    Future,
    Pending,
    Ready,
    block_on,
)

from .net_helpers import TIMEOUT, parked, stream_and_peer

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
        with pytest.raises(RuntimeError, match="another task awaits this operation already"):
            block_on(awaited(read))
        peer.sendall(b"x")
        assert handle.join(TIMEOUT) == b"x"
        peer.sendall(b"y")
        assert block_on(awaited(read)) == b"y"
