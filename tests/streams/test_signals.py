"""Signals that tasks receive."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import open_fds
from tests.support.net_helpers import TIMEOUT
from trale_py import (
    BusyResourceError,
    ClosedResourceError,
    Event,
    block_on,
    open_signal_receiver,
    spawn,
    yield_now,
)
from trale_py.streams.signals import SignalReceiver

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Each test ends with the handlers that it began with."""
    some = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(signum) for signum in some]
    yield
    after = [signal.getsignal(signum) for signum in some]
    for signum, handler in zip(some, before, strict=True):
        signal.signal(signum, handler)
    assert after == before


async def some_of(signals: SignalReceiver, count: int) -> list[signal.Signals]:
    come = []
    async for signum in signals:
        come.append(signum)
        if len(come) == count:
            break
    return come


async def nothing_there(signals: SignalReceiver) -> bool:
    """No signal is kept for this receiver: all that came were raised in this thread before."""
    task = spawn(some_of(signals, 1))
    for _ in range(3):
        await yield_now()
    task.cancel()
    try:
        await task
    except BaseException:
        return True
    return False


def test_a_task_receives_a_signal() -> None:
    with open_signal_receiver(signal.SIGUSR1) as signals:
        handle = spawn(some_of(signals, 1))
        signal.raise_signal(signal.SIGUSR1)
        assert handle.join(TIMEOUT) == [signal.SIGUSR1]


def test_what_came_before_the_wait_is_kept() -> None:
    with open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
        signal.raise_signal(signal.SIGUSR2)
        signal.raise_signal(signal.SIGUSR1)
        come = spawn(some_of(signals, 2)).join(TIMEOUT)
    assert set(come) == {signal.SIGUSR1, signal.SIGUSR2}


def test_H6_a_burst_is_given_out_at_least_once_after_its_last() -> None:
    async def count(signals: SignalReceiver, done: Event) -> int:
        n = 0
        async for _ in signals:
            n += 1
            if done.is_set():
                return n
        return n

    done = Event()
    with open_signal_receiver(signal.SIGUSR1) as signals:
        handle = spawn(count(signals, done))
        for _ in range(20_000):
            os.kill(os.getpid(), signal.SIGUSR1)
        done.set()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert 1 <= handle.join(TIMEOUT) <= 20_001


def test_each_receiver_gets_each_signal() -> None:
    with (
        open_signal_receiver(signal.SIGUSR1) as one,
        open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as two,
    ):
        handles = spawn(some_of(one, 1)), spawn(some_of(two, 1))
        signal.raise_signal(signal.SIGUSR1)
        assert [handle.join(TIMEOUT) for handle in handles] == [[signal.SIGUSR1]] * 2


def test_the_handler_from_before_is_silent_and_restored() -> None:
    heard: list[int] = []

    def handler(signum: int, frame: object) -> None:
        heard.append(signum)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with open_signal_receiver(signal.SIGUSR1) as signals:
            with open_signal_receiver(signal.SIGUSR1):
                assert signal.getsignal(signal.SIGUSR1) is handler
            signal.raise_signal(signal.SIGUSR1)
            assert spawn(some_of(signals, 1)).join(TIMEOUT) == [signal.SIGUSR1]
            assert heard == []
        signal.raise_signal(signal.SIGUSR1)
        assert heard == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_chained_the_handler_from_before_hears_it_too() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda signum, frame: heard.append(signum))
    try:
        with open_signal_receiver(signal.SIGUSR1, chain=True) as signals:
            signal.raise_signal(signal.SIGUSR1)
            assert heard == [signal.SIGUSR1]
            assert spawn(some_of(signals, 1)).join(TIMEOUT) == [signal.SIGUSR1]
            with open_signal_receiver(signal.SIGUSR1):  # one that does not chain decides
                signal.raise_signal(signal.SIGUSR1)
                assert heard == [signal.SIGUSR1]
            signal.raise_signal(signal.SIGUSR1)
            assert heard == [signal.SIGUSR1] * 2
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_H8_the_wakeup_fd_hears_only_what_is_chained() -> None:
    ours, pythons = socket.socketpair()
    with ours, pythons:
        ours.setblocking(False)
        pythons.setblocking(False)
        handler = signal.signal(signal.SIGUSR1, lambda signum, frame: None)
        before = signal.set_wakeup_fd(pythons.fileno())
        try:
            with open_signal_receiver(signal.SIGUSR1):
                signal.raise_signal(signal.SIGUSR1)
                with pytest.raises(BlockingIOError):
                    ours.recv(1)
            with open_signal_receiver(signal.SIGUSR1, chain=True):
                signal.raise_signal(signal.SIGUSR1)
                assert ours.recv(2) == bytes([signal.SIGUSR1])
            assert signal.set_wakeup_fd(before) == pythons.fileno()
        finally:
            signal.set_wakeup_fd(before)
            signal.signal(signal.SIGUSR1, handler)


