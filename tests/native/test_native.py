"""The native classes as Python objects: what they refuse, what they hold, what they give back.

What they do is tested where the rest of the package is; here they are used by hand, and wrongly.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import trale_py
from trale_py import PENDING, BusyResourceError, ClosedResourceError, Mutex, Ready
from trale_py.channel import Closed, channel
from trale_py.core import current
from trale_py.core.engine import native
from trale_py.sync.waiters import NOTHING

ROOT = Path(__file__).parents[2]

GuardCore: Any = getattr(native, "GuardCore", object)

pytestmark = pytest.mark.skipif(trale_py.engine == "python", reason="there is no native engine")

Script = Callable[..., "subprocess.CompletedProcess[str]"]


class FakeTask:
    """What the run-queue knows of a task: its context."""

    def __init__(self, queue: Any, name: object = 0) -> None:
        self._cx = native.Context(native.Waker(queue, name), None)
        self._cx._budget = 1 << 30


class Owner:
    """What an operation knows of a socket; its poller has no thread, and is looked after here."""

    def __init__(self) -> None:
        self.queue = native.RunQueue()
        self.poller = native.Poller(self.queue)
        self.poller.open()
        self.ours, self.peer = socket.socketpair()
        self.ours.setblocking(False)
        self.io = native.Io(self.ours.fileno())
        self.task = FakeTask(self.queue)
        self.cx = self.task._cx

    def _attach(self, runtime: object) -> Any:
        if self.io.source is None:
            self.io.source = self.poller.watch(self.ours.fileno())
        return self.io.source

    def _check_open(self) -> None:
        if self.io.closed:
            raise ClosedResourceError("closed")

    def detach(self) -> None:
        if self.io.source is not None:
            self.poller.unwatch(self.io.source)
            self.io.source = None

    def look(self) -> list[Any]:
        """One batch, after a look into epoll."""
        time.sleep(0.0001)  # it looks so often only, if the queue is not empty
        self.queue.call(int)
        return list(self.queue.next_batch())

    def close(self) -> None:
        self.detach()
        self.queue.remove(self.task)
        self.ours.close()
        self.peer.close()
        self.queue.drain()
        self.poller.close()


@pytest.fixture
def owner() -> Iterator[Owner]:
    made = Owner()
    yield made
    made.close()


class Wakeable:
    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


class BadTruth:
    def __bool__(self) -> bool:
        raise LookupError("no truth")


class Key(GuardCore):
    """What stands in the place of a Guard."""

    dropped = 0

    def _dropped(self, stacklevel: int) -> None:
        Key.dropped += 1


def resident() -> int:
    """Bytes, of C memory too."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def assert_flat(rounds: int, action: Callable[[], object], slack: int = 400_000) -> None:
    """Doing it again and again takes no memory: neither Python's blocks nor anybody's pages."""
    for _ in range(rounds // 10):
        action()
    gc.collect()
    blocks, memory = sys.getallocatedblocks(), resident()
    for _ in range(rounds):
        action()
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 200
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # it keeps what is freed for a while
        assert resident() - memory < slack


def fill(sock: socket.socket) -> int:
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += sock.send(bytes(65536), socket.MSG_DONTWAIT)
    return sent


# -- types, and what they refuse -----------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["Source", "TimerEntry", "Batch", "Operation", "Waiters", "Waiter", "ReadyNow"]
)
def test_what_is_only_made_inside_cannot_be_made(name: str) -> None:
    with pytest.raises(TypeError):
        getattr(native, name)()
    with pytest.raises(TypeError):
        getattr(native, name)(1, 2)


@pytest.mark.parametrize(
    "name",
    [
        "RunQueue",
        "Waker",
        "Context",
        "Poller",
        "Source",
        "TimerEntry",
        "Io",
        "Operation",
        "QueueCore",
        "Waiters",
        "Waiter",
        "ReadyNow",
    ],
)
def test_no_class_can_be_subclassed(name: str) -> None:
    with pytest.raises(TypeError):
        type("Sub", (getattr(native, name),), {})


