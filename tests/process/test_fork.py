"""Forks: the child has no runtime until it makes one, and the parent does not notice."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Callable

import pytest

from trale_py import engine

Script = Callable[..., "subprocess.CompletedProcess[str]"]

# What each of these programs begins with.
PREAMBLE = """
import faulthandler, math, os, socket, subprocess, sys, threading, warnings
# A child that is forked while this is armed hangs at its exit, in faulthandler.
faulthandler.cancel_dump_traceback_later()
# From 3.12 on os.fork() warns if there are threads; that is Python's word, not ours.
warnings.filterwarnings("ignore", category=DeprecationWarning)
from trale_py import *
from trale_py.core import current

async def give(value): return value

def in_child(function):
    "Call it in a forked child; what it returns is the child's exit status."
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = function() or 0
        except BaseException:
            import traceback; traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return pid

def status_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def refused(function, *args):
    "Whether it raises RuntimeClosed, at once."
    try:
        function(*args)
    except RuntimeClosed:
        return True
    return False

async def refused_in_task(function, *args):
    try:
        await function(*args)
    except RuntimeClosed:
        return True
    return False
"""


@pytest.fixture
def run_fork(run_script: Script) -> Script:
    def run(source: str, *args: str) -> subprocess.CompletedProcess[str]:
        result = run_script(PREAMBLE + textwrap.dedent(source), *args, timeout=25)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return result

    return run


def test_H9_a_child_has_no_runtime_and_makes_its_own(run_fork: Script) -> None:
    result = run_fork(
        """
        live, ended = spawn(sleep(math.inf)), spawn(give(5))
        ended.join()

        def child():
            assert threading.active_count() == 1
            assert tasks() == []
            assert refused(live.join) and refused(live.result) and refused(live.exception)
            assert refused(live.future) and refused(live.add_done_callback, print)
            assert not live.done()
            assert block_on(refused_in_task(lambda: live))
            assert ended.join() == ended.result() == block_on(ended_in_a_task()) == 5
            assert spawn(give(7)).join() == 7
            names = sorted(t.name for t in threading.enumerate())
            assert names == ["MainThread", "trale-executor", "trale-reactor"], names
            Executor.shutdown()
            assert block_on(give(8)) == 8

        async def ended_in_a_task():
            return await ended

        assert status_of(in_child(child)) == 0
        assert not live.done() and block_on(give(6)) == 6
        print("ok")
        """
    )
    assert result.stdout == "ok\n"


def test_H10_the_child_leaves_the_parents_sockets_alone(run_fork: Script) -> None:
    """Streams are in use at the fork, in every way; the child tries all that it can with them."""
    result = run_fork(
        """
        listener = TcpListener.bind("127.0.0.1:0")
        udp = UdpSocket.bind("127.0.0.1:0")
        box = {}

        async def main():
            box["a"], box["b"] = await gather(
                TcpStream.connect(listener.local_addr), listener.accept())
            await box["b"].write_all(b"buffered\\nrest")
            assert await box["a"].read_until(b"\\n") == b"buffered\\n"

        block_on(main())
        a, b = box["a"], box["b"]
        reading = spawn(b.read())
        accepting, receiving = spawn(listener.accept()), spawn(udp.recv())
        waits_for_fd = AsyncFd(a.socket)
        while not all(task.state == "waiting" for task in tasks()):
            block_on(yield_now())
        fds = {s.socket.fileno() for s in (a, b, listener, udp)}

        def child():
            async def tries():
                for call in (a.read, lambda: a.read_exact(4), lambda: b.read(), a.shutdown,
                             lambda: a.write_all(b""), lambda: a.write(b"x"), lambda: udp.recv(),
                             lambda: udp.send_to(b"", udp.local_addr), listener.accept):
                    assert await refused_in_task(call), call
            block_on(tries())
            is_open = lambda fd: os.path.lexists(f"/proc/self/fd/{fd}")
            assert all(map(is_open, fds))
            for sock in (a, b, listener, udp):
                sock.close()
                assert sock.closed
            assert not any(map(is_open, fds))

        assert status_of(in_child(child)) == 0

        async def goes_on():
            await a.write_all(b"still here")
            assert await reading == b"still here"
            assert await a.read() == b"rest"
            other = await TcpStream.connect(listener.local_addr)
            accepted = await accepting
            await udp.send_to(b"datagram", udp.local_addr)
            assert await receiving == b"datagram"
            for sock in (a, b, other, accepted, listener, udp):
                sock.close()

        block_on(goes_on())
        print("ok")
        """
    )
    assert result.stdout == "ok\n"


def test_H10_a_listener_that_was_not_used_before_the_fork_is_the_childs_too(
    run_fork: Script,
) -> None:
    result = run_fork(
        """
        listener = TcpListener.bind("127.0.0.1:0")
        block_on(give(0))

        def child():
            async def serve():
                stream = await listener.accept()
                await stream.write_all(b"from the child")
                stream.close()
            block_on(serve())

        pid = in_child(child)

        async def ask():
            async with await TcpStream.connect(listener.local_addr) as stream:
                return await stream.read()

        print(block_on(ask()))
        assert status_of(pid) == 0
        listener.close()
        """
    )
    assert result.stdout == "b'from the child'\n"


def test_H10_the_child_closes_the_parents_epoll_and_touches_nothing_else(run_fork: Script) -> None:
    """Timers due while children come and go fire in the parent, neither lost nor early."""
    result = run_fork(
        """
        block_on(give(0))
        anon = lambda: sorted(
            os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
            if os.path.islink(f"/proc/self/fd/{fd}")
            and "anon_inode" in os.readlink(f"/proc/self/fd/{fd}"))
        assert len(anon()) == 3, anon()

        def child():
            assert anon() == [], anon()

        async def naps():
            for _ in range(20):
                start = now()
                await sleep(0.002)
                assert now() >= start + 0.002

        sleeping = [spawn(naps()) for _ in range(20)]
        while not all(handle.done() for handle in sleeping):
            assert status_of(in_child(child)) == 0
        for handle in sleeping:
            handle.join()
        print("ok")
        """
    )
    assert result.stdout == "ok\n"


def test_H10_finally_blocks_of_the_parents_tasks_do_not_run_in_the_child(run_fork: Script) -> None:
    result = run_fork(
        """
        import gc
        started = Event()

        class Loud:
            def __del__(self): os.write(1, f"freed in {who}\\n".encode())

        async def main():
            loud = Loud()
            try:
                started.set()
                await sleep(math.inf)
            finally:
                os.write(1, f"finally in {who}\\n".encode())

        who = "parent"
        handle = spawn(main())
        block_on(started.wait())

        pid = os.fork()
        if pid == 0:
            who = "child"
            del handle
            gc.collect()
            assert block_on(give(1)) == 1
            sys.exit(0)
        assert status_of(pid) == 0
        """
    )
    assert result.stdout == "finally in parent\nfreed in parent\n"


# The native poller opens its descriptors in one call, which no fork can cut in two.
@pytest.mark.parametrize("where", ["Thread"] + ["WakeupFd", "TimerFd"] * (engine == "python"))
def test_H9_R14_a_fork_while_the_runtime_starts(where: str, run_fork: Script) -> None:
    """The executor's thread is held in the midst of opening the reactor's descriptors."""
    result = run_fork(
        """
        from trale_py.core import poller, reactor
        where = sys.argv[1]
        module = reactor if where == "Thread" else poller
        original = getattr(module, where)
        beginning, forked = threading.Event(), threading.Event()

        def slow(*args, **kw):
            if threading.current_thread().name == "trale-executor":
                setattr(module, where, original)
                beginning.set()
                forked.wait()
            return original(*args, **kw)

        user = threading.Thread(target=lambda: print(block_on(give("parent"))))
        setattr(module, where, slow)
        user.start()
        beginning.wait()

        def child():
            print(block_on(give("child")))
            assert sorted(t.name for t in threading.enumerate()) == [
                "MainThread", "trale-executor", "trale-reactor"]
            anon = [fd for fd in os.listdir("/proc/self/fd")
                    if "anon_inode" in (os.readlink(f"/proc/self/fd/{fd}") if
                    os.path.islink(f"/proc/self/fd/{fd}") else "")]
            assert len(anon) == 3, anon

        pid = in_child(child)
        assert status_of(pid) == 0
        forked.set()
        user.join()
        """,
        where,
    )
    assert result.stdout == "child\nparent\n"


def test_H9_R14_a_fork_before_any_thread_has_become_the_executor(run_fork: Script) -> None:
    result = run_fork(
        """
        from trale_py.core.executor import Executor as E
        run, beginning, forked = E._run, threading.Event(), threading.Event()

        def slow(self):
            beginning.set()
            forked.wait()
            run(self)

        E._run = slow
        user = threading.Thread(target=lambda: print(block_on(give("parent"))))
        user.start()
        beginning.wait()
        E._run = run
        pid = in_child(lambda: print(block_on(give("child"))))
        assert status_of(pid) == 0
        forked.set()
        user.join()
        """
    )
    assert result.stdout == "child\nparent\n"


def test_H9_a_fork_while_the_runtime_ends(run_fork: Script) -> None:
    result = run_fork(
        """
        from trale_py.core.reactor import Reactor as R
        stop, ending, forked = R._stop, threading.Event(), threading.Event()

        def slow(self):
            ending.set()
            forked.wait()
            stop(self)

        live = spawn(sleep(math.inf))
        R._stop = slow
        user = threading.Thread(target=Executor.shutdown)
        user.start()
        ending.wait()
        R._stop = stop

        def child():
            assert block_on(give(7)) == 7
            Executor.shutdown()

        assert status_of(in_child(child)) == 0
        forked.set()
        user.join()
        assert block_on(give(8)) == 8
        print("ok")
        """
    )
    assert result.stdout == "ok\n"


@pytest.mark.slow
def test_H9_a_signal_handler_forks_and_its_child_comes_back(run_fork: Script) -> None:
    """The child goes on in the midst of a join, a first spawn or a shutdown of the parent's."""
    result = run_fork(
        """
        import signal
        from trale_py.core.latch import Latch
        from trale_py.core.runtime import Runtime
        pids = []
        signal.signal(signal.SIGUSR1, lambda *_: pids.append(os.fork()))
        wait = Latch.wait_blocking
        begun, poked = threading.Event(), threading.Event()

        def delayed(function):
            def when_poked(self, *args):
                begun.set()
                poked.wait(20)
                return function(self, *args)
            return when_poked
        # What is waited for must not have come before the wait begins.
        Runtime.start, Runtime.stop = delayed(Runtime.start), delayed(Runtime.stop)

        def interrupted(self, timeout=-1):
            Latch.wait_blocking = wait
            poke = threading.Thread(
                target=lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1))
            call, unbound = self.call_when_open, Latch.call_when_open

            def called(key, value):
                try:
                    return call(key, value)
                finally:
                    begun.wait(20)  # before that, the child has its own runtime begin
                    poke.start()  # the signal finds the thread about to wait
                    poke.join()
                    poked.set()
            Latch.call_when_open = lambda self, *args: called(*args)
            try:
                return self.wait_blocking(timeout)
            finally:
                Latch.call_when_open = unbound

        def attempt(function):
            Latch.wait_blocking = interrupted
            poked.clear()
            me = os.getpid()
            try:
                function()
                outcome = "returned"
            except RuntimeClosed:
                outcome = "RuntimeClosed"
            except TimeoutError:
                outcome = "TimeoutError"
            finally:
                Latch.wait_blocking = wait
            if os.getpid() != me:
                os.write(1, f"child: {outcome}\\n".encode())
                os._exit(0)
            pid = pids.pop()
            assert not pids
            assert status_of(pid) == 0
            os.write(1, f"parent: {outcome}\\n".encode())

        attempt(lambda: spawn(sleep(0)))
        handle = spawn(sleep(math.inf))
        attempt(lambda: handle.join(0.5))
        attempt(Executor.shutdown)
        """
    )
    assert result.stdout.splitlines() == [
        "child: returned",
        "parent: returned",
        "child: RuntimeClosed",
        "parent: TimeoutError",
        "child: returned",
        "parent: returned",
    ]


