"""The reactor: wakers on descriptors, and events that are late, alone, or of somebody else."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import settle_reactor
from tests.support.net_helpers import (
    TIMEOUT,
    Events,
    Flag,
    executor_turn,
    fill,
    parked,
    settle,
    stream_and_peer,
)
from tests.support.python_engine import Poller, RunQueue
from trale_py import (
    PENDING,
    AsyncFd,
    Context,
    Future,
    Interest,
    Pending,
    Reactor,
    Ready,
    RuntimeClosed,
    block_on,
    spawn,
    yield_now,
)
from trale_py.core.runtime import Runtime
from trale_py.core.source import Direction

Script = Callable[..., "subprocess.CompletedProcess[str]"]
READABLE, WRITABLE = Interest.READABLE, Interest.WRITABLE


def drain(sock: socket.socket) -> None:
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while sock.recv(1 << 20):
            pass


def register(sock: socket.socket, interest: Interest) -> Flag:
    flag = Flag()
    Reactor.get().register_waker(sock.fileno(), flag, interest)
    return flag


# -- register_waker ----------------------------------------------------------------------


def test_a_waker_is_called_when_data_comes(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    flag = register(ours, READABLE)
    settle()
    assert flag.count == 0
    peer.send(b"x")
    flag.wait()


def test_a_waker_is_called_once_only(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    flag = register(ours, READABLE)
    peer.send(b"x")
    flag.wait()
    drain(ours)
    peer.send(b"y")
    settle()
    assert flag.count == 1


def test_several_wakers_of_one_descriptor_are_all_called(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, peer = pair
    flags = [register(ours, READABLE) for _ in range(5)]
    peer.send(b"x")
    for flag in flags:
        flag.wait()
    settle()
    assert [flag.count for flag in flags] == [1] * 5


def test_what_is_ready_now_wakes_now_again_and_again(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, peer = pair
    peer.send(b"x")
    for _ in range(3):
        register(ours, READABLE).wait()


def test_a_cancelled_registration_does_not_wake(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    gone, stays = Flag(), Flag()
    registration = Reactor.get().register_waker(ours.fileno(), gone, READABLE)
    Reactor.get().register_waker(ours.fileno(), stays, READABLE)
    settle()
    registration.cancel()
    registration.cancel()
    assert registration._fired
    peer.send(b"x")
    stays.wait()
    settle()
    assert gone.count == 0


def test_cancelled_before_the_executor_has_armed_it(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, peer = pair
    peer.send(b"x")
    release, flag = threading.Event(), Flag()

    async def hold_the_executor() -> None:
        assert release.wait(TIMEOUT)

    blocker = spawn(hold_the_executor())
    Reactor.get().register_waker(ours.fileno(), flag, READABLE).cancel()
    release.set()
    blocker.join(TIMEOUT)
    settle()
    assert flag.count == 0


def test_both_interests_fire_once_in_all(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    flag = register(ours, READABLE | WRITABLE)
    flag.wait()
    peer.send(b"x")
    settle()
    assert flag.count == 1


def test_a_wait_for_data_is_not_ended_by_room_to_write(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, peer = pair
    reading = register(ours, READABLE)
    register(ours, WRITABLE).wait()
    settle()
    assert reading.count == 0
    peer.send(b"x")
    reading.wait()


def test_the_end_of_the_stream_wakes_readers(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    flag = register(ours, READABLE)
    settle()
    peer.close()
    flag.wait()
    assert ours.recv(1) == b""


@pytest.mark.parametrize("interest", [READABLE, WRITABLE, READABLE | WRITABLE])
@pytest.mark.parametrize("path", ["regular file", "/dev/null", "/proc/self/maps", "memfd"])
def test_B20_what_epoll_refuses_is_ready_at_once(
    path: str, interest: Interest, tmp_path: Path
) -> None:
    if path == "memfd":
        fd = os.memfd_create("x")
    else:
        name = tmp_path / "file" if path == "regular file" else path
        fd = os.open(name, os.O_RDONLY | (os.O_CREAT if path == "regular file" else 0))
    try:
        for _ in range(2):
            flag = Flag()
            registration = Reactor.get().register_waker(fd, flag, interest)
            flag.wait()
            assert registration._fired
        settle()
        assert flag.count == 1
    finally:
        os.close(fd)


def test_a_number_that_is_not_open_is_refused_at_the_call() -> None:
    fd = os.dup(0)
    os.close(fd)
    for number in (fd, -1):
        with pytest.raises(OSError, match="Bad file descriptor"):
            Reactor.get().register_waker(number, Flag(), READABLE)


@pytest.mark.parametrize("interest", ["read", 1, None, Interest(0)])
def test_an_interest_that_is_none_is_refused(interest: Any) -> None:
    with pytest.raises(TypeError, match="interest must be"):
        Reactor.get().register_waker(0, Flag(), interest)


@pytest.mark.parametrize("waker", [None, "waker", print])
def test_a_waker_that_is_none_is_refused(waker: Any) -> None:
    with pytest.raises(TypeError, match="waker must be"):
        Reactor.get().register_waker(0, waker, READABLE)


def test_register_in_a_task_with_a_future_of_ones_own(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, peer = pair

    class Receive(Future[bytes]):
        def poll(self, cx: Context) -> Ready[bytes] | Pending:
            with contextlib.suppress(BlockingIOError):
                return Ready(ours.recv(100))
            Reactor.get().register_waker(ours.fileno(), cx.waker, READABLE)
            return PENDING

    handle = parked(Receive())
    peer.send(b"hello")
    assert handle.join(TIMEOUT) == b"hello"


def test_a_descriptor_is_forgotten_when_its_last_waker_is(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = pair
    reactor = Reactor.get()
    registrations = [reactor.register_waker(ours.fileno(), Flag(), READABLE) for _ in range(2)]
    executor_turn()
    assert list(reactor._poller.sources) == [ours.fileno()]
    registrations[0].cancel()
    executor_turn()
    assert list(reactor._poller.sources) == [ours.fileno()]
    registrations[1].cancel()
    executor_turn()
    assert reactor._poller.sources == {}


def test_register_on_a_runtime_that_is_gone(
    runtime: Runtime, pair: tuple[socket.socket, socket.socket]
) -> None:
    runtime.ensure_running()
    runtime.shutdown()
    with pytest.raises(RuntimeClosed, match="shut down"):
        runtime.reactor.register_waker(pair[0].fileno(), Flag(), READABLE)


def test_registered_while_the_runtime_ends(
    runtime: Runtime, pair: tuple[socket.socket, socket.socket]
) -> None:
    """The descriptors are closed already, and then the registration reaches the executor."""
    flag = Flag()
    stop = runtime.reactor._stop

    def stop_then_register() -> None:
        stop()
        late = threading.Thread(
            target=runtime.reactor.register_waker, args=(pair[0].fileno(), flag, READABLE)
        )
        late.start()
        late.join(TIMEOUT)

    runtime.ensure_running()
    runtime.reactor._stop = stop_then_register  # type: ignore[method-assign]
    runtime.shutdown(TIMEOUT)
    assert runtime.gone
    flag.wait()


def test_more_descriptors_ready_at_once_than_a_batch_holds() -> None:
    with contextlib.ExitStack() as stack:
        flags = []
        for _ in range(300):
            ours, peer = socket.socketpair()
            stack.enter_context(ours)
            stack.enter_context(peer)
            peer.send(b"x")
            flags.append(register(ours, READABLE))
        for flag in flags:
            flag.wait()
        settle()


def test_B24_threads_register_while_epoll_sleeps() -> None:
    rounds, threads = 150, 8
    errors: list[BaseException] = []

    def work() -> None:
        try:
            ours, peer = socket.socketpair()
            with ours, peer:
                for _ in range(rounds):
                    taken_back = Reactor.get().register_waker(ours.fileno(), Flag(), READABLE)
                    flag = register(ours, READABLE)
                    taken_back.cancel()
                    peer.send(b"x")
                    flag.wait()
                    ours.recv(1)
                    executor_turn()  # the registration is taken back before the number is free
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(TIMEOUT)
    assert errors == []


# -- both directions of one descriptor ---------------------------------------------------


def test_T5_B7_reader_first_then_writer(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    fill(ours)
    reader, writer = register(ours, READABLE), register(ours, WRITABLE)
    settle()
    assert (reader.count, writer.count) == (0, 0)
    drain(peer)
    writer.wait()
    settle()
    assert reader.count == 0
    peer.send(b"x")
    reader.wait()


def test_T5_B7_writer_first_then_reader(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    fill(ours)
    writer, reader = register(ours, WRITABLE), register(ours, READABLE)
    peer.send(b"x")
    reader.wait()
    settle()
    assert writer.count == 0
    drain(peer)
    writer.wait()


def test_B8_event_between_would_block_and_its_note() -> None:
    direction = Direction()
    tick = direction.events  # the executor looks, its call says EAGAIN ...
    direction.notify(False)  # ... the reactor tells of news ...
    direction.seen = tick  # ... and the executor writes down what it knew before
    assert direction.ready


def test_B8_data_comes_between_would_block_and_its_note() -> None:
    with stream_and_peer() as (stream, peer):

        class LateData:
            """A socket whose recv() says "would block", and then data comes."""

            sent = False

            def recv(self, n: int) -> bytes:
                try:
                    return stream.socket.recv(n)
                except BlockingIOError:
                    if not self.sent:
                        self.sent = True
                        peer.send(b"late")
                        events.wait()
                    raise

        late = LateData()
        events = Events()
        call: Future[bytes] = stream._reading(lambda: late.recv(10))
        assert spawn(call).join(TIMEOUT) == b"late"


# -- the number of a descriptor that is gone ---------------------------------------------


@pytest.fixture
def still_poller() -> Iterator[Poller]:
    """The Python poller without a thread, to be driven by hand."""
    poller = Poller(RunQueue())
    poller.open()
    yield poller
    poller.close()


def reopened_as(number: int, sock: socket.socket) -> None:
    os.dup2(sock.fileno(), number)


def test_R5_event_of_a_number_that_was_reused(still_poller: Poller) -> None:
    """epoll_wait returns; the executor closes, reopens, registers; the event is Events."""
    poller = still_poller
    (old, old_peer), (new, new_peer) = socket.socketpair(), socket.socketpair()
    with old_peer, new, new_peer:
        number = old.detach()
        old_source = poller.watch(number)
        poller._recycled.clear()
        old_peer.send(b"x")
        ((fd, mask),) = poller._epoll.poll(0)
        assert fd == number
        poller.unwatch(old_source)
        reopened_as(number, new)
        new_source = poller.watch(number)
        for direction in (new_source.read, new_source.write):
            direction.seen = direction.events

        poller._dispatch(fd, mask)
        assert not new_source.read.ready
        assert not new_source.write.ready
        assert not old_source.read.waiters
        poller.unwatch(new_source)
        os.close(number)


def test_R5_event_of_the_new_file_is_not_believed_but_not_lost(still_poller: Poller) -> None:
    """The batch may hold the new file's event as well: the kernel has to tell it again."""
    poller = still_poller
    (old, old_peer), (new, new_peer) = socket.socketpair(), socket.socketpair()
    with old_peer, new, new_peer:
        number = old.detach()
        poller.unwatch(poller.watch(number))
        reopened_as(number, new)
        source = poller.watch(number)
        source.read.seen = source.read.events
        new_peer.send(b"x")
        ((fd, mask),) = poller._epoll.poll(0)
        poller._dispatch(fd, mask)
        assert not source.read.ready

        poller._recycled.clear()
        ((fd, mask),) = poller._epoll.poll(0)
        poller._dispatch(fd, mask)
        assert source.read.ready
        poller.unwatch(source)
        os.close(number)


