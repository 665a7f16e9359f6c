"""Runtime: a runtime of one's own, several at once, and which one a thread acts on."""

from __future__ import annotations

import datetime
import gc
import os
import socket
import subprocess
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import trale_py
from tests.support.tasks import forever, give
from trale_py import (
    AsyncFd,
    Event,
    Executor,
    JoinHandle,
    Reactor,
    Runtime,
    RuntimeClosed,
    TaskCancelled,
    TcpStream,
    WouldDeadlock,
    block_on,
    current_task,
    spawn,
    spawn_blocking,
    tasks,
)
from trale_py.channel import channel

Script = Callable[..., "subprocess.CompletedProcess[str]"]


async def where() -> Runtime:
    return Runtime.current()


def test_a_block_makes_it_current_for_its_thread() -> None:
    default = Runtime.current()
    with Runtime(name="own") as own:
        assert Runtime.current() is own is not default
        assert spawn(where()).join(20) is own
        assert block_on(where()) is own
        assert Executor.get()._runtime is own._runtime
        assert Reactor.get()._runtime is own._runtime
        assert spawn_blocking(Runtime.current).join(20) is own
        other: list[Runtime] = []
        thread = threading.Thread(target=lambda: other.append(Runtime.current()))
        thread.start()
        thread.join(20)
        assert other == [default]
        handle = spawn(forever())
        assert [task.name for task in tasks()] == [task.name for task in own.tasks()] == ["forever"]
    assert Runtime.current() is default
    with pytest.raises(TaskCancelled):
        handle.join(0)


def test_blocks_nest() -> None:
    with Runtime(name="a") as a:
        with Runtime(name="b") as b:
            assert Runtime.current() is b
        assert Runtime.current() is a


def test_after_its_shutdown_it_refuses_for_good(recwarn: pytest.WarningsRecorder) -> None:
    own = Runtime()
    assert own.spawn(give(1)).join(20) == 1
    own.shutdown()
    own.shutdown()
    with pytest.raises(RuntimeClosed):
        own.spawn(give(1))
    with pytest.raises(RuntimeClosed):
        own.block_on(give(1))
    with pytest.raises(RuntimeClosed):
        own.call_soon(print)
    with pytest.raises(RuntimeClosed):
        own.__enter__()
    assert own.threads == []
    del own
    assert not recwarn.list


def test_one_that_never_began_refuses_after_its_shutdown() -> None:
    own = Runtime()
    own.shutdown()
    with pytest.raises(RuntimeClosed):
        own.spawn(give(1))


def test_R60_a_shutdown_while_the_first_spawn_starts_the_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = Runtime()
    executor = own._runtime.executor
    start, started = executor._start_thread, []

    def shut_down_first() -> None:
        own.shutdown()
        started.append(1)
        start()

    monkeypatch.setattr(executor, "_start_thread", shut_down_first)
    handle = own.spawn(give(1))
    with pytest.raises((TaskCancelled, RuntimeClosed)):
        handle.join(20)
    assert started
    assert own._runtime._ended.wait_blocking(20)


def test_the_threads_have_its_name_and_are_told() -> None:
    with Runtime(name="mine") as own:
        assert own.threads == []
        own.block_on(give(1))
        spawn_blocking(int).join(20)
        names = sorted(
            thread.name for thread in threading.enumerate() if thread.native_id in own.threads
        )
        assert names == ["mine-blocking", "mine-executor", "mine-reactor"]
    assert not [one.name for one in threading.enumerate() if one.name.startswith("mine")]