def wrong_calls(owner: Owner, x: Any) -> list[tuple[type[BaseException], Callable[[], object]]]:
    """Calls with ``x``, which is of no use anywhere, and the error each has to raise."""
    queue, poller, io = owner.queue, owner.poller, owner.io
    source = owner._attach(None)
    waker = owner.cx.waker
    recv = io.recv(owner, 5)
    broken = FakeTask(queue)
    broken._cx = x
    closed = native.QueueCore(1)
    closed.close()
    acquire, receive = native.SemaphoreCore(0).acquire(), closed.recv()
    for made in (acquire, receive):
        made._hand_over()
    calls: list[tuple[type[BaseException], Callable[[], object]]] = [
        (TypeError, lambda: native.RunQueue(x)),
        (TypeError, lambda: native.RunQueue(x=x)),
        (TypeError, lambda: native.Waker()),
        (TypeError, lambda: native.Waker(x, x)),
        (TypeError, lambda: native.Waker(queue)),
        (TypeError, lambda: native.Waker(queue, x, x)),
        (TypeError, lambda: native.Context(x, x)),
        (TypeError, lambda: native.Context(waker)),
        (TypeError, lambda: native.Poller()),
        (TypeError, lambda: native.Poller(x)),
        (TypeError, lambda: native.Io()),
        (TypeError, lambda: native.Io(x)),
        (OverflowError, lambda: native.Io(1 << 40)),
        (TypeError, lambda: waker.wake(x)),
        (TypeError, lambda: waker.will_wake(x)),
        (TypeError, lambda: waker.will_wake()),
        (TypeError, lambda: waker < waker),
        (TypeError, lambda: queue.drain(x)),
        (TypeError, lambda: queue.next_batch(x)),
        (TypeError, lambda: queue.call()),
        (TypeError, lambda: poller.watch(x)),
        (OverflowError, lambda: poller.watch(1 << 40)),
        (OverflowError, lambda: poller.watch((1 << 32) - 1)),
        (OverflowError, lambda: poller.watch(1 << 70)),
        (OSError, lambda: poller.watch(-1)),
        (TypeError, lambda: poller.watch()),
        (TypeError, lambda: poller.rearm(x)),
        (TypeError, lambda: poller.unwatch(x)),
        (TypeError, lambda: poller.cancel_timer(x)),
        (TypeError, lambda: poller.add_timer(x, x)),
        (TypeError, lambda: poller.add_timer(1)),
        (OverflowError, lambda: poller.add_timer(1 << 70, x)),
        (TypeError, lambda: source.add(x)),
        (TypeError, lambda: source.add(x, x, True)),
        (LookupError, lambda: source.add(x, x, BadTruth(), True)),
        (LookupError, lambda: source.add(x, x, True, BadTruth())),
        (TypeError, lambda: io.recv(owner)),
        (TypeError, lambda: io.recv(owner, x)),
        (ValueError, lambda: io.recv(owner, -1)),
        (OverflowError, lambda: io.recv(owner, 1 << 70)),
        (ValueError, lambda: io.fill(owner, -2)),
        (TypeError, lambda: io.fill(owner, 1, x)),
        (TypeError, lambda: io.recv_into(owner, x)),
        (BufferError, lambda: io.recv_into(owner, b"for reading")),
        (TypeError, lambda: io.send(owner, "text")),
        (TypeError, lambda: io.send(owner)),
        (TypeError, lambda: io.send_all(owner, x)),
        (BufferError, lambda: io.send_all(owner, memoryview(b"abcd")[::2])),
        (TypeError, lambda: io.call(owner, x)),
        (TypeError, lambda: io.call(owner, x, True)),
        (LookupError, lambda: io.call(owner, x, BadTruth(), None)),
        (TypeError, lambda: io.take(x)),
        (ValueError, lambda: io.take(-1)),
        (LookupError, lambda: io.claim(BadTruth())),
        (LookupError, lambda: io.release(BadTruth())),
        (TypeError, lambda: setattr(io, "source", x)),
        (TypeError, lambda: delattr(io, "source")),
        (TypeError, lambda: setattr(io, "closed", x)),
        (AttributeError, lambda: setattr(io, "buffer", x)),
        (TypeError, lambda: recv.poll(x)),
        (TypeError, lambda: recv.poll()),
        (TypeError, lambda: recv.throw()),
        (TypeError, lambda: recv.throw(x)),
        (TypeError, lambda: recv.throw(int, 3)),
        (ZeroDivisionError, lambda: recv.throw(ZeroDivisionError, x)),
        (TypeError, lambda: setattr(current.thread, "context", x)),
        (TypeError, lambda: native.SemaphoreCore(x)),
        (TypeError, lambda: native.SemaphoreCore()),
        (OverflowError, lambda: native.SemaphoreCore(1 << 70)),
        (TypeError, lambda: native.SemaphoreCore(0).acquire(x)),
        (TypeError, lambda: acquire._look_or_park()),
        (TypeError, lambda: acquire.poll(x)),
        (AttributeError, lambda: setattr(acquire, "result", x)),
        (TypeError, lambda: native.LockCore(x)),
        (TypeError, lambda: native.LockCore(int)),
        (TypeError, lambda: native.LockCore(Key).__init__(Key)),
        (RuntimeError, lambda: native.LockCore.__new__(native.LockCore).lock()),
        (RuntimeError, lambda: native.LockCore.__new__(native.LockCore).__aenter__()),
        (TypeError, lambda: Key(x)),
        (TypeError, lambda: Key()),
        (TypeError, lambda: Key(native.LockCore(Key))._lock()),
        (TypeError, lambda: native.QueueCore(x)),
        (TypeError, lambda: native.QueueCore()),
        (TypeError, lambda: native.QueueCore(1).send()),
        (TypeError, lambda: native.QueueCore(1).try_recv(x)),
        (Closed, lambda: closed.try_send(x)),
        (Closed, lambda: closed.send(x).poll(owner.cx)),
        (Closed, lambda: receive._look_or_park(x)),
    ]
    for method in (queue.push, queue.put_to_wait, queue.remove, queue.is_waiting):
        calls.append((AttributeError, partial(method, x)))
        calls.append((TypeError, partial(method, broken)))
        calls.append((TypeError, method))
    return calls


