"""Descriptors that other code closes while tasks wait for them (R56)."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.net_helpers import TIMEOUT, executor_turn, parked, raw_tcp_pair, settle
from trale_py import AsyncFd, EventFd, JoinHandle, TcpListener, TcpStream, UdpSocket, spawn
from trale_py.core import current, sweep
from trale_py.core.reactor import Reactor
from trale_py.core.runtime import Runtime
from trale_py.core.simulation import Simulation


def reactor() -> Reactor:
    found = current.default_runtime().reactor
    assert isinstance(found, Reactor)
    return found


def begin_sweep() -> None:
    current.default_runtime().call_on_executor(reactor()._sweep.begin)
    executor_turn()


@contextmanager
def waiting(what: str) -> Iterator[tuple[int, JoinHandle[Any]]]:
    """A descriptor's number, and a task that waits for it."""
    with raw_tcp_pair() as (ours, _):
        thing: Any = {
            "read": lambda: TcpStream.from_socket(ours),
            "write": lambda: TcpStream.from_socket(ours),
            "accept": lambda: TcpListener.bind("127.0.0.1:0"),
            "recv_from": lambda: UdpSocket.bind("127.0.0.1:0"),
        }[what]()
        number = thing.socket.fileno()
        wait = thing.write_all(bytes(1 << 26)) if what == "write" else getattr(thing, what)()
        yield number, parked(wait)
        thing.close()
        executor_turn()


def raises_ebadf(handle: JoinHandle[Any]) -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        handle.join(TIMEOUT)
    assert caught.value.errno == errno.EBADF


# -- what the number means then ------------------------------------------------------------------


@contextmanager
def nothing(number: int) -> Iterator[None]:
    os.close(number)
    yield


@contextmanager
def another_socket(number: int) -> Iterator[None]:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        os.dup2(mine.fileno(), number)
        theirs.sendall(b"another's")
        yield
        assert mine.recv(9, socket.MSG_DONTWAIT) == b"another's"
        with pytest.raises(BlockingIOError):
            theirs.recv(1, socket.MSG_DONTWAIT)
        os.close(number)  # that is, the object has not


@contextmanager
def a_file(number: int) -> Iterator[None]:
    with Path(os.devnull).open("rb") as file:
        os.dup2(file.fileno(), number)
    yield
    os.close(number)


@contextmanager
def nothing_but_a_duplicate_lives(number: int) -> Iterator[None]:
    duplicate = os.dup(number)
    os.close(number)
    yield
    os.close(duplicate)


MEANINGS = [nothing, another_socket, a_file, nothing_but_a_duplicate_lives]


@pytest.mark.parametrize("means", MEANINGS)
@pytest.mark.parametrize("what", ["read", "write", "accept", "recv_from"])
def test_B4_R56_what_waits_for_a_closed_number_raises(
    what: str, means: Callable[[int], Any]
) -> None:
    with ExitStack() as stack:
        number, handle = stack.enter_context(waiting(what))
        stack.enter_context(means(number))
        begin_sweep()
        raises_ebadf(handle)
        assert reactor()._poller.sources == {}


def test_R56_the_number_was_never_handed_out() -> None:
    """As os.closerange() finds it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = spawn(TcpStream.connect(server.getsockname())).join(TIMEOUT)
        handle = parked(stream.read())
        os.close(stream._sock.detach())
        begin_sweep()
        raises_ebadf(handle)
        stream.close()
        executor_turn()


def test_R56_what_waits_for_a_descriptor_of_its_own_is_woken() -> None:
    ours, peer = socket.socketpair()
    with peer:
        fd, event = AsyncFd(ours), EventFd()
        readable, told = parked(fd.readable()), parked(event.wait())
        os.close(ours.detach())
        os.close(event.fileno())
        begin_sweep()
        assert readable.join(TIMEOUT) is None  # and its next call says what there is to say
        raises_ebadf(told)
        fd.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            event.close()


# -- when it looks -------------------------------------------------------------------------------


def test_R56_it_looks_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else happens in the runtime."""
    monkeypatch.setattr(sweep, "PERIOD_NS", 5 * 10**6)
    with waiting("read") as (number, handle), nothing(number):
        raises_ebadf(handle)


def test_R56_one_that_was_found_has_the_others_looked_for() -> None:
    with ExitStack() as stack:
        ours, peer = (stack.enter_context(one) for one in socket.socketpair())
        number, one = stack.enter_context(waiting("read"))
        second, other = stack.enter_context(waiting("read"))
        os.close(second)
        os.dup2(ours.fileno(), number)
        with AsyncFd(number) as fd:
            readable = parked(fd.readable())
            raises_ebadf(one)
            raises_ebadf(other)
            peer.sendall(b"x")
            readable.join(TIMEOUT)
        os.close(number)


def test_R56_a_batch_in_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "BATCH", 2)
    with ExitStack() as stack:
        all_of_them = [stack.enter_context(waiting("read")) for _ in range(5)]
        for number, _ in all_of_them:
            os.close(number)
        left: list[int] = []

        def look() -> None:
            left.append(len(reactor()._poller.sources))
            if left[-1]:
                runtime.publish(look)

        runtime = current.default_runtime()
        runtime.call_on_executor(lambda: (reactor()._sweep.begin(), look()))
        for _, handle in all_of_them:
            raises_ebadf(handle)
        executor_turn()
        assert left == [3, 1, 0]


def test_R56_what_is_open_is_left_alone() -> None:
    """Nothing is reported anew: an edge that the kernel repeats is a poll of a task."""
    with raw_tcp_pair() as (ours, peer), TcpStream.from_socket(ours) as stream:
        peer.sendall(b"x")
        handle = parked(stream.read_exact(2))
        settle()
        events = reactor()._poller.counts()["events"]
        for _ in range(3):
            begin_sweep()
        assert reactor()._poller.counts()["events"] == events
        assert list(reactor()._poller.sources) == [ours.fileno()]
        peer.sendall(b"y")
        assert handle.join(TIMEOUT) == b"xy"


def test_R56_what_epoll_refuses_is_left_alone() -> None:
    async def main() -> None:
        with Path(os.devnull).open("rb") as file, AsyncFd(file) as fd:
            await fd.readable()
            source = reactor()._attach(file.fileno())
            assert not source.pollable
            reactor()._sweep.begin()
            assert reactor()._poller.sources[file.fileno()] is source
            reactor()._release(source)

    spawn(main()).join(TIMEOUT)


def test_R56_planned_only_while_something_is_watched() -> None:
    looks_after = reactor()._sweep
    with waiting("read"):
        first = looks_after._timer
        assert first is not None
        with waiting("accept"):
            assert looks_after._timer is first
    assert looks_after._timer is None


def test_R56_a_simulation_has_no_deadline_of_it(runtime: Runtime) -> None:
    """Its clock jumps from one to the next while nothing is ready."""
    runtime.simulate(Simulation())

    async def main() -> None:
        ours, peer = socket.socketpair()
        with ours, peer:
            source = runtime.reactor._attach(ours.fileno())
            assert list(runtime.reactor._poller.sources) == [ours.fileno()]
            assert runtime.reactor._sweep._timer is None
            runtime.reactor._release(source)

    runtime.spawn(main()).join(TIMEOUT)
