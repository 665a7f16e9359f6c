"""Latch: it opens once, and each waiter is let through once."""

from __future__ import annotations

import threading

import pytest

from tests.support.net_helpers import TIMEOUT
from trale_py.core.latch import Latch


def test_waiters_are_let_through_in_their_order_and_once() -> None:
    latch, order = Latch(), []
    for n in range(5):
        assert latch.call_when_open(n, lambda n=n: order.append(n))
    latch.forget(3)
    latch.open()
    latch.open()
    assert order == [0, 1, 2, 4]
    assert latch.waiters == {}


def test_an_open_latch_calls_nobody() -> None:
    latch, calls = Latch(), []
    latch.open()
    assert not latch.call_when_open("key", lambda: calls.append(1))
    assert calls == []
    assert latch.waiters == {}


def test_a_call_that_raises_holds_up_none_after_it() -> None:
    latch, order = Latch(), []

    def fail() -> None:
        order.append("fails")
        raise ValueError("of the first")

    latch.call_when_open(1, fail)
    latch.call_when_open(2, lambda: order.append("goes on"))
    with pytest.raises(ValueError, match="of the first"):
        latch.open()
    assert order == ["fails", "goes on"]
    assert latch.opened


def test_a_wait_with_a_limit_takes_itself_out() -> None:
    latch = Latch()
    assert not latch.wait_blocking(0)
    assert not latch.wait_blocking(0.001)
    assert latch.waiters == {}


def test_threads_are_let_through() -> None:
    latch, through = Latch(), []
    threads = [
        threading.Thread(target=lambda: through.append(latch.wait_blocking(TIMEOUT)))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    latch.open()
    for thread in threads:
        thread.join(TIMEOUT)
    assert through == [True] * 5
    assert latch.waiters == {}
    assert latch.wait_blocking(0)
