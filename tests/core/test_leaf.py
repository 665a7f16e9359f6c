"""One operation is for one await, and a forgotten one says so: for every operation there is."""

from __future__ import annotations

import ast
import contextlib
import gc
import inspect
import os
import socket
import ssl
import sys
import tracemalloc
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

import trale_py
from tests.support.net_helpers import TIMEOUT, free_port, raw_tcp_pair
from trale_py import (
    AsyncFd,
    Barrier,
    BoundedSemaphore,
    CancelScope,
    CapacityLimiter,
    Condition,
    Context,
    Event,
    EventFd,
    FdStream,
    Future,
    JoinHandle,
    JoinSet,
    Mutex,
    Notify,
    OnceCell,
    Pending,
    Ready,
    RwLock,
    Semaphore,
    Socket,
    StopToken,
    TaskGroup,
    TcpListener,
    TcpStream,
    Timer,
    UdpSocket,
    UnixDatagram,
    UnixListener,
    UnixStream,
    WouldDeadlock,
    as_completed,
    block_on,
    channel,
    fs,
    gather,
    interval,
    now,
    pipe,
    process,
    race,
    resolve,
    reverse_lookup,
    serve,
    sleep,
    sleep_until,
    sleep_until_wall,
    socketpair,
    spawn,
    timeout,
    tls,
    yield_now,
)
from trale_py.core.leaf import checkpoint
from trale_py.core.task import BUDGET
from trale_py.fs import File
from trale_py.fs.open_file import OpenFile
from trale_py.process import Process
from trale_py.process.start import start
from trale_py.tls import TlsListener, TlsStream
from trale_py.tls.engine import TlsEngine

PACKAGE = Path(trale_py.__file__).parent
MODULES = (trale_py, channel, fs, process, tls)
NO_FILE = "/proc/no such file"
CLIENT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