def test_H8_a_handler_set_meanwhile_stays_and_it_is_said() -> None:
    heard: list[int] = []
    before = signal.getsignal(signal.SIGUSR1)
    try:
        signals = open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2).__enter__()
        signal.signal(signal.SIGUSR1, lambda signum, frame: heard.append(signum))
        signal.raise_signal(signal.SIGUSR1)
        assert heard == [signal.SIGUSR1]
        assert block_on(nothing_there(signals))
        with pytest.warns(RuntimeWarning, match="another handler was set for SIGUSR1 while"):
            signals.__exit__(None, None, None)
        signal.raise_signal(signal.SIGUSR1)
        assert heard == [signal.SIGUSR1] * 2
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_receiver_opened_after_such_a_handler_hears_the_signal_and_restores_it() -> None:
    heard: list[int] = []
    before = signal.getsignal(signal.SIGUSR1)
    try:
        with open_signal_receiver(signal.SIGUSR1):
            signal.signal(signal.SIGUSR1, lambda signum, frame: heard.append(signum))
            with open_signal_receiver(signal.SIGUSR1) as second:
                signal.raise_signal(signal.SIGUSR1)
                assert spawn(some_of(second, 1)).join(TIMEOUT) == [signal.SIGUSR1]
        assert heard == []
        signal.raise_signal(signal.SIGUSR1)
        assert heard == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_H4_ctrl_c_goes_to_the_receiver_only() -> None:
    with open_signal_receiver(signal.SIGINT) as signals:
        handle = spawn(some_of(signals, 1))
        os.kill(os.getpid(), signal.SIGINT)
        assert handle.join(TIMEOUT) == [signal.SIGINT]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_it_is_opened_in_any_thread() -> None:
    come: list[Any] = []

    def thread() -> None:
        with open_signal_receiver(signal.SIGUSR1) as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            come.extend(block_on(some_of(signals, 1)))

    one = threading.Thread(target=thread)
    one.start()
    one.join(TIMEOUT)
    assert come == [signal.SIGUSR1]


def test_leaving_the_block_wakes_the_task_that_waits() -> None:
    async def wait(signals: SignalReceiver, waits: Event) -> None:
        waits.set()
        await some_of(signals, 1)

    waits = Event()
    with open_signal_receiver(signal.SIGUSR1) as signals:
        handle = spawn(wait(signals, waits))
        waits.wait_blocking(TIMEOUT)
    with pytest.raises(ClosedResourceError):
        handle.join(TIMEOUT)
    with pytest.raises(ClosedResourceError, match="SIGUSR1 closed"):
        block_on(some_of(signals, 1))