def test_a_wrong_call_raises_and_keeps_nothing(owner: Owner) -> None:
    class Useless:
        pass

    x = Useless()
    calls = wrong_calls(owner, x)
    for error, call in calls:
        with pytest.raises(error):
            call()
    watched = [x, owner, owner.queue, owner.poller, owner.io, owner.io.source, owner.cx.waker]
    gc.collect()
    before = [sys.getrefcount(thing) for thing in watched]
    blocks = sys.getallocatedblocks()
    for _ in range(50):
        for error, call in calls:
            try:
                call()
            except error:
                pass
    gc.collect()
    assert [sys.getrefcount(thing) for thing in watched] == before
    assert sys.getallocatedblocks() - blocks < 50
    assert owner.poller.sources.keys() == {owner.ours.fileno()}
    owner.io.claim(False)  # none of them has kept a claim
    owner.io.claim(True)


def test_a_descriptor_is_known_by_its_number_whatever_it_came_as(owner: Owner) -> None:
    class Number:
        def __index__(self) -> int:
            return owner.ours.fileno()

    source = owner.poller.watch(Number())
    assert owner.poller.sources == {owner.ours.fileno(): source}
    owner.poller.unwatch(source)
    assert owner.poller.sources == {}


def test_each_kind_of_operation_has_a_name(owner: Owner) -> None:
    class Quiet:
        def __repr__(self) -> str:
            return "it"

    io, it = owner.io, Quiet()
    address = ("127.0.0.1", 5)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with udp:
        operations = [
            io.recv(it, 1),
            io.fill(it, 1),
            io.recv_into(it, bytearray(1)),
            io.send(it, b""),
            io.send_all(it, b""),
            io.recv_from(it),
            native.Io(udp.fileno()).send_to(it, b"", address),
            io.call(it, print, False, None),
        ]
        names = ["read", "read", "readinto", "write", "write_all", "recv_from", "send_to", "print"]
        assert [repr(one) for one in operations] == [f"<{name} of it>" for name in names]
        for one in operations:
            one.close()


# -- the run-queue --------------------------------------------------------------------------


def test_a_task_is_pushed_once() -> None:
    queue, other = native.RunQueue(), native.RunQueue()
    tasks = [FakeTask(queue, n) for n in range(3)]
    for task in tasks:
        queue.push(task)
    with pytest.raises(ValueError, match="pushed"):
        queue.push(tasks[0])
    with pytest.raises(ValueError, match="run-queue"):
        other.push(FakeTask(queue))
    assert list(queue.next_batch()) == tasks
    assert queue.live() == tasks
    for task in tasks:
        queue.remove(task)
        queue.remove(task)
    assert queue.live() == []
    assert len(queue) == 0


def test_a_task_that_ends_is_given_back() -> None:
    queue = native.RunQueue()
    task = FakeTask(queue)
    reference, waker = weakref.ref(task), task._cx.waker
    queue.push(task)
    assert next(iter(queue.next_batch())) is task
    queue.put_to_wait(task)
    waker.wake()
    waker.wake()
    assert len(queue) == 1
    queue.remove(task)  # while it is in the queue
    del task
    assert reference() is None
    waker.wake()
    assert list(queue.next_batch()) == []
    assert queue.live() == []


def test_wakers_outlive_task_and_run_queue() -> None:
    queue = native.RunQueue()
    task = FakeTask(queue, "me")
    waker = task._cx.waker
    queue.push(task)
    queue.drain()
    del queue, task
    gc.collect()
    waker.wake()
    assert waker == waker
    assert waker.will_wake(waker)
    assert hash(waker) == hash(waker)
    assert repr(waker) == "<Waker of task me>"


@pytest.mark.parametrize("singleton", [None, NotImplemented, True, False])
def test_each_singleton_is_given_out_with_a_reference(singleton: object) -> None:
    """Also where 3.11, to which none is immortal, loads what 3.12 or 3.13 has compiled."""
    waker = FakeTask(native.RunQueue(), "me")._cx.waker
    permits, none_left, latch = native.SemaphoreCore(1), native.SemaphoreCore(0), native.Latch()
    calls: dict[object, list[Callable[[], object]]] = {
        None: [waker.wake],
        NotImplemented: [lambda: waker != 1],
        True: [lambda: permits.try_acquire() and permits.release(), lambda: forget(latch)],
        False: [none_left.try_acquire],
    }
    before = sys.getrefcount(singleton)
    for _ in range(2_000):
        for call in calls[singleton]:
            call()
    given_out = sys.getrefcount(singleton) - before
    assert given_out > -500
    if sys.version_info < (3, 12):  # later ones do not take back what they never count
        assert given_out < 500


def forget(latch: Any) -> None:
    assert latch.call_when_open(latch, print) is True
    latch.forget(latch)


@pytest.mark.skipif(
    not (ROOT / "native" / "python" / "binding.h").exists(), reason="the C sources are not here"
)
def test_the_macros_that_give_out_a_singleton_are_ours() -> None:
    sources = [path.read_text() for path in (ROOT / "native").rglob("*.[ch]")]
    used = {name for source in sources for name in re.findall(r"\bPy_RETURN_\w+", source)}
    binding = (ROOT / "native" / "python" / "binding.h").read_text()
    assert used == set(re.findall(r"#undef (Py_RETURN_\w+)", binding))


