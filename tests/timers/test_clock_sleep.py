"""timers/clock_sleep.py: sleeps on the wall clock, and on the clock that counts suspend."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from trale_py import JoinHandle, block_on, move_on_after, sleep, sleep_until_wall, spawn, yield_now
from trale_py._linux import clock_timer
from trale_py.timers import clock_sleep


class Clock:
    """A clock that the test sets. Its timers are eventfds, which the test makes readable."""

    CLOCK_REALTIME = time.CLOCK_REALTIME
    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME

    def __init__(self) -> None:
        self.shows = 0
        self.timer = -1
        self.set_to: list[int] = []

    def clock_gettime_ns(self, clock: int) -> int:
        return self.shows

    def open_timer(self, clock: int) -> int:
        self.timer = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return self.timer

    def set_timer(self, timer: int, deadline: int) -> None:
        self.set_to.append(deadline)

    def wake(self) -> None:
        os.eventfd_write(self.timer, 1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(clock_sleep, "time", fake)
    kernel = SimpleNamespace(
        open_timer=fake.open_timer, set_timer=fake.set_timer, clear_timer=clock_timer.clear_timer
    )
    monkeypatch.setattr(clock_sleep, "clock_timer", kernel)
    return fake


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


async def until_set(clock: Clock, times: int) -> None:
    while len(clock.set_to) < times:
        await yield_now()


@pytest.mark.parametrize("wrong", [datetime(2030, 1, 1), datetime.max])
def test_E10_a_naive_datetime_is_refused_at_the_call(wrong: datetime) -> None:
    with pytest.raises(ValueError, match="when must have a time zone"):
        sleep_until_wall(wrong)


@pytest.mark.parametrize("wrong", [0, 1e9, None, "2030-01-01", timedelta(1)])
def test_E10_another_type_is_refused_at_the_call(wrong: Any) -> None:
    with pytest.raises(TypeError, match="when must be a datetime"):
        sleep_until_wall(wrong)


@pytest.mark.parametrize("offset", [-12, 0, 5.5])
def test_E10_a_wall_sleep_is_never_early(offset: float) -> None:
    async def main() -> None:
        when = datetime.now(timezone(timedelta(hours=offset))) + timedelta(milliseconds=3)
        await sleep_until_wall(when)
        assert datetime.now(UTC) >= when

    block_on(main())


@pytest.mark.parametrize("past", [datetime.min.replace(tzinfo=UTC), at(-1), at(0), at(1)])
def test_E1_a_time_that_is_past_is_at_once(past: datetime) -> None:
    block_on(sleep_until_wall(past))


def test_E3_what_is_beyond_the_kernels_clock_is_for_ever() -> None:
    """Seconds that a C int does not hold, and nanoseconds that 64 bits do not hold."""

    async def main() -> None:
        for year in (2039, 2300, 9999):
            with move_on_after(0.001) as scope:
                await sleep_until_wall(datetime(year, 12, 31, tzinfo=UTC))
            assert scope.cancelled_caught
        with move_on_after(0.001) as scope:
            await sleep(float("inf"), count_suspend=True)
        assert scope.cancelled_caught

    block_on(main())


def test_E10_the_clock_is_set_forward_over_the_end(clock: Clock) -> None:
    async def main() -> None:
        sleeper: JoinHandle[None] = spawn(sleep_until_wall(at(1000)))
        await until_set(clock, 1)
        clock.shows = 2000 * 10**9
        clock.wake()
        await sleeper

    block_on(main())
    assert clock.set_to == [1000 * 10**9]


def test_E10_the_clock_is_set_back_as_the_timer_goes_off(clock: Clock) -> None:
    """It sleeps on until the clock shows the time once more, and sets the timer for that."""

    async def main() -> None:
        sleeper: JoinHandle[None] = spawn(sleep_until_wall(at(1000)))
        for times in range(1, 4):
            await until_set(clock, times)
            assert not sleeper.done()
            clock.wake()
        await until_set(clock, 4)
        clock.shows = 1000 * 10**9
        clock.wake()
        await sleeper

    block_on(main())


def test_E10_the_kernel_says_that_the_clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def read(fd: int, n: int) -> bytes:
        reads.append(fd)
        raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))

    timer = clock_timer.open_timer(time.CLOCK_REALTIME)
    with monkeypatch.context() as patch:
        patch.setattr(clock_timer.os, "read", read)
        clock_timer.clear_timer(timer)
    os.close(timer)
    assert reads == [timer]


def test_E10_somebody_sets_the_clock() -> None:
    """To the time that it shows, so nobody else is harmed. The sleeper is woken, and sleeps on."""
    try:
        time.clock_settime_ns(time.CLOCK_REALTIME, time.clock_gettime_ns(time.CLOCK_REALTIME))
    except PermissionError:
        pytest.skip("this needs CAP_SYS_TIME")

    timer = clock_timer.open_timer(time.CLOCK_REALTIME)
    far = time.clock_gettime_ns(time.CLOCK_REALTIME) + 3600 * 10**9
    clock_timer.set_timer(timer, far)
    time.clock_settime_ns(time.CLOCK_REALTIME, time.clock_gettime_ns(time.CLOCK_REALTIME))
    with pytest.raises(OSError, match="canceled"):
        os.read(timer, 8)
    time.clock_settime_ns(time.CLOCK_REALTIME, time.clock_gettime_ns(time.CLOCK_REALTIME))
    clock_timer.set_timer(timer, far)  # ECANCELED from timerfd_settime(2) is no error
    clock_timer.clear_timer(timer)
    os.close(timer)

    async def main() -> None:
        when = datetime.now(UTC) + timedelta(milliseconds=20)
        sleeper = spawn(sleep_until_wall(when))
        await yield_now()
        time.clock_settime_ns(time.CLOCK_REALTIME, time.clock_gettime_ns(time.CLOCK_REALTIME))
        await sleeper
        assert datetime.now(UTC) >= when

    block_on(main())


@pytest.mark.parametrize("duration", [0, 1e-9, 0.003, timedelta(milliseconds=3)])
def test_a_sleep_that_counts_suspend_is_never_early(duration: Any) -> None:
    async def main() -> None:
        start = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        await sleep(duration, count_suspend=True)
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
        assert time.clock_gettime_ns(time.CLOCK_BOOTTIME) - start >= seconds * 1e9

    block_on(main())


def test_E11_a_suspend_counts(clock: Clock) -> None:
    """The clock has gone on, and the kernel's timer with it."""

    async def main() -> None:
        sleeper = spawn(ClockSleepFor(clock, 1000))
        await until_set(clock, 1)
        clock.shows += 5000 * 10**9
        clock.wake()
        await sleeper

    block_on(main())


