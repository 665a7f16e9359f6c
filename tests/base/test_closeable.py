"""with and async with, for whatever has a close()."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trale_py import AsyncFd, EventFd, TcpListener, UdpSocket, block_on
from trale_py.base.closeable import Closing
from trale_py.channel import channel, oneshot


class Door(Closing):
    """Counts how often it is closed."""

    closings = 0

    def close(self) -> None:
        self.closings += 1


kept: list[object] = []  # an end whose other end is gone is closed


def oneshot_receiver() -> Closing:
    tx, rx = oneshot()
    kept.append(tx)
    return rx


MAKERS: list[Callable[[], Closing]] = [
    Door,
    lambda: AsyncFd(0),
    EventFd,
    lambda: channel(1)[0],
    lambda: channel(1)[1],
    oneshot_receiver,
    lambda: TcpListener.bind("127.0.0.1:0"),
    lambda: UdpSocket.bind("127.0.0.1:0"),
]


def closed(thing: Closing) -> bool:
    if isinstance(thing, Door):
        return thing.closings == 1
    return "closed" in repr(thing)


@pytest.mark.parametrize("make", MAKERS)
def test_with_closes_at_the_end(make: Callable[[], Closing]) -> None:
    with make() as thing:
        assert not closed(thing)
    assert closed(thing)


@pytest.mark.parametrize("make", MAKERS)
def test_async_with_closes_at_the_end(make: Callable[[], Closing]) -> None:
    async def main() -> Closing:
        async with make() as thing:
            assert not closed(thing)
        return thing

    assert closed(block_on(main()))


def test_an_error_closes_and_goes_on() -> None:
    door = Door()
    with pytest.raises(KeyError, match="out"), door:
        raise KeyError("out")
    assert door.closings == 1
