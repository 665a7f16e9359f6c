"""Time: durations, sleep, Timer, interval. Never early, and no descriptor for each."""

from __future__ import annotations

import math
import select
import sys
import time
from datetime import timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trale_py import (
    ClosedResourceError,
    Event,
    Timer,
    block_on,
    interval,
    move_on_after,
    now,
    sleep,
    sleep_until,
    spawn,
    yield_now,
)
from trale_py.base.durations import NEVER, to_ns


async def elapsed(awaitable: Any) -> float:
    start = time.monotonic_ns()
    await awaitable
    return (time.monotonic_ns() - start) / 1e9


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_E3_a_float_is_rounded_up_to_nanoseconds(seconds: float) -> None:
    ns = to_ns(seconds, "d")
    exact = Fraction(seconds) * 10**9
    assert ns == NEVER if exact > NEVER else exact <= ns < exact + 1


@given(st.timedeltas(min_value=timedelta(0)))
def test_E3_a_timedelta_is_exact(duration: timedelta) -> None:
    exact = (duration.days * 86400 + duration.seconds) * 10**9 + duration.microseconds * 1000
    assert to_ns(duration, "d") == min(exact, NEVER)


@pytest.mark.parametrize("huge", [math.inf, 1e308, 2**63, sys.maxsize, timedelta.max])
def test_E3_what_no_clock_can_hold_is_for_ever(huge: Any) -> None:
    assert to_ns(huge, "d") == NEVER


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (math.nan, ValueError),
        (-1, ValueError),
        (-1e-12, ValueError),
        (-math.inf, ValueError),
        (timedelta(seconds=-1), ValueError),
        ("1", TypeError),
        (None, TypeError),
    ],
)
@pytest.mark.parametrize("call", [sleep, Timer, Timer.sleep, interval])
def test_E1_E2_a_bad_duration_is_refused_at_the_call(
    call: Any, wrong: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"duration|period"):
        call(wrong)


@pytest.mark.parametrize("duration", [0.001, 1e-9, timedelta(milliseconds=2), 0])
def test_never_early(duration: Any) -> None:
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    for _ in range(20):
        assert block_on(elapsed(sleep(duration))) >= 0
    start = time.monotonic_ns()
    block_on(elapsed(sleep(duration)))
    assert time.monotonic_ns() - start >= seconds * 1e9


def test_T9_E12_many_short_sleeps_are_never_early_and_not_rounded_to_milliseconds() -> None:
    async def main() -> tuple[list[int], list[int]]:
        over: list[int] = []
        by_epoll: list[int] = []
        for _ in range(300):
            start = time.monotonic_ns()
            await sleep(0.0002)
            slept = time.monotonic_ns()
            rounds_up.poll(0.0002)
            over.append(slept - start - 200_000)
            by_epoll.append(time.monotonic_ns() - slept - 200_000)
        return over, by_epoll

    with select.epoll() as rounds_up:  # its timeout is in whole milliseconds
        over, by_epoll = block_on(main())
    assert 0 <= min(over) < min(by_epoll)


@pytest.mark.slow
def test_sleep_counts_from_the_call() -> None:
    timer = sleep(1.5)
    time.sleep(1.5)  # not to synchronise: this is the time between call and await
    assert block_on(elapsed(timer)) < 1


def test_sleep_zero_gives_way() -> None:
    order: list[str] = []

    async def other() -> None:
        order.append("other")

    async def main() -> None:
        handle = spawn(other())
        await sleep(0)
        order.append("main")
        await handle

    block_on(main())
    assert order == ["other", "main"]


def test_E6_R6_an_earlier_deadline_while_the_reactor_sleeps() -> None:
    async def main() -> None:
        late = spawn(sleep(1000))
        await yield_now()
        for _ in range(20):
            await sleep(0.001)
        late.cancel()

    spawn(main()).join(20)


def test_timers_fire_in_the_order_of_their_deadlines() -> None:
    fired: list[int] = []

    async def main() -> None:
        start = now()

        async def one(n: int) -> None:
            await sleep_until(start + 0.02 + n * 0.0005)
            fired.append(n)

        for handle in [spawn(one(n)) for n in (7, 3, 9, 1, 5, 0, 8, 2, 6, 4)]:
            await handle

    block_on(main())
    assert fired == sorted(fired)


def test_E4_ten_thousand_timers_at_the_same_instant() -> None:
    async def main() -> int:
        deadline = now() + 0.3
        handles = [spawn(sleep_until(deadline)) for _ in range(10_000)]
        for handle in handles:
            await handle
        return sum(now() >= deadline for _ in range(1))

    assert block_on(main()) == 1


