"""A wait that was told what cannot be given to another returns it, though it was cancelled (R23).

Each kind of wait is cancelled in the very turn in which what it waits for happens, before it and
after it. The next checkpoint raises then. What goes to the next waiter: test_cancel_handover.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.races.test_interleavings import FakeContext
from tests.support.interleave import everywhere
from tests.support.net_helpers import TIMEOUT, executor_turn, parked
from tests.support.tasks import receive, send
from trale_py import (
    Barrier,
    Cancelled,
    CancelScope,
    Condition,
    Event,
    JoinHandle,
    Notify,
    Ready,
    TaskCancelled,
    TaskGroup,
    TaskStatus,
    block_on,
    sleep,
    spawn,
    spawn_blocking,
    yield_now,
)
from trale_py.channel import broadcast, channel, watch
from trale_py.core.leaf import checkpoint
from trale_py.sync import barrier as barrier_module
from trale_py.sync import notify as notify_module
from trale_py.sync import waiters

ORDERS = pytest.mark.parametrize("cancel_first", [True, False])


class Events:
    def __init__(self) -> None:
        self.event = Event()

    async def wait(self) -> object:
        return await self.event.wait()

    async def happen(self) -> None:
        self.event.set()

    result: object = None


class NotifyAll(Events):
    def __init__(self) -> None:
        self.notify = Notify()

    async def wait(self) -> object:
        return await self.notify.wait()

    async def happen(self) -> None:
        self.notify.notify_waiters()


class Conditions(Events):
    def __init__(self) -> None:
        self.condition: Condition[None] = Condition()

    async def wait(self) -> object:
        async with self.condition:
            await self.condition.wait()
            assert self.condition._mutex.locked()
        return None

    async def happen(self) -> None:
        async with self.condition:
            self.condition.notify_all()


class Barriers(Events):
    result = False

    def __init__(self) -> None:
        self.barrier = Barrier(2)

    async def wait(self) -> object:
        return await self.barrier.wait()

    async def happen(self) -> None:
        assert await self.barrier.wait()  # the last one does not suspend


class Rendezvous(Events):
    def __init__(self) -> None:
        self.tx, self.rx = channel(0)

    async def wait(self) -> object:
        return await self.tx.send("value")

    async def happen(self) -> None:
        assert self.rx.try_recv() == "value"


class Handles(Events):
    """A task that has ended: its last step is at the front of the queue."""

    result = "value"

    def __init__(self) -> None:
        self.go_on = Event()
        self.target = parked(self.give())

    async def give(self) -> object:
        await self.go_on.wait()
        return self.result

    async def wait(self) -> object:
        return await self.target

    async def happen(self) -> None:
        self.go_on.set()
        await yield_now()
        assert self.target.done()


class FailedHandles(Handles):
    async def give(self) -> object:
        await self.go_on.wait()
        raise ZeroDivisionError

    async def wait(self) -> object:
        with pytest.raises(ZeroDivisionError):
            await self.target
        return self.result


KINDS = [Events, NotifyAll, Conditions, Barriers, Rendezvous]


async def cut_off(kind: Events, got: list[object], how: list[CancelScope]) -> bool:
    """Wait, in a scope; then come to the next checkpoint. Returns whether that one raised."""
    raised = False
    with CancelScope() as scope:
        how.append(scope)
        got.append(await kind.wait())
        try:
            await checkpoint()
        except Cancelled:
            raised = True
            raise
    assert scope.cancelled_caught
    return raised


@ORDERS
@pytest.mark.parametrize("make", KINDS)
def test_R23_what_happened_in_the_turn_of_the_cancellation_is_delivered(
    make: Callable[[], Events], cancel_first: bool
) -> None:
    for _ in range(20):
        kind, got, scopes = make(), list[object](), list[CancelScope]()
        victim = parked(cut_off(kind, got, scopes))

        async def one_turn(kind: Events = kind, scopes: list[CancelScope] = scopes) -> None:
            if cancel_first:
                scopes[0].cancel()
            await kind.happen()
            if not cancel_first:
                scopes[0].cancel()

        block_on(one_turn())
        assert victim.join(TIMEOUT)
        assert got == [kind.result]


@pytest.mark.parametrize("make", [Handles, FailedHandles])
def test_R23_the_outcome_of_a_task_is_delivered(make: Callable[[], Handles]) -> None:
    for _ in range(20):
        kind, got, scopes = make(), list[object](), list[CancelScope]()
        victim = parked(cut_off(kind, got, scopes))

        async def one_turn(kind: Handles = kind, scopes: list[CancelScope] = scopes) -> None:
            # The target ends in the next batch, and in its done-callback the one who awaits it
            # is cancelled: it was woken a moment ago, or will be a moment later.
            kind.target.add_done_callback(lambda _: scopes[0].cancel())
            kind.go_on.set()

        block_on(one_turn())
        assert victim.join(TIMEOUT)
        assert got == [kind.result]


def test_R23_a_handle_is_awaited_by_one_who_was_cancelled_just_before_its_end() -> None:
    kind, got, scopes = Handles(), list[object](), list[CancelScope]()
    victim = parked(cut_off(kind, got, scopes))

    async def one_turn() -> None:
        kind.go_on.set()  # its turn comes before that of the victim
        scopes[0].cancel()

    block_on(one_turn())
    assert victim.join(TIMEOUT)
    assert got == [kind.result]


@ORDERS
def test_R23_an_item_that_was_handed_to_a_waiter_is_not_lost(cancel_first: bool) -> None:
    """The reason for the rule: a queue of one's own, made of a list and an Event."""

    for _ in range(20):
        inbox, there = list[str](), Event()
        victim = parked(receive(inbox, there))
        block_on(send(inbox, there, victim, cancel_first=cancel_first))
        assert victim.join(TIMEOUT) == "item"
        assert inbox == []