def test_R5_event_of_a_number_that_nobody_watches(still_poller: Poller) -> None:
    poller = still_poller
    ours, peer = socket.socketpair()
    with ours, peer:
        poller.unwatch(poller.watch(ours.fileno()))
        poller._dispatch(ours.fileno(), select.EPOLLIN)
        poller._recycled.clear()
        poller._dispatch(ours.fileno(), select.EPOLLIN)
        assert poller.sources == {}


def test_T7_cancel_close_reopen_the_same_number() -> None:
    reactor = Reactor.get()
    numbers = set()

    async def once() -> None:
        ours, peer = socket.socketpair()
        with ours, peer:
            numbers.add(ours.fileno())
            gone, flag = Flag(), Flag()
            reactor.register_waker(ours.fileno(), gone, READABLE).cancel()
            reactor.register_waker(ours.fileno(), gone, WRITABLE)
            registration = reactor.register_waker(ours.fileno(), flag, READABLE)
            peer.send(b"x")
            while not flag.count:
                await yield_now()
            registration.cancel()

    for _ in range(1000):
        block_on(once())
    assert len(numbers) <= 2


def test_T7_a_waker_that_nobody_took_back_before_the_close() -> None:
    """Its entry is still in the table when the number is reused; the new file is watched."""
    reactor = Reactor.get()
    for _ in range(300):
        (ours, peer), stale, flag = socket.socketpair(), Flag(), Flag()
        with ours, peer:
            registration = reactor.register_waker(ours.fileno(), stale, READABLE)
            number = ours.fileno()
            executor_turn()
        ours, peer = socket.socketpair()
        with ours, peer:
            assert number in (ours.fileno(), peer.fileno())
            watched, other = (ours, peer) if ours.fileno() == number else (peer, ours)
            reactor.register_waker(number, flag, READABLE)
            other.send(b"x")
            flag.wait()
            registration.cancel()
            assert watched.recv(1) == b"x"
            executor_turn()


