"""Source: the readiness of one descriptor, with no kernel beside it (R3, R4)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.python_engine import Source
from trale_py.core.source import Direction


class Wakeable:
    """A waker that counts, and may do something else when it is called."""

    def __init__(self, then: object = None) -> None:
        self.wakes = 0
        self._then = then

    def wake(self) -> None:
        self.wakes += 1
        if callable(self._then):
            self._then()


@pytest.fixture
def source() -> Any:
    return Source(5)


def test_a_new_direction_counts_as_ready() -> None:
    assert Direction().ready


def test_R3_would_block_of_an_older_event_does_not_hide_a_newer_one() -> None:
    direction = Direction()
    seen = direction.events  # written down before the call that says EAGAIN
    direction.notify(more=False)  # data comes in between
    direction.seen = seen
    assert direction.ready
    direction.seen = direction.events
    assert not direction.ready


def test_R4_the_event_is_counted_before_the_wakers_are_taken() -> None:
    direction = Direction()
    direction.seen = direction.events
    found: list[bool] = []
    direction.waiters["key"] = Wakeable(lambda: found.append(direction.ready))
    direction.notify(more=False)
    assert found == [True]


def test_an_event_wakes_all_in_the_order_they_came_and_once() -> None:
    direction = Direction()
    order: list[int] = []
    wakers = [Wakeable(lambda n=n: order.append(n)) for n in range(5)]
    for n, waker in enumerate(wakers):
        direction.waiters[n] = waker
    direction.notify(more=False)
    direction.notify(more=False)
    assert order == list(range(5))
    assert direction.waiters == {}


def test_what_a_waker_adds_waits_for_the_next_event() -> None:
    direction, late = Direction(), Wakeable()
    direction.waiters[1] = Wakeable(lambda: direction.waiters.update({2: late}))
    direction.notify(more=False)
    assert late.wakes == 0
    direction.notify(more=False)
    assert late.wakes == 1


def test_a_waker_that_takes_another_back_is_not_undone() -> None:
    direction, other = Direction(), Wakeable()
    direction.waiters[1] = Wakeable(lambda: direction.waiters.pop(2, None))
    direction.waiters[2] = other
    direction.notify(more=False)
    assert other.wakes == 0


def test_more_once_said_stays() -> None:
    direction = Direction()
    assert not direction.more
    direction.notify(more=True)
    direction.notify(more=False)
    assert direction.more


def test_the_directions_of_a_source_are_apart(source: Any) -> None:
    reader, writer, both = Wakeable(), Wakeable(), Wakeable()
    source.add("reader", reader, read=True, write=False)
    source.add("writer", writer, read=False, write=True)
    source.add("both", both, read=True, write=True)
    source.read.notify(more=False)
    assert [reader.wakes, writer.wakes, both.wakes] == [1, 0, 1]
    source.discard("both")
    source.write.notify(more=False)
    assert [reader.wakes, writer.wakes, both.wakes] == [1, 1, 1]
    assert repr(source) == "<Source fd=5 users=0>"
