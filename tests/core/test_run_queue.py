"""The run-queue and the wait-queue, and what may happen while somebody is pushing (R1, R2)."""

from __future__ import annotations

import gc
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.python_engine import RunQueue
from trale_py import PENDING, Context, Future, Pending, Ready, Waker, block_on, spawn, yield_now

Script = Callable[..., "subprocess.CompletedProcess[str]"]


class FakeTask:
    def __init__(self, task_id: int, queue: RunQueue) -> None:
        self._id = task_id
        self._cx: Any = queue.context(task_id, None)


def queue_with(*ids: int) -> tuple[RunQueue, list[Any]]:
    queue = RunQueue()
    tasks: list[Any] = [FakeTask(n, queue) for n in ids]
    return queue, tasks


def test_new_tasks_come_out_in_order() -> None:
    queue, tasks = queue_with(1, 2, 3)
    for task in tasks:
        queue.push(task)
    assert list(queue.next_batch()) == tasks


def test_a_task_woken_twice_before_its_turn_is_polled_once() -> None:
    queue, (task,) = queue_with(1)
    queue.waiting[1] = task
    queue.wake(1)
    queue.wake(1)
    assert list(queue.next_batch()) == [task]
    assert queue.waiting == {}


def test_a_wake_of_an_unknown_id_does_nothing() -> None:
    queue, (task,) = queue_with(1)
    queue.wake(99)
    queue.push(task)
    assert list(queue.next_batch()) == [task]


def test_wakes_come_out_in_the_order_of_the_first_wake() -> None:
    queue, tasks = queue_with(1, 2, 3)
    queue.waiting.update({task._id: task for task in tasks})
    for n in (3, 1, 3, 2, 1):
        queue.wake(n)
    assert [task._id for task in queue.next_batch()] == [3, 1, 2]


def test_calls_are_made_in_order_with_the_tasks() -> None:
    queue, (task,) = queue_with(1)
    queue.waiting[1] = task
    made: list[str] = []
    queue.call(lambda: made.append("called"))
    queue.wake(1)
    assert list(queue.next_batch()) == [task]
    assert made == ["called"]


def test_a_batch_is_what_was_ready_when_it_was_taken() -> None:
    queue, (task,) = queue_with(1)
    queue.call(lambda: queue.push(task))
    assert list(queue.next_batch()) == []
    assert list(queue.next_batch()) == [task]


def test_drain_makes_the_calls_and_returns_the_new_tasks() -> None:
    queue, (task,) = queue_with(1)
    made: list[str] = []
    queue.waiting[7] = task
    queue.push(task)
    queue.wake(7)
    queue.call(lambda: made.append("called"))
    assert queue.drain() == [task]
    assert made == ["called"]


class WakeDuringPoll(Future[str]):
    """Wakes its task while it is being polled, from this or from another thread (R2)."""

    def __init__(self, *, other_thread: bool) -> None:
        self.other_thread = other_thread
        self.polls = 0

    def poll(self, cx: Context) -> Ready[str] | Pending:
        self.polls += 1
        if self.polls == 2:
            return Ready("polled again")
        if self.other_thread:
            waker = threading.Thread(target=cx.waker.wake)
            waker.start()
            waker.join()
        else:
            cx.waker.wake()
        return PENDING


@pytest.mark.parametrize("other_thread", [False, True])
def test_A2_T13_R2_wake_while_polling(other_thread: bool) -> None:
    assert spawn(WakeDuringPoll(other_thread=other_thread)).join(10) == "polled again"


def test_A1_A5_every_wake_is_followed_by_a_poll() -> None:
    """Four threads announce numbers and wake; the task must see each of them at last."""
    per_thread, threads = 20_000, 4

    class Collect(Future[int]):
        def __init__(self) -> None:
            self.inbox: list[int] = []
            self.waker: Waker | None = None
            self.have_waker = threading.Event()

        def poll(self, cx: Context) -> Ready[int] | Pending:
            self.waker = cx.waker
            self.have_waker.set()
            seen = len(self.inbox)
            return Ready(seen) if seen == per_thread * threads else PENDING

    collect = Collect()

    def announce() -> None:
        collect.have_waker.wait()
        assert collect.waker is not None
        for n in range(per_thread):
            collect.inbox.append(n)
            collect.waker.wake()

    handle = spawn(collect)
    senders = [threading.Thread(target=announce) for _ in range(threads)]
    for sender in senders:
        sender.start()
    assert handle.join(30) == per_thread * threads
    for sender in senders:
        sender.join()