class World:
    """What operations are made of; closed at the end."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    def keep(self, closeable: Any) -> Any:
        self._stack.callback(closeable.close)
        return closeable

    def stream(self) -> TcpStream:
        """A stream whose peer has sent a line."""
        ours, peer = self._stack.enter_context(raw_tcp_pair())
        peer.sendall(b"line\n")
        return self.keep(TcpStream.from_socket(ours))

    def terminal(self) -> FdStream:
        """A stream whose other side has sent a line."""
        master, other = os.openpty()
        os.write(other, b"line\n")
        self._stack.callback(os.close, other)
        return self.keep(FdStream.from_fd(master))

    def pipe_writer(self) -> FdStream:
        reader, writer = pipe()
        self.keep(reader)
        return self.keep(writer)

    def listener(self) -> TcpListener:
        """A listener that somebody has connected to."""
        listener = self.keep(TcpListener.bind("127.0.0.1:0"))
        self.keep(socket.create_connection(listener.local_addr))
        return listener

    def udp(self) -> UdpSocket:
        """A socket that is connected to itself, and has been sent a datagram."""
        sock = self.keep(UdpSocket.bind("127.0.0.1:0"))
        sock.socket.connect(sock.local_addr)
        sock.socket.send(b"datagram")
        return sock

    def unix(self) -> UnixStream:
        """A stream whose peer has sent a line."""
        ours, peer = socketpair()
        self.keep(peer).socket.send(b"line\n")
        return self.keep(ours)

    def unix_listener(self) -> UnixListener:
        """A listener that a client has connected to."""
        listener = self.keep(UnixListener.bind(""))
        client = self.keep(socket.socket(socket.AF_UNIX))
        client.connect(listener.local_addr)
        return listener

    def unix_datagram(self) -> UnixDatagram:
        """One of a pair, and has been sent a datagram."""
        ours, peer = UnixDatagram.pair()
        self.keep(peer).socket.send(b"datagram")
        return self.keep(ours)

    def packets(self) -> Socket:
        """One of a pair that keeps messages apart, and has been sent one."""
        ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.keep(peer).send(b"message")
        return self.keep(Socket.from_socket(ours))

    def packet_listener(self) -> Socket:
        """As ``unix_listener``."""
        listener = self.keep(Socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        listener.bind("")
        listener.listen()
        client = self.keep(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        client.connect(listener.local_addr)
        return listener

    def file(self) -> File:
        """One of a line, at its beginning."""
        fd = os.memfd_create("file")
        os.pwrite(fd, b"line\n", 0)
        file = File(OpenFile(fd), "file")

        async def close() -> None:
            async with file:
                pass

        self._stack.callback(lambda: block_on(close()))  # close() does not wait for a thread
        return file

    def tls_stream(self) -> TlsStream:
        """A stream whose handshake fails, since the peer has sent something else."""
        return self.keep(TlsStream(self.stream(), TlsEngine(CLIENT, False, "localhost", None)))

    def program(self) -> Process:
        """A program that ends at once."""
        started = start(["true"], {}, {"start_new_session": True})
        program = Process(["true"], started)
        self._stack.callback(lambda _: started.undo(), program)  # dropped before, it would warn
        return program

    def fd(self) -> AsyncFd:
        return self.keep(AsyncFd(self.udp().socket))


def a_datagram_to(world: World) -> Any:
    receiver = world.keep(UnixDatagram.bind(""))
    return world.unix_datagram().send_to(b"x", receiver.local_addr)


def a_datagram_socket_connects(world: World) -> Any:
    return world.keep(UnixDatagram.unbound()).connect(world.keep(UnixDatagram.bind("")).local_addr)


def a_packet_socket_connects(world: World) -> Any:
    to = world.packet_listener().local_addr
    return world.keep(Socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)).connect(to)


def an_event() -> Event:
    event = Event()
    event.set()
    return event


def a_stopped_token() -> StopToken:
    token = StopToken()
    token.stop()
    return token


def a_notify() -> Notify:
    notify = Notify()
    notify.notify_one()
    return notify


def a_receiver(pair: tuple[Any, Any]) -> Any:
    """One that has something to receive."""
    getattr(pair[0], "try_send", pair[0].send)("value")
    return pair[1]


async def coro() -> str:
    return "value"


async def in_condition(wait: Callable[[Condition[None]], Awaitable[None]]) -> None:
    condition: Condition[None] = Condition()

    async def notify() -> None:
        async with condition:
            condition.notify_all()

    async with condition:
        spawn(notify())
        await wait(condition)


async def in_server() -> None:
    async with serve(lambda stream: stream.read(), "127.0.0.1:0") as server:
        server.stop()
        await server.wait_closed()


async def in_group() -> None:
    async def started(task_status: Any) -> None:
        await checkpoint()  # where it is cancelled, if start() is: it always begins
        task_status.started()

    async with TaskGroup() as group:
        await group.start(started)
    await checkpoint()  # start() that is cancelled too late has started it


STREAMS: dict[str, Callable[[World], Any]] = {
    "TcpStream": World.stream,
    "FdStream": World.terminal,
    "UnixStream": World.unix,
}


# Of which all operations are coroutines.
LAYERED: dict[str, Callable[[World], Any]] = {
    "File": World.file,
    "TlsStream": World.tls_stream,
}


def of_each_stream(
    name: str, call: Callable[[Any], Any], streams: dict[str, Callable[[World], Any]] = STREAMS
) -> dict[str, Callable[[World], Any]]:
    """The same for every class of byte streams."""

    def of(make: Callable[[World], Any]) -> Callable[[World], Any]:
        return lambda world: call(make(world))

    return {f"{cls}.{name}": of(make) for cls, make in streams.items()}


def of_each_path(*names: str) -> dict[str, Callable[[World], Any]]:
    """What is done to one path; there is nothing."""

    def of(name: str) -> Callable[[World], Any]:
        return lambda _: getattr(fs, name)(NO_FILE)

    return {f"fs.{name}": of(name) for name in names}


# Each public function and method that gives something to await: how to have one that can finish.
LEAVES: dict[str, Callable[[World], Any]] = {
    "yield_now": lambda _: yield_now(),
    "sleep": lambda _: sleep(1e-6),
    "sleep_until": lambda _: sleep_until(now()),
    "sleep_until_wall": lambda _: sleep_until_wall(datetime.now(UTC)),
    "Timer.sleep": lambda _: Timer.sleep(1e-6),
    **of_each_stream("read", lambda stream: stream.read()),
    **of_each_stream("readinto", lambda stream: stream.readinto(bytearray(5))),
    **of_each_stream("write", lambda stream: stream.write(b"x")),
    **of_each_stream("write_all", lambda stream: stream.write_all(b"x")),
    "TcpListener.accept": lambda world: world.listener().accept(),
    "UnixListener.accept": lambda world: world.unix_listener().accept(),
    "UnixDatagram.recv_from": lambda world: world.unix_datagram().recv_from(),
    "Socket.accept": lambda world: world.packet_listener().accept(),
    "Socket.recv": lambda world: world.packets().recv(100),
    "Socket.recvmsg": lambda world: world.packets().recvmsg(100),
    "UdpSocket.recv_from": lambda world: world.udp().recv_from(),
    "AsyncFd.readable": lambda world: world.fd().readable(),
    "AsyncFd.writable": lambda world: world.fd().writable(),
    "Event.wait": lambda _: an_event().wait(),
    "Notify.wait": lambda _: a_notify().wait(),
    "EventFd.wait": lambda world: world.keep(EventFd(1)).wait(),
    "Barrier.wait": lambda _: Barrier(1).wait(),
    "Mutex.lock": lambda _: Mutex().lock(),
    "RwLock.read": lambda _: RwLock().read(),
    "RwLock.write": lambda _: RwLock().write(),
    "Semaphore.acquire": lambda _: Semaphore(1).acquire(),
    "BoundedSemaphore.acquire": lambda _: BoundedSemaphore(1).acquire(),
    "CapacityLimiter.acquire": lambda _: CapacityLimiter(1).acquire(),
    "CapacityLimiter.acquire_on_behalf_of": lambda _: CapacityLimiter(1).acquire_on_behalf_of(1),
    "StopToken.wait": lambda _: a_stopped_token().wait(),
    "JoinSet.join_next": lambda _: JoinSet().join_next(),
    "Sender.send": lambda _: channel.channel(1)[0].send("value"),
    "Receiver.recv": lambda _: a_receiver(channel.channel(1)).recv(),
    "OneshotReceiver.recv": lambda _: a_receiver(channel.oneshot()).recv(),
    "BroadcastReceiver.recv": lambda _: a_receiver(channel.broadcast(1)).recv(),
    "WatchReceiver.changed": lambda _: a_receiver(channel.watch("first")).changed(),
}
COROUTINES: dict[str, Callable[[World], Any]] = {
    "Receiver.recv_many": lambda _: a_receiver(channel.channel(1)).recv_many(1),
    "resolve": lambda _: resolve("127.0.0.1"),
    "reverse_lookup": lambda _: reverse_lookup("127.0.0.1:1"),
    "Server.wait_closed": lambda _: in_server(),
    "gather": lambda _: gather(),
    "race": lambda _: race(spawn(coro())),
    "timeout": lambda _: timeout(1, spawn(coro())),
    "Interval.tick": lambda _: interval(1).tick(),
    "TcpStream.connect": lambda world: TcpStream.connect(world.listener().local_addr),
    **of_each_stream("peek", lambda stream: stream.peek(5), STREAMS | LAYERED),
    **of_each_stream("read_exact", lambda stream: stream.read_exact(5), STREAMS | LAYERED),
    **of_each_stream("read_until", lambda stream: stream.read_until(b"\n"), STREAMS | LAYERED),
    **of_each_stream("shutdown", lambda stream: stream.shutdown(), STREAMS | LAYERED),
    **of_each_stream("read", lambda stream: stream.read(), LAYERED),
    **of_each_stream("readinto", lambda stream: stream.readinto(bytearray(5)), LAYERED),
    **of_each_stream("write", lambda stream: stream.write(b"x"), LAYERED),
    **of_each_stream("write_all", lambda stream: stream.write_all(b"x"), LAYERED),
    "File.open": lambda _: File.open(NO_FILE),
    "File.create": lambda _: File.create(NO_FILE),
    "File.read_to_end": lambda world: world.file().read_to_end(),
    "File.seek": lambda world: world.file().seek(1),
    "File.tell": lambda world: world.file().tell(),
    "File.truncate": lambda world: world.file().truncate(),
    "File.pread": lambda world: world.file().pread(1, 0),
    "File.pwrite": lambda world: world.file().pwrite(b"x", 0),
    "File.sync": lambda world: world.file().sync(),
    "File.stat": lambda world: world.file().stat(),
    **of_each_path("exists", "is_dir", "is_file", "listdir", "lstat", "mkdir", "read_bytes"),
    **of_each_path("readlink", "remove", "remove_tree", "rmdir", "scandir", "stat", "utime"),
    "fs.chmod": lambda _: fs.chmod(NO_FILE, 0o600),
    "fs.link": lambda _: fs.link(NO_FILE, NO_FILE),
    "fs.rename": lambda _: fs.rename(NO_FILE, NO_FILE),
    "fs.symlink": lambda _: fs.symlink(NO_FILE, NO_FILE),
    "fs.write_bytes": lambda _: fs.write_bytes(NO_FILE, b""),
    "Process.spawn": lambda _: Process.spawn([NO_FILE]),
    "Process.wait": lambda world: world.program().wait(),
    "process.run": lambda _: process.run([NO_FILE]),
    "TlsStream.do_handshake": lambda world: world.tls_stream().do_handshake(),
    "TlsListener.accept": lambda world: TlsListener(world.listener(), SERVER).accept(),
    "tls.connect": lambda _: tls.connect(("127.0.0.1", free_port()), context=CLIENT),
    "tls.start_tls": lambda world: tls.start_tls(
        world.stream(), CLIENT, server_hostname="localhost"
    ),
    "FdStream.shutdown": lambda world: world.pipe_writer().shutdown(),
    "UnixStream.connect": lambda world: UnixStream.connect(world.unix_listener().local_addr),
    "UnixStream.send_fds": lambda world: world.unix().send_fds(b"x", []),
    "UnixStream.recv_fds": lambda world: world.unix().recv_fds(5),
    "UnixDatagram.recv": lambda world: world.unix_datagram().recv(),
    "UnixDatagram.recv_many": lambda world: world.unix_datagram().recv_many(1),
    "UnixDatagram.send": lambda world: world.unix_datagram().send(b"x"),
    "UnixDatagram.send_to": lambda world: a_datagram_to(world),
    "UnixDatagram.send_many": lambda world: world.unix_datagram().send_many([]),
    "UnixDatagram.connect": lambda world: a_datagram_socket_connects(world),
    "Socket.send": lambda world: world.packets().send(b"x"),
    "Socket.sendmsg": lambda world: world.packets().sendmsg([b"x"]),
    "Socket.connect": lambda world: a_packet_socket_connects(world),
    "UdpSocket.recv": lambda world: world.udp().recv(),
    "UdpSocket.recv_many": lambda world: world.udp().recv_many(1),
    "UdpSocket.send": lambda world: world.udp().send(b"x"),
    "UdpSocket.send_many": lambda world: world.udp().send_many([]),
    "UdpSocket.connect": lambda world: world.udp().connect("127.0.0.1:9"),
    "Condition.wait": lambda _: in_condition(Condition.wait),
    "Condition.wait_for": lambda _: in_condition(lambda it: it.wait_for(lambda: True)),
    "OnceCell.get_or_init": lambda _: OnceCell().get_or_init(coro),
    "TaskGroup.start": lambda _: in_group(),
}
# A coroutine in Python, and in C an operation where the address needs no looking up.
EITHER: dict[str, Callable[[World], Any]] = {
    "UdpSocket.send_to": lambda world: (sock := world.udp()).send_to(b"x", sock.local_addr),
}
ALL = {**LEAVES, **COROUTINES, **EITHER}

each = pytest.mark.parametrize("name", ALL)
each_leaf = pytest.mark.parametrize("name", LEAVES)


@pytest.fixture
def world() -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        yield World(stack)


# -- the list is complete ---------------------------------------------------------------------


@cache
def classes() -> dict[str, ast.ClassDef]:
    """All classes of the package, by name, as they stand in Python."""
    return {
        node.name: node
        for path in PACKAGE.rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    }


def is_awaited(function: ast.AST) -> bool:
    """Whether what it returns is to be awaited, as it declares."""
    if isinstance(function, ast.AsyncFunctionDef):
        returns = "" if function.returns is None else ast.unparse(function.returns)
        return not returns.startswith("Async")
    if not isinstance(function, ast.FunctionDef) or function.returns is None:
        return False
    if any(ast.unparse(one) == "property" for one in function.decorator_list):
        return False
    returns = ast.unparse(function.returns).partition("[")[0]
    return returns in ("Coroutine", "Opening") or is_operation(returns)


def is_operation(name: str) -> bool:
    cls = classes().get(name)
    bases = [] if cls is None else [ast.unparse(base).partition("[")[0] for base in cls.bases]
    return any(base in ("Operation", "leaf.Operation") or is_operation(base) for base in bases)


def public_operations() -> set[str]:
    found = set()
    for module in MODULES:
        prefix = "" if module in (trale_py, channel) else module.__name__.rpartition(".")[2] + "."
        for name in module.__all__:
            thing = getattr(module, name)
            if isinstance(thing, type) and not issubclass(thing, BaseException):
                for base in thing.__mro__:
                    body = classes()[base.__name__].body if base.__name__ in classes() else []
                    found.update(
                        f"{name}.{method.name}"
                        for method in body
                        if is_awaited(method) and not method.name.startswith("_")  # type: ignore[attr-defined]
                    )
            elif inspect.isfunction(thing) or inspect.isbuiltin(thing):
                path = PACKAGE.joinpath(*thing.__module__.split(".")[1:]).with_suffix(".py")
                found.update(
                    prefix + node.name
                    for node in ast.parse(path.read_text()).body
                    if is_awaited(node) and node.name == name  # type: ignore[attr-defined]
                )
    return found


def test_all_operations_are_tested_here() -> None:
    found = public_operations()
    classes.cache_clear()  # or every gc.collect() of the tests that follow would walk it
    assert found == set(ALL)


def test_what_else_can_be_awaited_is_known() -> None:
    things = [getattr(module, name) for module in MODULES for name in module.__all__]
    awaitable = {one for one in things if isinstance(one, type) and hasattr(one, "__await__")}
    assert awaitable == {Future, JoinHandle, Timer}


# -- one await --------------------------------------------------------------------------------


async def finish(awaitable: Awaitable[Any]) -> None:
    """Await it; what it gives, or raises, is not asked here."""
    try:
        result = await awaitable
    except Exception as error:
        assert "again" not in str(error)
        assert "awaited" not in str(error)
        return
    give_back(result)


def give_back(result: Any) -> None:
    """Release what was taken, close what was opened; in a tuple it comes first."""
    first = result[0] if isinstance(result, tuple) and result else result
    for end in ("release", "close"):
        if hasattr(first, end):
            getattr(first, end)()


def refused() -> Any:
    """Python's own words for a coroutine, or ours."""
    return pytest.raises(
        RuntimeError, match=r"cannot await .* again|cannot reuse already|being awaited already"
    )


