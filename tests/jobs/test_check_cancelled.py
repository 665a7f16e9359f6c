"""check_cancelled(), and the limiter of spawn_blocking."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.support.interleave import everywhere
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
from trale_py.core import current
from trale_py.jobs import job


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


def test_a_limited_call_that_no_thread_can_run_returns_its_token_once() -> None:
    go, limiter = threading.Event(), CapacityLimiter(1)

    async def fail() -> None:
        handle._job.fail(OSError("no thread"))  # type: ignore[union-attr]

    with Runtime():
        pool = current.runtime().jobs
        pool.limit = 1
        busy = spawn_blocking(go.wait, TIMEOUT)
        handle = spawn_blocking(int, limiter=limiter)
        while pool.queued == 0 or limiter.borrowed_tokens == 0:
            executor_turn()
        block_on(fail())
        with pytest.raises(OSError, match="no thread"):
            handle.join(TIMEOUT)
        assert limiter.borrowed_tokens == 0
        go.set()
        busy.join(TIMEOUT)


def test_limiter_is_checked() -> None:
    with pytest.raises(TypeError, match="limiter must be"):
        spawn_blocking(int, limiter=3)  # type: ignore[call-overload]
    with ThreadPoolExecutor(1) as pool, pytest.raises(TypeError, match="limiter bounds"):
        spawn_blocking(int, limiter=CapacityLimiter(1), executor=pool)


def test_R75_a_cancel_while_the_job_looks_for_the_first_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of the two sees the other: cancel() returns True, or check_cancelled() raises."""

    def attempt(at: Any, job_is_met: bool) -> None:
        call = begun()
        monkeypatch.setattr(job._here, "job", call, raising=False)
        told: list[bool] = []
        raised: list[Cancelled] = []

        def cancel() -> None:
            told.append(call.cancel("why"))

        def look() -> None:
            try:
                check_cancelled()
            except Cancelled as error:
                raised.append(error)

        interleaving = at(cancel if job_is_met else look)
        interleaving.run(look if job_is_met else cancel)
        assert not interleaving.happened or told == [True] or len(raised) == 1

    assert everywhere(job, partial(attempt, job_is_met=True)) > 3
    assert everywhere(job, partial(attempt, job_is_met=False)) > 3


def begun() -> job.BlockingCall[None]:
    call = job.BlockingCall(lambda: None, current.runtime().jobs)
    call._fate[None] = call
    return call
