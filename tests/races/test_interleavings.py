"""The races of docs/races.md that can be tried at every single place (see interleave.py)."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.interleave import Signal, everywhere
from tests.support.python_engine import (
    Context,
    Io,
    Poller,
    QueueCore,
    RunQueue,
    SemaphoreCore,
    Source,
    TimerEntry,
    Waker,
)
from trale_py import PENDING, ClosedResourceError, Notify, Ready, UdpSocket, engine
from trale_py.base.durations import NEVER
from trale_py.channel import Closed, Receiver, Sender
from trale_py.channel import queue_core as channel_core
from trale_py.channel.queue_core import _Receive, _Send
from trale_py.core import latch, outcome, poller, source
from trale_py.core.latch import Latch, LatchWait
from trale_py.core.outcome import Outcome
from trale_py.core.source import Direction
from trale_py.streams import descriptor as base
from trale_py.streams import io as net_io
from trale_py.streams.io import Operation
from trale_py.sync import notify as notify_module
from trale_py.sync import semaphore_core
from trale_py.sync import waiters as sync_waiters
from trale_py.sync.semaphore_core import _Acquire
from trale_py.sync.waiters import block


class CountingWaker(Waker):
    """Counts its wakes; each belongs to a task of its own."""

    def __init__(self) -> None:
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1


class FakeContext(Context):
    def __init__(self) -> None:
        self.waker = self.counting = CountingWaker()
        self._runtime: Any = SimpleNamespace(run_queue=RunQueue())


def pending_and_asleep(step: object, cx: FakeContext) -> bool:
    return step is PENDING and cx.counting.wakes == 0


class FakeSocket:
    """Owner of an Operation: a socket that has data, or has none, and that may be closed."""

    def __init__(self) -> None:
        self.source = Source(3)
        self._io = Io(3)
        self.data: list[bytes] = []

    def _attach(self, runtime: object) -> Source:
        self._check_open()
        return self.source

    def _check_open(self) -> None:
        if self._io.closed:
            raise ConnectionAbortedError

    def recv(self) -> bytes:
        if not self.data:
            raise BlockingIOError
        data = b"".join(self.data)  # a stream's: all there is
        self.data.clear()
        return data

    def arrive(self) -> None:
        """The kernel has data, and the reactor's thread says so."""
        self.data.append(b"x")
        self.source.read.notify(False)

    def close(self) -> None:
        """As a __del__ on the executor's thread does it."""
        self._io.closed = True
        self.source.read.wake_all()


def test_R3_R4_an_event_while_a_read_begins_to_wait() -> None:
    def attempt(at: Any) -> None:
        sock, cx = FakeSocket(), FakeContext()
        call = Operation(sock._io, sock, sock.recv, writing=False, want=10)  # type: ignore[arg-type]
        interleaving = at(sock.arrive)
        step = interleaving.run(lambda: call.poll(cx))
        if interleaving.happened:
            assert not pending_and_asleep(step, cx)
            if step is PENDING:
                step = call.poll(cx)
            assert isinstance(step, Ready)
            assert step.value == b"x"
        assert sock.source.read.waiters.keys() <= {call}

    assert everywhere(net_io, attempt) > 10


def test_B1_R4_a_close_while_a_read_begins_to_wait() -> None:
    def attempt(at: Any) -> None:
        sock, cx = FakeSocket(), FakeContext()
        call = Operation(sock._io, sock, sock.recv, writing=False, want=10)  # type: ignore[arg-type]
        interleaving = at(sock.close)
        try:
            step: object = interleaving.run(lambda: call.poll(cx))
        except ConnectionAbortedError:
            step = "closed"
        if interleaving.happened:
            assert not pending_and_asleep(step, cx)

    assert everywhere(net_io, attempt) > 10


def test_B8_R3_two_events_around_a_read() -> None:
    """Data comes, is read, and more comes at any moment of that: it is not forgotten."""

    def attempt(at: Any) -> None:
        sock, cx = FakeSocket(), FakeContext()
        sock.arrive()
        call = Operation(sock._io, sock, sock.recv, writing=False, want=10)  # type: ignore[arg-type]
        interleaving = at(sock.arrive)
        assert isinstance(interleaving.run(lambda: call.poll(cx)), Ready)
        if sock.data:
            again = Operation(sock._io, sock, sock.recv, writing=False, want=10)  # type: ignore[arg-type]
            assert isinstance(again.poll(FakeContext()), Ready)

    assert everywhere(net_io, attempt) > 5