def finished(call: Any) -> None:
    """In a task: return when the call in the pool's thread has ended."""
    deadline = time.monotonic() + TIMEOUT
    while not call._delivered():
        assert time.monotonic() < deadline
        time.sleep(0)


@pytest.mark.parametrize("own_pool", [True, False])
@ORDERS
def test_R23_the_result_of_a_job_is_delivered(cancel_first: bool, own_pool: bool) -> None:
    with ThreadPoolExecutor(1) as pool:
        for fails in (False, True):
            go_on, started = threading.Event(), threading.Event()

            def work(
                fails: bool = fails,
                go_on: threading.Event = go_on,
                started: threading.Event = started,
            ) -> str:
                started.set()
                assert go_on.wait(TIMEOUT)
                if fails:
                    raise ZeroDivisionError
                return "result"

            job = spawn_blocking(work, executor=None if own_pool else pool)
            assert started.wait(TIMEOUT)

            async def one_turn(job: JoinHandle[str] = job, go_on: threading.Event = go_on) -> None:
                # As a shutdown does: its own cancel() does nothing to a job that has started.
                if cancel_first:
                    job._runtime.cancel(job.id, None)
                go_on.set()
                finished(job._job)
                if not cancel_first:
                    job._runtime.cancel(job.id, None)

            block_on(one_turn())
            if fails:
                with pytest.raises(ZeroDivisionError):
                    job.join(TIMEOUT)
            else:
                assert job.join(TIMEOUT) == "result"


@ORDERS
@pytest.mark.parametrize("make", [lambda: broadcast(4), lambda: watch(None)])
def test_what_was_announced_is_still_there_after_a_cancelled_wait(
    make: Callable[[], Any], cancel_first: bool
) -> None:
    tx, rx = make()

    async def wait() -> object:
        return await (rx.changed() if hasattr(rx, "changed") else rx.recv())

    victim = parked(wait())

    async def one_turn() -> None:
        if cancel_first:
            victim.cancel()
        tx.send("news")
        if not cancel_first:
            victim.cancel()

    block_on(one_turn())
    with pytest.raises(TaskCancelled):
        victim.join(TIMEOUT)
    spawn(wait()).join(TIMEOUT)


@ORDERS
def test_F3_the_permit_of_notify_one_goes_to_the_next(
    cancel_first: bool,
) -> None:
    notify = Notify()
    victim, other = parked(notify.wait()), parked(notify.wait())

    async def one_turn() -> None:
        if cancel_first:
            victim.cancel()
        notify.notify_one()
        if not cancel_first:
            victim.cancel()

    block_on(one_turn())
    with pytest.raises(TaskCancelled):
        victim.join(TIMEOUT)
    assert other.join(TIMEOUT) is None
    assert notify._count == 0


def test_R23_the_value_of_started_is_delivered() -> None:
    scopes: list[CancelScope] = []
    got: list[str] = []

    async def service(*, task_status: TaskStatus[str]) -> None:
        await yield_now()
        task_status.started("value")
        scopes[0].cancel()  # in the turn in which it is told

    async def main() -> None:
        async with TaskGroup() as group:
            with CancelScope() as scope:
                scopes.append(scope)
                got.append(await group.start(service))
                await checkpoint()
                got.append("the next checkpoint has not raised")
            assert scope.cancelled_caught

    block_on(main())
    assert got == ["value"]


# -- where the rule ends --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [*KINDS, Handles])
def test_a_wait_that_is_begun_in_a_cancelled_scope_raises(make: Callable[[], Events]) -> None:
    """Also if it happens before the executor throws, while it is suspended there."""
    kind, reached = make(), Event()

    async def victim() -> None:
        with CancelScope() as scope:
            scope.cancel()
            reached.set()
            await kind.wait()
            raise AssertionError("it has waited")
        assert scope.cancelled_caught

    async def happen() -> None:
        await reached.wait()
        if not isinstance(kind, (Conditions, Rendezvous, Barriers)):
            await kind.happen()

    async def main() -> None:
        happening = spawn(happen())
        await yield_now()
        await spawn(victim())
        await happening

    block_on(main())