def test_one_task_waits_at_a_time() -> None:
    async def both(signals: SignalReceiver) -> None:
        first = spawn(some_of(signals, 1))
        await yield_now()
        with pytest.raises(BusyResourceError):
            await some_of(signals, 1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        assert await first == [signal.SIGUSR1]

    with open_signal_receiver(signal.SIGUSR1) as signals:
        spawn(both(signals)).join(TIMEOUT)


def test_cancelled_it_takes_nothing() -> None:
    with open_signal_receiver(signal.SIGUSR1) as signals:
        assert block_on(nothing_there(signals))
        signal.raise_signal(signal.SIGUSR1)
        handle = spawn(some_of(signals, 1))
        handle.cancel()
        try:
            come = handle.join(TIMEOUT)
        except BaseException:
            come = spawn(some_of(signals, 1)).join(TIMEOUT)
        assert come == [signal.SIGUSR1]


@pytest.mark.parametrize("signum", [0, 65, -1, signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV])
def test_a_signal_that_cannot_be_received(signum: int) -> None:
    with pytest.raises(ValueError, match=r"signal \S+ cannot be received"):
        open_signal_receiver(signum)


def test_what_is_no_signal() -> None:
    with pytest.raises(
        TypeError, match=r"signums must be numbers, as signal\.SIGTERM, not 'SIGTERM"
    ):
        open_signal_receiver("SIGTERM")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        open_signal_receiver()


def test_a_receiver_is_entered_once() -> None:
    receiver = open_signal_receiver(signal.SIGUSR1)
    with receiver, pytest.raises(RuntimeError, match="already been entered"):
        receiver.__enter__()


def test_too_many_receivers() -> None:
    receivers = [open_signal_receiver(signal.SIGUSR1) for _ in range(65)]
    for receiver in receivers[:64]:
        receiver.__enter__()
    try:
        with pytest.raises(OSError, match="Too many open files"):
            receivers[64].__enter__()
        signal.raise_signal(signal.SIGUSR1)
        come = [block_on(some_of(receiver, 1)) for receiver in receivers[:64]]
        assert come == [[signal.SIGUSR1]] * 64
    finally:
        for receiver in receivers[:64]:
            receiver.__exit__(None, None, None)
    with open_signal_receiver(signal.SIGUSR1) as signals:
        signal.raise_signal(signal.SIGUSR1)
        assert block_on(some_of(signals, 1)) == [signal.SIGUSR1]


def test_R50_no_handler_writes_to_a_descriptor_that_was_closed() -> None:
    """Receivers come and go under a storm of signals; their numbers are used again at once."""
    over = threading.Event()

    def storm() -> None:
        while not over.is_set():
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    threads = [threading.Thread(target=storm) for _ in range(2)]
    with open_signal_receiver(signal.SIGUSR1):  # or the first one to come late ends the process
        for thread in threads:
            thread.start()
        try:
            for _ in range(2_000):
                with open_signal_receiver(signal.SIGUSR1) as signals:
                    assert signals._fd is not None
                    number = signals._fd.fileno()
                successor = os.eventfd(0, os.EFD_NONBLOCK)
                assert successor == number
                try:
                    with pytest.raises(BlockingIOError):
                        os.eventfd_read(successor)
                finally:
                    os.close(successor)
        finally:
            over.set()
            for thread in threads:
                thread.join(TIMEOUT)


def test_it_works_while_the_main_thread_is_in_a_call_of_c(run_script: Run) -> None:
    result = run_script(
        """
        import ctypes, os, signal, subprocess, sys
        from trale_py import open_signal_receiver, spawn

        async def end():
            with open_signal_receiver(signal.SIGTERM) as signals:
                killer = subprocess.Popen(["kill", "-TERM", str(os.getpid())])
                async for signum in signals:
                    os.write(1, b"received %d\\n" % killer.wait())
                    os._exit(0)

        handle = spawn(end())
        libc = ctypes.CDLL(None)
        condition, mutex = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_cond_wait(condition, mutex)  # does not come back for a signal
        """
    )
    assert (result.stdout, result.stderr, result.returncode) == ("received 0\n", "", 0)


def test_H9_a_signal_of_the_child_is_not_the_parents(run_script: Run) -> None:
    result = run_script(
        """
        import os, signal, warnings
        from trale_py import block_on, open_signal_receiver, sleep, spawn, timeout

        warnings.simplefilter("ignore", DeprecationWarning)  # os.fork() beside threads

        async def first(signals):
            async for signum in signals:
                return signum

        with open_signal_receiver(signal.SIGUSR1) as signals:
            block_on(sleep(0))
            child = os.fork()
            if child == 0:
                os.kill(os.getpid(), signal.SIGUSR1)  # the default: it dies
                os._exit(1)
            _, status = os.waitpid(child, 0)
            print(os.WTERMSIG(status) == signal.SIGUSR1)
            handle = spawn(first(signals))
            os.kill(os.getpid(), signal.SIGUSR1)
            print(handle.join(20) == signal.SIGUSR1)

            child = os.fork()
            if child == 0:
                with open_signal_receiver(signal.SIGUSR1) as own:  # a child has its own
                    handle = spawn(first(own))
                    os.kill(os.getpid(), signal.SIGUSR1)
                    os._exit(0 if handle.join(20) == signal.SIGUSR1 else 1)
            _, status = os.waitpid(child, 0)
            print(status == 0)
            handle = spawn(first(signals))
            try:
                block_on(timeout(0.05, handle))
            except TimeoutError:
                print("nothing of the child's")
            handle.cancel()
        """
    )
    assert result.stdout.splitlines() == ["True", "True", "True", "nothing of the child's"]
    assert result.stderr == ""


def test_a_program_that_is_started_has_the_default(run_script: Run) -> None:
    with open_signal_receiver(signal.SIGTERM):
        child = subprocess.Popen(
            [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"],
            stdout=subprocess.PIPE,
        )
        with child:
            assert child.stdout is not None
            child.stdout.read(1)
            child.terminate()
            assert child.wait(TIMEOUT) == -signal.SIGTERM


def test_no_descriptor_is_left() -> None:
    before = open_fds()
    with open_signal_receiver(signal.SIGUSR1):
        assert len(open_fds() - before) == 1
    assert open_fds() == before
