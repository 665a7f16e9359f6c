"""Channels, from both faces: what is sent is received, once, by whom it was meant for."""

from __future__ import annotations

import gc
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.net_helpers import TIMEOUT, executor_turn, parked
from trale_py import (
    JoinHandle,
    TaskCancelled,
    WouldBlock,
    WouldDeadlock,
    block_on,
    move_on_after,
    race,
    spawn,
)
from trale_py.channel import Closed, Lagged, broadcast, channel, oneshot, watch


def in_line(line: Any, n: int) -> None:
    """Return when ``n`` wait in that line."""
    pause, turns = threading.Event(), 0
    while len(line) < n:
        turns += 1
        assert turns < TIMEOUT * 2000
        pause.wait(0.0005)


class TestQueue:
    def test_back_pressure(self) -> None:
        tx, rx = channel(2)
        tx.try_send(1)
        tx.try_send(2)
        with pytest.raises(WouldBlock):
            tx.try_send(3)
        waiting = parked(tx.send(3))
        assert not waiting.done()
        assert rx.try_recv() == 1
        waiting.join(TIMEOUT)
        assert (rx.try_recv(), rx.try_recv()) == (2, 3)
        with pytest.raises(WouldBlock):
            rx.try_recv()

    def test_rendezvous(self) -> None:
        tx, rx = channel(0)
        with pytest.raises(WouldBlock):
            tx.try_send(1)
        with pytest.raises(WouldBlock):
            rx.try_recv()
        sending = parked(tx.send(1))
        assert not sending.done()
        assert rx.try_recv() == 1  # out of its hands
        sending.join(TIMEOUT)
        sending = parked(tx.send(2))
        assert rx.recv_blocking(TIMEOUT) == 2
        sending.join(TIMEOUT)
        receiving = parked(rx.recv())
        tx.try_send(3)
        assert receiving.join(TIMEOUT) == 3

    def test_unbounded(self) -> None:
        tx, rx = channel(None)
        for n in range(1000):
            tx.try_send(n)
        assert tx.capacity is None
        assert len(rx) == 1000
        tx.close()
        assert list(rx) == list(range(1000))

    @pytest.mark.parametrize("capacity", [0, 1, 5, None])
    def test_F12_close_wakes_all_and_what_was_sent_is_drained(self, capacity: int | None) -> None:
        tx, rx = channel(capacity)
        values: list[Any] = [None, 0, ""][: 3 if capacity is None else min(capacity, 3)]
        for value in values:
            tx.try_send(value)
        receivers = [] if values else [parked(rx.recv()) for _ in range(3)]
        rx.close()
        tx.close()
        assert tx.closed
        assert rx.closed
        for handle in receivers:
            with pytest.raises(Closed):
                handle.join(TIMEOUT)
        with pytest.raises(Closed) as caught:
            tx.try_send("late")
        assert caught.value.value == "late"
        with pytest.raises(Closed):
            block_on(tx.send("late"))
        with pytest.raises(Closed):
            tx.send_blocking("late")
        assert list(rx) == values
        with pytest.raises(Closed):
            rx.try_recv()
        with pytest.raises(Closed):
            block_on(rx.recv())

    def test_F12_close_gives_waiting_senders_their_values_back(self) -> None:
        tx, rx = channel(1)
        tx.try_send("sent")
        waiting = [parked(tx.send(n)) for n in range(3)]
        rx.close()
        for n, handle in enumerate(waiting):
            with pytest.raises(Closed) as caught:
                handle.join(TIMEOUT)
            assert caught.value.value == n
        assert list(rx) == ["sent"]

    def test_async_for_and_for(self) -> None:
        tx, rx = channel(3)

        async def collect() -> list[int]:
            return [value async for value in rx]

        handle = spawn(collect())
        with tx:
            for n in range(20):
                tx.send_blocking(n, TIMEOUT)
        assert handle.join(TIMEOUT) == list(range(20))
        assert list(rx) == []

    def test_fifo_over_tasks_and_threads(self) -> None:
        tx, rx = channel(0)
        with ThreadPoolExecutor(3) as pool:
            got: list[Any] = []
            for n in range(6):
                got.append(
                    pool.submit(rx.recv_blocking, TIMEOUT) if n % 2 else spawn(rx.recv()).future()
                )
                in_line(rx._core.receivers, n + 1)
            for n in range(6):
                tx.try_send(n)
            assert [future.result(TIMEOUT) for future in got] == list(range(6))

    def test_F4_a_value_for_a_cancelled_receiver_goes_to_the_next(self) -> None:
        tx, rx = channel(0)
        first, second = parked(rx.recv()), parked(rx.recv())

        async def at_once() -> None:
            tx.try_send("value")
            first.cancel()

        block_on(at_once())
        assert second.join(TIMEOUT) == "value"
        with pytest.raises(TaskCancelled):
            first.join(TIMEOUT)

    def test_F4_a_value_for_the_only_receiver_cancelled_is_there_for_the_next(self) -> None:
        tx, rx = channel(5)
        receiver = parked(rx.recv())

        async def at_once() -> None:
            tx.try_send(1)
            tx.try_send(2)
            receiver.cancel()

        block_on(at_once())
        executor_turn()
        assert (rx.try_recv(), rx.try_recv()) == (1, 2)

    @pytest.mark.parametrize("capacity", [0, 1])
    def test_a_cancelled_sender_has_not_sent_and_its_slot_goes_to_the_next(
        self, capacity: int
    ) -> None:
        tx, rx = channel(capacity)
        if capacity:
            tx.try_send(0)
        first, second = parked(tx.send(1)), parked(tx.send(2))
        receiving: list[JoinHandle[Any]] = []

        async def at_once() -> None:
            if capacity:
                assert rx.try_recv() == 0
            else:
                receiving.append(spawn(rx.recv()))
            first.cancel()

        block_on(at_once())
        second.join(TIMEOUT)
        assert (receiving[0].join(TIMEOUT) if receiving else rx.try_recv()) == 2
        with pytest.raises(TaskCancelled):
            first.join(TIMEOUT)
        assert rx._core.slots == 0

    def test_a_receiver_that_goes_away_leaves_the_sender_waiting(self) -> None:
        tx, rx = channel(0)
        sending = parked(tx.send(1))

        async def come_and_go() -> None:
            with move_on_after(0):
                await rx.recv()

        for _ in range(20):
            block_on(come_and_go())
        executor_turn()
        assert not sending.done()
        assert rx.recv_blocking(TIMEOUT) == 1
        sending.join(TIMEOUT)

    def test_timeouts(self) -> None:
        tx, rx = channel(1)
        with pytest.raises(TimeoutError):
            rx.recv_blocking(0.001)
        with pytest.raises(TimeoutError):
            rx.recv_blocking(0)
        tx.send_blocking(1, 0)
        with pytest.raises(TimeoutError):
            tx.send_blocking(2, timeout=0.001)
        with pytest.raises(ValueError, match="timeout"):
            rx.recv_blocking(-1)
        assert not rx._core.receivers
        assert not rx._core.senders
        assert rx.recv_blocking() == 1

    def test_blocking_on_the_executor_is_refused(self) -> None:
        tx, rx = channel(1)

        async def main() -> None:
            with pytest.raises(WouldDeadlock):
                tx.send_blocking(1)
            with pytest.raises(WouldDeadlock):
                rx.recv_blocking()
            with pytest.raises(WouldDeadlock):
                next(iter(rx))

        block_on(main())
        assert len(rx) == 0

    def test_bad_capacities(self) -> None:
        for make in (channel, broadcast):
            with pytest.raises(ValueError, match="capacity"):
                make(-1)
            with pytest.raises(TypeError, match="capacity"):
                make("1")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="capacity"):
            broadcast(0)

    def test_race_takes_from_whoever_is_first(self) -> None:
        (_, never), (tx, rx) = channel(1), channel(1)

        async def main() -> list[Any]:
            got = []
            for n in range(50):
                racing = spawn(race(never.recv(), rx.recv()))
                await tx.send(n)
                got.append(await racing)
            return got

        assert block_on(main()) == list(range(50))
        assert not never._core.receivers

    def test_made_before_the_runtime_and_used_after_a_restart(self, run_script: Any) -> None:
        result = run_script(
            """
            import threading
            from trale_py import Executor, Mutex, block_on, channel, spawn
            tx, rx = channel.channel(1)
            tx.send_blocking(1)
            assert rx.recv_blocking() == 1
            assert threading.active_count() == 1
            waiting = spawn(rx.recv())
            Executor.get().shutdown()
            handle = spawn(tx.send(2))
            assert rx.recv_blocking() == 2
            handle.join()
            print("done")
            """
        )
        assert result.stdout == "done\n", result.stderr

    def test_close_by_a_signal_handler_while_the_main_thread_waits(self) -> None:
        tx, rx = channel(1)
        previous = signal.signal(signal.SIGUSR1, lambda *_: tx.close())
        main = threading.get_ident()

        def send_signal() -> None:
            in_line(rx._core.receivers, 1)
            signal.pthread_kill(main, signal.SIGUSR1)

        thread = threading.Thread(target=send_signal)
        thread.start()
        try:
            with pytest.raises(Closed):
                rx.recv_blocking(TIMEOUT)
        finally:
            thread.join()
            signal.signal(signal.SIGUSR1, previous)

    def test_H4_ctrl_c_ends_a_blocking_wait_and_loses_nothing(self) -> None:
        tx, rx = channel(1)
        main = threading.get_ident()

        def interrupt() -> None:
            in_line(rx._core.receivers, 1)
            signal.pthread_kill(main, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            rx.recv_blocking(TIMEOUT)
        thread.join()
        assert not rx._core.receivers
        tx.try_send(1)
        assert rx.recv_blocking(TIMEOUT) == 1

    def test_repr(self) -> None:
        tx, rx = channel(3)
        tx.try_send(1)
        assert "capacity=3" in repr(tx)
        assert "values=1" in repr(rx)
        assert rx
        tx.close()
        assert "closed" in repr(rx)


OPERATIONS = st.lists(
    st.one_of(
        st.sampled_from(["send", "recv", "try_send", "try_recv", "close"]),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
    ),
    max_size=30,
)


class Model:
    """What a channel does, when nothing is in the midst of anything."""

    def __init__(self, capacity: int | None) -> None:
        self.capacity = capacity
        self.buffer: list[int] = []
        self.senders: list[tuple[int, int]] = []
        self.receivers: list[int] = []
        self.closed = False
        self.ended: dict[int, Any] = {}

    def settle(self) -> None:
        while True:
            room = self.capacity is None or len(self.buffer) < self.capacity
            if self.receivers and self.buffer:
                self.ended[self.receivers.pop(0)] = self.buffer.pop(0)
            elif self.senders and (room or (self.receivers and not self.buffer)):
                who, value = self.senders.pop(0)
                self.buffer.append(value)
                self.ended[who] = None
            elif self.closed and (self.senders or self.receivers):
                for who in [*[who for who, _ in self.senders], *self.receivers]:
                    self.ended[who] = Closed
                self.senders, self.receivers = [], []
            else:
                return

    def close(self) -> None:
        for who, _ in self.senders:
            self.ended[who] = Closed
        self.senders = []
        self.closed = True


def ending(handle: JoinHandle[Any]) -> Any:
    try:
        return handle.join(TIMEOUT)
    except TaskCancelled:
        return TaskCancelled
    except Closed:
        return Closed


@given(st.sampled_from([0, 1, 2, None]), OPERATIONS)
@settings(max_examples=120, deadline=None)
def test_like_its_model(capacity: int | None, operations: list[Any]) -> None:
    (tx, rx), model = channel(capacity), Model(capacity)
    handles: list[JoinHandle[Any]] = []
    for number, operation in enumerate(operations):
        before = set(model.ended)
        if operation == "send":
            handles.append(spawn(tx.send(number)))
            who = len(handles) - 1
            if model.closed:
                model.ended[who] = Closed
            else:
                model.senders.append((who, number))
        elif operation == "recv":
            handles.append(spawn(rx.recv()))
            model.receivers.append(len(handles) - 1)
        elif operation == "close":
            tx.close()
            model.close()
        elif operation == "try_send":
            room = capacity is None or len(model.buffer) < capacity or bool(model.receivers)
            try:
                tx.try_send(number)
                assert room
                model.buffer.append(number)
            except WouldBlock:
                assert not room
            except Closed:
                assert model.closed
        elif operation == "try_recv":
            try:
                value = rx.try_recv()
                if not model.buffer:
                    who, sent = model.senders.pop(0)
                    model.ended[who] = None
                    model.buffer.append(sent)
                assert value == model.buffer.pop(0)
            except WouldBlock:
                assert not model.buffer
                assert not model.senders
            except Closed:
                assert model.closed
        else:
            _, who = operation
            if who < len(handles) and handles[who].cancel():
                model.ended[who] = TaskCancelled
                model.senders = [entry for entry in model.senders if entry[0] != who]
                model.receivers = [other for other in model.receivers if other != who]
        model.settle()
        for who in set(model.ended) - before:
            assert ending(handles[who]) == model.ended[who]
        executor_turn()
        executor_turn()
        assert {n for n, handle in enumerate(handles) if handle.done()} == set(model.ended)
    assert len(rx) == len(model.buffer)
    assert rx._core.slots == 0
    for handle in handles:
        handle.cancel()
        ending(handle)
    assert not rx._core.senders
    assert not rx._core.receivers


class TestOneshot:
    def test_from_a_task_to_a_thread_and_back(self) -> None:
        tx, rx = oneshot()
        handle = parked(rx.recv())
        tx.send(None)
        assert handle.join(TIMEOUT) is None
        tx, rx = oneshot()

        async def answer(tx: Any) -> None:
            tx.send(42)

        spawn(answer(tx))
        assert rx.recv_blocking(TIMEOUT) == 42

    def test_once(self) -> None:
        tx, rx = oneshot()
        tx.send(1)
        with pytest.raises(Closed) as caught:
            tx.send(2)
        assert caught.value.value == 2
        assert rx.try_recv() == 1
        with pytest.raises(Closed):
            rx.try_recv()
        assert "closed" in repr(tx)
        assert "closed" in repr(rx)

    def test_a_sender_that_is_dropped_closes(self) -> None:
        tx, rx = oneshot()
        handle = parked(rx.recv())
        with pytest.raises(WouldBlock):
            rx.try_recv()
        del tx
        gc.collect()
        with pytest.raises(Closed):
            handle.join(TIMEOUT)

    def test_a_receiver_that_is_not_interested(self) -> None:
        tx, rx = oneshot()
        with rx:
            pass
        assert tx.closed
        with pytest.raises(Closed):
            tx.send(1)

    def test_a_cancelled_wait_leaves_the_value(self) -> None:
        tx, rx = oneshot()
        handle = parked(rx.recv())

        async def at_once() -> None:
            tx.send("value")
            handle.cancel()

        block_on(at_once())
        with pytest.raises(TaskCancelled):
            handle.join(TIMEOUT)
        assert rx.recv_blocking(TIMEOUT) == "value"


class TestBroadcast:
    def test_everybody_gets_everything_from_when_they_subscribed(self) -> None:
        tx, first = broadcast(10)
        tx.send(1)
        second = tx.subscribe()
        third = parked(second.recv())
        tx.send(2)
        assert third.join(TIMEOUT) == 2
        tx.close()
        assert list(first) == [1, 2]
        with pytest.raises(Closed):
            second.try_recv()
        with pytest.raises(Closed) as caught:
            tx.send(3)
        assert caught.value.value == 3

    def test_lag(self) -> None:
        tx, rx = broadcast(3)
        for n in range(10):
            tx.send(n)
        with pytest.raises(Lagged) as caught:
            rx.try_recv()
        assert caught.value.n == 7
        assert pickle.loads(pickle.dumps(caught.value)).n == 7
        assert [block_on(rx.recv()), rx.recv_blocking(), rx.try_recv()] == [7, 8, 9]
        with pytest.raises(WouldBlock):
            rx.try_recv()
        assert "behind=0" in repr(rx)

    def test_threads_and_tasks_keep_up_or_know_what_they_missed(self) -> None:
        tx, rx = broadcast(16)
        receivers = [rx, *(tx.subscribe() for _ in range(3))]
        count = 2000

        def in_thread(rx: Any) -> int:
            total = 0
            while True:
                try:
                    rx.recv_blocking()
                    total += 1
                except Lagged as lagged:
                    total += lagged.n
                except Closed:
                    return total

        async def in_task(rx: Any) -> int:
            total = 0
            while True:
                try:
                    await rx.recv()
                    total += 1
                except Lagged as lagged:
                    total += lagged.n
                except Closed:
                    return total

        with ThreadPoolExecutor(2) as pool:
            results = [pool.submit(in_thread, rx) for rx in receivers[:2]]
            results += [spawn(in_task(rx)).future() for rx in receivers[2:]]
            for n in range(count):
                tx.send(n)
            tx.close()
            assert [result.result(TIMEOUT) for result in results] == [count] * 4

    def test_a_cancelled_wait_takes_nothing(self) -> None:
        tx, rx = broadcast(1)
        handle = parked(rx.recv())

        async def at_once() -> None:
            tx.send(1)
            handle.cancel()

        block_on(at_once())
        with pytest.raises(TaskCancelled):
            handle.join(TIMEOUT)
        assert rx.try_recv() == 1
        assert not rx._core.waiters

    @given(st.integers(1, 4), st.lists(st.sampled_from(["send", "0", "1", "new"]), max_size=40))
    @settings(max_examples=60, deadline=None)
    def test_like_its_model(self, capacity: int, operations: list[str]) -> None:
        tx, rx = broadcast(capacity)
        receivers, at, sent = [rx, tx.subscribe()], [0, 0], 0
        for operation in operations:
            if operation == "send":
                tx.send(sent)
                sent += 1
            elif operation == "new":
                receivers[1], at[1] = tx.subscribe(), sent
            else:
                who = int(operation)
                oldest = max(0, sent - capacity)
                try:
                    assert receivers[who].try_recv() == at[who]
                    at[who] += 1
                except Lagged as lagged:
                    assert lagged.n == oldest - at[who] > 0
                    at[who] = oldest
                except WouldBlock:
                    assert at[who] == sent


class TestWatch:
    def test_the_newest_value(self) -> None:
        tx, rx = watch(0)
        assert rx.borrow() == 0
        assert not rx.has_changed()
        handle = parked(rx.changed())
        assert not handle.done()
        tx.send(1)
        handle.join(TIMEOUT)
        tx.send(2)
        tx.send(3)
        assert rx.has_changed()
        rx.changed_blocking(TIMEOUT)
        assert rx.borrow() == tx.borrow() == 3
        with pytest.raises(TimeoutError):
            rx.changed_blocking(0)

    def test_close(self) -> None:
        tx, rx = watch("a")
        late = tx.subscribe()
        handle = parked(late.changed())
        tx.send("b")
        handle.join(TIMEOUT)
        handle = parked(late.changed())
        tx.close()
        with pytest.raises(Closed):
            handle.join(TIMEOUT)
        rx.changed_blocking()  # that of before
        with pytest.raises(Closed):
            rx.changed_blocking()
        with pytest.raises(Closed):
            tx.send("c")
        assert rx.borrow() == "b"
        assert "closed" in repr(rx)
        assert "closed" in repr(tx)

    def test_a_cancelled_wait_has_seen_nothing(self) -> None:
        tx, rx = watch(0)
        handle = parked(rx.changed())

        async def at_once() -> None:
            tx.send(1)
            handle.cancel()

        block_on(at_once())
        with pytest.raises(TaskCancelled):
            handle.join(TIMEOUT)
        assert rx.has_changed()
        assert not rx._core.waiters

    def test_every_watcher_sees_the_last(self) -> None:
        tx, _ = watch(0)

        async def until(rx: Any, n: int) -> None:
            while rx.borrow() < n:
                await rx.changed()

        def until_blocking(rx: Any, n: int) -> None:
            while rx.borrow() < n:
                rx.changed_blocking()

        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(until_blocking, tx.subscribe(), 2000) for _ in range(2)]
            waiting += [spawn(until(tx.subscribe(), 2000)).future() for _ in range(2)]
            for n in range(2001):
                tx.send(n)
            for future in waiting:
                future.result(TIMEOUT)


def test_two_runtimes_and_a_thread_share_a_channel(runtime: Any) -> None:
    (tx, rx), (tx_back, rx_back) = channel(0), channel(1)

    async def forward() -> int:
        count = 0
        async for value in rx:
            await tx_back.send(value)
            count += 1
        return count

    handles = [runtime.spawn(forward()), spawn(forward())]
    with ThreadPoolExecutor(1) as pool:
        received = pool.submit(list, rx_back)
        for n in range(200):
            tx.send_blocking(n, TIMEOUT)
        tx.close()
        assert sum(handle.join(TIMEOUT) for handle in handles) == 200
        tx_back.close()
        assert sorted(received.result(TIMEOUT)) == list(range(200))
