"""What is awaited in tasks and waited for in threads: both faces, in one line."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.net_helpers import TIMEOUT, executor_turn, parked
from trale_py import (
    Barrier,
    ClosedResourceError,
    Condition,
    Event,
    EventFd,
    JoinHandle,
    Mutex,
    Notify,
    OnceCell,
    RwGuard,
    RwLock,
    Semaphore,
    TaskCancelled,
    WouldDeadlock,
    block_on,
    spawn,
    yield_now,
)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def in_line(line: Any, n: int) -> None:
    """Return when ``n`` wait in that line."""
    pause, deadline = threading.Event(), time.monotonic() + TIMEOUT
    while len(line) < n:
        assert time.monotonic() < deadline
        pause.wait(0.0005)


def cancelled(handle: JoinHandle[Any]) -> bool:
    with contextlib.suppress(TaskCancelled):
        handle.join(TIMEOUT)
    return handle.cancelled()


# Each object so that a wait has to wait: the object, its awaited wait, its wait in a thread, its
# line, and what lets one waiter through.
def held_mutex() -> tuple[Any, ...]:
    mutex: Mutex[None] = Mutex()
    guard = block_on(mutex.lock())  # not by this thread, which would be refused a second time
    return mutex.lock, mutex.lock_blocking, mutex._waiters, guard.release


def written_lock() -> tuple[Any, ...]:
    lock: RwLock[None] = RwLock()
    guard = lock.try_write()
    assert guard is not None
    return lock.read, lock.read_blocking, lock._waiters, guard.release


def no_permits() -> tuple[Any, ...]:
    semaphore = Semaphore(0)
    return semaphore.acquire, semaphore.acquire_blocking, semaphore._waiters, semaphore.release


def unset_event() -> tuple[Any, ...]:
    event = Event()
    return event.wait, event.wait_blocking, event._waiters, event.set


def quiet_notify() -> tuple[Any, ...]:
    notify = Notify()
    return notify.wait, notify.wait_blocking, notify._waiters, notify.notify_one


def barrier_of_two() -> tuple[Any, ...]:
    barrier = Barrier(2)
    return barrier.wait, barrier.wait_blocking, barrier._waiters, lambda: spawn(barrier.wait())


OBJECTS = [held_mutex, written_lock, no_permits, unset_event, quiet_notify, barrier_of_two]


@pytest.mark.parametrize("make", OBJECTS)
class TestAll:
    def test_a_thread_is_let_through(
        self, make: Callable[[], Any], pool: ThreadPoolExecutor
    ) -> None:
        _, wait_blocking, line, let_through = make()
        waiting = pool.submit(lambda: release(wait_blocking()))
        in_line(line, 1)
        let_through()
        waiting.result(TIMEOUT)
        assert not line

    def test_the_main_thread_is_let_through_by_a_task(self, make: Callable[[], Any]) -> None:
        _, wait_blocking, line, let_through = make()

        async def later() -> None:
            while not line:
                await yield_now()
            let_through()

        handle = spawn(later())
        release(wait_blocking(TIMEOUT))
        handle.join(TIMEOUT)

    def test_too_late(self, make: Callable[[], Any]) -> None:
        _, wait_blocking, line, let_through = make()
        for timeout in (0, 0.001):
            with pytest.raises(TimeoutError):
                wait_blocking(timeout)
        with pytest.raises(ValueError, match="timeout"):
            wait_blocking(float("nan"))
        assert not line
        if make is not barrier_of_two:
            let_through()

    def test_H4_ctrl_c_takes_it_out_of_the_line(self, make: Callable[[], Any]) -> None:
        wait, wait_blocking, line, let_through = make()
        main = threading.get_ident()

        def interrupt() -> None:
            in_line(line, 1)
            signal.pthread_kill(main, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            wait_blocking(TIMEOUT)
        thread.join()
        assert not line
        following = parked(take(wait))
        let_through()
        following.join(TIMEOUT)

    def test_refused_on_the_executor(self, make: Callable[[], Any]) -> None:
        _, wait_blocking, line, let_through = make()

        async def main() -> None:
            with pytest.raises(WouldDeadlock):
                wait_blocking()
            with pytest.raises(WouldDeadlock):
                wait_blocking(0)

        block_on(main())
        assert not line
        if make is not barrier_of_two:
            let_through()

    def test_F1_F2_F3_a_task_that_is_let_through_and_cancelled_passes_it_on_to_a_thread(
        self, make: Callable[[], Any], pool: ThreadPoolExecutor
    ) -> None:
        if make in (barrier_of_two, unset_event):
            pytest.skip("there is nothing to pass on")
        wait, wait_blocking, line, let_through = make()
        victim = parked(take(wait))
        following = pool.submit(lambda: release(wait_blocking(TIMEOUT)))
        in_line(line, 2)

        async def at_once() -> None:
            let_through()
            victim.cancel()

        block_on(at_once())
        assert cancelled(victim)
        following.result(TIMEOUT)


def release(guard: Any) -> None:
    if hasattr(guard, "release"):
        guard.release()


async def take(wait: Callable[[], Any]) -> None:
    release(await wait())


@pytest.mark.parametrize("make", [no_permits, quiet_notify, held_mutex])
def test_fifo_over_tasks_and_threads(make: Any, pool: ThreadPoolExecutor) -> None:
    wait, wait_blocking, line, let_through = make()
    order: list[int] = []

    async def task(n: int) -> None:
        guard = await wait()
        order.append(n)
        release(guard)

    def thread(n: int) -> None:
        guard = wait_blocking()
        order.append(n)
        release(guard)

    waiting: list[Future[None]] = []
    for n in range(8):
        waiting.append(pool.submit(thread, n) if n % 2 else spawn(task(n)).future())
        in_line(line, n + 1)
    if make is held_mutex:
        let_through()
    for n, future in enumerate(waiting):
        if make is not held_mutex:
            let_through()
        future.result(TIMEOUT)
        assert order[n] == n


@pytest.mark.parametrize("make", [lambda: Mutex(0), lambda: Condition(Mutex(0))])
def test_a_counter_that_tasks_and_threads_share(make: Any, pool: ThreadPoolExecutor) -> None:
    counter = make()

    async def task() -> None:
        for _ in range(300):
            async with counter as guard:
                value = guard.value
                await yield_now()
                guard.value = value + 1

    def thread() -> None:
        for _ in range(300):
            with counter as guard:
                guard.value += 1

    waiting = [spawn(task()).future() for _ in range(3)] + [pool.submit(thread) for _ in range(3)]
    for future in waiting:
        future.result(TIMEOUT)
    with counter as guard:
        assert guard.value == 1800


class TestMutex:
    def test_F14_a_thread_that_has_locked_it_is_refused(self) -> None:
        mutex: Mutex[None] = Mutex()
        with mutex, pytest.raises(RuntimeError, match="already"):
            mutex.lock_blocking()
        assert not mutex.locked()

    def test_F14_a_thread_that_gets_the_ident_of_one_that_has_ended_is_not_that_one(self) -> None:
        mutex: Mutex[None] = Mutex()
        outcomes: list[Any] = []

        def lock() -> None:
            try:
                outcomes.append(mutex.lock_blocking(0))
            except Exception as error:
                outcomes.append(type(error))

        for _ in range(2):
            thread = threading.Thread(target=lock)
            thread.start()
            thread.join()
        outcomes[0].release()
        assert outcomes[1] is TimeoutError


class TestSemaphore:
    def test_so_many_at_once(self, pool: ThreadPoolExecutor) -> None:
        semaphore = Semaphore(3)
        inside: list[None] = []
        most = 0

        def enter() -> None:
            nonlocal most
            inside.append(None)
            most = max(most, len(inside))

        async def task() -> None:
            for _ in range(100):
                async with semaphore:
                    enter()
                    await yield_now()
                    inside.pop()

        def thread() -> None:
            for _ in range(100):
                with semaphore:
                    enter()
                    inside.pop()

        waiting = [spawn(task()).future() for _ in range(5)]
        waiting += [pool.submit(thread) for _ in range(3)]
        for future in waiting:
            future.result(TIMEOUT)
        assert most <= 3
        assert semaphore.value == 3

    def test_try_acquire_and_bad_values(self) -> None:
        semaphore = Semaphore(1)
        assert semaphore.try_acquire()
        assert not semaphore.try_acquire()
        semaphore.release()
        assert "permits=1" in repr(semaphore)
        with pytest.raises(ValueError, match="value"):
            Semaphore(-1)
        with pytest.raises(TypeError, match="value"):
            Semaphore(1.5)  # type: ignore[arg-type]

    @given(
        st.integers(0, 2),
        st.lists(st.one_of(st.sampled_from(["acquire", "try", "release"]), st.integers(0, 6))),
    )
    @settings(max_examples=80, deadline=None)
    @pytest.mark.slow
    def test_like_its_model(self, permits: int, operations: list[Any]) -> None:
        semaphore = Semaphore(permits)
        waiting: list[JoinHandle[None]] = []
        for operation in operations:
            if operation == "acquire":
                waiting.append(spawn(semaphore.acquire()))
            elif operation == "release":
                semaphore.release()
                permits += 1
            elif operation == "try":
                taken = permits > 0 and not waiting
                assert semaphore.try_acquire() == taken
                permits -= taken
            elif operation < len(waiting):
                waiting.pop(operation).cancel()
            executor_turn()
            executor_turn()
            while permits and waiting:
                waiting.pop(0).join(TIMEOUT)
                permits -= 1
            assert semaphore.value == permits
            assert len(semaphore._waiters) == len(waiting)
        for handle in waiting:
            handle.cancel()


class TestCondition:
    def test_wait_for_in_tasks_and_threads(self, pool: ThreadPoolExecutor) -> None:
        changed: Condition[list[int]] = Condition(Mutex([]))
        got: list[int] = []

        async def task() -> None:
            async with changed as guard:
                await changed.wait_for(lambda: guard.value)
                got.append(guard.value.pop())

        def thread() -> None:
            with changed as guard:
                changed.wait_for_blocking(lambda: guard.value, TIMEOUT)
                got.append(guard.value.pop())

        waiting = [spawn(task()).future() for _ in range(3)]
        waiting += [pool.submit(thread) for _ in range(3)]
        in_line(changed._waiters, 6)
        for n in range(6):
            with changed as guard:
                guard.value.append(n)
                changed.notify()
        for future in waiting:
            future.result(TIMEOUT)
        assert sorted(got) == list(range(6))
        assert not changed._mutex.locked()

    def test_notify_costs_as_much_as_there_are_waiters(self) -> None:
        condition: Condition[None] = Condition()

        async def main() -> int:
            async def wait() -> None:
                async with condition:
                    await condition.wait()

            handles = [spawn(wait()) for _ in range(3)]
            while len(condition._waiters) < 3:
                await yield_now()
            async with condition:
                condition.notify(2)
                left = len(condition._waiters)
                condition.notify(sys.maxsize)  # one after the other, it would never end
                condition.notify(sys.maxsize)
            for handle in handles:
                await handle
            return left

        assert spawn(main()).join(TIMEOUT) == 1

    def test_notify_all(self, pool: ThreadPoolExecutor) -> None:
        changed: Condition[None] = Condition()

        async def task() -> None:
            async with changed:
                await changed.wait()

        def thread() -> None:
            with changed:
                changed.wait_blocking()

        waiting = [spawn(task()).future(), pool.submit(thread)]
        in_line(changed._waiters, 2)
        with changed:
            changed.notify_all()
        for future in waiting:
            future.result(TIMEOUT)

    def test_outside_of_it(self) -> None:
        changed: Condition[None] = Condition()
        with pytest.raises(RuntimeError, match="inside"):
            changed.notify()
        with pytest.raises(RuntimeError, match="inside"):
            changed.notify_all()
        with pytest.raises(RuntimeError, match="inside"):
            changed.wait_blocking()
        with pytest.raises(RuntimeError, match="inside"):
            block_on(changed.wait())

    def test_a_timeout_locks_again(self) -> None:
        changed: Condition[int] = Condition(Mutex(0))
        with changed as guard:
            with pytest.raises(TimeoutError):
                changed.wait_blocking(0.001)
            with pytest.raises(TimeoutError):
                changed.wait_for_blocking(lambda: False, 0.001)
            guard.value += 1
            assert changed._mutex.locked()
        assert not changed._mutex.locked()
        assert not changed._waiters

    def test_F3_cancelled_it_locks_again_and_the_notification_goes_on(self) -> None:
        changed: Condition[int] = Condition(Mutex(0))

        async def task() -> None:
            async with changed as guard:
                try:
                    await changed.wait()
                finally:
                    guard.value += 1

        victim, other = parked(task()), parked(task())

        async def at_once() -> None:
            async with changed:
                changed.notify()
            victim.cancel()

        block_on(at_once())
        assert cancelled(victim)
        other.join(TIMEOUT)
        with changed as guard:
            assert guard.value == 2

    def test_F3_one_of_all_that_are_notified_comes_through_and_has_nothing_to_pass_on(self) -> None:
        changed: Condition[None] = Condition()

        async def task() -> None:
            async with changed:
                await changed.wait()

        victim = parked(task())

        async def at_once() -> JoinHandle[None]:
            newcomer = spawn(task())  # it waits before the victim has noticed
            async with changed:
                changed.notify_all()
            victim.cancel()
            return newcomer

        newcomer = block_on(at_once())
        victim.join(TIMEOUT)
        executor_turn()
        assert len(changed._waiters) == 1
        newcomer.cancel()
        assert cancelled(newcomer)

    def test_a_coroutine_that_is_closed_while_it_waits(self) -> None:
        changed: Condition[None] = Condition()

        async def task() -> None:
            async with changed:
                await changed.wait()

        async def main() -> None:
            coro = task()
            coro.send(None)
            coro.close()
            assert not changed._mutex.locked()

        block_on(main())
        assert not changed._waiters


class TestRwLock:
    def test_readers_together_writers_alone_in_order(self) -> None:
        lock: RwLock[list[str]] = RwLock([])
        order: list[str] = []
        go = Event()

        async def user(name: str) -> None:
            locking = lock.write() if name[0] == "w" else lock.read()
            async with locking:
                order.append(name)
                await go.wait()

        handles = [parked(user(name)) for name in ("r1", "r2", "w1", "r3", "r4", "w2")]
        assert order == ["r1", "r2"]  # r3 is behind a writer
        assert lock.try_read() is None
        go.set()
        for handle in handles:
            handle.join(TIMEOUT)
        assert order == ["r1", "r2", "w1", "r3", "r4", "w2"]
        assert "readers=0" in repr(lock)

    def test_guards(self) -> None:
        lock = RwLock(1)
        with lock.write() as guard:
            guard.value += 1
            assert lock.try_read() is None
        with lock.read() as one, lock.read_blocking() as two:
            assert one.value == two.value == 2
            assert lock.try_write() is None
            with pytest.raises(RuntimeError, match="reading"):
                one.value = 3
        with pytest.raises(RuntimeError, match="released"):
            two.release()
        dropped = lock.try_write()
        assert dropped is not None
        with pytest.warns(ResourceWarning, match="garbage-collected"):
            del dropped
        with lock.write_blocking(TIMEOUT) as guard:
            assert "writing" in repr(guard)

    def test_a_writer_that_goes_away_lets_the_readers_behind_it_pass(self) -> None:
        lock: RwLock[None] = RwLock()
        with lock.read():
            writer = parked(take(lock.write))
            reader = parked(take(lock.read))
            assert not reader.done()
            writer.cancel()
            reader.join(TIMEOUT)

    @given(st.lists(st.one_of(st.sampled_from(["read", "write"]), st.integers(0, 8)), max_size=30))
    @settings(max_examples=80, deadline=None)
    @pytest.mark.slow
    def test_like_its_model(self, operations: list[Any]) -> None:
        """A number: that one, of those who hold or wait, releases or is cancelled."""
        lock: RwLock[None] = RwLock()
        holding: list[tuple[str, RwGuard[None]]] = []
        waiting: list[tuple[str, JoinHandle[RwGuard[None]]]] = []

        async def ask(kind: str) -> RwGuard[None]:
            return await (lock.read() if kind == "read" else lock.write())

        for operation in [*operations, *[0] * 40]:
            if isinstance(operation, str):
                waiting.append((operation, spawn(ask(operation))))
            elif operation < len(holding):
                holding.pop(operation)[1].release()
            elif operation - len(holding) < len(waiting):
                waiting.pop(operation - len(holding))[1].cancel()
            executor_turn()
            executor_turn()
            while waiting:
                kind, handle = waiting[0]
                kinds = {kind for kind, _ in holding}
                if kinds and (kind == "write" or "write" in kinds):
                    break
                holding.append((kind, handle.join(TIMEOUT)))
                waiting.pop(0)
            assert not any(handle.done() for _, handle in waiting)
            assert lock._readers == sum(kind == "read" for kind, _ in holding)
            assert (lock._writing is not None) == any(kind == "write" for kind, _ in holding)
        assert not lock._waiters


class TestBarrier:
    def test_rounds_of_tasks_and_threads(self, pool: ThreadPoolExecutor) -> None:
        barrier = Barrier(4)
        rounds: list[int] = [0] * 4
        leaders: list[bool] = []

        def check() -> None:
            assert max(rounds) - min(rounds) <= 1

        async def task(n: int) -> None:
            for _ in range(100):
                leaders.append(await barrier.wait())
                rounds[n] += 1
                check()

        def thread(n: int) -> None:
            for _ in range(100):
                leaders.append(barrier.wait_blocking(TIMEOUT))
                rounds[n] += 1
                check()

        waiting = [spawn(task(n)).future() for n in (0, 1)]
        waiting += [pool.submit(thread, n) for n in (2, 3)]
        for future in waiting:
            future.result(TIMEOUT)
        assert sum(leaders) == 100
        assert barrier.n_waiting == 0

    def test_who_goes_away_has_not_come(self) -> None:
        barrier = Barrier(2)
        with pytest.raises(TimeoutError):
            barrier.wait_blocking(0.001)
        victim = parked(barrier.wait())
        victim.cancel()
        assert cancelled(victim)
        assert barrier.n_waiting == 0
        one = parked(barrier.wait())
        assert "1 of 2" in repr(barrier)
        assert barrier.wait_blocking(TIMEOUT)
        assert one.join(TIMEOUT) is False
        assert barrier.parties == 2
        with pytest.raises(ValueError, match="parties"):
            Barrier(0)


class TestOnceCell:
    def test_made_once(self, pool: ThreadPoolExecutor) -> None:
        cell: OnceCell[int] = OnceCell()
        made: list[str] = []
        go = Event()

        async def make() -> int:
            made.append("task")
            await go.wait()
            return 7

        def make_now() -> int:
            made.append("thread")
            return 7

        assert cell.get() is None
        waiting = [spawn(cell.get_or_init(make)).future() for _ in range(3)]
        in_line(cell._mutex._waiters, 2)
        waiting += [pool.submit(cell.get_or_init_blocking, make_now) for _ in range(2)]
        in_line(cell._mutex._waiters, 4)
        with pytest.raises(RuntimeError, match="being initialized"):
            cell.set(8)
        go.set()
        assert [future.result(TIMEOUT) for future in waiting] == [7] * 5
        assert made == ["task"]
        assert cell.get() == 7
        assert block_on(cell.get_or_init(make)) == 7
        with pytest.raises(RuntimeError, match="already"):
            cell.set(8)
        assert repr(cell) == "<OnceCell 7>"

    def test_who_fails_or_is_cancelled_leaves_it_to_the_next(self) -> None:
        cell: OnceCell[str] = OnceCell()

        async def for_ever() -> str:
            await Event().wait()
            return "never"

        async def fails() -> str:
            raise OSError("no")

        async def works() -> str:
            return "made"

        first = parked(cell.get_or_init(for_ever))
        second = parked(cell.get_or_init(fails))
        third = parked(cell.get_or_init(works))
        first.cancel()
        assert cancelled(first)
        with pytest.raises(OSError, match="no"):
            second.join(TIMEOUT)
        assert third.join(TIMEOUT) == "made"

    def test_set(self) -> None:
        cell: OnceCell[None] = OnceCell()
        assert "empty" in repr(cell)
        cell.set(None)
        assert cell.is_set()
        assert cell.get_or_init_blocking(lambda: None) is None


class TestEventFd:
    def test_counts_for_tasks_and_threads(self, pool: ThreadPoolExecutor) -> None:
        with EventFd(2) as event:
            block_on(event.wait())
            event.wait_blocking(TIMEOUT)
            assert not event.try_wait()
            waiting = [spawn(event.wait()).future() for _ in range(2)]
            waiting += [pool.submit(event.wait_blocking, TIMEOUT) for _ in range(2)]
            for _ in range(4):
                event.notify_one()
            for future in waiting:
                future.result(TIMEOUT)
            assert not event.try_wait()
            with pytest.raises(TimeoutError):
                event.wait_blocking(0.001)

    def test_across_processes(self, run_script: Any) -> None:
        result = run_script(
            """
            import subprocess, sys
            from trale_py import EventFd, block_on
            event = EventFd()
            child = subprocess.Popen(
                [sys.executable, "-c", f"import os; os.eventfd_write({event.fileno()}, 3)"],
                pass_fds=[event.fileno()],
            )
            block_on(event.wait())
            event.wait_blocking(20)
            event.wait_blocking(20)
            print(child.wait(), event.try_wait())
            event.close()
            """
        )
        assert result.stdout == "0 False\n", result.stderr

    def test_close_wakes_who_waits(self) -> None:
        event = EventFd()
        handles = [parked(event.wait()) for _ in range(2)]
        event.close()
        event.close()
        for handle in handles:
            with pytest.raises(ClosedResourceError):
                handle.join(TIMEOUT)
        for call in (event.notify_one, event.try_wait, event.fileno, event.wait_blocking):
            with pytest.raises(ClosedResourceError):
                call()
        assert event.closed
        assert "closed" in repr(event)

    def test_a_cancelled_wait_takes_nothing(self) -> None:
        with EventFd() as event:
            handle = parked(event.wait())

            async def at_once() -> None:
                event.notify_one()
                handle.cancel()

            block_on(at_once())
            assert cancelled(handle)
            assert event.try_wait()

    def test_refused_on_the_executor(self) -> None:
        async def main() -> None:
            with EventFd(1) as event, pytest.raises(WouldDeadlock):
                event.wait_blocking()

        block_on(main())

    def test_H4_ctrl_c(self) -> None:
        with EventFd() as event:
            timer = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT])
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                event.wait_blocking(TIMEOUT)
            timer.join()


def test_made_before_the_runtime_without_descriptors_or_threads(run_script: Any) -> None:
    result = run_script(
        """
        import os, threading
        before = os.listdir("/proc/self/fd")
        from trale_py import (
            Barrier, Condition, Event, Executor, Mutex, Notify, OnceCell, RwLock, Semaphore,
            block_on, spawn,
        )
        event, mutex, notify, semaphore = Event(), Mutex(1), Notify(), Semaphore(1)
        condition, barrier, lock, cell = Condition(), Barrier(2), RwLock(1), OnceCell()
        with mutex, semaphore, condition, lock.read():
            notify.notify_one(); notify.wait_blocking()
            cell.get_or_init_blocking(int)
        assert threading.active_count() == 1
        assert len(os.listdir("/proc/self/fd")) == len(before)

        async def use():
            async with mutex, semaphore, condition, lock.write():
                pass
            await cell.get_or_init(use)
            await barrier.wait()

        for _ in range(2):  # in a second runtime too
            left = [spawn(event.wait()), spawn(notify.wait())]
            handle = spawn(use())
            barrier.wait_blocking(20)
            handle.join(20)
            Executor.get().shutdown()
        notify.notify_one()
        assert "permits=1 waiting=0" in repr(notify), notify
        print("done")
        """
    )
    assert result.stdout == "done\n", result.stderr
