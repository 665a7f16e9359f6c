"""Event, Notify, Mutex: awaited in tasks, set off from anywhere."""

from __future__ import annotations

import gc
import signal
import threading
from typing import Any

import pytest

from trale_py import (
    PENDING,
    Event,
    Guard,
    Mutex,
    Notify,
    Ready,
    Semaphore,
    block_on,
    spawn,
    yield_now,
)
from trale_py.core import current


async def nothing() -> None:
    pass


async def until_waiting(count: Any, n: int) -> None:
    while count() < n:
        await yield_now()


class TestEvent:
    def test_lets_all_through_now_and_later(self) -> None:
        event = Event()
        waiting = [spawn(event.wait()) for _ in range(5)]
        block_on(nothing())
        assert not event.is_set()
        event.set()
        assert event.is_set()
        for handle in waiting:
            handle.join(10)
        block_on(event.wait())
        event.set()

    def test_set_before_the_runtime_exists(self, run_script: Any) -> None:
        result = run_script(
            """
            import threading
            from trale_py import Event, Notify, block_on
            event, notify = Event(), Notify()
            event.set(); notify.notify_one()
            assert event.is_set()
            assert threading.active_count() == 1
            block_on(event.wait()); block_on(notify.wait())
            print("through")
            """
        )
        assert result.stdout == "through\n", result.stderr

    def test_set_by_a_thread_a_signal_handler_and_a_del(self) -> None:
        class Dropped:
            def __init__(self, event: Event) -> None:
                self.me = self
                self.event = event

            def __del__(self) -> None:
                self.event.set()

        events = [Event() for _ in range(3)]
        waiting = [spawn(event.wait()) for event in events]
        thread = threading.Thread(target=events[0].set)
        thread.start()
        previous = signal.signal(signal.SIGUSR1, lambda *_: events[1].set())
        signal.raise_signal(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, previous)
        Dropped(events[2])
        gc.collect()
        for handle in waiting:
            handle.join(10)
        thread.join()

    def test_repr(self) -> None:
        event = Event()
        assert "waited for by 0" in repr(event)
        event.set()
        assert repr(event) == "<Event set>"


