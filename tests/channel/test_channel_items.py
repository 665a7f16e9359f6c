"""A million items through each kind of channel, from four threads to four tasks and back.

By default there are fewer of them: TRALE_CHANNEL_ITEMS says how many, and ``make check-channels``
does with a million. An item is a sender's number and a count.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from trale_py import spawn, yield_now
from trale_py.channel import Closed, Lagged, broadcast, channel, oneshot, watch

ITEMS = int(os.environ.get("TRALE_CHANNEL_ITEMS", "20000"))
EACH = ITEMS // 4

Item = tuple[int, int]
InTask = Callable[[int], Coroutine[Any, Any, Any]]
InThread = Callable[[int], Any]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200 if ITEMS > 100_000 else 60),
    pytest.mark.parametrize("to_tasks", [True, False], ids=["to_tasks", "to_threads"]),
]


def four_and_four(
    to_tasks: bool,
    send: tuple[InTask, InThread],
    receive: tuple[InTask, InThread],
    close: Callable[[], object] = lambda: None,
) -> list[Any]:
    """What four receivers return to which four have sent; each function is called with 0 to 3."""
    (send_in_task, send_in_thread), (receive_in_task, receive_in_thread) = send, receive
    with ThreadPoolExecutor(4) as pool:
        if to_tasks:
            received = [spawn(receive_in_task(n)).future() for n in range(4)]
            sent = [pool.submit(send_in_thread, n) for n in range(4)]
        else:
            received = [pool.submit(receive_in_thread, n) for n in range(4)]
            sent = [spawn(send_in_task(n)).future() for n in range(4)]
        try:
            for sender in sent:
                sender.result()
        finally:
            close()  # a sender that has failed leaves nobody waiting
        return [receiver.result() for receiver in received]


def plain(send: Callable[[Item], None]) -> tuple[InTask, InThread]:
    """To send all by a call that never waits; in a task with the others in between."""

    async def in_task(sender: int) -> None:
        for n in range(EACH):
            send((sender, n))
            if n % 50 == 0:
                await yield_now()

    def in_thread(sender: int) -> None:
        for n in range(EACH):
            send((sender, n))

    return in_task, in_thread


def counts(received: list[Item], sender: int) -> list[int]:
    return [n for who, n in received if who == sender]


@pytest.mark.parametrize("capacity", [0, 1, 64, None])
def test_F4_queue_each_exactly_once_and_in_order(capacity: int | None, to_tasks: bool) -> None:
    tx, rx = channel(capacity)

    async def send(sender: int) -> None:
        for n in range(EACH):
            await tx.send((sender, n))

    def send_blocking(sender: int) -> None:
        for n in range(EACH):
            tx.send_blocking((sender, n))

    async def receive(_: int) -> list[Item]:
        return [item async for item in rx]

    def receive_blocking(_: int) -> list[Item]:
        return list(rx)

    faces = (send, send_blocking), (receive, receive_blocking)
    results = four_and_four(to_tasks, *faces, close=tx.close)
    for sender in range(4):
        of_one = [counts(received, sender) for received in results]
        assert all(ns == sorted(ns) for ns in of_one)
        assert sorted(n for ns in of_one for n in ns) == list(range(EACH))
    assert sum(map(len, results)) == 4 * EACH
    assert len(rx) == 0


def test_broadcast_to_each_exactly_once_in_one_order(to_tasks: bool) -> None:
    tx, rx = broadcast(ITEMS)  # nobody falls behind that far
    receivers = [rx, *(tx.subscribe() for _ in range(3))]

    async def receive(n: int) -> list[Item]:
        return [item async for item in receivers[n]]

    def receive_blocking(n: int) -> list[Item]:
        return list(receivers[n])

    results = four_and_four(to_tasks, plain(tx.send), (receive, receive_blocking), close=tx.close)
    assert all(received == results[0] for received in results)
    assert all(counts(results[0], sender) == list(range(EACH)) for sender in range(4))
    assert len(results[0]) == 4 * EACH


def test_broadcast_that_is_too_fast_says_how_many_were_missed(to_tasks: bool) -> None:
    tx, rx = broadcast(64)
    receivers = [rx, *(tx.subscribe() for _ in range(3))]

    async def receive(n: int) -> tuple[list[Item], int]:
        received, missed = [], 0
        while True:
            try:
                received.append(await receivers[n].recv())
            except Lagged as lagged:
                missed += lagged.n
            except Closed:
                return received, missed

    def receive_blocking(n: int) -> tuple[list[Item], int]:
        received, missed = [], 0
        while True:
            try:
                received.append(receivers[n].recv_blocking())
            except Lagged as lagged:
                missed += lagged.n
            except Closed:
                return received, missed

    results = four_and_four(to_tasks, plain(tx.send), (receive, receive_blocking), close=tx.close)
    for received, missed in results:
        assert len(received) + missed == 4 * EACH
        assert len(set(received)) == len(received)
        for sender in range(4):
            assert counts(received, sender) == sorted(counts(received, sender))
        assert received[-64:] == results[0][0][-64:]


def test_watch_in_order_and_the_last_is_seen(to_tasks: bool) -> None:
    tx, _ = watch((-1, -1))
    receivers = [tx.subscribe() for _ in range(4)]

    async def receive(n: int) -> list[Item]:
        seen: list[Item] = []
        while True:
            try:
                await receivers[n].changed()
            except Closed:
                return seen
            seen.append(receivers[n].borrow())

    def receive_blocking(n: int) -> list[Item]:
        seen: list[Item] = []
        while True:
            try:
                receivers[n].changed_blocking()
            except Closed:
                return seen
            seen.append(receivers[n].borrow())

    results = four_and_four(to_tasks, plain(tx.send), (receive, receive_blocking), close=tx.close)
    for seen in results:
        assert seen[-1] == tx.borrow()
        for sender in range(4):
            assert counts(seen, sender) == sorted(counts(seen, sender))
    assert tx.borrow()[1] == EACH - 1


BATCH = 5_000  # pairs for each of the four at a time: a pair is some kilobytes


def test_oneshot_each_once(to_tasks: bool) -> None:
    for first in range(0, EACH, BATCH):
        numbers = range(first, min(first + BATCH, EACH))
        pairs = [[oneshot() for _ in numbers] for _ in range(4)]

        async def send(sender: int, numbers: range = numbers, pairs: Any = pairs) -> None:
            for n, (tx, _) in zip(numbers, pairs[sender], strict=True):
                tx.send((sender, n))
                if n % 50 == 0:
                    await yield_now()

        def send_blocking(sender: int, numbers: range = numbers, pairs: Any = pairs) -> None:
            for n, (tx, _) in zip(numbers, pairs[sender], strict=True):
                tx.send((sender, n))

        async def receive(sender: int, pairs: Any = pairs) -> list[Item]:
            return [await rx.recv() for _, rx in pairs[sender]]

        def receive_blocking(sender: int, pairs: Any = pairs) -> list[Item]:
            return [rx.recv_blocking() for _, rx in pairs[sender]]

        results = four_and_four(to_tasks, (send, send_blocking), (receive, receive_blocking))
        for sender, received in enumerate(results):
            assert received == [(sender, n) for n in numbers]
            assert all(tx.closed for tx, _ in pairs[sender])