def test_drain_makes_calls_and_wakes_and_returns_tasks() -> None:
    queue = native.RunQueue()
    poller = native.Poller(queue)
    wakeable, calls = Wakeable(), list[str]()
    tasks = [FakeTask(queue, n) for n in range(2)]
    queue.push(tasks[0])
    queue.call(lambda: calls.append("called"))
    entry = poller.add_timer(1, wakeable)
    queue.push(tasks[1])
    assert next(iter(queue.next_batch())) is tasks[0]  # broken off there
    assert queue.drain() == [tasks[1]]
    assert calls == ["called"]
    assert wakeable.woken == 1
    assert entry.waker is None
    assert queue.drain() == []
    assert len(queue) == 0
    assert queue.live() == [tasks[0]]
    queue.remove(tasks[0])


def test_a_queue_that_goes_frees_what_is_in_it() -> None:
    queue = native.RunQueue()
    poller = native.Poller(queue)

    class Call:
        def __call__(self) -> None:
            raise AssertionError("nobody makes it")

    call, wakeable = Call(), Wakeable()
    references: list[Any] = [weakref.ref(call), weakref.ref(wakeable)]
    queue.call(call)
    queue.call(call)
    entry = poller.add_timer(1, wakeable)
    del call, wakeable, entry, poller
    assert references[1]() is None
    assert references[0]() is not None
    del queue
    assert references[0]() is None


def test_100_000_turns_take_no_memory() -> None:
    queue = native.RunQueue()
    poller = native.Poller(queue)
    task = FakeTask(queue)
    queue.push(task)
    list(queue.next_batch())
    wakeable = Wakeable()

    def turn() -> None:
        queue.put_to_wait(task)
        task._cx.waker.wake()
        queue.call(int)
        poller.add_timer(1, wakeable)  # dropped while it is set
        entry = poller.add_timer(1, wakeable)
        for _ in queue.next_batch():
            pass
        poller.cancel_timer(entry)
        other = FakeTask(queue)
        queue.push(other)
        queue.drain()

    assert_flat(100_000, turn)
    assert wakeable.woken == 110_000
    queue.remove(task)


# -- timers ------------------------------------------------------------------------------------


def test_a_timer_that_is_dropped_does_not_fire() -> None:
    queue = native.RunQueue()
    poller = native.Poller(queue)
    wakeable = Wakeable()
    references = sys.getrefcount(wakeable)
    entry = poller.add_timer(1, wakeable)
    assert (poller.timers, entry.waker, entry.deadline) == (1, wakeable, 1)
    assert sys.getrefcount(wakeable) > references
    del entry
    assert poller.timers == 0
    assert sys.getrefcount(wakeable) == references
    queue.call(int)
    assert list(queue.next_batch()) == []
    assert wakeable.woken == 0


def test_a_timer_fires_once_and_lets_its_waker_go() -> None:
    queue = native.RunQueue()
    poller = native.Poller(queue)
    wakeable = Wakeable()
    references = sys.getrefcount(wakeable)
    entry = poller.add_timer(1, wakeable)
    assert list(queue.next_batch()) == []
    assert wakeable.woken == 1
    assert entry.waker is None
    assert poller.timers == 0
    poller.cancel_timer(entry)
    poller.cancel_timer(entry)
    del entry
    assert sys.getrefcount(wakeable) == references


# -- sources -----------------------------------------------------------------------------------


def test_wakers_of_a_source_come_and_go(owner: Owner) -> None:
    source = owner._attach(None)
    wakeable, gone = Wakeable(), Wakeable()
    references = sys.getrefcount(wakeable), sys.getrefcount(gone)
    owner.look()
    source.add(wakeable, wakeable, True, True)
    source.add(gone, gone, True, True)
    source.discard(gone)
    source.discard(gone)
    source.discard(None)
    owner.peer.send(b"x")
    owner.look()
    assert wakeable.woken >= 1
    assert gone.woken == 0
    owner.detach()
    owner.look()
    assert wakeable.woken >= 1
    with pytest.raises(ValueError, match="no longer watched"):
        source.add(wakeable, wakeable, True, True)
    del source
    assert (sys.getrefcount(wakeable), sys.getrefcount(gone)) == references


def test_a_source_that_is_dropped_while_it_is_watched(owner: Owner) -> None:
    wakeable = Wakeable()
    references = sys.getrefcount(wakeable)
    owner.poller.watch(owner.ours.fileno()).add(wakeable, wakeable, True, True)
    owner.poller.sources.clear()
    assert sys.getrefcount(wakeable) == references
    owner.peer.send(b"x")
    owner.look()
    assert wakeable.woken == 0


def test_watching_takes_no_memory(owner: Owner) -> None:
    wakeable = Wakeable()

    def turn() -> None:
        source = owner._attach(None)
        source.add(source, wakeable, True, True)
        source.add(wakeable, wakeable, False, True)
        if wakeable.woken % 2:
            source.discard(wakeable)
        owner.detach()
        list(owner.queue.next_batch())

    assert_flat(30_000, turn)