# -- no cause, no return of epoll_wait ---------------------------------------------------


@pytest.fixture
def assert_idle(runtime: Runtime) -> Callable[[], None]:
    """Assert that the runtime of the test does nothing at all while it has nothing to do."""
    runtime.ensure_running()

    def epoll_returns() -> int:
        return runtime.reactor._poller.counts()["epoll_returns"]

    def check() -> None:
        settle_reactor(runtime)
        settle_reactor(runtime)  # twice: what the first has stirred up has come by then
        returns, cpu = epoll_returns(), time.process_time()
        time.sleep(0.15)  # not to synchronise: this is the idle window
        assert epoll_returns() - returns <= 1
        assert time.process_time() - cpu < 0.05

    return check


def test_an_idle_runtime_does_nothing(assert_idle: Callable[[], None]) -> None:
    assert_idle()


def test_T6_B12_hang_up_alone_wakes_the_reader(
    runtime: Runtime, assert_idle: Callable[[], None]
) -> None:
    """The read end of a pipe whose writer is gone reports HUP, without IN."""
    r, w = os.pipe()
    fd = AsyncFd(r)
    waiting = runtime.spawn(fd.readable())
    os.close(w)
    waiting.join(TIMEOUT)
    assert os.read(r, 1) == b""
    left = runtime.reactor.register_waker(r, Flag(), WRITABLE)
    assert_idle()
    left.cancel()
    runtime.spawn(nothing_of(r)).join(TIMEOUT)