def test_sleep_until_a_time_that_has_passed() -> None:
    for past in (now() - 1, 0.0, -5.0, -math.inf):
        assert block_on(elapsed(sleep_until(past))) < 1


@pytest.mark.parametrize(("wrong", "error"), [(math.nan, ValueError), ("1", TypeError)])
def test_sleep_until_checks_at_the_call(wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="deadline"):
        sleep_until(wrong)


def test_reset_moves_a_timer_that_is_waited_for() -> None:
    async def main() -> float:
        timer = Timer(30)
        waiting = spawn(elapsed(timer))
        await yield_now()
        timer.reset(0.01)
        return await waiting

    assert 0.009 < block_on(main()) < 5


def test_reset_later() -> None:
    async def main() -> float:
        timer = Timer(0.001)
        waiting = spawn(elapsed(timer))
        await yield_now()
        timer.reset(0.03)
        return await waiting

    assert block_on(main()) >= 0.03 - 0.001


def test_cancel_ends_the_wait_and_stays() -> None:
    async def main() -> None:
        timer = Timer(30)
        waiting = spawn(timer)
        await yield_now()
        timer.cancel()
        with pytest.raises(ClosedResourceError):
            await waiting
        with pytest.raises(ClosedResourceError):
            await timer
        with pytest.raises(ClosedResourceError):
            timer.reset(1)
        assert repr(timer) == "<Timer cancelled>"

    block_on(main())


def test_a_timer_that_has_fired_stays_ready() -> None:
    async def main() -> None:
        timer = Timer(0.001)
        await timer
        assert await elapsed(timer) < 1

    block_on(main())


def test_a_timer_whose_coroutine_is_closed_is_taken_back() -> None:
    async def main() -> None:
        async def waits() -> None:
            await sleep(1000)

        coros = [waits() for _ in range(3000)]
        for coro in coros:
            coro.send(None)
        for coro in coros:
            coro.close()

    block_on(main())  # the fixture looks into the heap


def test_an_infinite_sleep_registers_nothing_and_can_be_woken_in_vain() -> None:
    event = Event()

    async def forever() -> None:
        await sleep(math.inf)

    async def main() -> None:
        coro = forever()
        coro.send(None)
        coro.close()
        event.set()

    block_on(main())
    assert event.is_set()


class TestInterval:
    def test_ticks_at_once_and_then_at_the_period(self) -> None:
        async def main() -> list[float]:
            clock = interval(0.01)
            return [await clock.tick() for _ in range(4)]

        ticks = block_on(main())
        assert [round(b - a, 6) for a, b in pairwise(ticks)] == [0.01] * 3

    def test_async_for(self) -> None:
        async def main() -> int:
            count = 0
            async for _ in interval(timedelta(milliseconds=1)):
                count += 1
                if count == 3:
                    break
            return count

        assert block_on(main()) == 3

    @staticmethod
    async def late(missed: Any) -> list[int]:
        """The due times, in ms, of five ticks; after the first the task is busy for 25 ms."""
        clock = interval(0.01, missed=missed)
        start = await clock.tick()
        while now() < start + 0.025:
            pass
        return [0, *[round((await clock.tick() - start) * 1000) for _ in range(4)]]

    def test_E11_burst_makes_up_for_all_missed_ticks(self) -> None:
        assert block_on(self.late("burst")) == [0, 10, 20, 30, 40]

    def test_E11_skip_leaves_out_what_is_past_and_keeps_to_the_beat(self) -> None:
        ticks = block_on(self.late("skip"))
        assert ticks[:2] == [0, 10]
        assert ticks[2] >= 30
        assert all(tick % 10 == 0 for tick in ticks)
        assert ticks == sorted(set(ticks))

    def test_E11_delay_counts_from_the_late_tick(self) -> None:
        async def main() -> tuple[float, float]:
            clock = interval(0.01, missed="delay")
            start = await clock.tick()
            while now() < start + 0.025:
                pass
            second = await clock.tick()
            third = await clock.tick()
            return second - start, third - start

        second, third = block_on(main())
        assert second >= 0.01
        assert third >= 0.035 - 1e-6

    def test_E9_a_zero_period_and_a_wrong_policy(self) -> None:
        with pytest.raises(ValueError, match="period"):
            interval(0)
        with pytest.raises(ValueError, match="burst"):
            interval(1, missed="never")  # type: ignore[arg-type]

    @pytest.mark.parametrize("missed", ["burst", "delay", "skip"])
    def test_E3_a_period_that_no_clock_can_hold_ticks_once(self, missed: Any) -> None:
        async def main() -> bool:
            clock = interval(math.inf, missed=missed)
            await clock.tick()
            with move_on_after(0.01) as scope:
                await clock.tick()
            return scope.cancelled_caught

        assert block_on(main())