# -- operations, polled by hand -------------------------------------------------------------------


def await_it(operation: Any) -> Any:
    """A coroutine that awaits it."""

    async def awaits() -> Any:
        return await operation

    return awaits()


@contextlib.contextmanager
def polling(cx: Any) -> Iterator[None]:
    current.thread.context = cx
    try:
        yield
    finally:
        current.thread.context = None


def test_an_operation_waits_and_is_woken(owner: Owner) -> None:
    owner.queue.push(owner.task)
    owner.look()
    operation = owner.io.recv(owner, 10)
    assert operation.poll(owner.cx) is PENDING
    assert operation.poll(owner.cx) is PENDING
    owner.queue.put_to_wait(owner.task)
    owner.peer.send(b"hello")
    assert owner.look() == [owner.task]
    ready = operation.poll(owner.cx)
    assert isinstance(ready, Ready)
    assert ready.value == b"hello"
    with pytest.raises(RuntimeError, match="again"):
        operation.poll(owner.cx)
    operation.drop()


def test_an_operation_wakes_whoever_polled_it_last(owner: Owner) -> None:
    second = FakeTask(owner.queue, 2)
    for task in (owner.task, second):
        owner.queue.push(task)
    owner.look()
    operation = owner.io.recv(owner, 10)
    operation.poll(owner.cx)
    while operation.poll(second._cx) is not PENDING:
        pass
    owner.look()
    for task in (owner.task, second):
        owner.queue.put_to_wait(task)
    assert operation.poll(owner.cx) is PENDING
    assert operation.poll(second._cx) is PENDING
    owner.peer.send(b"x")
    assert owner.look() == [second]
    assert operation.poll(second._cx).value == b"x"
    owner.queue.remove(second)


def test_an_operation_is_awaited_by_one_at_a_time(owner: Owner) -> None:
    operation = owner.io.recv(owner, 10)
    first = await_it(operation)
    with polling(owner.cx):
        assert first.send(None) is PENDING
    with (
        polling(FakeTask(owner.queue)._cx),
        pytest.raises(RuntimeError, match="again: it can be awaited once"),
    ):
        await_it(operation).send(None)
    with polling(owner.cx):
        owner.peer.send(b"x")
        owner.look()
        with pytest.raises(StopIteration) as stop:
            first.send(None)
        assert stop.value.value == b"x"
    owner.io.claim(False)


def test_an_operation_without_a_context_gives_way(owner: Owner) -> None:
    coro = await_it(owner.io.recv(owner, 10))
    assert coro.send(None) is PENDING
    assert coro.send(None) is PENDING
    coro.close()
    owner.io.claim(False)


@pytest.mark.parametrize("how", ["close", "throw", "drop", "del"])
def test_what_an_operation_holds_is_given_back(owner: Owner, how: str) -> None:
    """However it ends: the claim, the place among the waiters, the buffer, the references."""
    fill(owner.ours)
    waker = owner.cx.waker
    buffer = bytearray(100)
    watched = (owner, owner.io, waker)

    def begin_and_end() -> None:
        for operation in (
            owner.io.recv_into(owner, buffer),
            owner.io.send_all(owner, buffer),
            owner.io.send(owner, buffer),
            owner.io.recv(owner, 10),
            owner.io.call(owner, owner.ours.getpeername, False, None),
        ):
            coro = await_it(operation)
            with polling(owner.cx), contextlib.suppress(StopIteration):
                assert coro.send(None) is PENDING
                if how == "throw":
                    with pytest.raises(ZeroDivisionError):
                        coro.throw(ZeroDivisionError())
                elif how == "close":
                    coro.close()
                elif how == "drop":
                    operation.drop()
                    operation.drop()
                    coro.close()
            del coro, operation

    begin_and_end()
    gc.collect()
    before = [sys.getrefcount(thing) for thing in watched]
    for _ in range(300):
        begin_and_end()
    gc.collect()
    assert [sys.getrefcount(thing) for thing in watched] == before
    buffer.append(1)  # nobody looks at it any more
    owner.io.claim(False)
    owner.io.claim(True)


def test_a_finished_operation_lets_its_buffer_go(owner: Owner) -> None:
    buffer = bytearray(b"abc")
    with polling(owner.cx), pytest.raises(StopIteration):
        await_it(owner.io.send_all(owner, buffer)).send(None)
    buffer.append(1)
    assert owner.peer.recv(10) == b"abc"


def test_a_cut_off_send_all_is_remembered(owner: Owner) -> None:
    data = bytes(fill(owner.ours) * 2)
    while True:
        try:
            owner.peer.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
    operation = owner.io.send_all(owner, data)
    assert operation.poll(owner.cx) is PENDING
    operation.drop()
    with pytest.raises(BrokenPipeError, match="an earlier write_all sent"):
        owner.io.send(owner, b"more").poll(owner.cx)
    with pytest.raises(RuntimeError, match="again"):
        operation.poll(owner.cx)