def test_H9_a_fork_from_another_thread(run_fork: Script) -> None:
    result = run_fork(
        """
        live = spawn(sleep(math.inf))

        def work():
            def child():
                assert threading.main_thread() is threading.current_thread()
                assert refused(live.join)
                assert block_on(give(7)) == 7
            assert status_of(in_child(child)) == 0

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert block_on(give(6)) == 6
        print("ok")
        """
    )
    assert result.stdout == "ok\n"


@pytest.mark.parametrize("leaves", ["by itself", "sys.exit", "an error"])
def test_H9_a_fork_in_the_block_of_a_group_in_a_script(leaves: str, run_fork: Script) -> None:
    result = run_fork(
        """
        leaves = sys.argv[1]
        release = Event()

        def script():
            with TaskGroup() as group:
                group.spawn(release.wait())
                pid = os.fork()
                if pid == 0:
                    assert refused(group.spawn, give(1))
                    if leaves == "sys.exit":
                        sys.exit(3)
                    if leaves == "an error":
                        raise KeyError("mine")
                    return None
                release.set()
            return pid

        me = os.getpid()
        try:
            pid = script()
        except BaseException as error:
            print(type(error).__name__)
            sys.stdout.flush()
            os._exit(0)
        assert os.getpid() == me
        assert status_of(pid) == 0
        """,
        leaves,
    )
    error = {"by itself": "RuntimeClosed", "sys.exit": "SystemExit", "an error": "KeyError"}
    assert result.stdout == error[leaves] + "\n"


