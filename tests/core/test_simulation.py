"""Simulation: a test's clock, order of a batch, and answers of the kernel, on both engines."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import trale_py
from tests.support.net_helpers import TIMEOUT, raw_tcp_pair
from trale_py import (
    Event,
    RuntimeClosed,
    TcpListener,
    TcpStream,
    Timer,
    channel,
    interval,
    move_on_after,
    now,
    pipe,
    sleep,
    sleep_until,
    spawn,
    yield_now,
)
from trale_py.core.engine import python_version
from trale_py.core.runtime import Runtime
from trale_py.core.simulation import CALLS, Simulation

HOUR = 3600 * 10**9


class World:
    """A runtime of its own, in a simulation."""

    def __init__(self) -> None:
        self.simulation = Simulation()
        self.runtime = Runtime()
        self.runtime.simulate(self.simulation)

    def set_clock(self) -> None:
        """It begins at 1000 s, and jumps to the next deadline when nothing else is to do."""
        self.simulation.set_now(1000 * 10**9)

        def jump(deadline: int | None) -> bool:
            if deadline is not None:
                self.simulation.set_now(deadline)
            return deadline is not None

        self.simulation.on_idle = jump

    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        return self.runtime.spawn(coro).join(TIMEOUT)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.runtime.shutdown(TIMEOUT)


# -- the clock --------------------------------------------------------------------------------


def test_sleeps_of_hours_take_no_time_and_end_in_order(world: World) -> None:
    world.set_clock()
    ended: list[tuple[int, float]] = []

    async def sleeps(hours: int) -> None:
        await sleep(hours * 3600)
        ended.append((hours, now()))

    async def main() -> None:
        tasks = [spawn(sleeps(hours)) for hours in (3, 1, 2, 1000)]
        for task in tasks:
            await task

    world.run(main())
    assert ended == [(hours, 1000 + hours * 3600.0) for hours in (1, 2, 3, 1000)]
    assert world.runtime.now_ns() == 1000 * 10**9 + 1000 * HOUR


def test_all_deadlines_are_on_that_clock(world: World) -> None:
    world.set_clock()

    async def main() -> list[float]:
        seen = [now()]
        await sleep_until(2000)
        seen.append(now())
        timer = Timer(500)
        await timer
        seen.append(now())
        with move_on_after(1000) as scope:
            await Event().wait()
        assert scope.cancelled_caught
        seen.append(now())
        ticks = interval(10)
        seen += [await ticks.tick(), await ticks.tick()]
        return seen

    assert world.run(main()) == [1000, 2000, 2500, 3500, 3500, 3510]


def test_it_does_not_go_on_by_itself(world: World) -> None:
    world.simulation.set_now(0)

    async def main() -> None:
        sleeping = spawn(sleep(1))
        for _ in range(50):
            await yield_now()
        assert not sleeping.done()
        world.simulation.set_now(10**9)
        await sleeping

    world.run(main())


def test_many_that_are_due_at_once_all_fire(world: World) -> None:
    world.set_clock()

    async def main() -> None:
        for task in [spawn(sleep(60)) for _ in range(1000)]:
            await task

    world.run(main())
    assert world.runtime.now_ns() == 1060 * 10**9


def test_a_cancelled_timer_does_not_move_it(world: World) -> None:
    world.set_clock()

    async def main() -> float:
        handle = spawn(sleep(60))
        await yield_now()
        handle.cancel()
        await sleep(120)
        return now()

    assert world.run(main()) == 1120


def test_another_runtime_keeps_its_own_clock(world: World) -> None:
    world.set_clock()
    before = now()

    async def main() -> float:
        return now()

    assert world.run(main()) == 1000
    assert spawn(main()).join(TIMEOUT) >= before > 1000 or before < 1000


def test_it_wakes_by_other_threads_meanwhile(world: World) -> None:
    world.set_clock()
    event = Event()
    handle = world.runtime.spawn(event.wait())
    event.set()
    handle.join(TIMEOUT)


def test_what_on_idle_raises_ends_the_runtime(world: World) -> None:
    def fail(_: int | None) -> bool:
        raise ZeroDivisionError

    async def main() -> None:
        world.simulation.on_idle = fail
        await Event().wait()

    with pytest.raises(RuntimeClosed) as caught:
        world.run(main())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# -- the order of a batch ---------------------------------------------------------------------


def order(seed: int | None) -> list[int]:
    """In which order twenty tasks take three turns each."""
    world = World()
    if seed is not None:
        world.simulation.seed(seed)
    turns: list[int] = []

    async def task(n: int) -> None:
        for _ in range(3):
            turns.append(n)
            await yield_now()

    async def main() -> None:
        for handle in [spawn(task(n)) for n in range(20)]:
            await handle

    try:
        world.run(main())
    finally:
        world.runtime.shutdown(TIMEOUT)
    return turns


def test_the_same_seed_gives_the_same_order() -> None:
    assert order(None) == list(range(20)) * 3
    assert order(7) == order(7) != order(None)
    assert order(8) != order(7)
    assert sorted(order(7)) == sorted(order(None))


def test_the_numbers_are_the_same_in_both_engines_and_for_ever() -> None:
    for make in (Simulation, python_version("Simulation")):
        simulation = make()
        simulation.seed(-1)
        assert [simulation.random() for _ in range(3)] == [
            0xE4D971771B652C20,
            0xE99FF867DBF682C9,
            0x382FF84CB27281E9,
        ]


def test_calls_keep_their_places(world: World) -> None:
    """Who publishes a call counts on what it has pushed before."""
    world.simulation.seed(3)
    seen: list[str] = []

    async def say(text: str) -> None:
        seen.append(text)

    async def main() -> None:
        for block in "abc":
            for n in range(5):
                spawn(say(f"{block}{n}"))
            world.runtime.publish(lambda block=block: seen.append(block))
        await yield_now()
        await yield_now()

    world.run(main())
    assert [seen.index(block) for block in "abc"] == [5, 11, 17]
    assert [text[0] for text in seen] == ["a"] * 6 + ["b"] * 6 + ["c"] * 6
    assert seen != sorted(seen)


def test_channels_and_sleeps_replay_by_their_seed() -> None:
    def trace(seed: int) -> list[Any]:
        world = World()
        world.set_clock()
        world.simulation.seed(seed)
        seen: list[Any] = []
        sender, receiver = channel.channel(2)

        async def produce(n: int) -> None:
            for i in range(5):
                await sleep(0.5 + (n * i) % 3)
                await sender.send((n, i))

        async def consume() -> None:
            async for value in receiver:
                seen.append((value, now()))  # noqa: PERF401

        async def main() -> None:
            consumers = [spawn(consume()) for _ in range(3)]
            for handle in [spawn(produce(n)) for n in range(5)]:
                await handle
            sender.close()
            for handle in consumers:
                await handle

        try:
            world.run(main())
        finally:
            world.runtime.shutdown(TIMEOUT)
        return seen

    traces = [trace(seed) for seed in (1, 1, 2)]
    assert traces[0] == traces[1]
    assert len(traces[0]) == 25
    assert traces[2] != traces[0]


# -- system calls -----------------------------------------------------------------------------


async def with_pair(use: Callable[[TcpStream, socket.socket], Coroutine[Any, Any, Any]]) -> Any:
    with raw_tcp_pair() as (ours, peer), TcpStream.from_socket(ours) as stream:
        return await use(stream, peer)


def test_the_calls_are_the_ten_of_the_table() -> None:
    assert len(CALLS) == len(set(CALLS)) == 10
    simulation = Simulation()
    for call in CALLS:
        assert simulation.made(call) == 0
    for use in (simulation.made, simulation.plan, lambda call: simulation.take(call, 0)):
        with pytest.raises(ValueError, match=r"call must be one of recv, .*, not 'fsync'"):
            use("fsync")


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EBADF, errno.ECONNRESET])
@pytest.mark.parametrize("call", ["recv", "send"])
def test_a_planned_error_is_that_of_one_operation(world: World, call: str, code: int) -> None:
    async def use(stream: TcpStream, peer: socket.socket) -> None:
        peer.sendall(b"data")
        world.simulation.plan(call, error=code)
        with pytest.raises(OSError) as caught:  # noqa: PT011  # any number
            await (stream.read() if call == "recv" else stream.write(b"x"))
        assert caught.value.errno == code
        assert await stream.read() == b"data"
        assert await stream.write(b"x") == 1

    world.run(with_pair(use))
    assert world.simulation.left() == 0


@pytest.mark.parametrize("call", ["recv", "send", "epoll_wait", "epoll_ctl"])
def test_B22_eintr_is_invisible(world: World, call: str) -> None:
    async def use(stream: TcpStream, peer: socket.socket) -> None:
        for _ in range(20):
            await stream.write_all(b"ping")
            assert peer.recv(4, socket.MSG_WAITALL) == b"ping"
            peer.sendall(b"pong")
            assert await stream.read_exact(4) == b"pong"

    if call != "epoll_ctl":  # the kernel never says it there
        world.simulation.plan(call, error=errno.EINTR, times=15)
    world.run(with_pair(use))
    assert world.simulation.made(call) > 0
    if call in ("recv", "send"):
        assert world.simulation.left() == 0


def test_short_counts_lose_nothing(world: World) -> None:
    data = bytes(range(256)) * 40

    async def use(stream: TcpStream, peer: socket.socket) -> None:
        world.simulation.plan("send", size=7, times=500)
        await stream.write_all(data)
        got = b""
        while len(got) < len(data):
            got += peer.recv(65536)
        assert got == data
        peer.sendall(data)
        world.simulation.plan("recv", size=3, times=1000)
        assert await stream.read_exact(len(data) // 2) == data[: len(data) // 2]
        rest, into = b"", bytearray(512)
        while len(rest) < len(data) // 2:
            n = await stream.readinto(into)
            rest += into[:n]
        assert rest == data[len(data) // 2 :]

    world.run(with_pair(use))
    assert world.simulation.made("send") >= 500
    assert world.simulation.made("recv") >= 1000


def test_pipes_are_read_and_written(world: World) -> None:
    async def main() -> None:
        reader, writer = pipe()
        with reader, writer:
            world.simulation.plan("write", error=errno.ENOSPC, fd=writer.fileno())
            with pytest.raises(OSError, match="No space left"):
                await writer.write(b"lost")
            world.simulation.plan("write", size=1)
            assert await writer.write(b"data") == 1
            await writer.write_all(b"ata")
            world.simulation.plan("read", size=1)
            assert await reader.read() == b"d"
            world.simulation.plan("read", error=errno.EIO, fd=reader.fileno() + 1000)
            assert await reader.read() == b"ata"

    world.run(main())
    assert world.simulation.left() == 1  # of another descriptor


def test_C7_accept_and_connect_fail_as_planned(world: World) -> None:
    async def main() -> None:
        with TcpListener.bind("127.0.0.1:0") as listener:
            for code in (errno.EMFILE, errno.ECONNABORTED, errno.ENOMEM):
                world.simulation.plan("accept", error=code)
                with socket.create_connection(listener.local_addr):
                    with pytest.raises(OSError) as caught:  # noqa: PT011
                        await listener.accept()
                    assert caught.value.errno == code
                    (await listener.accept()).close()  # it is still in the backlog
            world.simulation.plan("connect", error=errno.ETIMEDOUT)
            with pytest.raises(TimeoutError):
                await TcpStream.connect(listener.local_addr)
            (await TcpStream.connect(listener.local_addr)).close()

    world.run(main())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENOMEM])
def test_B21_a_registration_that_fails_can_be_tried_again(world: World, code: int) -> None:
    async def use(stream: TcpStream, peer: socket.socket) -> None:
        peer.sendall(b"data")
        world.simulation.plan("epoll_ctl", error=code)
        with pytest.raises(OSError) as caught:  # noqa: PT011
            await stream.read()
        assert caught.value.errno == code
        assert await stream.read() == b"data"

    world.run(with_pair(use))


def open_descriptors() -> set[str]:
    paths = list(Path("/proc/self/fd").iterdir())
    return {path.name for path in paths if path.is_symlink()}  # the list's own is closed by now


@pytest.mark.parametrize("call", ["epoll_wait", "timerfd_settime", "eventfd_write"])
def test_what_fails_on_our_own_descriptors_ends_the_runtime(world: World, call: str) -> None:
    async def main() -> None:
        await sleep(0)
        world.simulation.plan(call, error=errno.EBADF, times=1000)
        await sleep(0.05)  # longer than the executor waits in epoll itself
        await sleep(60)

    before = open_descriptors()
    handle = world.runtime.spawn(main())
    if call == "eventfd_write":  # not before the end is anybody interrupted by it, perhaps
        handle.cancel()
        with pytest.raises((trale_py.TaskCancelled, RuntimeClosed)):
            handle.join(TIMEOUT)
    else:
        with pytest.raises(RuntimeClosed) as caught:
            handle.join(TIMEOUT)
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EBADF
    world.runtime.shutdown(TIMEOUT)
    for name in open_descriptors() - before:  # it thinks that they are another's by now
        with contextlib.suppress(OSError):
            os.close(int(name))


def test_plans_are_taken_in_order_and_counted() -> None:
    for make in (Simulation, python_version("Simulation")):
        simulation = make()
        simulation.plan("recv", error=errno.ENOMEM, after=1, times=2)
        simulation.plan("recv", size=5, fd=3)
        assert simulation.left() == 3
        assert simulation.take("recv", 4, 10) == 10
        for _ in range(2):
            with pytest.raises(OSError, match="Cannot allocate memory"):
                simulation.take("recv", 3, 10)
        assert simulation.take("recv", 4, 10) == 10
        assert simulation.take("recv", 3, 10) == 5
        assert simulation.take("recv", 3, 10) == 10
        assert simulation.left() == 0
        assert simulation.made("recv") == 6


def test_it_is_given_once_and_before_the_start(world: World) -> None:
    with pytest.raises(RuntimeError, match="it has a simulation"):
        world.runtime.simulate(Simulation())
    with pytest.raises(TypeError, match="simulation must be a Simulation, not 1"):
        Runtime().run_queue.simulation = 1  # type: ignore[assignment]
    assert Runtime().run_queue.simulation is None
