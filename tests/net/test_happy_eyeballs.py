"""Happy eyeballs: the order of the addresses, and the race for them.

The race is run against a network that does as it is told: an address answers, refuses or is
silent. So it is the order of things that is tested, and nothing is slept for.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.net_helpers import TIMEOUT, CutOff, GaveUp, executor_turn, free_port, parked
from trale_py import (
    Cancelled,
    CancelScope,
    Event,
    TaskCancelled,
    TcpListener,
    TcpStream,
    block_on,
    current_task,
    now,
    sleep,
    spawn,
    tasks,
)
from trale_py.base.closeable import Closing
from trale_py.net import happy_eyeballs
from trale_py.net.address import Endpoint, HostPort
from trale_py.net.happy_eyeballs import connect_first, in_turn

A, B, C = (Endpoint(socket.AF_INET, (f"192.0.2.{n}", 80)) for n in (1, 2, 3))


# -- the order -----------------------------------------------------------------------------


def endpoint(family: socket.AddressFamily, n: int) -> Endpoint:
    host = f"192.0.2.{n}" if family == socket.AF_INET else f"2001:db8::{n}"
    return Endpoint(family, (host, 80))


FAMILIES = st.lists(st.sampled_from([socket.AF_INET, socket.AF_INET6]), min_size=1, max_size=20)


@given(FAMILIES)
def test_the_families_take_turns(families: list[socket.AddressFamily]) -> None:
    resolved = [endpoint(family, n) for n, family in enumerate(families)]
    ordered = in_turn(resolved)
    assert sorted(ordered) == sorted(resolved)
    assert ordered[0] == resolved[0]
    for family in (socket.AF_INET, socket.AF_INET6):
        assert [e for e in ordered if e.family == family] == [
            e for e in resolved if e.family == family
        ]
    both = 2 * min(families.count(socket.AF_INET), families.count(socket.AF_INET6))
    assert all(one.family != next_.family for one, next_ in pairwise(ordered[:both]))
    assert len({e.family for e in ordered[both:]}) <= 1


def test_an_example_of_the_order() -> None:
    six, four = socket.AF_INET6, socket.AF_INET
    resolved = [endpoint(f, n) for n, f in enumerate([six, six, six, four, four])]
    assert [resolved.index(e) for e in in_turn(resolved)] == [0, 3, 1, 4, 2]


# -- the race ------------------------------------------------------------------------------


class Connection(Closing):
    closed = False

    def close(self) -> None:
        self.closed = True


Behaviour = Callable[[], Coroutine[Any, Any, None]]


class Network:
    """What each address does when it is connected to, and what came of it."""

    def __init__(self, behaviours: dict[Endpoint, Behaviour]) -> None:
        self.behaviours = behaviours
        self.started: dict[Endpoint, float] = {}
        self.ended: list[Endpoint] = []
        self.made: dict[Endpoint, Connection] = {}

    async def connect(self, endpoint: Endpoint) -> Connection:
        self.started[endpoint] = now()
        try:
            await self.behaviours[endpoint]()
            self.made[endpoint] = Connection()
            return self.made[endpoint]
        finally:
            self.ended.append(endpoint)

    def race(self) -> Coroutine[Any, Any, Connection]:
        return connect_first(list(self.behaviours), self.connect)


async def answer() -> None:
    pass


async def refuse() -> None:
    raise ConnectionRefusedError("go away")


async def be_silent() -> None:
    await sleep(math.inf)


@pytest.fixture
def delay(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """How long to wait for an attempt before the next one; math.inf: until it has failed."""

    def set_to(seconds: float) -> None:
        monkeypatch.setattr(happy_eyeballs, "ATTEMPT_DELAY_SECONDS", seconds)

    set_to(math.inf)
    return set_to


def test_one_address_makes_no_task() -> None:
    async def main() -> None:
        async def look() -> None:
            assert current_task() is me
            assert tasks() == [me]

        me = current_task()
        await Network({A: look}).race()

    block_on(main())


def test_the_first_answers_and_no_other_is_tried(delay: Any) -> None:
    network = Network({A: answer, B: answer})
    assert block_on(network.race()) is network.made[A]
    assert list(network.started) == [A]


def test_the_next_is_tried_when_one_has_failed(delay: Any) -> None:
    network = Network({A: refuse, B: refuse, C: answer})
    assert block_on(network.race()) is network.made[C]
    assert list(network.started) == [A, B, C]


def test_the_next_is_tried_when_one_is_silent_for_a_while() -> None:
    network = Network({A: be_silent, B: answer})
    assert block_on(network.race()) is network.made[B]
    assert network.started[B] - network.started[A] >= 0.25
    assert network.ended == [B, A]  # the attempt that has lost ended before the race did


def test_a_failure_counts_once() -> None:
    """It has the next one tried at once, and not the one after that."""
    network = Network({A: refuse, B: be_silent, C: answer})
    assert block_on(network.race()) is network.made[C]
    assert network.started[C] - network.started[B] >= 0.25


def test_the_race_begins_with_one_address_of_each_family(delay: Any) -> None:
    first, second = (endpoint(socket.AF_INET6, n) for n in (1, 2))
    network = Network({first: refuse, second: answer, A: answer})
    assert block_on(network.race()) is network.made[A]
    assert list(network.started) == [first, A]


def test_any_failure_has_the_next_tried(delay: Any) -> None:
    """The first fails while the second is waited for."""
    delay(0.001)
    second_began = Event()

    async def fail_later() -> None:
        delay(math.inf)  # from the second on
        await second_began.wait()
        raise ConnectionResetError

    async def begin_and_be_silent() -> None:
        second_began.set()
        await be_silent()

    network = Network({A: fail_later, B: begin_and_be_silent, C: answer})
    assert block_on(network.race()) is network.made[C]
    assert network.ended == [A, C, B]


def test_if_all_fail_the_error_that_came_last_is_raised(delay: Any) -> None:
    delay(0.001)
    second_failed = Event()

    async def fail_later() -> None:
        await second_failed.wait()
        raise TimeoutError("the last one")

    async def fail_first() -> None:
        second_failed.set()
        raise ConnectionRefusedError("not the last one")

    network = Network({A: fail_later, B: fail_first})
    with pytest.raises(TimeoutError, match="the last one"):
        block_on(network.race())
    assert network.ended == [B, A]


def test_a_loser_that_connects_nevertheless_is_closed(delay: Any) -> None:
    delay(0.001)

    async def answer_when_cancelled() -> None:
        with contextlib.suppress(Cancelled):
            await be_silent()

    network = Network({A: answer_when_cancelled, B: answer})
    winner = block_on(network.race())
    assert winner is network.made[B]
    assert not winner.closed
    assert network.made[A].closed


def test_a_winner_while_the_next_is_about_to_begin(
    delay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delay is over in the turn in which an attempt succeeds: nobody else is knocked at."""

    class NoDelay:
        """The time has come as soon as there is a winner."""

        def __init__(self, seconds: float) -> None:
            self.scope = CancelScope()

        def __enter__(self) -> None:
            scopes.append(self.scope)
            self.scope.__enter__()

        def __exit__(self, *exc: Any) -> bool:
            return self.scope.__exit__(*exc)

    async def answer_as_the_time_comes() -> None:
        scopes[-1].cancel()

    scopes: list[CancelScope] = []
    monkeypatch.setattr(happy_eyeballs, "move_on_after", NoDelay)
    network = Network({A: answer_as_the_time_comes, B: answer})
    assert block_on(network.race()) is network.made[A]
    assert list(network.started) == [A]