def test_call_soon(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise KeyError("mine")

    called: list[Any] = []
    with Runtime() as own:
        own.call_soon(lambda: called.append(threading.get_native_id()))
        own.call_soon(fail)
        own.call_soon(called.append, 2)
        own.block_on(give(1))
        assert called[0] in own.threads
        assert called[1] == 2
        with pytest.raises(TypeError, match="fn"):
            own.call_soon(3)  # type: ignore[arg-type]
    assert "call_soon" in caplog.text
    assert "mine" in caplog.text


def test_in_a_task_a_block_would_deadlock() -> None:
    async def enter() -> None:
        own = Runtime()
        with pytest.raises(WouldDeadlock):
            own.__enter__()
        handle = own.spawn(give(1))
        for wait in (handle.join, own.shutdown, lambda: own.block_on(give(1))):
            with pytest.raises(WouldDeadlock):
                wait()
        assert await handle == 1
        with pytest.raises(WouldDeadlock, match=r"handle\.future\(\)"):
            handle.join()
        await spawn_blocking(own.shutdown)

    block_on(enter())


def test_a_second_block_of_the_same_is_refused() -> None:
    with Runtime() as own, pytest.raises(RuntimeError, match="already"):
        own.__enter__()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": 1}, TypeError),
        ({"exit_grace": -1}, ValueError),
        ({"exit_grace": "1"}, TypeError),
    ],
)
def test_what_it_does_not_take(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(arguments))):
        Runtime(**arguments)


def test_a_grace_is_seconds_or_a_timedelta() -> None:
    assert Runtime(exit_grace=datetime.timedelta(seconds=3))._runtime.exit_grace == 3
    assert Runtime()._runtime.exit_grace == 2


def test_a_spawn_into_another_runtime_has_no_parent() -> None:
    async def parent() -> int | None:
        task = current_task()
        assert task is not None
        return task.parent_id

    async def both(own: Runtime) -> tuple[int | None, int | None]:
        return await own.spawn(parent()), await spawn(parent())

    with Runtime() as own:
        other, same = spawn_in_default(both(own)).join(20)
    assert other is None
    assert same is not None


def spawn_in_default(coro: Any) -> JoinHandle[Any]:
    handles: list[JoinHandle[Any]] = []
    thread = threading.Thread(target=lambda: handles.append(spawn(coro)))
    thread.start()
    thread.join(20)
    return handles[0]


def test_handles_channels_and_events_work_across() -> None:
    async def answer(event: Event, receiver: Any) -> int:
        await event.wait()
        value: int = await receiver.recv()
        return value

    async def ask(handle: JoinHandle[int], event: Event, sender: Any) -> int:
        event.set()
        await sender.send(7)
        return await handle

    with Runtime(name="a") as a, Runtime(name="b") as b:
        event = Event()
        sender, receiver = channel(0)
        with sender, receiver:
            handle = a.spawn(answer(event, receiver))
            assert b.spawn(ask(handle, event, sender)).join(20) == 7
            late = a.spawn(forever())
            assert b.block_on(cancel(late))
            with pytest.raises(TaskCancelled):
                late.join(20)


async def cancel(handle: JoinHandle[None]) -> bool:
    return handle.cancel()


def test_a_stream_belongs_to_the_runtime_that_first_awaited_it() -> None:
    ours, peer = socket.create_connection, socket.create_server(("127.0.0.1", 0))
    with peer, Runtime(name="a") as a, Runtime(name="b") as b:
        stream = TcpStream.from_socket(ours(peer.getsockname()))
        with stream, peer.accept()[0] as end:
            end.sendall(b"xy")
            assert a.block_on(stream.read(1)) == b"x"
            with pytest.raises(RuntimeError, match=r"runtime 'a'.*runtime 'b'") as caught:
                b.block_on(stream.read(1))
            assert type(caught.value) is RuntimeError
            assert a.block_on(stream.read(1)) == b"y"


def test_an_async_fd_belongs_to_the_runtime_that_first_awaited_it() -> None:
    ours, peer = socket.socketpair()
    with ours, peer, Runtime(name="a") as a, Runtime(name="b") as b, AsyncFd(ours) as fd:
        a.block_on(fd.writable())
        with pytest.raises(RuntimeError, match=r"runtime 'a'.*runtime 'b'"):
            b.block_on(fd.writable())