@each
def test_awaited_again_after_its_end_it_is_refused(name: str, world: World) -> None:
    async def main() -> None:
        operation = ALL[name](world)
        await finish(operation)
        for _ in range(2):
            with refused():
                await operation

    block_on(timeout(TIMEOUT, main()))


@each
def test_awaited_again_after_it_was_cut_off_it_is_refused(name: str, world: World) -> None:
    async def main() -> None:
        operation = ALL[name](world)
        with CancelScope() as scope:
            scope.cancel()
            await operation
        assert scope.cancelled_caught
        with refused():
            await operation

    block_on(timeout(TIMEOUT, main()))


@each
def test_awaited_by_a_second_task_it_is_refused_and_the_first_goes_on(
    name: str, world: World
) -> None:
    operation = ALL[name](world)

    async def first() -> None:
        for _ in range(BUDGET):
            await checkpoint()
        await finish(operation)  # which gives way, as this task had many a turn

    async def main() -> None:
        handle = spawn(first())
        await yield_now()
        assert not handle.done()
        with refused():
            await operation
        assert not handle.done()  # refused at once
        await handle

    block_on(timeout(TIMEOUT, main()))


@each
def test_closed_it_is_over_and_nothing_is_said(name: str, world: World) -> None:
    async def main() -> None:
        operation = ALL[name](world)
        operation.close()
        operation.close()
        with refused():
            await operation

    block_on(timeout(TIMEOUT, main()))


