"""Several permits at once, bounds, and limiters that know their borrowers."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from tests.support.net_helpers import TIMEOUT, executor_turn, parked
from trale_py import (
    BoundedSemaphore,
    CapacityLimiter,
    Condition,
    Event,
    Mutex,
    RwLock,
    Semaphore,
    TaskCancelled,
    block_on,
    spawn,
    yield_now,
)


class TestSeveralAtOnce:
    def test_they_are_taken_together_and_in_line(self) -> None:
        permits = Semaphore(2)
        three = parked(permits.acquire(3))
        one = parked(permits.acquire())
        assert not permits.try_acquire()
        assert (permits.value, permits.statistics().tasks_waiting) == (2, 2)
        permits.release()
        three.join(TIMEOUT)
        executor_turn()
        assert not one.done()
        permits.release(3)
        one.join(TIMEOUT)
        assert permits.value == 2
        assert permits.try_acquire(2)
        assert not permits.try_acquire(1)

    def test_a_cancelled_one_lets_those_behind_it_pass(self) -> None:
        permits = Semaphore(2)
        three, two = parked(permits.acquire(3)), parked(permits.acquire(2))
        three.cancel()
        two.join(TIMEOUT)
        assert permits.value == 0
        with pytest.raises(TaskCancelled):
            three.join(TIMEOUT)

    def test_what_was_granted_to_a_cancelled_one_is_all_given_back(self) -> None:
        permits = Semaphore(0)

        async def main() -> None:
            three = spawn(permits.acquire(3))
            while not permits.statistics().tasks_waiting:
                await yield_now()
            permits.release(3)
            three.cancel()

        block_on(main())
        executor_turn()
        assert permits.value == 3

    def test_one_release_serves_tasks_and_threads(self) -> None:
        permits = Semaphore(0)
        tasks = [parked(permits.acquire(2)) for _ in range(2)]
        thread = threading.Thread(target=lambda: permits.acquire_blocking(TIMEOUT, n=3))
        thread.start()
        while permits.statistics().tasks_waiting < 3:
            executor_turn()
        permits.release(7)
        thread.join(TIMEOUT)
        for task in tasks:
            task.join(TIMEOUT)
        assert permits.value == 0

    @pytest.mark.parametrize(
        ("n", "error"), [(0, ValueError), (-1, ValueError), ("2", TypeError), (1.5, TypeError)]
    )
    def test_n_is_checked_at_the_call(self, n: Any, error: type[Exception]) -> None:
        permits = Semaphore(5)
        for call in (permits.acquire, permits.try_acquire, permits.release):
            with pytest.raises(error, match="n must be"):
                call(n)
        with pytest.raises(error, match="n must be"):
            permits.acquire_blocking(n=n)
        assert permits.value == 5
        assert permits.try_acquire(n=5)


class TestBounded:
    def test_it_refuses_what_was_not_acquired(self) -> None:
        permits = BoundedSemaphore(2)
        with pytest.raises(ValueError, match="more often than acquired: <BoundedSemaphore"):
            permits.release()
        assert permits.try_acquire(2)
        with pytest.raises(ValueError, match="more often"):
            permits.release(3)
        permits.release(2)
        assert permits.value == 2

    def test_a_with_block_that_released_by_itself(self) -> None:
        permits = BoundedSemaphore(1)
        with pytest.raises(ValueError, match="more often"), permits:
            permits.release()

        async def main() -> None:
            async with permits:
                permits.release()

        with pytest.raises(ValueError, match="more often"):
            block_on(main())
        assert permits.value == 1


class TestCapacityLimiter:
    def test_it_knows_its_borrowers(self) -> None:
        limiter = CapacityLimiter(2)

        async def twice() -> None:
            async with limiter:
                assert limiter.borrowed_tokens == 1
                with pytest.raises(RuntimeError, match="already borrowed"):
                    await limiter.acquire()
                with pytest.raises(RuntimeError, match="already borrowed"):
                    limiter.try_acquire()
            with pytest.raises(RuntimeError, match="has not borrowed"):
                limiter.release()

        block_on(twice())
        with limiter:
            assert limiter.available_tokens == 1
            with pytest.raises(RuntimeError, match="already borrowed"), limiter:
                pass
            assert limiter.borrowed_tokens == 1
        block_on(limiter.acquire_on_behalf_of("somebody"))
        assert limiter.statistics().borrowers == ["somebody"]
        limiter.release_on_behalf_of("somebody")
        assert limiter.borrowed_tokens == 0

    def test_a_larger_total_lets_waiters_pass_and_a_smaller_one_waits(self) -> None:
        limiter = CapacityLimiter(0)
        waiting = [parked(limiter.acquire_on_behalf_of(n)) for n in range(4)]
        limiter.total_tokens = 3
        for handle in waiting[:3]:
            handle.join(TIMEOUT)
        executor_turn()
        assert not waiting[3].done()
        limiter.total_tokens = 1
        assert limiter.available_tokens == -2
        for n in range(2):
            limiter.release_on_behalf_of(n)
        executor_turn()
        assert not waiting[3].done()
        limiter.release_on_behalf_of(2)
        waiting[3].join(TIMEOUT)
        limiter.total_tokens = math.inf
        limiter.release_on_behalf_of(3)
        assert limiter.try_acquire()
        limiter.release()

    def test_F5_a_token_of_one_that_was_cancelled_goes_to_the_next(self) -> None:
        limiter = CapacityLimiter(1)

        async def main() -> None:
            await limiter.acquire()
            first = spawn(limiter.acquire_on_behalf_of("first"))
            second = spawn(limiter.acquire_on_behalf_of("second"))
            while limiter.statistics().tasks_waiting < 2:
                await yield_now()
            limiter.release()
            first.cancel()
            await second

        block_on(main())
        assert limiter.statistics().borrowers == ["second"]

    @pytest.mark.parametrize(
        ("total", "error"),
        [(-1, ValueError), (1.5, TypeError), ("1", TypeError), (True, TypeError)],
    )
    def test_the_total_is_checked(self, total: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match="total_tokens must be"):
            CapacityLimiter(total)
        limiter = CapacityLimiter(1)
        with pytest.raises(error, match="total_tokens must be"):
            limiter.total_tokens = total
        assert repr(limiter) == "<CapacityLimiter borrowed=0/1 waiting=0>"


def test_statistics_of_the_others() -> None:
    event, mutex, lock = Event(), Mutex(), RwLock()
    waiting = parked(event.wait())
    assert event.statistics() == (1,)
    event.set()
    waiting.join(TIMEOUT)
    with mutex:
        assert mutex.statistics() == (True, 0)
    assert Condition(mutex).statistics() == (0, (False, 0))
    with lock.read():
        assert lock.statistics() == (1, False, 0)
    with lock.write():
        assert lock.statistics() == (0, True, 0)