def test_one_that_is_dropped_warns_and_ends() -> None:
    own = Runtime(name="lost")
    handle = own.spawn(forever())
    core = own._runtime
    with pytest.warns(ResourceWarning, match="lost"):
        del own
    assert core._ended.wait_blocking(20)
    core.shutdown()
    with pytest.raises(TaskCancelled):
        handle.join(0)


def test_one_that_never_began_is_dropped_in_silence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Runtime()
        gc.collect()


def test_the_default_one_is_the_same_object_each_time() -> None:
    assert Runtime.current() is Runtime.current()
    assert "trale" in repr(Runtime.current())


def test_idle_pool_threads_are_joined_by_a_shutdown() -> None:
    with Runtime(name="pooled"):
        for handle in [spawn_blocking(time.sleep, 0.001) for _ in range(20)]:
            handle.join(20)
    assert not [one.name for one in threading.enumerate() if one.name.startswith("pooled")]


def test_a_pool_thread_in_a_job_is_not_waited_for() -> None:
    leave = threading.Event()
    entered = threading.Event()

    def job() -> None:
        entered.set()
        leave.wait(60)

    with Runtime(name="busy") as own:
        spawn_blocking(job)
        assert entered.wait(20)
        begin = time.monotonic()
    assert time.monotonic() - begin < 20
    assert len(own.threads) == 1
    leave.set()
    for thread in threading.enumerate():
        if thread.name == "busy-blocking":
            thread.join(20)


def test_three_a_fork_with_two_alive_and_an_exit_with_all_busy(run_script: Script) -> None:
    result = run_script(
        """
        import os, sys
        from trale_py import Runtime, RuntimeClosed, spawn, sleep

        async def busy(name):
            try:
                await sleep(1000)
            finally:
                await done(name)
        async def done(name):
            os.write(1, f"cleaned {name}\\n".encode())
        async def give(n): return n

        a, b, c = (Runtime(name=n) for n in "abc")
        handles = [rt.spawn(busy(rt.name)) for rt in (a, b)]
        for rt in (a, b): rt.block_on(give(1))
        pid = os.fork()
        if pid == 0:
            for rt, handle in zip((a, b), handles):
                try: rt.spawn(give(1))
                except RuntimeClosed: pass
                else: os._exit(3)
                try: handle.join()
                except RuntimeClosed: pass
                else: os._exit(4)
            assert spawn(give(5)).join(20) == 5
            print("child", flush=True)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        c.spawn(busy("c")); spawn(busy("default"))
        for rt in (a, b, c): assert rt.block_on(give(2)) == 2
        spawn(give(1)).join(20)
        """
    )
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == [
        "child",
        "cleaned a",
        "cleaned b",
        "cleaned c",
        "cleaned default",
    ]
    assert result.stderr == ""


def test_H14_all_that_swallow_end_within_one_grace(run_script: Script) -> None:
    result = run_script(
        """
        import atexit, time
        from trale_py import Cancelled, Runtime, sleep
        async def swallow():
            while True:
                try: await sleep(1000)
                except Cancelled: pass
        async def nothing(): pass
        kept = [Runtime(exit_grace=0.3) for _ in range(4)]
        for rt in kept:
            rt.spawn(swallow())
            rt.block_on(nothing())
        import trale_py.core.process_exit as p
        begin = time.monotonic()
        p.at_exit.append(lambda: print(time.monotonic() - begin))
        """
    )
    assert result.returncode == 0, result.stderr
    assert 0.3 <= float(result.stdout) < 1.1
    assert result.stderr.count("did not end within 0.3 s") == 4


