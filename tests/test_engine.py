"""What the native engine does that the Python one has no need to: see docs/design.md."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from trale_py import Reactor, block_on, engine, sleep, spawn

from .net_helpers import TIMEOUT, parked, stream_and_peer

native_only = pytest.mark.skipif(engine == "python", reason="about the native engine")


def counts() -> dict[str, int]:
    return Reactor.get().poller.counts()


@native_only
@pytest.mark.parametrize("how", ["computes", "keeps the GIL"])
def test_A17_what_comes_while_the_executor_is_stuck_is_collected_and_delivered_at_its_next_turn(
    how: str,
) -> None:
    with stream_and_peer() as (stream, peer):
        order: list[str] = []

        async def reads() -> None:
            await stream.read()
            order.append("read")

        async def sleeps() -> None:
            await sleep(0.01)
            order.append("slept")

        async def is_stuck() -> None:
            before = counts()["collected"]
            peer.send(b"x")
            end = time.monotonic() + TIMEOUT
            if how == "computes":
                while counts()["collected"] < before + 2:
                    assert time.monotonic() < end, "nobody collects"
            else:
                while counts()["collected"] < before + 2:
                    assert time.monotonic() < end, "nobody collects"
                    pow(3, 30_000)  # a C call, of some milliseconds, that does not give way
            order.append("stuck no more")

        waiting = [parked(reads()), parked(sleeps())]
        block_on(is_stuck())
        for handle in waiting:
            handle.join(TIMEOUT)
        assert order[0] == "stuck no more"
        assert sorted(order[1:]) == ["read", "slept"]


@pytest.mark.slow
@native_only
def test_messages_come_through_while_the_main_thread_computes() -> None:
    """Each pair of messages would take two switch intervals if the GIL were given up for it."""
    stop = threading.Event()

    async def echo(stream: Any) -> None:
        while data := await stream.read():
            await stream.write_all(data)

    def converse(peer: Any) -> None:
        try:
            for i in range(500):
                peer.sendall(b"%03d" % i)
                assert peer.recv(3) == b"%03d" % i
        finally:
            stop.set()

    with stream_and_peer() as (stream, peer):
        serving = spawn(echo(stream))
        talking = threading.Thread(target=converse, args=(peer,))
        talking.start()
        deadline = time.monotonic() + TIMEOUT
        while not stop.is_set():
            assert time.monotonic() < deadline
        talking.join()
        peer.close()
        serving.join(TIMEOUT)