class TestNotify:
    def test_each_notification_is_counted(self) -> None:
        notify = Notify()
        for _ in range(3):
            notify.notify_one()
        for _ in range(3):
            block_on(notify.wait())
        late = spawn(notify.wait())
        block_on(nothing())
        assert not late.done()
        notify.notify_one()
        late.join(10)

    def test_fifo(self) -> None:
        notify = Notify()
        order: list[int] = []

        async def waits(n: int) -> None:
            await notify.wait()
            order.append(n)

        handles = [spawn(waits(n)) for n in range(10)]
        block_on(nothing())
        for _ in range(10):
            notify.notify_one()
        for handle in handles:
            handle.join(10)
        assert order == list(range(10))

    def test_notify_waiters_keeps_nothing_for_later(self) -> None:
        notify = Notify()
        handles = [spawn(notify.wait()) for _ in range(3)]
        block_on(nothing())
        notify.notify_waiters()
        for handle in handles:
            handle.join(10)
        late = spawn(notify.wait())
        block_on(nothing())
        assert not late.done()
        notify.notify_one()
        late.join(10)

    def test_two_threads_notify_a_task_counts(self) -> None:
        """trale's own test of its event."""
        notify = Notify()

        async def count() -> int:
            for _ in range(40):
                await notify.wait()
            return 40

        handle = spawn(count())
        threads = [
            threading.Thread(target=lambda: [notify.notify_one() for _ in range(20)])
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        assert handle.join(10) == 40
        for thread in threads:
            thread.join()

    def test_F3_a_notification_of_a_waiter_that_is_gone_goes_to_the_next(self) -> None:
        notify = Notify()

        async def waits() -> None:
            await notify.wait()

        async def main() -> None:
            given_up = waits()
            given_up.send(None)
            next_one = spawn(notify.wait())
            await until_waiting(lambda: len(notify._waiters), 2)
            notify.notify_one()  # handed to the first
            given_up.close()  # which does not come to use it
            await next_one

        block_on(main())
        assert notify._count == 0

    def test_a_waiter_that_is_gone_leaves_no_place(self) -> None:
        notify = Notify()

        async def waits() -> None:
            await notify.wait()

        async def main() -> None:
            coro = waits()
            coro.send(None)
            coro.close()
            notify.notify_one()
            await notify.wait()

        block_on(main())
        assert len(notify._waiters) == 0
        assert notify._count == 0


class TestMutex:
    def test_one_at_a_time_and_the_value(self) -> None:
        counter = Mutex(0)
        inside = 0

        async def add() -> None:
            nonlocal inside
            for _ in range(20):
                async with counter as guard:
                    inside += 1
                    assert inside == 1
                    value = guard.value
                    await yield_now()
                    guard.value = value + 1
                    inside -= 1

        handles = [spawn(add()) for _ in range(10)]
        for handle in handles:
            handle.join(10)
        assert not counter.locked()

        async def read() -> int:
            guard = await counter.lock()
            with guard:
                return guard.value

        assert block_on(read()) == 200

    def test_trales_own_test(self) -> None:
        async def main() -> list[int]:
            shared: Mutex[list[int]] = Mutex([0])
            guard = await shared.lock()

            async def push_two() -> None:
                async with shared as inner:
                    inner.value.append(2)

            handles = [spawn(push_two()) for _ in range(4)]
            await until_waiting(lambda: len(shared._waiters), 4)
            guard.value.append(1)
            guard.release()
            for handle in handles:
                await handle
            async with shared as last:
                return last.value

        assert block_on(main()) == [0, 1, 2, 2, 2, 2]

    def test_F17_fifo_and_a_newcomer_does_not_overtake(self) -> None:
        mutex: Mutex[None] = Mutex()
        order: list[int] = []

        async def take(n: int) -> None:
            for _ in range(3):
                async with mutex:
                    order.append(n)

        async def main() -> None:
            async with mutex:
                handles = [spawn(take(n)) for n in range(4)]
                await until_waiting(lambda: len(mutex._waiters), 4)
            assert mutex.try_lock() is None  # it was handed on, not unlocked
            for handle in handles:
                await handle

        block_on(main())
        assert order == [0, 1, 2, 3] * 3

    def test_F1_handed_to_a_waiter_that_is_gone_it_goes_to_the_next(self) -> None:
        mutex: Mutex[None] = Mutex()

        async def waits() -> Guard[None]:
            return await mutex.lock()

        async def main() -> None:
            guard = await mutex.lock()

            async def hold() -> None:
                async with mutex:
                    pass

            given_up: list[Any] = []
            polled, handed = Event(), Event()

            async def starts() -> None:
                coro = waits()
                coro.send(None)
                given_up.append(coro)
                polled.set()
                await handed.wait()
                coro.close()

            starter = spawn(starts())
            await polled.wait()
            next_one = spawn(hold())
            await until_waiting(lambda: len(mutex._waiters), 2)
            guard.release()
            handed.set()
            await starter
            await next_one
            assert not mutex.locked()

        block_on(main())

    def test_F14_locking_twice_and_releasing_twice(self) -> None:
        async def main() -> None:
            mutex = Mutex("value")
            guard = await mutex.lock()
            with pytest.raises(RuntimeError, match="already"):
                await mutex.lock()
            guard.release()
            with pytest.raises(RuntimeError, match="released"):
                guard.release()
            with pytest.raises(RuntimeError, match="released"):
                _ = guard.value

        block_on(main())

    def test_a_guard_taken_and_released_in_a_thread(self) -> None:
        mutex = Mutex(1)
        guard = mutex.try_lock()
        assert guard is not None
        assert mutex.try_lock() is None

        async def waits() -> int:
            async with mutex as inner:
                return inner.value

        handle = spawn(waits())
        block_on(nothing())
        assert not handle.done()
        guard.value = 2
        guard.release()
        assert handle.join(10) == 2

    def test_a_guard_that_is_dropped_unlocks_and_warns(self) -> None:
        mutex: Mutex[None] = Mutex()
        guard = mutex.try_lock()
        assert guard is not None
        with pytest.warns(ResourceWarning, match="garbage-collected"):
            del guard
        block_on(nothing())
        assert not mutex.locked()
        assert "free" in repr(mutex)


def test_F14_a_task_that_has_locked_it_is_refused_also_if_others_wait() -> None:
    async def main() -> None:
        mutex: Mutex[None] = Mutex()
        async with mutex:
            other = spawn(mutex.lock())
            await until_waiting(lambda: len(mutex._waiters), 1)
            with pytest.raises(RuntimeError, match="already"):
                await mutex.lock()
            assert len(mutex._waiters) == 1
        (await other).release()

    block_on(main())


def test_a_wait_that_was_polled_by_hand_may_be_awaited() -> None:
    """What it was granted meanwhile is what it gets, and no more."""

    async def main() -> None:
        cx = current.thread.context
        assert cx is not None
        semaphore, mutex = Semaphore(0), Mutex[None]()
        wait = semaphore.acquire()
        assert wait.poll(cx) is PENDING
        semaphore.release()
        semaphore.release()
        await wait
        assert semaphore.value == 1
        locking = mutex.lock()
        step = locking.poll(cx)
        assert isinstance(step, Ready)
        with pytest.raises(RuntimeError, match="already"):
            await mutex.lock()
        step.value.release()
        (await mutex.lock()).release()

    block_on(main())
