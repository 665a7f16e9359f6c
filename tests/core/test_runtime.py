"""The runtime's beginning and end, and what is refused in between."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

import pytest

from tests.conftest import open_fds
from tests.support.tasks import give
from trale_py import (
    Event,
    Executor,
    Reactor,
    RuntimeClosed,
    TaskCancelled,
    UdpSocket,
    block_on,
    sleep,
    spawn,
)
from trale_py.core import current
from trale_py.core.runtime import Runtime


def trale_threads() -> set[threading.Thread]:
    """Also those of runtimes that a test before this one has left with a task that never ends."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("trale")}


def test_a_runtime_is_inert_until_the_first_spawn(run_script: Any) -> None:
    result = run_script(
        """
        import os, threading
        fds = set(os.listdir("/proc/self/fd"))
        import trale_py
        trale_py.Event().set(); trale_py.tasks()
        assert threading.active_count() == 1
        assert set(os.listdir("/proc/self/fd")) == fds
        trale_py.block_on(trale_py.sleep(0))
        names = sorted(t.name for t in threading.enumerate())
        assert names == ["MainThread", "trale-executor", "trale-reactor"], names
        assert len(os.listdir("/proc/self/fd")) == len(fds) + 3
        print("ok")
        """
    )
    assert result.stdout == "ok\n", result.stderr


def test_H18_R7_first_use_from_a_hundred_threads_at_once(run_script: Any) -> None:
    result = run_script(
        """
        import threading
        from trale_py import spawn
        async def give(n): return n
        barrier = threading.Barrier(100)
        results = []
        def use(n):
            barrier.wait()
            results.append(spawn(give(n)).join(20))
        threads = [threading.Thread(target=use, args=(n,)) for n in range(100)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert sorted(results) == list(range(100))
        names = sorted(t.name for t in threading.enumerate())
        assert names == ["MainThread", "trale-executor", "trale-reactor"], names
        print("ok")
        """
    )
    assert result.stdout == "ok\n", result.stderr


def test_H20_a_runtime_that_cannot_start_says_so_and_the_next_try_works(run_script: Any) -> None:
    """One by one, the epoll, the eventfd and the timerfd meet the limit of open files."""
    result = run_script(
        """
        import os, resource, threading
        from trale_py import spawn
        async def give(n): return n
        free = os.open("/dev/null", os.O_RDONLY); os.close(free)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        before = set(os.listdir("/proc/self/fd"))
        for room in range(3):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + room, hard))
            try:
                spawn(give(room))
            except OSError as error:
                assert error.errno == 24, error
            else:
                raise AssertionError("started without descriptors")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            assert set(os.listdir("/proc/self/fd")) == before
        assert spawn(give(7)).join(20) == 7
        names = sorted(t.name for t in threading.enumerate())
        assert names == ["MainThread", "trale-executor", "trale-reactor"], names
        print("ok")
        """
    )
    assert result.stdout == "ok\n", result.stderr


def test_shutdown_ends_threads_and_closes_descriptors(runtime: Runtime) -> None:
    before = trale_threads()
    fds = open_fds()
    assert runtime.spawn(give(1)).join(10) == 1
    assert len(trale_threads() - before) == 2
    runtime.shutdown()
    assert trale_threads() <= before
    assert open_fds() == fds
    runtime.shutdown()


def test_H16_after_its_end_a_runtime_refuses_and_closes_the_coroutine(runtime: Runtime) -> None:
    runtime.spawn(give(1)).join(10)
    runtime.shutdown()
    coro = give(2)
    with pytest.raises(RuntimeClosed, match="shut down"):
        runtime.spawn(coro)
    assert coro.cr_frame is None


def test_shutdown_cancels_and_lets_finally_blocks_run(runtime: Runtime) -> None:
    event = Event()
    cleaned: list[str] = []

    async def waits() -> None:
        try:
            await event.wait()
        finally:
            cleaned.append("up")

    handle = runtime.spawn(waits(), name="the waiter")
    runtime.spawn(give(1)).join(10)
    runtime.shutdown()
    with pytest.raises(TaskCancelled, match="shut down"):
        handle.join(10)
    assert cleaned == ["up"]


def test_the_default_runtime_starts_anew_after_shutdown() -> None:
    Executor.shutdown()
    before = trale_threads()
    for n in range(5):
        assert spawn(give(n)).join(10) == n
        assert len(trale_threads() - before) == 2
        Executor.shutdown()
        assert trale_threads() <= before


def test_shutdown_of_a_runtime_that_never_started() -> None:
    Runtime().shutdown()


