"""What was taken from a shared source and not used goes back: a cancelled waiter loses nothing.

Each kind of wait is cut off at the moment when what it waits for arrives: in the same turn of
the executor, in both orders, and by threads that really race. Whatever was sent is then
counted: it was delivered, or it is still there for the next one.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import settle_reactor
from tests.support.net_helpers import TIMEOUT, executor_turn, parked, raw_tcp_pair
from trale_py import (
    AsyncFd,
    CancelScope,
    Event,
    Guard,
    JoinHandle,
    Mutex,
    Notify,
    Semaphore,
    TaskCancelled,
    TcpListener,
    TcpStream,
    Timer,
    UdpSocket,
    block_on,
    move_on_after,
    now,
    sleep,
    sleep_until,
    spawn,
    yield_now,
)
from trale_py.channel import channel
from trale_py.core import current

CANCELLED = object()


def outcome(handle: JoinHandle[Any]) -> Any:
    """What the task ended with; CANCELLED if it did so."""
    try:
        return handle.join(TIMEOUT)
    except TaskCancelled:
        assert handle.cancelled()
        return CANCELLED


def reactor_turn() -> None:
    """In a task: return when the reactor has handed out all events that came before.

    In the turn in which it sees the first timer it may not have asked epoll yet; in the
    turn of the second it has.
    """
    settle_reactor(current.runtime())
    settle_reactor(current.runtime())


class Racers:
    """Two calls at once, in this thread and in another."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def at_once(self, one: Callable[[], Any], other: Callable[[], Any], round_: int) -> None:
        """Which of them comes first, and by how much, differs from round to round.

        On a busy machine it may be ``one`` in all rounds. So in the first ``other`` has had its
        effect before ``one`` is called.
        """
        if round_ == 0:
            other()
            for _ in range(3):  # it is told, it is thrown in, its task has ended
                executor_turn()
            one()
            return
        barrier = threading.Barrier(2, timeout=TIMEOUT)
        spins = (round_ // 2) % 60 * 30
        early, late = (one, other) if round_ % 2 else (other, one)

        def here() -> None:
            barrier.wait()
            for _ in range(spins):
                pass
            late()

        def there() -> None:
            barrier.wait()
            early()

        running = self._pool.submit(there)
        here()
        running.result(TIMEOUT)


@pytest.fixture
def racers() -> Iterator[Racers]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    with ThreadPoolExecutor(1) as pool:
        yield Racers(pool)
    sys.setswitchinterval(before)


# -- sources of which each thing goes to one waiter ---------------------------------------------


class Accepts:
    """Connections of one listener."""

    rounds = 200

    def __init__(self) -> None:
        self.listener = TcpListener.bind("127.0.0.1:0")
        self.clients: list[socket.socket] = []

    def wait(self) -> Any:
        return self.listener.accept()

    def fire(self) -> None:
        client = socket.create_connection(self.listener.local_addr[:2], timeout=TIMEOUT)
        self.clients.append(client)

    def check(self, got: TcpStream) -> None:
        """``got`` is what was sent; give it back."""
        (client,) = self.clients
        assert got.peer_addr == client.getsockname()
        got.close()
        client.close()
        self.clients.clear()

    def close(self) -> None:
        self.listener.close()


class Datagrams:
    """Datagrams of one socket."""

    rounds = 500

    def __init__(self) -> None:
        self.sock = UdpSocket.bind("127.0.0.1:0")
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.number = 0

    def wait(self) -> Any:
        return self.sock.recv_from()

    def fire(self) -> None:
        self.number += 1
        self.peer.sendto(b"%d" % self.number, self.sock.local_addr)

    def check(self, got: tuple[bytes, Any]) -> None:
        assert got[0] == b"%d" % self.number

    def close(self) -> None:
        self.sock.close()
        self.peer.close()


class Locks:
    """A mutex that is locked, and is unlocked."""

    rounds = 500

    def __init__(self) -> None:
        self.mutex: Mutex[int] = Mutex(0)
        self.hold()

    def hold(self) -> None:
        guard = self.mutex.try_lock()
        assert guard is not None
        self.guard = guard

    def wait(self) -> Any:
        return self.mutex.lock()

    def fire(self) -> None:
        self.guard.release()

    def check(self, got: Guard[int]) -> None:
        assert self.mutex.locked()
        assert self.mutex.try_lock() is None
        got.release()
        executor_turn()
        self.hold()

    def close(self) -> None:
        assert not self.mutex._waiters
        self.guard.release()
        executor_turn()
        assert not self.mutex.locked()


class Notifications:
    """Wake-ups of a Notify."""

    rounds = 500

    def __init__(self) -> None:
        self.notify = Notify()

    def wait(self) -> Any:
        return self.notify.wait()

    def fire(self) -> None:
        self.notify.notify_one()

    def check(self, got: None) -> None:
        assert got is None

    def close(self) -> None:
        assert not self.notify._waiters
        assert not self.notify._count


class Permits:
    """Permits of a Semaphore."""

    rounds = 500

    def __init__(self) -> None:
        self.semaphore = Semaphore(0)

    def wait(self) -> Any:
        return self.semaphore.acquire()

    def fire(self) -> None:
        self.semaphore.release()

    def check(self, got: None) -> None:
        assert got is None

    def close(self) -> None:
        assert not self.semaphore._waiters
        assert self.semaphore.value == 0


class Values:
    """Values of a channel."""

    rounds = 500

    def __init__(self) -> None:
        self.tx, self.rx = channel(None)
        self.number = 0

    def wait(self) -> Any:
        return self.rx.recv()

    def fire(self) -> None:
        self.number += 1
        self.tx.try_send(self.number)

    def check(self, got: int) -> None:
        assert got == self.number

    def close(self) -> None:
        assert not self.rx._core.receivers
        assert len(self.rx) == 0


class Slots:
    """Room in a channel that is full."""

    rounds = 500

    def __init__(self) -> None:
        self.tx, self.rx = channel(1)
        self.tx.try_send(None)

    def wait(self) -> Any:
        return self.tx.send(None)

    def fire(self) -> None:
        self.rx.try_recv()

    def check(self, got: None) -> None:
        assert len(self.rx) == 1

    def close(self) -> None:
        assert not self.tx._core.senders
        assert self.tx._core.slots == 0


KINDS = [
    pytest.param(Permits, id="F2_acquire"),
    pytest.param(Values, id="F4_recv"),
    pytest.param(Slots, id="F4_send"),
    pytest.param(Accepts, id="C8_accept"),
    pytest.param(Datagrams, id="recv_from"),
    pytest.param(Locks, id="F1_lock"),
    pytest.param(Notifications, id="F3_notify"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_F1_F3_C8_two_waiters_one_cancelled_by_a_thread_as_it_arrives(
    kind: Any, racers: Racers
) -> None:
    source = kind()
    delivered = cancelled = 0
    with contextlib.closing(source):
        for round_ in range(source.rounds):
            waiters = [spawn(source.wait()), parked(source.wait())]
            victim, other = waiters[:: 1 if round_ // 2 % 2 else -1]
            racers.at_once(source.fire, victim.cancel, round_)
            got = outcome(victim)
            if got is CANCELLED:
                cancelled += 1
                got = outcome(other)
            else:
                other.cancel()
                assert outcome(other) is CANCELLED
            delivered += 1
            source.check(got)
    assert delivered == source.rounds
    assert cancelled > 0


@pytest.mark.parametrize("cancel_first", [True, False], ids=["cancel_first", "arrives_first"])
@pytest.mark.parametrize("victim_first", [True, False], ids=["first", "second"])
@pytest.mark.parametrize("kind", KINDS)
def test_F1_F3_C8_one_of_two_waiters_cancelled_in_the_turn_in_which_it_arrives(
    kind: Any, victim_first: bool, cancel_first: bool
) -> None:
    source = kind()

    async def one_turn(victim: JoinHandle[Any]) -> None:
        if cancel_first:
            victim.cancel()
        source.fire()
        reactor_turn()  # it has been told to both; neither has been polled
        if not cancel_first:
            victim.cancel()

    with contextlib.closing(source):
        for _ in range(20):
            waiters = [spawn(source.wait()), parked(source.wait())]
            victim, other = waiters if victim_first else reversed(waiters)
            block_on(one_turn(victim))
            assert outcome(victim) is CANCELLED
            source.check(outcome(other))


@pytest.mark.parametrize("kind", KINDS)
def test_F1_F3_C8_both_waiters_cancelled_it_is_there_for_a_newcomer(kind: Any) -> None:
    source = kind()

    async def one_turn(*victims: JoinHandle[Any]) -> None:
        source.fire()
        reactor_turn()
        for victim in victims:
            victim.cancel()

    with contextlib.closing(source):
        for _ in range(20):
            victims = [spawn(source.wait()), parked(source.wait())]
            block_on(one_turn(*victims))
            assert [outcome(victim) for victim in victims] == [CANCELLED, CANCELLED]
            source.check(outcome(spawn(source.wait())))


@pytest.mark.parametrize("kind", KINDS)
def test_F4_waits_cut_off_by_their_deadline_lose_nothing(kind: Any) -> None:
    """The thing arrives about when the deadline does; it is taken by this wait or by a later."""
    source = kind()
    sent = threading.Semaphore(0)
    checked = threading.Semaphore(1)
    rounds = 100

    def send() -> None:
        for _ in range(rounds):
            assert checked.acquire(timeout=TIMEOUT)
            source.fire()
            sent.release()

    async def take(tries: int) -> Any:
        while True:
            tries += 1  # with no time at all it never succeeds
            with move_on_after(tries % 10 * 0.00002):
                return await source.wait()

    with contextlib.closing(source):
        sender = threading.Thread(target=send)
        sender.start()
        for i in range(rounds):
            got = outcome(spawn(take(i)))
            assert sent.acquire(timeout=TIMEOUT)
            source.check(got)
            checked.release()
        sender.join(TIMEOUT)
        assert not sender.is_alive()


def test_F2_a_permit_goes_past_all_that_are_cancelled_to_the_one_that_is_not() -> None:
    notify = Notify()
    victims = [spawn(notify.wait()) for _ in range(50)]
    last = parked(notify.wait())

    async def one_turn() -> None:
        notify.notify_one()
        for victim in victims:
            victim.cancel()

    block_on(one_turn())
    assert all(outcome(victim) is CANCELLED for victim in victims)
    assert outcome(last) is None
    assert not notify._waiters
    assert not notify._count


def test_F3_notify_waiters_lets_a_cancelled_one_through_and_leaves_nothing_behind() -> None:
    notify = Notify()
    victim, other = spawn(notify.wait()), parked(notify.wait())

    async def one_turn() -> None:
        notify.notify_waiters()
        victim.cancel()

    block_on(one_turn())
    assert outcome(victim) is None
    assert outcome(other) is None
    assert not notify._count


def test_F13_many_short_waits_leave_the_line_empty() -> None:
    notify = Notify()
    mutex: Mutex[None] = Mutex()

    async def main() -> None:
        guard = await mutex.lock()
        for _ in range(2000):
            with move_on_after(0) as scope:
                await notify.wait()
            assert scope.cancelled_caught

        async def wait_a_little() -> None:
            for _ in range(100):
                with move_on_after(0.00001) as scope:
                    await mutex.lock()
                assert scope.cancelled_caught

        await spawn(wait_a_little())
        guard.release()

    spawn(main()).join(TIMEOUT)
    assert not notify._waiters
    assert not mutex._waiters
    assert not mutex.locked()


# -- streams: bytes -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["read", "read_exact", "read_until"])
def test_F4_a_read_that_is_cancelled_has_read_nothing(how: str) -> None:
    """A reader that is cut off all the time gets every byte once, in order."""
    text = b"".join(b"%05d\n" % i for i in range(500))

    def send(peer: socket.socket) -> None:
        for i in range(0, len(text), 7):
            peer.sendall(text[i : i + 7])
            if i % 5 == 0:
                executor_turn()
        peer.shutdown(socket.SHUT_WR)

    async def receive(stream: TcpStream) -> tuple[bytes, int]:
        got, cuts = b"", 0
        while len(got) < len(text):
            with move_on_after(cuts % 7 * 0.00001) as scope:
                if how == "read":
                    got += await stream.read(3)
                elif how == "read_exact":
                    got += await stream.read_exact(6)
                else:
                    got += await stream.read_until(b"\n")
            cuts += scope.cancelled_caught
        return got, cuts

    with raw_tcp_pair() as (ours, peer), TcpStream.from_socket(ours) as stream:
        sender = threading.Thread(target=send, args=(peer,))
        receiver = spawn(receive(stream))
        sender.start()
        got, cuts = receiver.join(TIMEOUT)
        sender.join(TIMEOUT)
        assert not sender.is_alive()
    assert got == text
    assert cuts > 0


# -- sources that let everybody through -----------------------------------------------------------


class Tells:
    """A wait that tells whether it came through, and when."""

    def __init__(self) -> None:
        self.through_at: float | None = None

    async def wait(self, coro: Any) -> None:
        await coro
        self.through_at = now()

    def check(self, handle: JoinHandle[None]) -> bool:
        """Exactly one of {came through, cancelled}. True: the former."""
        through = outcome(handle) is not CANCELLED
        assert through is (self.through_at is not None)
        return through


def test_E5_a_sleep_cancelled_at_the_instant_it_fires() -> None:
    fired = 0
    for i in range(500):
        tells = Tells()
        deadline = time.monotonic_ns() + 300_000
        handle = spawn(tells.wait(sleep_until(deadline / 1e9)))
        cancel_at = deadline + (i % 60 - 20) * 5_000
        while time.monotonic_ns() < cancel_at:
            pass
        could = handle.cancel()
        if tells.check(handle):
            fired += 1
            assert tells.through_at is not None
            assert tells.through_at >= deadline / 1e9 - 1e-6
        else:
            assert could
        assert not handle.cancel()
    assert 0 < fired < 500


@pytest.mark.parametrize("make", [Timer, sleep, Timer.sleep], ids=["Timer", "sleep", "Timer.sleep"])
def test_E5_a_sleep_cancelled_in_the_turn_in_which_it_fires(make: Callable[[float], Any]) -> None:
    async def one_turn(victim: JoinHandle[None], cancel_first: bool, over: float) -> bool:
        late = victim.done()
        if cancel_first:
            victim.cancel()
        while now() < over:
            pass
        reactor_turn()  # it has fired, and the sleeper is to be woken
        if not cancel_first:
            victim.cancel()
        return late

    for i in range(40):
        tells = Tells()
        victim = parked(tells.wait(make(0.002)))
        # Under load the sleep may be over before the turn begins; then it has come through.
        late = block_on(one_turn(victim, bool(i % 2), now() + 0.002))
        if tells.check(victim):
            assert late or i % 2 == 0


def test_E5_a_sleep_that_a_deadline_cuts_off_at_the_instant_it_fires() -> None:
    async def main() -> int:
        caught = 0
        for i in range(500):
            at = now() + 0.0002
            fired = False
            with CancelScope(deadline=at + (i % 5 - 2) * 1e-6) as scope:
                await sleep_until(at)
                fired = True
            assert fired is not scope.cancelled_caught
            caught += scope.cancelled_caught
        return caught

    assert 0 < spawn(main()).join(TIMEOUT) <= 500


def test_a_join_handle_await_is_cancelled_as_the_task_ends(racers: Racers) -> None:
    cancelled = 0

    async def give(gate: Event, value: int) -> int:
        await gate.wait()
        return value

    async def wait(handle: JoinHandle[int]) -> int:
        return await handle

    for round_ in range(500):
        gate = Event()
        target = spawn(give(gate, round_))
        victim, other = spawn(wait(target)), parked(wait(target))
        racers.at_once(gate.set, victim.cancel, round_)
        got = outcome(victim)
        cancelled += got is CANCELLED
        assert got in (CANCELLED, round_)
        assert outcome(other) == round_
        assert target.join(TIMEOUT) == round_  # who waited was cancelled, not the task
        assert target._outcome.waiters == {}
    assert cancelled > 0


@pytest.mark.parametrize("cancel_first", [True, False])
def test_a_join_handle_await_is_cancelled_in_the_turn_of_the_end(cancel_first: bool) -> None:
    async def wait(gate: Event) -> str:
        await gate.wait()
        return "value"

    async def await_it(handle: JoinHandle[str]) -> str:
        return await handle

    async def main() -> None:
        for _ in range(50):
            gate = Event()
            target = spawn(wait(gate))
            victim, other = spawn(await_it(target)), spawn(await_it(target))
            await yield_now()
            await yield_now()
            gate.set()
            if cancel_first:
                victim.cancel()
            await yield_now()  # the target has ended and woken both, who come after us
            assert target.done()
            assert not other.done()
            if not cancel_first:
                assert victim.cancel()
            assert await other == "value"
            assert await victim == "value"  # it had suspended: test_cancel_delivered.py

    spawn(main()).join(TIMEOUT)


def test_an_event_wait_is_cancelled_as_the_event_is_set(racers: Racers) -> None:
    for round_ in range(500):
        event = Event()
        tells = Tells()
        victim, other = spawn(tells.wait(event.wait())), parked(event.wait())
        racers.at_once(event.set, victim.cancel, round_)
        tells.check(victim)  # which of them won is up to the threads
        other.join(TIMEOUT)
        assert event._waiters == {}


@pytest.mark.parametrize("cancel_first", [True, False])
def test_an_event_wait_is_cancelled_in_the_turn_in_which_the_event_is_set(
    cancel_first: bool,
) -> None:
    async def one_turn(event: Event, victim: JoinHandle[None]) -> None:
        if cancel_first:
            victim.cancel()
        event.set()
        if not cancel_first:
            victim.cancel()

    for _ in range(50):
        event = Event()
        victim, other = spawn(event.wait()), parked(event.wait())
        block_on(one_turn(event, victim))
        assert outcome(victim) is None  # it had suspended: test_cancel_delivered.py
        other.join(TIMEOUT)
        assert event._waiters == {}


async def wait_readable(fd: AsyncFd) -> None:
    await fd.readable()


def test_an_async_fd_wait_is_cancelled_as_the_byte_arrives(racers: Racers) -> None:
    received = cancelled = 0
    ours, peer = socket.socketpair()
    with ours, peer, AsyncFd(ours) as fd:
        ours.setblocking(False)
        for round_ in range(500):
            byte = bytes([round_ % 256])
            victim = parked(wait_readable(fd))
            racers.at_once(lambda byte=byte: peer.send(byte), victim.cancel, round_)
            cancelled += outcome(victim) is CANCELLED
            # Level-triggered: whoever comes next finds the byte, told of it before or not.
            spawn(wait_readable(fd)).join(TIMEOUT)
            assert ours.recv(10) == byte
            received += 1
            assert fd._waiting == {}
        with pytest.raises(BlockingIOError):
            ours.recv(10)
    assert received == 500
    assert cancelled > 0


@pytest.mark.parametrize("cancel_first", [True, False])
def test_B9_the_reader_is_cancelled_and_the_writer_is_woken_nevertheless(
    cancel_first: bool,
) -> None:
    """Both directions become ready at once, and one of the waiters is cancelled in that turn."""
    ours, peer = socket.socketpair()

    async def wait_writable(fd: AsyncFd) -> None:
        await fd.writable()

    async def one_turn(victim: JoinHandle[None]) -> None:
        if cancel_first:
            victim.cancel()
        with contextlib.suppress(BlockingIOError):
            while peer.recv(1 << 20):
                pass
        peer.send(b"x")
        reactor_turn()
        if not cancel_first:
            assert victim.cancel()

    with ours, peer, AsyncFd(ours) as fd:
        ours.setblocking(False)
        peer.setblocking(False)
        for victim_writes in (False, True) * 10:
            with contextlib.suppress(BlockingIOError):
                while ours.send(b"y" * 65536):
                    pass
            reader, writer = spawn(wait_readable(fd)), parked(wait_writable(fd))
            victim, other = (writer, reader) if victim_writes else (reader, writer)
            block_on(one_turn(victim))
            assert outcome(victim) is CANCELLED
            assert outcome(other) is None
            # And for the next ones both directions are ready, as they are.
            spawn(wait_readable(fd)).join(TIMEOUT)
            spawn(wait_writable(fd)).join(TIMEOUT)
            assert ours.recv(10) == b"x"


def test_B9_a_stream_reader_is_cancelled_and_the_writer_goes_on() -> None:
    size = 1 << 22

    async def one_turn(reader: JoinHandle[bytes], peer: socket.socket) -> int:
        drained = 0
        with contextlib.suppress(BlockingIOError):
            while drained < size:
                drained += len(peer.recv(1 << 20))
        peer.send(b"answer")
        reactor_turn()
        assert reader.cancel()
        return drained

    with raw_tcp_pair() as (ours, peer), TcpStream.from_socket(ours) as stream:
        writer: JoinHandle[None] = spawn(stream.write_all(bytes(size)))
        reader = parked(stream.read())
        peer.setblocking(False)
        drained = block_on(one_turn(reader, peer))
        assert outcome(reader) is CANCELLED
        peer.settimeout(TIMEOUT)
        while drained < size:
            drained += len(peer.recv(1 << 20))
        writer.join(TIMEOUT)
        assert drained == size
        assert spawn(stream.read()).join(TIMEOUT) == b"answer"


def test_a_result_that_nobody_took_in_time_is_not_given_to_a_cancelled_task(
    racers: Racers,
) -> None:
    """Three in a row hand one token on; whoever is cancelled, it is there in the end."""

    async def pass_on(here: Notify, there: Notify, taken: list[int], i: int) -> None:
        await here.wait()
        taken.append(i)
        there.notify_one()

    for round_ in range(100):
        stages = [Notify() for _ in range(4)]
        taken: list[int] = []
        handles: list[JoinHandle[None]] = [
            spawn(pass_on(stages[i], stages[i + 1], taken, i)) for i in range(3)
        ]
        executor_turn()
        victim = handles[round_ % 3]
        racers.at_once(stages[0].notify_one, victim.cancel, round_)
        got = outcome(victim)
        executor_turn()
        executor_turn()
        if got is not CANCELLED:
            assert [outcome(handle) for handle in handles] == [None] * 3
        for handle in handles:
            handle.cancel()
            outcome(handle)
        where = [stage._count for stage in stages]
        assert sum(where) == 1
        assert where.index(1) == len(taken)
