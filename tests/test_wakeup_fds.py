"""The bell and the alarm: linuxfd's faults stay behind them."""

from __future__ import annotations

import fcntl
import os
import random
import select
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from trale_py.base.durations import NEVER
from trale_py.core.wakeup_fds import LONGEST_WAIT_NS, Alarm, Bell

Script = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def bell() -> Iterator[Bell]:
    bell = Bell()
    yield bell
    bell.close()


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    alarm = Alarm()
    yield alarm
    alarm.close()


def rings(fd: Bell | Alarm, timeout: float = 0) -> bool:
    return bool(select.select([fd], [], [], timeout)[0])


def test_a_bell_rings_until_it_is_cleared(bell: Bell) -> None:
    assert not rings(bell)
    bell.ring()
    bell.ring()
    assert rings(bell)
    assert rings(bell)
    bell.clear()
    assert not rings(bell)


def test_clearing_a_bell_that_does_not_ring(bell: Bell) -> None:
    bell.clear()
    assert not rings(bell)


def test_B25_ringing_a_bell_whose_counter_is_full(bell: Bell) -> None:
    os.eventfd_write(bell.fileno(), 2**64 - 2)
    bell.ring()
    assert rings(bell)
    bell.clear()
    assert not rings(bell)


@pytest.mark.parametrize("kind", [Bell, Alarm])
def test_non_blocking_and_not_inherited(kind: type[Bell] | type[Alarm]) -> None:
    fd = kind()
    assert not os.get_blocking(fd.fileno())
    assert fcntl.fcntl(fd.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    fd.close()
    assert fd.fileno() == -1


def test_an_alarm_for_a_time_that_is_past_goes_off_at_once(alarm: Alarm) -> None:
    alarm.set(1, time.monotonic_ns())
    assert rings(alarm, 10)
    alarm.clear()
    assert not rings(alarm)


def test_an_alarm_is_never_early(alarm: Alarm) -> None:
    for n in range(100):
        deadline = time.monotonic_ns() + 300_000 + n * 1_001
        alarm.set(deadline, time.monotonic_ns())
        assert rings(alarm, 10)
        assert time.monotonic_ns() >= deadline
        alarm.clear()


def test_what_linuxfd_is_told_is_never_before_the_deadline(alarm: Alarm) -> None:
    """It cuts off what is less than a nanosecond, and a float is no exact nanosecond."""
    told: list[float] = []

    class Record:
        def settime(self, value: float, *_: object) -> None:
            told.append(value)

    real, alarm._timerfd = alarm._timerfd, Record()
    rng = random.Random(1)
    for _ in range(2000):
        deadline = rng.randrange(1, 10 ** rng.randrange(1, 17))
        alarm.set(deadline, deadline)
        seconds = int(told[-1])
        nanoseconds = int(1e9 * (told[-1] - seconds))  # as linuxfd does it
        assert deadline <= seconds * 10**9 + nanoseconds <= deadline + 250
    alarm._timerfd = real


@pytest.mark.parametrize("deadline", [2**31 * 10**9, (2**31 + 1) * 10**9, 2**33 * 10**9, NEVER])
def test_a_deadline_beyond_a_C_int_of_seconds(alarm: Alarm, deadline: int) -> None:
    alarm.set(deadline, time.monotonic_ns())
    left, _ = alarm._timerfd.gettime()
    assert LONGEST_WAIT_NS / 1e9 - 60 < left <= LONGEST_WAIT_NS / 1e9 + 1
    assert not rings(alarm)


def test_E7_setting_an_alarm_anew_silences_it(alarm: Alarm) -> None:
    alarm.set(1, time.monotonic_ns())
    assert rings(alarm, 10)
    alarm.set(NEVER, time.monotonic_ns())
    assert not rings(alarm)
    alarm.clear()


def test_I18_descriptor_0_is_closed(run_script: Script) -> None:
    """Without stdin, eventfd and timerfd get number 0, which linuxfd does not close."""
    result = run_script(
        """
        import os
        from trale_py.core.wakeup_fds import Alarm, Bell

        os.close(0)
        for kind in (Bell, Alarm):
            fd = kind()
            assert fd.fileno() == 0, fd.fileno()
            fd.close()
            try:
                os.fstat(0)
            except OSError:
                print("closed")
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "closed\n" * 2, "")


def test_a_runtime_without_the_standard_descriptors_leaves_none(run_script: Script) -> None:
    result = run_script(
        """
        import os
        from trale_py import Executor, block_on, sleep

        out = os.dup(1)
        before = set(os.listdir("/proc/self/fd")) - {"0", "1"}
        os.close(0); os.close(1)
        for _ in range(3):
            block_on(sleep(0.001))
            assert {"0", "1"} <= set(os.listdir("/proc/self/fd"))
            Executor.shutdown(10)
            left = set(os.listdir("/proc/self/fd"))
            # the directory that is being listed has the lowest free number
            assert left - before <= {"0"}, left - before
        os.write(out, b"ok")
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok", "")