def test_the_second_reader_is_refused(owner: Owner) -> None:
    first = owner.io.recv(owner, 10)
    assert first.poll(owner.cx) is PENDING
    with pytest.raises(BusyResourceError, match="reading"):
        owner.io.recv_into(owner, bytearray(5)).poll(owner.cx)
    assert owner.io.send(owner, b"x").poll(owner.cx).value == 1
    first.drop()
    third = owner.io.recv(owner, 10)
    with pytest.raises(TypeError):
        third.poll(None)
    third.close()


def test_bytes_out_of_the_buffer_come_first(owner: Owner) -> None:
    owner.io.buffer.extend(b"abcdefgh")
    assert owner.io.recv(owner, 3).poll(owner.cx).value == b"abc"
    place = bytearray(2)
    assert owner.io.recv_into(owner, place).poll(owner.cx).value == 2
    assert place == b"de"
    assert owner.io.take(2) == b"fg"
    assert owner.io.take(0) == b""
    assert owner.io.buffer == b"h"
    assert owner.io.recv(owner, 1 << 40).poll(owner.cx).value == b"h"
    assert owner.io.take(5) == b""
    assert native.Io(0).take(5) == b""


def test_the_buffer_is_left_alone_while_somebody_looks_at_it(owner: Owner) -> None:
    owner.io.buffer.extend(b"abcdef")
    with memoryview(owner.io.buffer):
        with pytest.raises(BufferError):
            owner.io.take(2)
        with pytest.raises(BufferError):
            owner.io.recv(owner, 2).poll(owner.cx)
    assert owner.io.buffer == b"abcdef"
    assert owner.io.take(6) == b"abcdef"


def test_a_closed_socket_says_so(owner: Owner) -> None:
    operation = owner.io.recv(owner, 10)
    assert operation.poll(owner.cx) is PENDING
    owner.io.closed = True
    owner.detach()
    for again in (operation, owner.io.recv(owner, 1), owner.io.send_all(owner, b"x")):
        with pytest.raises(ClosedResourceError):
            again.poll(owner.cx)
    owner.io.claim(False)


def test_a_source_that_somebody_else_has_detached(owner: Owner) -> None:
    operation = owner.io.recv(owner, 10)
    assert operation.poll(owner.cx) is PENDING
    owner.poller.unwatch(owner.io.source)  # and it is the socket's still
    with pytest.raises(OSError, match="Bad file descriptor"):
        operation.poll(owner.cx)
    with pytest.raises(OSError, match="Bad file descriptor"):
        owner.io.send(owner, b"x").poll(owner.cx)


def test_what_attach_returns_has_to_be_a_source(owner: Owner) -> None:
    class Broken(Owner):
        answer: object = None

        def _attach(self, runtime: object) -> Any:
            return self.answer

    broken = Broken()
    with pytest.raises(TypeError, match="not a Source"):
        broken.io.recv(broken, 1).poll(broken.cx)
    broken.answer = owner._attach(None)
    with pytest.raises(SystemError, match="has not set the source"):
        broken.io.recv(broken, 1).poll(broken.cx)
    broken.close()


def test_what_a_call_uses_is_released_at_its_end(owner: Owner) -> None:
    for lent in (memoryview(bytearray(1)), object(), 5):
        references = sys.getrefcount(lent)
        operation = owner.io.call(owner, object, True, lent)
        assert operation.poll(owner.cx).value is not None
        assert sys.getrefcount(lent) == references
        if isinstance(lent, memoryview):
            with pytest.raises(ValueError, match="released"):
                len(lent)


def test_a_call_may_close_the_socket_under_itself(owner: Owner) -> None:
    def close() -> None:
        owner.io.closed = True
        owner.detach()
        raise BlockingIOError

    with pytest.raises(ClosedResourceError):
        owner.io.call(owner, close, False, None).poll(owner.cx)


@pytest.mark.slow
def test_100_000_operations_take_no_memory(owner: Owner) -> None:
    buffer = bytearray(64)

    def turn() -> None:
        owner.io.send_all(owner, b"x" * 40).poll(owner.cx)
        owner.peer.send(owner.peer.recv(100))
        waits = owner.io.recv_into(owner, buffer)
        if waits.poll(owner.cx) is PENDING:
            owner.queue.call(int)
            list(owner.queue.next_batch())

    assert_flat(100_000, turn)


# -- stores, polled by hand ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["drop", "free", "throw"])
def test_what_was_granted_to_who_goes_away_is_passed_on(owner: Owner, how: str) -> None:
    def go(wait: Any) -> None:
        if how == "throw":
            with pytest.raises(LookupError):
                wait.throw(LookupError)
        elif how == "drop":
            wait.drop()

    permits, queue, lock = native.SemaphoreCore(0), native.QueueCore(1), native.LockCore(Key)
    key = Key(lock)
    assert key._try_lock("me")
    for store, wait, give, last in (
        (permits, permits.acquire, permits.release, lambda: permits._count == 1),
        (queue, queue.recv, lambda: queue.try_send("it"), lambda: queue.try_recv() == "it"),
        (lock, lock.lock, key._unlock, lambda: lock._owner is None),
    ):
        line = queue.receivers if store is queue else store._waiters
        waits = [wait() for _ in range(3)]
        for each in waits:
            assert each.poll(owner.cx) is PENDING
        assert len(line) == 3
        go(waits[1])
        del waits[1], each
        assert len(line) == 2
        give()
        assert len(line) == 1
        go(waits[0])  # the second has it
        del waits[0]
        assert len(line) == 0
        go(waits[0])
        waits.clear()
        assert last()