@each
def test_it_has_the_face_of_a_coroutine(name: str, world: World) -> None:
    async def main() -> None:
        operation = ALL[name](world)
        assert isinstance(operation, Coroutine)
        with pytest.raises(ZeroDivisionError):
            operation.throw(ZeroDivisionError())
        with refused():
            await operation

    block_on(timeout(TIMEOUT, main()))


@each_leaf
def test_it_shows_no_more_than_that(name: str, world: World) -> None:
    """A completion in a prompt offers what is for users, on both engines."""

    async def main() -> None:
        operation = ALL[name](world)
        shown = {member for member in dir(operation) if not member.startswith("_")}
        assert shown == {"close", "drop", "poll", "send", "throw"}
        operation.close()

    block_on(main())


@each_leaf
def test_sent_to_by_hand_it_does_what_an_await_does(name: str, world: World) -> None:
    class ByHand(Future[None]):
        def __init__(self, operation: Any) -> None:
            self.operation = operation

        def poll(self, cx: Context) -> Ready[None] | Pending:
            try:
                return self.operation.send(None)  # type: ignore[no-any-return]
            except StopIteration as stop:
                give_back(stop.value)
                return Ready(None)

    async def main() -> None:
        operation = LEAVES[name](world)
        await ByHand(operation)
        with refused():
            operation.send(None)
        with refused():
            await operation

    block_on(timeout(TIMEOUT, main()))