def test_another_error_than_oserror_ends_the_race(delay: Any) -> None:
    delay(0.001)

    async def break_down() -> None:
        raise ZeroDivisionError("a bug")

    network = Network({A: be_silent, B: break_down, C: answer})
    with pytest.raises(ZeroDivisionError, match="a bug"):
        block_on(network.race())
    assert network.ended == [B, A]


def test_cancelled_all_attempts_have_ended(delay: Any) -> None:
    delay(0.001)
    both = threading.Event()

    async def second() -> None:
        both.set()
        await be_silent()

    network = Network({A: be_silent, B: second})
    handle = spawn(network.race())
    assert both.wait(TIMEOUT)
    handle.cancel("enough")
    with pytest.raises(TaskCancelled, match="enough"):
        handle.join(TIMEOUT)
    assert sorted(network.ended) == [A, B]
    assert network.made == {}


def test_cancelled_as_one_answers_the_connection_is_closed(delay: Any) -> None:
    async def main() -> Any:
        async def answer_too_late() -> None:
            scope.cancel("too late")

        network = Network({A: answer_too_late, B: be_silent})
        with CancelScope() as scope:
            await network.race()
        return scope.cancelled_caught, network

    caught, network = block_on(main())
    assert caught
    assert network.made[A].closed


def test_a_race_that_is_closed_half_way(delay: Any) -> None:
    """As the runtime's end may do to it: then nobody is left to take a connection."""
    network = Network({A: be_silent, B: answer})
    cut: CutOff[Connection] = CutOff(network.race())
    handle = parked(cut)
    executor_turn()
    assert list(network.started) == [A]
    cut.cut()
    with pytest.raises(GaveUp):
        handle.join(TIMEOUT)
    executor_turn()
    assert network.ended == [A]
    assert network.made == {}