def test_two_shutdowns_at_once_wait_for_the_same_end(runtime: Runtime) -> None:
    runtime.spawn(give(1)).join(10)
    gone: list[str] = []

    def end() -> None:
        runtime.shutdown()
        gone.append(runtime.gone)

    threads = [threading.Thread(target=end) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gone == ["the runtime has been shut down"] * 5


def test_R11_spawn_races_with_shutdown() -> None:
    """Every spawn either gives a handle that ends, or RuntimeClosed."""
    for _ in range(100):
        runtime = Runtime()
        runtime.spawn(give(0)).join(10)
        outcomes: list[object] = []
        start = threading.Barrier(2)

        def spawner(runtime: Runtime, outcomes: list[object], start: threading.Barrier) -> None:
            start.wait()
            for n in range(1000):
                try:
                    outcomes.append(runtime.spawn(give(n)).join(10))
                except RuntimeClosed:
                    outcomes.append("closed")
                    return

        thread = threading.Thread(target=spawner, args=(runtime, outcomes, start))
        thread.start()
        start.wait()
        runtime.shutdown()
        thread.join(20)
        assert not thread.is_alive()
        assert outcomes[-1] == "closed"


def test_A8_wakers_and_sockets_outlive_their_runtime(runtime: Runtime) -> None:
    async def bound() -> UdpSocket:
        sock = UdpSocket.bind("127.0.0.1:0")
        await sock.send_to(b"", sock.local_addr[:2])
        return sock

    sock = runtime.spawn(bound()).join(10)
    runtime.shutdown()

    async def uses() -> None:
        await sock.recv()

    with pytest.raises(RuntimeClosed, match="shut down"):
        block_on(uses())
    fd = sock.socket.fileno()
    sock.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_A19_a_fault_of_the_executor_is_not_silent(
    runtime: Runtime, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = Event()
    waiting = runtime.spawn(event.wait())
    runtime.spawn(give(1)).join(10)

    def fault() -> None:
        raise ZeroDivisionError("the runtime's own")

    runtime.publish(lambda: monkeypatch.setattr(runtime.executor, "_poll", fault))
    event.set()
    with pytest.raises(RuntimeClosed) as caught:
        waiting.join(10)
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(RuntimeClosed, match="failed"):
        runtime.spawn(give(2))
    assert "the runtime has failed" in caplog.text


def test_A19_a_fault_of_the_reactor_is_not_silent(
    runtime: Runtime, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FaultyPoller:
        """The runtime's poller, until ``fail`` is set."""

        fail = threading.Event()
        real = runtime.reactor._poller

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def run(self) -> None:
            self.fail.wait()
            raise ZeroDivisionError("the reactor's own")

    poller = FaultyPoller()
    monkeypatch.setattr(runtime.reactor, "_poller", poller)
    waiting = runtime.spawn(sleep(100))
    runtime.spawn(give(1)).join(10)
    poller.fail.set()
    with pytest.raises(RuntimeClosed) as caught:
        waiting.join(10)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_published_call_that_fails_is_logged_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> None:
        raise SystemExit("broken call")

    current.default_runtime().publish(broken)
    assert block_on(give(3)) == 3
    assert "broken call" in caplog.text


def test_G17_a_broken_log_filter_ends_nothing() -> None:
    def broken(record: object) -> bool:
        raise ValueError("broken filter")

    async def fail() -> None:
        raise ZeroDivisionError

    logger = logging.getLogger("trale_py")
    logger.addFilter(broken)
    try:
        for _ in range(3):
            spawn(fail())
        block_on(give(0))
        assert block_on(give(3)) == 3
    finally:
        logger.removeFilter(broken)


def test_H7_the_reactors_thread_takes_no_signals() -> None:
    block_on(give(1))
    thread = current.default_runtime().reactor._thread
    assert thread is not None
    status = {}
    with open(f"/proc/self/task/{thread.native_id}/status") as file:  # noqa: PTH123
        for line in file:
            name, _, value = line.partition(":")
            status[name] = value.strip()
    blocked = int(status["SigBlk"], 16)
    for number in (1, 2, 3, 10, 12, 14, 15):
        assert blocked & (1 << (number - 1)), number
    for number in (4, 6, 7, 8, 11):
        assert not blocked & (1 << (number - 1)), number


@pytest.mark.slow
def test_T10_a_hundred_thousand_sleepers_on_64_descriptors(run_script: Any) -> None:
    result = run_script(
        """
        import os, resource, time
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        from trale_py import block_on, sleep, spawn
        async def main():
            handles = [spawn(sleep(0.5)) for _ in range(100_000)]
            used = len(os.listdir("/proc/self/fd"))
            for handle in handles:
                await handle
            return used
        start = time.monotonic()
        used = block_on(main())
        assert used < 12, used
        assert time.monotonic() - start >= 0.5
        print("ok")
        """
    )
    assert result.stdout == "ok\n", result.stderr


def test_executor_and_reactor_get() -> None:
    assert Executor.get() is current.default_runtime().executor
    assert Reactor.get() is current.default_runtime().reactor
    assert "Executor" in repr(Executor.get())
    assert "Reactor" in repr(Reactor.get())


def test_contract_11_an_idle_runtime_uses_no_processor(run_script: Any) -> None:
    result = run_script(
        """
        import select, time
        from trale_py import TcpListener, block_on, sleep, spawn
        from trale_py.core import current
        async def accept(listener): await listener.accept()
        listener = TcpListener.bind("127.0.0.1:0")
        handle = spawn(accept(listener)); far = spawn(sleep(3600))
        block_on(sleep(0.01))
        poller = current.default_runtime().reactor._poller
        rounds = poller.counts()["epoll_returns"]
        before = time.process_time()
        time.sleep(0.5)                     # the idle time is what is measured
        assert poller.counts()["epoll_returns"] - rounds <= 1
        assert time.process_time() - before < 0.02
        print("ok")
        import os, sys; sys.stdout.flush(); os._exit(0)
        """
    )
    assert result.stdout == "ok\n", result.stderr