@each_leaf
def test_polled_by_hand_it_may_then_be_awaited_by_that_task_and_once(
    name: str, world: World
) -> None:
    class Poll(Future[Any]):
        def __init__(self, operation: Any) -> None:
            self.operation = operation

        def poll(self, cx: Context) -> Ready[Any]:
            return Ready(self.operation.poll(cx))

    async def main() -> None:
        operation = LEAVES[name](world)
        step = await Poll(operation)
        if isinstance(step, Ready):
            give_back(step.value)
        else:
            with refused():
                await spawn(operation)
            await finish(operation)
        with refused():
            await Poll(operation)
        with refused():
            await operation

    block_on(timeout(TIMEOUT, main()))


# -- the forgotten await ----------------------------------------------------------------------


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """What is said of forgotten awaits, as text: a warning that is kept keeps its source."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
        gc.collect()
    said += [str(one.message) for one in caught if issubclass(one.category, RuntimeWarning)]


@each
def test_forgotten_it_says_so_once(name: str, world: World) -> None:
    with heard() as said:
        ALL[name](world)
    assert len(said) == 1
    assert said[0].endswith("was never awaited")


@pytest.mark.parametrize("name", ["sleep", "TcpStream.write_all", "Event.wait", "Mutex.lock"])
def test_the_warning_shows_what_it_was_and_where(name: str, world: World) -> None:
    tracemalloc.start()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            LEAVES[name](world)
        (warning,) = caught
        assert warning.category is RuntimeWarning
        assert str(warning.message).startswith(f"<{name.rpartition('.')[2]}")
        assert warning.filename == __file__
        traceback = tracemalloc.get_object_traceback(warning.source)
        assert traceback is not None
        made_at = Path(traceback[-1].filename)  # here, or in the method that made it
        assert made_at == Path(__file__) or made_at.is_relative_to(Path(trale_py.__file__).parent)
        # It is as good as closed: it may be looked at, and is not said again.
        repr(warning.source)
        with heard() as said:
            del caught[:], warning, traceback
        assert said == []
    finally:
        tracemalloc.stop()


def test_what_was_forgotten_is_freed(world: World) -> None:
    stream, permits = world.stream(), Semaphore(0)
    buffer = bytearray(5)
    read, acquire = stream.read(), permits.acquire()
    watched = (stream, permits, buffer, type(read), type(acquire))
    read.close(), acquire.close()

    def forget() -> None:
        with heard() as said:
            stream.readinto(buffer)
            permits.acquire()
        assert len(said) == 2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forget()
        before = [sys.getrefcount(one) for one in watched]
        for _ in range(20):
            forget()
    gc.collect()
    assert [sys.getrefcount(one) for one in watched] == before
    buffer.append(1)  # nobody has a view of it


@each_leaf
def test_forgotten_in_a_cycle_it_says_so(name: str, world: World) -> None:
    with heard() as said:
        cycle: list[Any] = [LEAVES[name](world)]
        cycle.append(cycle)
        del cycle
    assert len(said) == 1


@each
def test_spawned_and_cancelled_before_it_began_it_was_not_forgotten(
    name: str, world: World
) -> None:
    async def main() -> None:
        handle = spawn(ALL[name](world))
        handle.cancel()
        with pytest.raises(trale_py.TaskCancelled):
            await handle

    with heard() as said:
        block_on(main())
    assert said == []


@each
def test_a_refused_call_closes_it(name: str, world: World) -> None:
    async def main() -> None:
        with pytest.raises(WouldDeadlock):
            block_on(ALL[name](world))

    with heard() as said:
        block_on(main())
        with pytest.raises(TypeError, match="context"):
            spawn(ALL[name](world), context=3)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="not open"):
            TaskGroup().spawn(ALL[name](world))
        with pytest.raises(ValueError, match="seconds"):
            timeout(-1, ALL[name](world))
        with pytest.raises(TypeError, match=r"gather\(\*aws\)\?"):
            spawn([ALL[name](world)])  # type: ignore[arg-type]
    assert said == []


@each_leaf
def test_an_attribute_that_it_has_not_asks_for_the_await(name: str, world: World) -> None:
    operation = LEAVES[name](world)
    with pytest.raises(AttributeError, match=r"<.*> has no attribute 'decode': did you forget"):
        operation.decode()
    assert not hasattr(operation, "_private")
    operation.close()


@pytest.mark.skipif(trale_py.engine == "python", reason="there it is Python's")
@each_leaf
def test_that_costs_nothing_while_attributes_are_found(name: str, world: World) -> None:
    """A ``__getattr__`` of Python's would have each of them found the slow way."""
    operation = LEAVES[name](world)
    assert not hasattr(type(operation), "__getattr__")
    operation.close()