def test_R4_a_waiter_that_comes_while_an_event_is_told() -> None:
    def attempt(at: Any) -> None:
        direction, cx = Direction(), FakeContext()
        direction.seen = direction.events
        slept = []

        def wait() -> None:
            direction.waiters["waiter"] = cx.waker
            slept.append(not direction.ready)

        at(wait).run(lambda: direction.notify(False))
        if slept:
            assert direction.ready
            assert not slept[0] or cx.counting.wakes == 1

    assert everywhere(source, attempt) > 3


class FakeFd:
    """A poller's eventfd and timerfd."""

    def __init__(self) -> None:
        self.notified = 0
        self.deadline = NEVER

    def fileno(self) -> int:
        return -1

    def notify(self) -> None:
        self.notified += 1

    def set(self, deadline: int, now: int) -> None:
        self.deadline = deadline


def made_poller() -> tuple[Poller, FakeFd]:
    made, fd = Poller(RunQueue()), FakeFd()  # type: ignore[arg-type]
    made._wakeup_fd = made._timer_fd = fd  # type: ignore[assignment]
    return made, fd


def goes_to_sleep(made: Poller) -> bool:
    """A turn, as _turn has it, up to the sleep. Whether it sleeps."""
    made._notified = False
    made._fire_timers(time.monotonic_ns())
    return made._set_timer_fd() != 0


def test_R6_a_timer_that_comes_while_the_reactor_goes_to_sleep() -> None:
    def attempt(at: Any) -> None:
        made, fd = made_poller()
        made.add_timer(NEVER - 10, CountingWaker())
        made._fire_timers(time.monotonic_ns())
        made._set_timer_fd()
        fd.notified = 0
        interleaving = at(lambda: made.add_timer(NEVER - 100, CountingWaker()))
        sleeps = interleaving.run(lambda: goes_to_sleep(made))
        if interleaving.happened and sleeps:
            assert fd.notified or fd.deadline == NEVER - 100

    assert everywhere(poller, attempt) > 10


def test_R6_a_later_timer_while_an_earlier_one_fires() -> None:
    """It does not notify, as the reactor will wake before it; which is just what it is doing."""

    def attempt(at: Any) -> None:
        made, fd = made_poller()
        made._timers.push(TimerEntry(1, CountingWaker()))
        made._armed = 1
        interleaving = at(lambda: made.add_timer(NEVER - 100, CountingWaker()))
        sleeps = interleaving.run(lambda: goes_to_sleep(made))
        if interleaving.happened and sleeps:
            assert fd.notified or fd.deadline == NEVER - 100

    assert everywhere(poller, attempt) > 10


def test_R6_a_second_timer_while_the_bell_still_rings() -> None:
    """Two timers at any two moments of a turn: none is left in the inbox of a sleeper."""

    def attempt(at: Any) -> None:
        made, fd = made_poller()
        made.add_timer(NEVER - 10, CountingWaker())  # notifies; the reactor has not looked yet
        fd.notified = 0
        interleaving = at(lambda: made.add_timer(NEVER - 100, CountingWaker()))
        sleeps = interleaving.run(lambda: goes_to_sleep(made))
        if interleaving.happened and sleeps and not made._timer_inbox.empty():
            assert fd.notified == 1

    assert everywhere(poller, attempt) > 10


in_python = pytest.mark.skipif(engine == "native", reason="there these steps are one call of C's")


@in_python
def test_R8_an_opening_while_a_task_begins_to_wait() -> None:
    def attempt(at: Any) -> None:
        gate, cx = Latch(), FakeContext()
        wait = LatchWait(gate)
        interleaving = at(gate.open)
        step = interleaving.run(lambda: wait.poll(cx))
        if interleaving.happened:
            assert not pending_and_asleep(step, cx)
            assert gate.waiters == {}

    assert everywhere(latch, attempt) > 2


@in_python
def test_R8_a_waiter_that_comes_while_a_latch_opens() -> None:
    def attempt(at: Any) -> None:
        gate, cx = Latch(), FakeContext()
        steps: list[object] = []
        at(lambda: steps.append(LatchWait(gate).poll(cx))).run(gate.open)
        if steps:
            assert not pending_and_asleep(steps[0], cx)
            assert gate.waiters == {}

    assert everywhere(latch, attempt) > 1