def test_a_thread_that_waits_is_let_go_once() -> None:
    permits, parked = native.SemaphoreCore(0), threading.Lock()
    wait = permits.acquire()
    wait._use()
    parked.acquire()
    for _ in range(2):
        assert not wait._look_or_park(parked)
    permits.release()
    permits.release()
    assert parked.acquire(blocking=False)
    assert wait._look_or_park(parked)
    assert wait._look_or_park(parked)
    assert wait._result is None
    assert permits._count == 1


def test_an_async_with_that_need_not_wait_takes_at_once(owner: Owner) -> None:
    lock, permits = native.LockCore(Key), native.SemaphoreCore(1)
    with polling(owner.cx):
        entering = lock.__aenter__()
        assert lock._owner is owner.cx
        with pytest.raises(StopIteration) as stop:
            next(entering)
        assert stop.value.value is lock._entered
        with pytest.raises(StopIteration):
            next(permits.__aenter__())
        owner.cx._budget = 0
        permits.release()
        assert next(permits.__aenter__()) is PENDING
        assert permits._count == 1
        lock.__aexit__(None, None, None)
        assert lock._owner is None


def test_the_collector_sees_through_stores() -> None:
    class Node:
        pass

    node, other, sent = Node(), Node(), Node()
    node.mutex = Mutex(node)  # type: ignore[attr-defined]
    node.guard = node.mutex.try_lock()  # type: ignore[attr-defined]
    node.guard.release()  # type: ignore[attr-defined]
    other.mutex = Mutex()  # type: ignore[attr-defined]
    other.mutex.__enter__().value = other  # type: ignore[attr-defined]
    sent.tx = channel(3)[0]  # type: ignore[attr-defined]
    sent.tx.try_send(sent)  # type: ignore[attr-defined]
    gone = [weakref.ref(each) for each in (node, other, sent)]
    del node, other, sent
    with pytest.warns(ResourceWarning, match="garbage-collected without being released"):
        gc.collect()
    assert [each() for each in gone] == [None, None, None]


def test_a_hold_that_is_dropped_says_so_once() -> None:
    lock = native.LockCore(Key)
    before = Key.dropped
    for n in range(3):
        key = Key(lock)
        assert key._try_lock("me")
        assert lock._owner == "me"
        del key
        assert lock._owner is None
        assert Key.dropped - before == n + 1


def test_stores_take_no_memory(owner: Owner) -> None:
    permits, queue, lock = native.SemaphoreCore(0), native.QueueCore(1), native.LockCore(Key)

    def turn() -> None:
        for wait in (permits.acquire(), queue.recv(), queue.send("a"), queue.send("b")):
            wait.poll(owner.cx)
        permits.release()
        permits.try_acquire()
        assert (queue.try_recv(), queue.try_recv()) == ("a", "b")
        assert queue.try_recv() is NOTHING
        with polling(owner.cx):
            for _ in range(2):
                hold = lock.__aenter__()
                next(hold, None)
                lock.__aexit__(None, None, None)
        lock.lock().poll(owner.cx).value._unlock()
        native.QueueCore(0).send_last(turn)

    assert_flat(20_000, turn)


# -- no memory ------------------------------------------------------------------------------------