def test_nothing_is_said_once_the_exit_has_begun(run_script: Any) -> None:
    done = run_script("""
        import atexit
        import trale_py
        from trale_py import Event, sleep, spawn

        async def main():
            try:
                await Event().wait()
            finally:
                Event().wait()  # the exit has begun: nobody can put it right any more

        kept = sleep(1)
        kept_too = [Event().wait()]
        kept_too.append(kept_too)
        spawn(main())
        """)
    assert (done.returncode, done.stderr) == (0, "")


@each_leaf
@pytest.mark.parametrize("combinator", [gather, race, partial(timeout, 60)])
def test_handed_to_a_combinator_that_never_runs_it_was_not_forgotten(
    name: str, combinator: Any, world: World
) -> None:
    with heard() as said:
        combinator(LEAVES[name](world)).close()
        as_completed([LEAVES[name](world)])
    assert said == []


def test_a_refused_call_leaves_alone_what_another_task_awaits() -> None:
    async def main() -> None:
        event = Event()
        wait = event.wait()
        first = spawn(wait)
        await yield_now()
        with pytest.raises(TypeError):
            await gather(3, wait)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="seconds"):
            timeout(-1, wait)
        event.set()
        await first

    block_on(timeout(TIMEOUT, main()))


# -- those that may be awaited again, or by several -------------------------------------------