def ClockSleepFor(clock: Clock, seconds: int) -> clock_sleep.ClockSleep:
    return clock_sleep.ClockSleep(time.CLOCK_BOOTTIME, clock.shows + seconds * 10**9)


def test_E11_in_a_time_namespace() -> None:
    """CLOCK_BOOTTIME is another one there, and timers of it too."""
    unshare = shutil.which("unshare")
    source = (
        "import time; from trale_py import block_on, sleep\n"
        "start = time.clock_gettime(time.CLOCK_BOOTTIME); assert start > 1_000_000\n"
        "block_on(sleep(0.01, count_suspend=True))\n"
        "assert time.clock_gettime(time.CLOCK_BOOTTIME) - start >= 0.01\n"
    )
    command = [str(unshare), "-T", "--boottime", "1000000", "--fork"]
    if unshare is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("no time namespace can be made here")
    subprocess.run([*command, sys.executable, "-W", "error", "-c", source], check=True, timeout=30)


def test_a_cancelled_sleep_leaves_no_descriptor() -> None:
    """The fixture that all tests have looks for one."""

    async def main() -> None:
        when = datetime.now(UTC) + timedelta(hours=1)
        for _ in range(20):
            with move_on_after(0):
                await sleep_until_wall(when)
            with move_on_after(0.001):
                await sleep_until_wall(when)

    block_on(main())


def test_what_it_shows() -> None:
    later = datetime.now(UTC) + timedelta(hours=1, seconds=1)
    operations = [sleep_until_wall(later), sleep(3601, count_suspend=True)]
    texts = [repr(operation) for operation in operations]
    for operation in operations:
        operation.close()
    assert texts[0].startswith("<sleep_until_wall, 3600.")
    assert texts[1].startswith("<sleep, suspend counted, 3600.")