def test_an_attempt_that_answers_after_the_race_was_closed(delay: Any) -> None:
    go = Event()

    async def answer_in_a_shield() -> None:
        with CancelScope(shield=True):
            await go.wait()

    network = Network({A: answer_in_a_shield, B: answer})
    cut: CutOff[Connection] = CutOff(network.race())
    handle = parked(cut)
    executor_turn()
    cut.cut()
    with pytest.raises(GaveUp):
        handle.join(TIMEOUT)
    go.set()
    executor_turn()
    assert network.made[A].closed


# -- with sockets --------------------------------------------------------------------------


@contextlib.contextmanager
def silent() -> Iterator[Any]:
    """An address that never answers: its backlog is full, so the kernel drops what comes."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server.getsockname()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: Any) -> None:
    endpoints = [Endpoint(socket.AF_INET, address) for address in addresses]
    monkeypatch.setattr(HostPort, "look_up", lambda _: endpoints)


def test_one_is_silent_one_refuses_one_answers(delay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    delay(0.001)
    refusing = ("127.0.0.1", free_port())
    with silent() as unanswered, TcpListener.bind("127.0.0.1:0") as listener:
        resolve_to(monkeypatch, unanswered, refusing, listener.local_addr)
        with block_on(TcpStream.connect("a.name:80")) as stream:
            assert stream.peer_addr == listener.local_addr
        assert tasks() == []


def test_a_time_limit_on_the_race(delay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    delay(0.001)
    with silent() as one, silent() as other:
        resolve_to(monkeypatch, one, other)
        with pytest.raises(TimeoutError, match=r"a\.name:80"):
            block_on(TcpStream.connect("a.name:80", timeout=0.02))
        assert tasks() == []


def test_a_race_of_sockets_is_cancelled(delay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture counts descriptors."""
    delay(0.001)
    with silent() as one, silent() as other:
        resolve_to(monkeypatch, one, other)
        handle = parked(TcpStream.connect("a.name:80"))
        handle.cancel()
        with pytest.raises(TaskCancelled):
            handle.join(TIMEOUT)
        assert tasks() == []


def test_all_refuse(delay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    last = free_port()
    resolve_to(monkeypatch, ("127.0.0.1", free_port()), ("127.0.0.1", last))
    with pytest.raises(ConnectionRefusedError, match=f"127.0.0.1:{last}"):
        block_on(TcpStream.connect("a.name:80"))