def test_R9_the_last_handle_goes_while_the_task_fails(caplog: Any) -> None:
    def attempt(at: Any) -> None:
        caplog.clear()
        unclaimed: dict[int, Any] = {}
        made: Outcome[None] = Outcome(1, "task", (None, 0), unclaimed)
        asked: list[bool] = []
        interleaving = at(lambda: asked.append(made.abandon()))
        interleaving.run(lambda: made.fail(ValueError("nobody took me")))
        if asked and asked[0]:
            made.report_unclaimed()
        assert len(caplog.records) == len(asked)
        assert len(unclaimed) == 1 - len(asked)

    assert everywhere(outcome, attempt) > 4


# What a __del__ or a signal handler does in the midst of a step of the same object: it is put
# off until the step is over, and not forgotten.


@pytest.mark.parametrize("module", [sync_waiters, notify_module])
def test_F3_R12_a_notification_while_a_task_begins_to_wait(module: Any) -> None:
    def attempt(at: Any) -> None:
        notify, cx = Notify(), FakeContext()
        wait = notify.wait()
        interleaving = at(notify.notify_one)
        step = interleaving.run(lambda: wait.poll(cx))
        if interleaving.happened:
            assert not pending_and_asleep(step, cx)
            if step is PENDING:
                step = wait.poll(cx)
            assert isinstance(step, Ready)
            assert notify._count == 0
        assert not notify._gate.late

    assert everywhere(module, attempt) > 1


@pytest.mark.parametrize("kind", [Notify, SemaphoreCore])
def test_F1_F2_F3_R12_a_waiter_goes_while_a_permit_is_given(kind: Any) -> None:
    """Whether it was in line still, or had been handed the permit: the next one gets it."""

    def attempt(at: Any) -> None:
        shared = Notify() if kind is Notify else SemaphoreCore(0)
        first, second = waits(shared), waits(shared)
        first_cx, second_cx = FakeContext(), FakeContext()
        first.poll(first_cx)
        second.poll(second_cx)
        give = shared.notify_one if isinstance(shared, Notify) else shared.release
        interleaving = at(first.drop)
        interleaving.run(give)
        if interleaving.happened:
            assert second_cx.counting.wakes == 1
            assert isinstance(second.poll(second_cx), Ready)
        else:
            second.drop()
        assert not shared._waiters
        assert not shared._gate.late

    assert everywhere(sync_waiters, attempt) > 5
    assert everywhere(notify_module if kind is Notify else semaphore_core, attempt) > 2


def waits(shared: Notify | SemaphoreCore) -> Any:
    return shared.wait() if isinstance(shared, Notify) else _Acquire(shared)


class Interrupted(BaseException):
    """Stands for KeyboardInterrupt, at a place that is chosen."""


def interrupt() -> None:
    raise Interrupted


# A Ctrl-C that comes before the wait has begun leaves it unused.
unused_is_fine = pytest.mark.filterwarnings("ignore:.*was never awaited:RuntimeWarning")


@pytest.mark.parametrize("module", [sync_waiters, semaphore_core])
def test_H5_R16_ctrl_c_anywhere_in_a_release_is_all_or_nothing(module: Any) -> None:
    """The permit is with a waiter that was woken, or was not given: never in between."""

    def attempt(at: Any) -> None:
        permits, cx = SemaphoreCore(0), FakeContext()
        wait = _Acquire(permits)
        wait.poll(cx)
        given = True
        try:
            at(interrupt).run(permits.release)
        except Interrupted:
            given = wait._result is None
        assert not permits._gate.lock._is_owned()  # type: ignore[attr-defined]
        if not given:
            assert wait._result is sync_waiters.NOTHING
            permits.release()
        assert cx.counting.wakes >= 1
        assert isinstance(wait.poll(cx), Ready)
        assert permits._count == 0
        late = _Acquire(permits)
        late.poll(cx)
        permits.release()
        assert isinstance(late.poll(cx), Ready)

    assert everywhere(module, attempt, Signal) > 1


@unused_is_fine
def test_H5_R16_ctrl_c_anywhere_in_a_blocking_wait_loses_no_permit() -> None:
    def attempt(at: Any) -> None:
        permits = SemaphoreCore(1)
        try:
            at(interrupt).run(lambda: block(permits.acquire(), None))
        except Interrupted:
            assert permits._count == 1
        else:
            assert permits._count == 0
        assert not permits._waiters

    assert everywhere(sync_waiters, attempt, Signal) > 2