def test_H14_those_without_a_thread_end_side_by_side(run_script: Script) -> None:
    """What does not end in one of them takes no time from the others, nor does a second one."""
    result = run_script(
        """
        import time
        from trale_py import Cancelled, CancelScope, Runtime, sleep, yield_now
        from trale_py.core import process_exit
        async def swallow():
            while True:
                try: await sleep(1000)
                except Cancelled: pass
        async def clean(n):
            try: await sleep(1000)
            finally:
                with CancelScope(shield=True): await sleep(0.05)
                print("cleaned", n)
        kept = [Runtime(thread=False, exit_grace=1.5) for _ in range(3)]
        for n, rt in enumerate(kept):
            rt.spawn(swallow())
            rt.spawn(clean(n))
            rt.run(yield_now())
        begin = time.monotonic()
        process_exit.at_exit.append(lambda: print(1.5 <= time.monotonic() - begin < 3))
        """
    )
    assert result.returncode == 0, result.stderr
    *cleaned, in_time = result.stdout.splitlines()
    assert sorted(cleaned) == ["cleaned 0", "cleaned 1", "cleaned 2"]
    assert in_time == "True"
    assert result.stderr.count("are abandoned (1)") == 3


def test_H14_a_ctrl_c_ends_the_turns_at_once(run_script: Script) -> None:
    result = run_script(
        """
        import os, signal
        from trale_py import Cancelled, Runtime, sleep, yield_now
        async def swallow():
            while True:
                try: await sleep(1000)
                except Cancelled: os.kill(os.getpid(), signal.SIGINT)
        kept = [Runtime(thread=False, exit_grace=1000) for _ in range(3)]
        for rt in kept:
            rt.spawn(swallow())
            rt.run(yield_now())
        """
    )
    assert result.returncode == 0, result.stderr  # and not killed, long before the grace is over


def test_H14_one_of_the_turns_is_in_the_run_of_another_thread(run_script: Script) -> None:
    result = run_script(
        """
        import threading
        from trale_py import Runtime, sleep, yield_now
        begun = threading.Event()
        async def main(n):
            begun.set()
            try: await sleep(1000)
            finally: print(f"cleaned {n}\\n", end="", flush=True)  # by two threads: in one piece
        elsewhere, here = Runtime(thread=False), Runtime(thread=False)
        thread = threading.Thread(target=elsewhere.run, args=(main, 1), daemon=True)
        threading.excepthook = lambda *_: None  # TaskCancelled
        thread.start()
        begun.wait()
        here.spawn(main(2))
        here.run(yield_now())
        """
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(result.stdout.splitlines()) == ["cleaned 1", "cleaned 2"]


def test_the_environment_says_how_long_the_grace_is(run_script: Script) -> None:
    os.environ["TRALE_EXIT_GRACE"] = "0.25"
    try:
        result = run_script(
            """
            from trale_py import Runtime
            print(Runtime()._runtime.exit_grace, Runtime.current()._runtime.exit_grace)
            print(Runtime(exit_grace=1)._runtime.exit_grace)
            """
        )
        assert result.stdout == "0.25 0.25\n1.0\n", result.stderr
        for bad in ("soon", "-1", "nan"):
            os.environ["TRALE_EXIT_GRACE"] = bad
            result = run_script("import trale_py")
            assert "ImportError: TRALE_EXIT_GRACE" in result.stderr
    finally:
        del os.environ["TRALE_EXIT_GRACE"]


def test_H8_a_receiver_left_open_is_closed_at_the_exit(run_script: Script) -> None:
    result = run_script(
        """
        import signal, trale_py
        from trale_py.core import process_exit
        trale_py.open_signal_receiver(signal.SIGUSR1).__enter__()
        process_exit.at_exit.append(lambda: print("restored", flush=True))
        process_exit.at_exit.append(lambda: signal.raise_signal(signal.SIGUSR1))
        """
    )
    assert result.stdout == "restored\n"
    assert result.returncode == -10  # SIGUSR1 has its default effect again


def test_the_class_is_public() -> None:
    assert trale_py.Runtime is Runtime