@pytest.mark.parametrize("block", ["serve", "blocking"])
@pytest.mark.parametrize("leaves", ["by itself", "sys.exit", "an error"])
def test_H9_a_fork_in_another_block_of_a_script(block: str, leaves: str, run_fork: Script) -> None:
    result = run_fork(
        """
        import contextlib
        block, leaves = sys.argv[1:]

        @contextlib.asynccontextmanager
        async def manager():
            yield

        def script():
            with serve(give, "127.0.0.1:0") if block == "serve" else blocking(manager()):
                pid = os.fork()
                if pid == 0 and leaves == "sys.exit":
                    sys.exit(3)
                if pid == 0 and leaves == "an error":
                    raise KeyError("mine")
            return pid

        me = os.getpid()
        try:
            pid = script()
        except BaseException as error:
            print(type(error).__name__)
            sys.stdout.flush()
            os._exit(0)
        assert os.getpid() == me
        assert status_of(pid) == 0
        """,
        block,
        leaves,
    )
    error = {"by itself": "RuntimeClosed", "sys.exit": "SystemExit", "an error": "KeyError"}
    assert result.stdout == error[leaves] + "\n"


def test_H9_a_fork_in_the_midst_of_what_a_script_waits_for(run_fork: Script) -> None:
    result = run_fork(
        """
        async def count():
            for n in range(3):
                yield n

        async def endless():
            yield 0
            await sleep(math.inf)

        jobs = JoinSet()
        jobs.spawn(sleep(math.inf))
        loop = map_concurrent(sleep, [0, math.inf], limit=2)
        pumped = map_concurrent(give, endless(), limit=2)
        items = blocking(count())
        assert (next(loop), next(pumped), next(items)) == (None, 0, 0)

        with serve(give, "127.0.0.1:0") as server:

            def child():
                assert refused(jobs.join_next_blocking)
                assert block_on(refused_in_task(jobs.join_next))
                assert refused(next, loop) and refused(next, pumped) and refused(next, items)
                assert list(loop) == list(pumped) == list(items) == []
                assert refused(server.wait_closed_blocking)
                assert block_on(refused_in_task(server.wait_closed))
                assert list(map_concurrent(give, [1, 2], limit=2)) == [1, 2]

            assert status_of(in_child(child)) == 0
        assert list(items) == [1, 2]
        loop.close()
        pumped.close()
        print("ok")
        """
    )
    assert result.stdout == "ok\n"