def test_A6_T2_wake_after_the_end_and_twice() -> None:
    wakers: list[Waker] = []

    class Keep(Future[None]):
        def poll(self, cx: Context) -> Ready[None] | Pending:
            wakers.append(cx.waker)
            return Ready(None)

    block_on(Keep())
    for _ in range(3):
        threads = [threading.Thread(target=wakers[0].wake) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert block_on(Countdown(3)) == "done"


class Countdown(Future[str]):
    def __init__(self, n: int) -> None:
        self.n = n
        self.polls = 0

    def poll(self, cx: Context) -> Ready[str] | Pending:
        self.polls += 1
        if self.n == 0:
            return Ready("done")
        self.n -= 1
        cx.waker.wake()
        return PENDING


def test_A7_a_stale_waker_wakes_nobody_else() -> None:
    """A waker of a finished task is called while other tasks wait: none is polled for it."""
    stale: list[Waker] = []

    class Leak(Future[None]):
        def poll(self, cx: Context) -> Ready[None] | Pending:
            stale.append(cx.waker)
            return Ready(None)

    class Gate(Future[int]):
        polls = 0
        waker: Waker | None = None
        open = False

        def poll(self, cx: Context) -> Ready[int] | Pending:
            self.polls += 1
            self.waker = cx.waker
            return Ready(self.polls) if self.open else PENDING

    async def main() -> int:
        for _ in range(50):
            await spawn(Leak())
        gate = Gate()
        handle = spawn(gate)
        await yield_now()
        for waker in stale:
            waker.wake()
        await yield_now()
        await yield_now()
        assert gate.polls == 1
        gate.open = True
        assert gate.waker is not None
        gate.waker.wake()
        return await handle

    assert block_on(main()) == 2


def test_A10_R1_garbage_collection_inside_a_push() -> None:
    """Cyclic garbage whose __del__ wakes and spawns, collected at random moments."""

    async def trivial() -> None:
        await yield_now()

    wakers: list[Waker] = []

    class Bomb:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            for waker in wakers[-3:]:
                waker.wake()
            spawn(trivial())

    async def keep_waking(turns: int) -> None:
        class Turn(Future[None]):
            first = True

            def poll(self, cx: Context) -> Ready[None] | Pending:
                wakers.append(cx.waker)
                if not self.first:
                    return Ready(None)
                self.first = False
                Bomb()
                cx.waker.wake()
                return PENDING

        for _ in range(turns):
            await Turn()

    rng = random.Random(10)
    before = gc.get_threshold()
    try:
        for _ in range(40):
            gc.set_threshold(rng.randint(1, 40))
            handles = [spawn(keep_waking(20)) for _ in range(5)]
            for _ in range(20):
                Bomb()
                handles.append(spawn(trivial()))
            for handle in handles:
                handle.join(20)
    finally:
        gc.set_threshold(*before)
    gc.collect()


def test_A11_R1_signal_handler_inside_a_push() -> None:
    """A handler that wakes and spawns interrupts a thread that is doing just that."""
    handled = 0

    async def trivial() -> None:
        await yield_now()

    class Turns(Future[None]):
        waker: Waker | None = None
        stop = False

        def poll(self, cx: Context) -> Ready[None] | Pending:
            self.waker = cx.waker
            return Ready(None) if self.stop else PENDING

    turns = Turns()
    ticking = spawn(turns)

    def handler(*_: object) -> None:
        nonlocal handled
        handled += 1
        if turns.waker is not None:
            turns.waker.wake()
        spawn(trivial())
        if handled < 2000:  # else it would go off after the test
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0001, 0.0003))

    rng = random.Random(11)
    previous = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002)
        while handled < 2000:
            if turns.waker is not None:
                turns.waker.wake()
            spawn(trivial()).join(20)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    turns.stop = True
    assert turns.waker is not None
    turns.waker.wake()
    ticking.join(10)


def test_H5_ctrl_c_at_any_line_of_spawn(run_script: Script) -> None:
    """KeyboardInterrupt at the n-th line inside spawn(), for every n; then all still works."""
    result = run_script(
        """
        import sys, threading
        from trale_py import Executor, engine, sleep, spawn, tasks
        from trale_py.core import current

        async def work():
            await sleep(0)
            return 1

        def interrupted_at(n):
            count = 0
            def trace(frame, event, arg):
                nonlocal count
                if "trale_py" not in frame.f_code.co_filename:
                    return None
                if event == "line":
                    count += 1
                    if count == n:
                        raise KeyboardInterrupt
                return trace
            coro = work()
            sys.settrace(trace)
            try:
                handle = spawn(coro)
            except KeyboardInterrupt:
                return True
            finally:
                sys.settrace(None)
                # Whatever did not take it: a coroutine that never ran is closed here.
                if not sys.exc_info()[0] is None:
                    current.default_runtime().publish(coro.close)
            assert handle.join(10) == 1
            return False

        for fresh in (True, False):
            n = 1
            while interrupted_at(n):
                n += 1
                assert spawn(work()).join(10) == 1
                if fresh:
                    Executor.shutdown()  # the next one has to start it
            assert n > 10 or not fresh and engine == "native", n
        assert spawn(work()).join(10) == 1
        assert tasks() == [], tasks()
        names = sorted(t.name for t in threading.enumerate() if "trale" in t.name)
        assert names == ["trale-executor", "trale-reactor"], names
        print("ok", n)
        """
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("ok"), result.stderr


def test_A12_a_stuck_executor_keeps_each_task_once() -> None:
    """However often a queued task is woken, it is polled once for it."""
    release = threading.Event()
    countdown = Countdown(0)
    wakers: list[Waker] = []

    class Wait(Future[int]):
        polls = 0
        done = False

        def poll(self, cx: Context) -> Ready[int] | Pending:
            self.polls += 1
            wakers[:] = [cx.waker]
            return Ready(self.polls) if self.done else PENDING

    async def stuck() -> None:
        release.wait(20)

    wait = Wait()
    waiting = spawn(wait)
    block_on(countdown)
    blocker = spawn(stuck())
    for _ in range(1000):
        wakers[0].wake()
    wait.done = True
    release.set()
    blocker.join(10)
    assert waiting.join(10) == 2


def test_A13_spawning_in_a_long_chain_needs_no_stack() -> None:
    depth = 20_000
    ended = threading.Event()

    async def spawn_next(n: int) -> None:
        if n == 0:
            ended.set()
        else:
            spawn(spawn_next(n - 1))

    spawn(spawn_next(depth))
    assert ended.wait(30)


def test_A18_with_a_short_switch_interval() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        test_A1_A5_every_wake_is_followed_by_a_poll()
    finally:
        sys.setswitchinterval(before)