def test_B4_R10_a_close_in_another_thread_while_the_first_operation_begins() -> None:
    """Either the operation refuses, or the close goes to the runtime; never neither."""

    class FakeRuntime:
        gone = ""

        def __init__(self) -> None:
            self.published: list[object] = []
            self.reactor = self

        def _attach(self, fd: int) -> str:
            return "source"

        def call_on_executor(self, function: object) -> None:
            self.published.append(function)

    def attempt(at: Any) -> None:
        sock = UdpSocket.bind("127.0.0.1:0")
        sock._io = Io(sock.socket.fileno())
        runtime = FakeRuntime()
        interleaving = at(sock.close)
        try:
            attached = interleaving.run(lambda: sock._attach(runtime))  # type: ignore[arg-type]
        except ClosedResourceError:
            attached = None
        if interleaving.happened:
            closed_here = sock.socket.fileno() < 0
            assert closed_here != bool(runtime.published)
            assert not (closed_here and attached)
        sock.socket.close()
        sock._io.closed = True

    assert everywhere(base, attempt) > 3


def channel(capacity: int) -> tuple[Sender[Any], Receiver[Any]]:
    queue: QueueCore[Any] = QueueCore(capacity)  # the plain one
    return Sender(queue), Receiver(queue)


def values_of(end: Any) -> list[Any]:
    return list(end._core.buffer)


@unused_is_fine
def test_H5_R16_ctrl_c_anywhere_in_recv_blocking_loses_no_value() -> None:
    def attempt(at: Any) -> None:
        tx, rx = channel(1)
        tx.try_send("first")
        sending, cx = _Send(tx._core, "second"), FakeContext()
        sending.poll(cx)
        got = []
        try:
            got.append(at(interrupt).run(lambda: block(rx.recv(), None)))
        except Interrupted:
            pass
        if values_of(rx) == ["first"]:
            got.append(rx.try_recv())
        assert got == ["first"]
        assert isinstance(sending.poll(cx), Ready)
        assert values_of(rx) == ["second"]
        assert rx._core.slots == 0
        assert not rx._core.receivers
        assert not rx._core.senders

    assert everywhere(sync_waiters, attempt, Signal) > 5
    assert everywhere(channel_core, attempt, Signal) > 5


@unused_is_fine
def test_H5_R16_ctrl_c_anywhere_in_send_blocking_sends_once_at_most() -> None:
    """To a receiver that waits, or, cut off before that, to the next that sends."""

    def attempt(at: Any) -> None:
        tx, rx = channel(0)
        receiving, cx = _Receive(rx._core), FakeContext()
        receiving.poll(cx)
        try:
            at(interrupt).run(lambda: block(tx.send("value"), None))
        except Interrupted:
            pass
        if receiving._result is sync_waiters.NOTHING:
            tx.try_send("value")
        step = receiving.poll(cx)
        assert isinstance(step, Ready)
        assert step.value == "value"
        assert values_of(rx) == []
        assert rx._core.slots == 0
        assert not rx._core.receivers
        assert not rx._core.senders

    assert everywhere(sync_waiters, attempt, Signal) > 5
    assert everywhere(channel_core, attempt, Signal) > 2


@pytest.mark.parametrize("module", [sync_waiters, channel_core])
def test_H5_R16_ctrl_c_anywhere_in_a_close_leaves_nobody_asleep_in_a_closed_channel(
    module: Any,
) -> None:
    def attempt(at: Any) -> None:
        tx, rx = channel(1)
        receivers = [(_Receive(rx._core), FakeContext()) for _ in range(2)]
        for receiving, cx in receivers:
            receiving.poll(cx)
        try:
            at(interrupt).run(tx.close)
        except Interrupted:
            pass
        for receiving, cx in receivers:
            if tx.closed:
                assert cx.counting.wakes == 1
            receiving.drop()
        assert not rx._core.receivers

    assert everywhere(module, attempt, Signal) > 1


def test_F12_R12_a_close_in_the_midst_of_a_send_comes_right_after_it() -> None:
    def attempt(at: Any) -> None:
        tx, rx = channel(1)
        receiving, cx = _Receive(rx._core), FakeContext()
        receiving.poll(cx)
        interleaving = at(tx.close)
        try:
            interleaving.run(lambda: tx.try_send("value"))
            sent = True
        except Closed:
            sent = False
        assert tx.closed == interleaving.happened
        if sent:
            step = receiving.poll(cx)
            assert isinstance(step, Ready)
            assert step.value == "value"
        else:
            assert cx.counting.wakes == 1
            receiving.drop()
        assert not rx._core.gate.late

    assert everywhere(channel_core, attempt) > 5