NO_MEMORY = """
import contextlib, gc, sys
sys.path.append({tests!r})
import _testcapi
from tests.native.test_native import *
from trale_py import spawn
from trale_py.core.latch import Latch, LatchWait
from trale_py.core.runtime import Runtime

sys.unraisablehook = lambda *_: None
gc.disable()

def attempt(name, action, clean_up=lambda: None):
    for n in range(40):
        failed = False
        _testcapi.set_nomemory(n, n + 1)
        try:
            action()
        except MemoryError:
            failed = True
        finally:
            _testcapi.remove_mem_hooks()
        clean_up()
    assert not failed, f"{{name}} allocates without end"

owner = Owner()
queue, poller, io, cx, task = owner.queue, owner.poller, owner.io, owner.cx, owner.task
fd, waker, wakeable = owner.ours.fileno(), cx.waker, Wakeable()
buffer = bytearray(50)

def tidy():
    io.release(False)
    io.release(True)
    queue.remove(task)
    owner.detach()
    with contextlib.suppress(BlockingIOError):
        owner.ours.recv(1000)
    with contextlib.suppress(BlockingIOError):
        owner.peer.recv(1000, socket.MSG_DONTWAIT)
    queue.drain()

def watch():
    poller.unwatch(poller.watch(fd))

def add():
    source = poller.watch(fd)
    source.add(1, wakeable, True, True)
    source.discard(1)

def unwatch_all():
    for source in list(poller.sources.values()):
        poller.unwatch(source)
    queue.drain()

def timer():
    poller.add_timer(1 << 60, wakeable)
    poller.cancel_timer(poller.add_timer(1 << 60, waker))

def call():
    queue.call(int)
    for _ in queue.next_batch():
        pass

def push():
    fresh = FakeTask(queue)
    queue.push(fresh)
    queue.live()
    queue.drain()
    queue.remove(fresh)

def wake_own():
    poller.add_timer(1, wakeable)
    entry = poller.add_timer(1, wakeable)
    queue.drain()
    queue.call(int)
    for _ in queue.next_batch():
        pass

def operations():
    owner.peer.send(b"abc")
    io.recv(owner, 3).poll(cx)
    owner.peer.send(b"abc")
    io.recv_into(owner, buffer).poll(cx)
    owner.peer.send(b"abc")
    io.fill(owner, 5).poll(cx)
    io.send(owner, b"abc").poll(cx)
    io.send_all(owner, buffer).poll(cx)
    io.call(owner, owner.ours.getpeername, False, None).poll(cx)
    io.recv(owner, 10).poll(cx)

def awaited():  # with no coroutine: the interpreter's own do not survive this
    owner.peer.send(b"abc")
    current.thread.context = cx
    try:
        for _ in range(2):
            operation = io.recv(owner, 3).__await__()
            next(operation, None)
            with contextlib.suppress(LookupError):
                operation.throw(LookupError)
    finally:
        current.thread.context = None

def buffered():
    io.buffer.extend(b"abcdef")
    io.take(2)
    io.recv(owner, 2).poll(cx)
    io.recv_into(owner, buffer).poll(cx)

def refused(function, *args):
    try:
        function(*args)
    except (TypeError, OSError, ValueError):
        return
    raise AssertionError(function)

def clean_buffer():
    del io.buffer[:]
    tidy()

async def nothing():
    pass

runtime, coros = Runtime(), [nothing()]
runtime._started.open()

def new_task():
    current.thread.runtime = runtime
    try:
        spawn(coros[0])
    finally:
        current.thread.runtime = None

def no_task():
    runtime.run_queue.drain()
    runtime._tasks.clear()
    coros.pop().close()
    coros.append(nothing())

def latch():
    made = Latch()
    for key in range(3):
        made.call_when_open(key, int)
    assert len(made.waiters) == 3
    made.forget(1)
    made.open()

def latch_wait():
    made = Latch()
    waits = [LatchWait(made) for _ in range(3)]
    for wait in waits:
        wait.poll(cx)
    waits[1].drop()
    made.open()
    waits[0].poll(cx)

def stores():
    permits, queue, lock = native.SemaphoreCore(0), native.QueueCore(1), native.LockCore(Key)
    lock.lock().poll(cx)
    waits = [permits.acquire(), queue.recv(), queue.recv()]
    for wait in waits:
        wait.poll(cx)
    permits.release()
    queue.try_send(1)
    waits.append(queue.send(2))
    waits[-1].poll(cx)
    queue.send_last(3)
    current.thread.context = cx
    try:
        next(lock.__aenter__(), None)
        lock.__aexit__()
    finally:
        current.thread.context = None

scenes = [
    ("stores", stores, tidy),
    ("waker", lambda: native.Waker(queue, 1), tidy),
    ("context", lambda: native.Context(waker, None), tidy),
    ("queue", native.RunQueue, tidy),
    ("poller", lambda: native.Poller(queue), tidy),
    ("io", lambda: native.Io(fd).buffer, tidy),
    ("repr", lambda: [repr(x) for x in (waker, cx, queue, poller, io, io.recv(1, 1))], tidy),
    ("counts", poller.counts, tidy),
    ("watch", watch, unwatch_all),
    ("add", add, unwatch_all),
    ("timer", timer, tidy),
    ("call", call, tidy),
    ("push", push, tidy),
    ("wake", wake_own, tidy),
    ("operations", operations, tidy),
    ("awaited", awaited, tidy),
    ("buffered", buffered, clean_buffer),
    ("text", partial(refused, io.send, owner, "text"), tidy),
    ("closed", partial(refused, poller.watch, -1), tidy),
    ("negative", partial(refused, io.take, -1), tidy),
    ("spawn", new_task, no_task),
    ("latch", latch, tidy),
    ("latch wait", latch_wait, tidy),
]
only = sys.argv[1:]
for round in range(3):
    for scene in scenes:
        if not only or scene[0] in only:
            attempt(*scene)
    gc.collect()
    blocks = sys.getallocatedblocks()
    if round == 1:
        before = blocks
assert poller.timers == 0 and poller.sources == {{}} and queue.live() == [] and len(queue) == 0
assert blocks - before < 100, f"{{blocks - before}} blocks were left"
coros.pop().close()
io.claim(False)
io.claim(True)
buffer.append(1)
owner.close()
print("survived")
"""


def test_L3_each_allocation_may_fail(run_script: Script) -> None:
    pytest.importorskip("_testcapi")
    root = Path(__file__).parents[2]
    result = run_script(textwrap.dedent(NO_MEMORY).format(tests=str(root)))
    assert result.stdout == "survived\n", result.stderr