def test_a_timer_may_be_awaited_again_after_a_cut_off_by_one_task_at_a_time() -> None:
    async def wait(timer: Timer) -> str:
        await timer
        return "fired"

    async def main() -> None:
        timer = Timer(60)
        for _ in range(2):
            assert await race(timer, coro()) == "value"
        first = spawn(wait(timer))
        await yield_now()
        with refused():
            await timer
        timer.reset(0)
        assert await first == "fired"
        for _ in range(2):
            await timer  # at once, until reset
        timer.reset(1e-6)
        assert await wait(timer) == "fired"
        timer.cancel()
        for _ in range(2):
            with pytest.raises(trale_py.ClosedResourceError):
                await timer

    block_on(timeout(TIMEOUT, main()))


def test_a_timer_that_is_dropped_was_not_forgotten() -> None:
    with heard() as said:
        Timer(1)
    assert said == []


def test_a_users_future_decides_for_itself() -> None:
    class Twice(Future[str]):
        def poll(self, cx: Context) -> Ready[str]:
            return Ready("again")

    async def main() -> None:
        future = Twice()
        assert [await future, await future] == ["again", "again"]

    with heard() as said:
        block_on(main())
        Twice()
    assert said == []


# -- a refused await changes nothing ----------------------------------------------------------


def test_an_operation_that_has_ended_gives_nothing_back() -> None:
    """A second await, close or drop of a wait that was granted something leaves that alone."""

    async def main() -> None:
        mutex, semaphore, (tx, rx) = Mutex(), Semaphore(1), channel.channel(1)
        tx.try_send("value")
        lock, acquire, recv = mutex.lock(), semaphore.acquire(), rx.recv()
        guard = await lock
        await acquire
        assert await recv == "value"
        for operation in (lock, acquire, recv):
            with refused():
                await operation
            operation.close()
            operation.drop()  # type: ignore[attr-defined]
        assert mutex.locked()
        assert semaphore.value == 0
        assert len(rx) == 0
        guard.release()

    block_on(timeout(TIMEOUT, main()))


def test_a_lock_that_was_entered_is_not_entered_again() -> None:
    lock = RwLock()
    reading = lock.read()
    with reading:
        with refused(), reading:
            pass
        assert lock.try_write() is None
    with refused(), reading:
        pass
    guard = lock.try_write()
    assert guard is not None
    guard.release()


@pytest.mark.parametrize("blocking", ["lock_blocking", "acquire_blocking", "wait_blocking"])
def test_what_a_thread_waited_for_was_not_forgotten(blocking: str) -> None:
    things: list[Any] = [Mutex(), Semaphore(0), Event(), Notify(), Barrier(2)]
    with heard() as said:
        for thing in things:
            if hasattr(thing, blocking):
                with contextlib.suppress(TimeoutError):
                    getattr(thing, blocking)(0.001)
    gc.collect()
    assert [one for one in said if "never awaited" in one] == []
