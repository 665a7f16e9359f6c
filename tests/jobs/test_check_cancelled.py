"""check_cancelled(), and the limiter of spawn_blocking."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.net_helpers import TIMEOUT, executor_turn
from trale_py import (
    Cancelled,
    CapacityLimiter,
    Runtime,
    TaskCancelled,
    block_on,
    check_cancelled,
    move_on_after,
    spawn_blocking,
)


class Work:
    """A function that looks whether it was cancelled, again and again."""

    def __init__(self) -> None:
        self.looked = threading.Event()
        self.ended: list[Any] = []
        self.go = threading.Event()

    def __call__(self) -> str:
        try:
            while not self.go.wait(0.001):
                check_cancelled()
                self.looked.set()
        except Cancelled as error:
            self.ended.append(error.reason)
            raise
        return "value"


def test_I11_cancel_ends_a_job_that_looks() -> None:
    work = Work()
    handle = spawn_blocking(work)
    assert work.looked.wait(TIMEOUT)
    assert handle.cancel("enough") is True
    with pytest.raises(TaskCancelled, match="enough"):
        handle.join(TIMEOUT)
    assert handle.cancelled()
    assert work.ended == ["enough"]


def test_a_job_that_does_not_look_goes_on_and_one_may_swallow_it() -> None:
    go, begun = threading.Event(), threading.Event()

    def deaf() -> str:
        begun.set()
        go.wait(TIMEOUT)
        try:
            check_cancelled()
        except Cancelled:
            return "swallowed"
        return "not asked"

    handle = spawn_blocking(deaf)
    assert begun.wait(TIMEOUT)
    assert handle.cancel() is False
    go.set()
    assert handle.join(TIMEOUT) == "swallowed"


def test_a_scope_around_the_await_only_ends_the_wait() -> None:
    work = Work()
    handle = spawn_blocking(work)

    async def wait() -> None:
        with move_on_after(0.01):
            await handle

    block_on(wait())
    assert work.looked.wait(TIMEOUT)
    assert work.ended == []
    work.go.set()
    assert handle.join(TIMEOUT) == "value"


def test_a_shutdown_asks_it_to_end() -> None:
    work = Work()
    runtime = Runtime()
    with runtime:
        spawn_blocking(work)
        assert work.looked.wait(TIMEOUT)
    pause = threading.Event()
    for _ in range(10_000):
        if work.ended:
            break
        pause.wait(0.001)
    assert len(work.ended) == 1


def test_a_raise_of_it_without_a_cancel_is_an_error_and_elsewhere_it_is_refused() -> None:
    with pytest.raises(RuntimeError, match="spawn_blocking"):
        check_cancelled()
    spawn_blocking(check_cancelled).join(TIMEOUT)
    with pytest.raises(RuntimeError, match="spawn_blocking"):
        check_cancelled()


def test_a_limiter_bounds_the_calls_until_they_have_ended() -> None:
    limiter = CapacityLimiter(2)
    lock, go = threading.Lock(), threading.Event()
    now = most = 0

    def work() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        go.wait(TIMEOUT)
        with lock:
            now -= 1

    handles = [spawn_blocking(work, limiter=limiter) for _ in range(6)]
    while limiter.borrowed_tokens < 2:
        executor_turn()
    assert handles[-1].cancel()
    go.set()
    for handle in handles[:-1]:
        handle.join(TIMEOUT)
    with pytest.raises(TaskCancelled):
        handles[-1].join(TIMEOUT)
    assert most <= 2
    assert limiter.borrowed_tokens == 0


def test_limiter_is_checked() -> None:
    with pytest.raises(TypeError, match="limiter must be"):
        spawn_blocking(int, limiter=3)  # type: ignore[call-overload]
    with ThreadPoolExecutor(1) as pool, pytest.raises(TypeError, match="limiter bounds"):
        spawn_blocking(int, limiter=CapacityLimiter(1), executor=pool)