def test_R23_a_wait_that_had_given_way_after_128_operations_is_delivered() -> None:
    event, got = Event(), list[str]()

    async def victim() -> None:
        for _ in range(128):
            await checkpoint()
        await event.wait()
        got.append("delivered")
        await checkpoint()
        got.append("raised nothing")

    async def main() -> None:
        handle = spawn(victim())
        await yield_now()
        assert got == []
        event.set()
        handle.cancel()
        with pytest.raises(TaskCancelled):
            await handle

    block_on(main())
    assert got == ["delivered"]


def test_a_cancelled_group_whose_tasks_await_each_other_ends_quietly() -> None:
    """The outcome of a task that was cancelled too is no news."""

    async def wait_for(handle: JoinHandle[Any]) -> None:
        await handle

    async def main() -> None:
        async with TaskGroup() as group:
            first = group.spawn(sleep(1000))
            handles = [group.spawn(wait_for(first))]
            handles += [group.spawn(wait_for(handle)) for handle in handles]
            await yield_now()
            await yield_now()
            group.cancel_scope.cancel()
        assert all(handle.cancelled() for handle in handles)

    block_on(main())


def test_a_cancelled_task_is_resumed_once_and_thrown_at_in_the_same_poll() -> None:
    """A refused last look leaves nothing behind: clean-up behind a shield waits as ever."""
    log = []

    async def victim() -> None:
        try:
            await Event().wait()
        except Cancelled:
            with CancelScope(shield=True):
                await sleep(0.001)
                await later.wait()
                log.append("cleaned up")
            raise

    later = Event()
    handle = parked(victim())
    handle.cancel()
    executor_turn()
    later.set()
    with pytest.raises(TaskCancelled):
        handle.join(TIMEOUT)
    assert log == ["cleaned up"]


def test_the_traceback_of_a_delivered_error_shows_only_the_tasks_own_frames() -> None:
    kind = FailedHandles()

    async def wait() -> None:
        await kind.target

    victim = parked(wait())

    async def one_turn() -> None:
        kind.go_on.set()
        victim.cancel()

    block_on(one_turn())
    with pytest.raises(ZeroDivisionError):
        victim.join(TIMEOUT)
    error = victim.exception()
    assert isinstance(error, ZeroDivisionError)
    assert error.__traceback__ is not None
    frames = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert "poll" not in frames


# -- threads: at every place of the look ----------------------------------------------------------


class Cut(FakeContext):
    """What the executor does to a wait whose task is cancelled: look, and if that fails, drop."""

    @staticmethod
    def off(wait: Any) -> bool:
        if wait._delivered():
            return True
        wait.drop()
        return False


def test_R23_the_last_one_comes_to_a_barrier_while_a_cancelled_one_leaves() -> None:
    """It counts as one who has come, or it has left: never both."""

    def attempt(at: Any) -> None:
        barrier = Barrier(2)
        victim, other = barrier.wait(), barrier.wait()
        victim.poll(Cut())
        came = []

        def come() -> None:
            if not barrier._gate.lock._is_owned():  # type: ignore[attr-defined]
                came.append(isinstance(other.poll(FakeContext()), Ready))  # another thread

        delivered = at(come).run(lambda: Cut.off(victim))
        if came == [True]:
            assert delivered
            assert isinstance(victim.poll(Cut()), Ready)
        else:
            assert not delivered
            assert barrier.n_waiting == len(came)
        other.drop()

    assert everywhere(waiters, attempt) > 5
    assert everywhere(barrier_module, attempt) > 0


def test_R23_notify_waiters_while_a_cancelled_one_leaves() -> None:
    def attempt(at: Any) -> None:
        notify = Notify()
        victim, other = notify.wait(), notify.wait()
        victim.poll(Cut())
        other.poll(Cut())
        at(notify.notify_waiters).run(lambda: Cut.off(victim))
        assert not notify._count
        assert not notify._gate.late
        other.drop()

    assert everywhere(waiters, attempt) > 5
    assert everywhere(notify_module, attempt) > 0


def test_R23_notify_one_while_a_cancelled_one_leaves_goes_to_the_next() -> None:
    def attempt(at: Any) -> None:
        notify = Notify()
        victim, other = notify.wait(), notify.wait()
        victim.poll(Cut())
        other.poll(Cut())
        interleaving = at(notify.notify_one)
        assert interleaving.run(lambda: Cut.off(victim)) is False
        if interleaving.happened:
            assert isinstance(other.poll(Cut()), Ready)
        else:
            other.drop()
        assert not notify._count
        assert not notify._waiters

    assert everywhere(waiters, attempt) > 5
    assert everywhere(notify_module, attempt) > 0


def test_R23_a_limit_that_is_over_when_the_last_one_comes() -> None:
    """In a thread: in time or not, the barrier counts it accordingly."""

    def come(barrier: Barrier, seconds: float) -> bool:
        try:
            barrier.wait_blocking(seconds)
        except TimeoutError:
            return False
        return True

    with ThreadPoolExecutor(1) as pool:
        for round_ in range(200):
            barrier = Barrier(2)
            other = pool.submit(come, barrier, 0.001)
            here = come(barrier, round_ % 10 / 5000)
            assert other.result(TIMEOUT) is here
