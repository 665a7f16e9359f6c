"""WakeupFd and TimerFd: linuxfd's faults stay behind them."""

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
from trale_py.core.wakeup_fds import LONGEST_WAIT_NS, TimerFd, WakeupFd

Script = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def wakeup_fd() -> Iterator[WakeupFd]:
    wakeup_fd = WakeupFd()
    yield wakeup_fd
    wakeup_fd.close()


@pytest.fixture
def timer_fd() -> Iterator[TimerFd]:
    timer_fd = TimerFd()
    yield timer_fd
    timer_fd.close()


def readable(fd: WakeupFd | TimerFd, timeout: float = 0) -> bool:
    return bool(select.select([fd], [], [], timeout)[0])


def test_a_wakeup_fd_is_readable_until_it_is_cleared(wakeup_fd: WakeupFd) -> None:
    assert not readable(wakeup_fd)
    wakeup_fd.notify()
    wakeup_fd.notify()
    assert readable(wakeup_fd)
    assert readable(wakeup_fd)
    wakeup_fd.clear()
    assert not readable(wakeup_fd)


def test_clearing_a_wakeup_fd_that_is_not_readable(wakeup_fd: WakeupFd) -> None:
    wakeup_fd.clear()
    assert not readable(wakeup_fd)


def test_B25_notifying_a_wakeup_fd_whose_counter_is_full(wakeup_fd: WakeupFd) -> None:
    os.eventfd_write(wakeup_fd.fileno(), 2**64 - 2)
    wakeup_fd.notify()
    assert readable(wakeup_fd)
    wakeup_fd.clear()
    assert not readable(wakeup_fd)


@pytest.mark.parametrize("kind", [WakeupFd, TimerFd])
def test_non_blocking_and_not_inherited(kind: type[WakeupFd] | type[TimerFd]) -> None:
    fd = kind()
    assert not os.get_blocking(fd.fileno())
    assert fcntl.fcntl(fd.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    fd.close()
    assert fd.fileno() == -1


def test_a_timer_fd_for_a_time_that_is_past_expires_at_once(timer_fd: TimerFd) -> None:
    timer_fd.set(1, time.monotonic_ns())
    assert readable(timer_fd, 10)
    timer_fd.clear()
    assert not readable(timer_fd)


def test_a_timer_fd_is_never_early(timer_fd: TimerFd) -> None:
    for n in range(100):
        deadline = time.monotonic_ns() + 300_000 + n * 1_001
        timer_fd.set(deadline, time.monotonic_ns())
        assert readable(timer_fd, 10)
        assert time.monotonic_ns() >= deadline
        timer_fd.clear()


def test_what_linuxfd_is_told_is_never_before_the_deadline(timer_fd: TimerFd) -> None:
    """It cuts off what is less than a nanosecond, and a float is no exact nanosecond."""
    told: list[float] = []

    class Record:
        def settime(self, value: float, *_: object) -> None:
            told.append(value)

    real, timer_fd._timerfd = timer_fd._timerfd, Record()
    rng = random.Random(1)
    for _ in range(2000):
        deadline = rng.randrange(1, 10 ** rng.randrange(1, 17))
        timer_fd.set(deadline, deadline)
        seconds = int(told[-1])
        nanoseconds = int(1e9 * (told[-1] - seconds))  # as linuxfd does it
        assert deadline <= seconds * 10**9 + nanoseconds <= deadline + 250
    timer_fd._timerfd = real


@pytest.mark.parametrize("deadline", [2**31 * 10**9, (2**31 + 1) * 10**9, 2**33 * 10**9, NEVER])
def test_a_deadline_beyond_a_C_int_of_seconds(timer_fd: TimerFd, deadline: int) -> None:
    timer_fd.set(deadline, time.monotonic_ns())
    left, _ = timer_fd._timerfd.gettime()
    assert LONGEST_WAIT_NS / 1e9 - 60 < left <= LONGEST_WAIT_NS / 1e9 + 1
    assert not readable(timer_fd)


def test_E7_setting_a_timer_fd_anew_silences_it(timer_fd: TimerFd) -> None:
    timer_fd.set(1, time.monotonic_ns())
    assert readable(timer_fd, 10)
    timer_fd.set(NEVER, time.monotonic_ns())
    assert not readable(timer_fd)
    timer_fd.clear()


def test_I18_descriptor_0_is_closed(run_script: Script) -> None:
    """Without stdin, eventfd and timerfd get number 0, which linuxfd does not close."""
    result = run_script(
        """
        import os
        from trale_py.core.wakeup_fds import TimerFd, WakeupFd

        os.close(0)
        for kind in (WakeupFd, TimerFd):
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