# -- in a task ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "status", "stderr"),
    [
        ("return", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(4)", 4, ""),
        ("sys.exit('a reason')", 1, "a reason"),
        ("raise KeyError('mine')", 1, "KeyError: 'mine'"),
        ("await sleep(1)", 1, "RuntimeClosed: the runtime belongs to the parent"),
        ("await live", 1, "RuntimeClosed"),
        ("await refused_in_task(sleep, 1); sys.exit(5)", 5, ""),
    ],
)
def test_H9_a_fork_in_a_task_ends_with_its_coroutine(
    end: str, status: int, stderr: str, run_script: Script
) -> None:
    result = run_script(
        PREAMBLE
        + textwrap.dedent(
            f"""
            live = spawn(sleep(math.inf))
            others = []

            async def other():
                while True:
                    others.append(os.getpid())
                    await yield_now()

            async def main():
                spawn(other())
                await yield_now()
                pid = os.fork()
                if pid == 0:
                    others.clear()
                    assert current_task() is None
                    assert live.done() is False
                    assert spawn(give(7)).join() == block_on(give(7)) == 7
                    print("child")
                    {end}
                    return
                return pid

            print(status_of(block_on(main())), set(others) == {{os.getpid()}})
            """
        )
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"child\n{status} True\n"
    assert stderr in result.stderr
    assert bool(stderr) == bool(result.stderr)


def test_H9_a_fork_in_a_task_lets_the_childs_own_tasks_clean_up(run_fork: Script) -> None:
    result = run_fork(
        """
        async def cleans_up(started):
            try:
                started.set()
                await sleep(math.inf)
            finally:
                with CancelScope(shield=True):
                    await sleep(0.01)
                print("cleaned up")

        async def main():
            pid = os.fork()
            if pid == 0:
                started = Event()
                spawn(cleans_up(started))
                block_on(started.wait())
                return
            return pid

        assert status_of(block_on(main())) == 0
        """
    )
    assert result.stdout == "cleaned up\n"


@pytest.mark.parametrize("where", ["done-callback", "published"])
def test_H9_a_fork_in_a_call_on_the_executors_thread(where: str, run_fork: Script) -> None:
    """The child must not come back to the loop: the parent's other tasks are there."""
    result = run_fork(
        """
        where = sys.argv[1]
        polled, pids = [], []
        release = Event()

        async def other():
            await release.wait()
            polled.append(os.getpid())
            os.write(1, f"polled in {'parent' if os.getpid() == me else 'child'}\\n".encode())

        def fork(*_):
            pids.append(os.fork())
            if pids[-1] == 0:
                os.write(1, b"child\\n")

        me = os.getpid()
        others = [spawn(other()) for _ in range(3)]
        block_on(yield_now())
        runtime = current.default_runtime()

        async def main():  # all of it comes in one batch
            if where == "done-callback":
                handle = spawn(give(0))
                handle.add_done_callback(fork)
            release.set()
            if where == "published":
                runtime.publish(fork)
                runtime.publish(lambda: polled.append(os.getpid()))

        block_on(main())
        for handle in others:
            handle.join()
        block_on(give(0))  # comes after the fork
        assert status_of(pids[0]) == 0
        """,
        where,
    )
    assert sorted(result.stdout.splitlines()) == ["child"] + ["polled in parent"] * 3


# -- under load ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_H9_a_thousand_forks_under_load(run_fork: Script) -> None:
    """Tasks, timers, a stream and a pool are busy; two threads fork; each child uses a runtime."""
    result = run_fork(
        """
        listener = TcpListener.bind("127.0.0.1:0")
        stopping = False
        rounds = [0, 0]

        async def echo():
            stream = await listener.accept()
            with stream:
                while data := await stream.read():
                    await stream.write_all(data)

        async def ask():
            async with await TcpStream.connect(listener.local_addr) as stream:
                while not stopping:
                    await stream.write_all(b"ping")
                    assert await stream.read_exact(4) == b"ping"
                    rounds[0] += 1
                    await sleep(0.001)

        async def naps():
            while not stopping:
                await gather(sleep(0.001), timeout(5, sleep(0.0005)))
                rounds[1] += 1

        load = [spawn(echo()), spawn(ask()), spawn(naps()), spawn(naps())]

        def work(count, every):
            for n in range(count):
                def child():
                    if n % every == 0:
                        assert block_on(give(n)) == n
                assert status_of(in_child(child)) == 0

        threads = [threading.Thread(target=work, args=(500, 10)) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        stopping = True
        for handle in load: handle.join(20)
        listener.close()
        assert min(rounds) > 100, rounds
        print("ok")
        """
    )
    assert result.stdout == "ok\n"


def test_H11_a_child_that_keeps_a_duplicate_does_not_make_the_parent_spin(
    run_fork: Script,
) -> None:
    result = run_fork(
        """
        import signal, time
        a, b = socket.socketpair(socket.AF_UNIX)
        fd = AsyncFd(a)
        async def waits():
            await fd.readable()
        waiting = spawn(waits())
        block_on(yield_now())
        udp = UdpSocket.bind("127.0.0.1:0")
        receiving = spawn(udp.recv())
        while not all(task.state == "waiting" for task in tasks()):
            block_on(yield_now())
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(w)
            os.read(r, 1)  # until the parent has ended
            os._exit(0)
        address = udp.local_addr
        udp.close()
        receiving.exception() if receiving.done() else None
        try: receiving.join()
        except ClosedResourceError: pass
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for _ in range(10): sender.sendto(b"to the child's duplicate", address)
        cpu = time.process_time()
        block_on(sleep(0.3))
        assert time.process_time() - cpu < 0.1
        b.send(b"x")
        waiting.join()
        os.close(w)
        assert status_of(pid) == 0
        for s in (a, b, sender): s.close()
        print("ok")
        """
    )
    assert result.stdout == "ok\n"


# -- multiprocessing and subprocess ---------------------------------------------------------------


MULTIPROCESSING = """
import faulthandler, math, multiprocessing, os, sys, threading, warnings
faulthandler.cancel_dump_traceback_later()  # as above
warnings.filterwarnings("ignore", category=DeprecationWarning)
from trale_py import *

async def give(value): return value

async def echo_once(listener):
    async with await listener.accept() as stream:
        await stream.write_all(await stream.read())

async def ask(address, data):
    async with await TcpStream.connect(address) as stream:
        await stream.write_all(data)
        return await stream.read()

async def cleans_up(started):
    try:
        started.set()
        await sleep(math.inf)
    finally:
        os.write(1, b"cleaned up\\n")

def work(address):
    "In the child: TCP with the parent, a task that is left, threads of the child's own."
    if address is not None:
        assert block_on(ask(address, b"x")) == b"x"
    started = Event()
    spawn(cleans_up(started))
    block_on(started.wait())

def outlives():
    "A thread that is no daemon goes on after the process's function has returned."
    def late():
        assert block_on(after(5)) == 5
        os.write(1, b"late\\n")
    ready = threading.Event()
    async def after(value):
        ready.set()
        await sleep(0.05)
        return value
    threading.Thread(target=late).start()
    ready.wait()
"""


@pytest.fixture
def run_workers(run_script: Script) -> Script:
    def run(source: str, *args: str) -> subprocess.CompletedProcess[str]:
        main = textwrap.indent(textwrap.dedent(source), "    ")
        result = run_script(
            MULTIPROCESSING + "if __name__ == '__main__':\n" + main, *args, timeout=25
        )
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return result

    return run


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("where", ["main", "thread", "task"])
def test_H12_multiprocessing(method: str, where: str, run_workers: Script) -> None:
    """The runtime runs in the parent, with tasks, timers and sockets; each child does TCP."""
    result = run_workers(
        """
        method, where = sys.argv[1:]
        listener = TcpListener.bind("127.0.0.1:0")
        echo, live = spawn(echo_once(listener)), spawn(sleep(math.inf))
        context = multiprocessing.get_context(method)

        def start():
            process = context.Process(target=work, args=(listener.local_addr,))
            process.start()
            return process

        async def start_in_task():
            return start()

        box = []
        if where == "task":
            box.append(block_on(start_in_task()))
        elif where == "thread":
            thread = threading.Thread(target=lambda: box.append(start()))
            thread.start()
            thread.join()
        else:
            box.append(start())
        box[0].join()
        assert box[0].exitcode == 0, box[0].exitcode
        echo.join(20)
        assert not live.done()
        listener.close()
        """,
        method,
        where,
    )
    assert result.stdout == "cleaned up\n"


def test_H12_a_hundred_children_do_tcp(run_workers: Script) -> None:
    result = run_workers(
        """
        listener = TcpListener.bind("127.0.0.1:0")
        context = multiprocessing.get_context("fork")

        async def serve():
            async with TaskGroup() as group:
                for _ in range(100):
                    group.spawn(echo_once(listener))

        serving = spawn(serve())
        for _ in range(10):
            batch = [context.Process(target=work, args=(listener.local_addr,)) for _ in range(10)]
            for process in batch: process.start()
            for process in batch: process.join()
            assert [process.exitcode for process in batch] == [0] * 10
        serving.join(20)
        listener.close()
        """
    )
    assert result.stdout == "cleaned up\n" * 100


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_H12_a_thread_that_outlives_its_processs_function(method: str, run_workers: Script) -> None:
    result = run_workers(
        """
        process = multiprocessing.get_context(sys.argv[1]).Process(target=outlives)
        process.start()
        process.join()
        assert process.exitcode == 0, process.exitcode
        """,
        method,
    )
    assert result.stdout == "late\n"


def test_H12_a_child_registers_its_end_once(run_workers: Script) -> None:
    """Start and stop the runtime in a worker: what multiprocessing keeps does not grow."""
    run_workers(
        """
        def worker():
            from multiprocessing import util
            block_on(give(0))
            before = len(util._finalizer_registry)
            for n in range(20):
                Executor.shutdown()
                assert block_on(give(n)) == n
            assert len(util._finalizer_registry) == before

        process = multiprocessing.get_context("fork").Process(target=worker)
        process.start()
        process.join()
        assert process.exitcode == 0, process.exitcode
        """
    )


def test_H13_no_descriptor_of_ours_is_inherited_over_exec(run_fork: Script) -> None:
    result = run_fork(
        """
        listener = TcpListener.bind("127.0.0.1:0")
        udp = UdpSocket.bind("127.0.0.1:0")

        async def main():
            a, b = await gather(TcpStream.connect(listener.local_addr), listener.accept())
            await a.write_all(b"x")
            assert await b.read() == b"x"
            return a, b

        a, b = block_on(main())
        receiving = spawn(udp.recv())
        listing = "import os; print(*sorted(os.listdir('/proc/self/fd'), key=int)[:-1])"
        command = [sys.executable, "-c", listing]
        for close_fds in (False, True):
            out = subprocess.run(command, close_fds=close_fds, capture_output=True, text=True)
            assert out.stdout.split() == ["0", "1", "2"], out
        # with a preexec_fn, Python's hooks run in the child before the exec
        out = subprocess.run(command, close_fds=False, capture_output=True, text=True,
                             preexec_fn=lambda: None)
        assert out.stdout.split() == ["0", "1", "2"], out
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and os.path.islink(f"/proc/self/fd/{name}"):
                assert not os.get_inheritable(int(name)), os.readlink(f"/proc/self/fd/{name}")

        async def goes_on():
            await udp.send_to(b"y", udp.local_addr)
            assert await receiving == b"y"
            for sock in (a, b, listener, udp):
                sock.close()

        block_on(goes_on())
        print("ok")
        """
    )
    assert result.stdout == "ok\n"