async def nothing_of(*fds: int) -> None:
    """Close descriptors on the executor's thread, after whatever was asked of it before."""
    for fd in fds:
        os.close(fd)


def test_T6_B13_an_error_alone_wakes_the_writer(
    runtime: Runtime, assert_idle: Callable[[], None]
) -> None:
    """A full pipe whose reader goes away reports ERR to the writer."""
    r, w = os.pipe2(os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(w, bytes(65536))
    waiting = runtime.spawn(AsyncFd(w).writable())
    runtime.spawn(nothing_of()).join(TIMEOUT)
    os.close(r)
    waiting.join(TIMEOUT)
    with pytest.raises(BrokenPipeError):
        os.write(w, b"x")
    assert_idle()
    os.close(w)


def test_T6_B13_an_error_alone_wakes_the_reader(
    runtime: Runtime, assert_idle: Callable[[], None]
) -> None:
    """A datagram that nobody took comes back as ERR, without IN; whoever reads must hear it."""
    closed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    closed.bind(("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(closed.getsockname())
        closed.close()
        waiting = runtime.spawn(AsyncFd(sock).readable())
        runtime.spawn(nothing_of()).join(TIMEOUT)
        sock.send(b"x")
        waiting.join(TIMEOUT)
        with pytest.raises(ConnectionRefusedError):
            sock.recv(1)
        assert_idle()


def test_T6_B15_hang_up_while_nobody_reads(
    runtime: Runtime, assert_idle: Callable[[], None]
) -> None:
    ours, peer = socket.socketpair()
    with ours:
        flag = Flag()
        fill_nonblocking(ours)
        registration = runtime.reactor.register_waker(ours.fileno(), flag, WRITABLE)
        peer.shutdown(socket.SHUT_WR)
        assert_idle()
        assert flag.count == 0  # the peer sends no more; that makes no room to write
        peer.close()
        flag.wait()
        assert_idle()
        registration.cancel()
        runtime.spawn(nothing_of()).join(TIMEOUT)


def fill_nonblocking(sock: socket.socket) -> None:
    sock.setblocking(False)
    fill(sock)


def test_B14_half_close_does_not_wake_a_writer(
    runtime: Runtime, assert_idle: Callable[[], None]
) -> None:
    with stream_and_peer() as (stream, peer):
        peer.shutdown(socket.SHUT_WR)
        fill(stream.socket)
        writing = runtime.spawn(stream.write_all(bytes(1 << 24)))
        assert runtime.spawn(stream.read()).join(TIMEOUT) == b""
        assert_idle()
        assert not writing.done()
        peer.close()
        with pytest.raises(OSError, match=r"reset|Broken"):
            writing.join(TIMEOUT)


def test_B2_closed_behind_our_back_while_a_duplicate_lives(
    runtime: Runtime, assert_idle: Callable[[], None]
) -> None:
    """epoll goes on reporting the file under a number that is closed."""
    ours, peer = socket.socketpair()
    duplicate = ours.dup()
    with peer, duplicate:
        flag = Flag()
        number = ours.fileno()
        registration = runtime.reactor.register_waker(number, flag, READABLE)
        runtime.spawn(nothing_of(ours.detach())).join(TIMEOUT)
        for _ in range(10):
            peer.send(b"x")
        flag.wait()
        assert_idle()
        registration.cancel()
        runtime.spawn(nothing_of()).join(TIMEOUT)
        peer.send(b"x")  # an event, still, of a number that is nobody's
        assert_idle()

        ours, other = socket.socketpair()
        with ours, other:
            assert number in (ours.fileno(), other.fileno())
            flag = Flag()
            runtime.reactor.register_waker(ours.fileno(), flag, READABLE)
            other.send(b"y")
            flag.wait()
            runtime.spawn(nothing_of()).join(TIMEOUT)


@pytest.mark.parametrize("closer", ["task", "thread"])
def test_B2_a_stream_whose_descriptor_was_closed_behind_our_back(
    closer: str, caplog: pytest.LogCaptureFixture
) -> None:
    with stream_and_peer() as (stream, peer):
        peer.send(b"x")
        assert block_on(stream.read()) == b"x"
        os.close(stream.socket.fileno())

        async def close() -> None:
            stream.close()

        if closer == "task":
            block_on(close())
        else:
            stream.close()
        assert stream.closed
        executor_turn()
        assert "Bad file descriptor" in caplog.text


# -- the process as a whole --------------------------------------------------------------


def test_T8_B22_stopped_and_continued_under_load() -> None:
    """SIGCONT makes epoll_wait return EINTR, also without any signal handler."""
    source = """
        import faulthandler; faulthandler.dump_traceback_later(45, exit=True)
        from trale_py import TcpListener, TcpStream, block_on, sleep, spawn

        async def serve(listener):
            stream = await listener.accept()
            async with stream:
                while data := await stream.read():
                    await stream.write_all(data)

        async def tick():
            while True:
                await sleep(0.001)

        async def main():
            with TcpListener.bind("127.0.0.1:0") as listener:
                server = spawn(serve(listener))
                for _ in range(5):
                    spawn(tick())
                async with await TcpStream.connect(listener.local_addr) as stream:
                    for n in range(2000):
                        await stream.write_all(b"%06d" % n)
                        assert await stream.read_exact(6) == b"%06d" % n
                        await sleep(0.0001)
                        if n % 50 == 0:
                            print(n, flush=True)
                await server
        block_on(main())
        print("done", flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            for _ in range(30):
                line = child.stdout.readline()
                assert line.strip().isdecimal(), child.stderr.read()
                os.kill(child.pid, signal.SIGSTOP)
                assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
                os.kill(child.pid, signal.SIGCONT)
            out, err = child.communicate(timeout=40)
        except BaseException:
            child.kill()
            raise
    assert (child.returncode, err) == (0, "")
    assert out.endswith("done\n")


@pytest.mark.slow
def test_T10_a_hundred_thousand_sleepers_on_64_descriptors(run_script: Script) -> None:
    result = run_script(
        """
        import resource
        from trale_py import block_on, sleep, spawn

        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

        async def main():
            handles = [spawn(sleep(0.5)) for _ in range(100_000)]
            for handle in handles:
                await handle
            return len(handles)

        print(block_on(main()))
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "100000\n", "")


def test_T10_H13_no_descriptor_is_inherited_by_a_program(run_script: Script) -> None:
    result = run_script(
        """
        import os, subprocess, sys
        from trale_py import TcpListener, TcpStream, UdpSocket, block_on

        LIST = [sys.executable, "-S", "-c", "import os; print(os.listdir('/proc/self/fd'))"]

        async def main():
            with TcpListener.bind("127.0.0.1:0") as listener, UdpSocket.bind("127.0.0.1:0") as udp:
                with await TcpStream.connect(listener.local_addr) as client:
                    with await listener.accept() as server:
                        ours = [int(fd) for fd in os.listdir("/proc/self/fd")]
                        assert len(ours) >= 10, ours  # epoll, eventfd, timerfd, four sockets
                        return subprocess.run(
                            LIST, close_fds=False, stdout=subprocess.PIPE, text=True
                        ).stdout

        print(block_on(main()), end="")
        """
    )
    assert result.returncode == 0, result.stderr
    # 0, 1, 2 and the directory that is being listed
    assert sorted(eval(result.stdout)) == ["0", "1", "2", "3"]


def test_a_signal_is_handled_by_the_main_thread_at_once(run_script: Script) -> None:
    """The reactor's thread blocks signals: they interrupt the main thread's wait, not its own."""
    result = run_script(
        """
        import os, signal, threading
        from pathlib import Path
        from trale_py import block_on, sleep

        block_on(sleep(0.001))  # from here on its thread has gone round its loop
        handled_in = []
        signal.signal(signal.SIGUSR1, lambda *_: handled_in.append(threading.current_thread().name))
        status = next(
            Path(f"/proc/self/task/{t.native_id}/status").read_text()
            for t in threading.enumerate()
            if t.name == "trale-reactor"
        )
        blocked = int(next(l for l in status.splitlines() if l.startswith("SigBlk")).split()[1], 16)
        for number in (signal.SIGUSR1, signal.SIGINT, signal.SIGALRM, signal.SIGCHLD):
            assert blocked >> (number - 1) & 1, number
        for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT):
            assert not blocked >> (number - 1) & 1, number
        os.kill(os.getpid(), signal.SIGUSR1)
        print(handled_in)
        """
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "['MainThread']\n"


def test_the_repr_tells_how_much_is_watched(pair: tuple[socket.socket, socket.socket]) -> None:
    registration = Reactor.get().register_waker(pair[0].fileno(), Flag(), READABLE)
    executor_turn()
    assert "sources=1" in repr(Reactor.get())
    assert "READABLE" in repr(registration)
    registration.cancel()
    assert "fired" in repr(registration)


def test_a_stream_and_a_waker_share_one_descriptor() -> None:
    with stream_and_peer() as (stream, peer):
        reading = parked(stream.read())
        flag = register(stream.socket, READABLE)
        executor_turn()  # or the stream might have read it all before the waker is in its place
        peer.send(b"x")
        flag.wait()
        assert reading.join(TIMEOUT) == b"x"
        stuck = register(stream.socket, READABLE)
        settle()
        assert stuck.count == 0
        stream.close()
        stuck.wait()  # closing the stream wakes whoever waits for the same descriptor


class BadFlag(Flag):
    def wake(self) -> None:
        super().wake()
        raise ZeroDivisionError("this waker is broken")


@pytest.mark.parametrize("ready", ["already", "later"])
def test_a_waker_that_raises_is_reported_and_the_reactor_goes_on(
    ready: str, caplog: pytest.LogCaptureFixture, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, peer = pair
    if ready == "already":
        peer.send(b"x")
    bad = BadFlag()
    Reactor.get().register_waker(ours.fileno(), bad, READABLE)
    executor_turn()
    peer.send(b"x")
    bad.wait()
    settle()
    assert "this waker is broken" in caplog.text
    register(ours, READABLE).wait()
