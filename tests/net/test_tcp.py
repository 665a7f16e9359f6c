"""TCP: connections that are made, refused, half closed, reset, and closed under their users."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.net_helpers import (
    TIMEOUT,
    CutOff,
    Events,
    GaveUp,
    awaiting,
    executor_turn,
    free_port,
    parked,
    raw_tcp_pair,
    receive_all,
    reset,
    run,
    settle,
    stream_and_peer,
)
from trale_py import (
    AsyncFd,
    BusyResourceError,
    ClosedResourceError,
    DelimiterNotFound,
    IncompleteRead,
    RuntimeClosed,
    TcpListener,
    TcpStream,
    block_on,
    spawn,
)
from trale_py.core.leaf import checkpoint
from trale_py.core.runtime import Runtime
from trale_py.net import address as address_module
from trale_py.net.address import Endpoint

Script = Callable[..., "subprocess.CompletedProcess[str]"]
Pair = tuple[TcpStream, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with stream_and_peer() as pair:
        yield pair


@pytest.fixture
def listener() -> Iterator[TcpListener]:
    with TcpListener.bind("127.0.0.1:0") as listener:
        yield listener


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


# -- listening and connecting ------------------------------------------------------------


def test_a_connection_both_ways(listener: TcpListener) -> None:
    async def serve() -> bytes:
        async with await listener.accept() as stream:
            await stream.write_all(b"hello")
            return await stream.read()

    async def main() -> bytes:
        server = spawn(serve())
        async with await TcpStream.connect(listener.local_addr) as stream:
            assert await stream.read_exact(5) == b"hello"
            await stream.write_all(b"good bye")
            return await server

    assert run(main()) == b"good bye"


def test_the_addresses_of_both_ends(listener: TcpListener) -> None:
    async def main() -> None:
        client = await TcpStream.connect(listener.local_addr)
        server = await listener.accept()
        with client, server:
            assert client.peer_addr == server.local_addr == listener.local_addr
            assert server.peer_addr == client.local_addr

    run(main())


def test_small_writes_are_sent_at_once(listener: TcpListener) -> None:
    async def main() -> None:
        client = await TcpStream.connect(listener.local_addr)
        server = await listener.accept()
        with client, server:
            for stream in (client, server):
                assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert not stream.socket.getblocking()
                assert not os.get_inheritable(stream.socket.fileno())

    run(main())


@pytest.mark.parametrize("bind_to", ["127.0.0.1:0", "localhost:0"])
def test_connect_by_name(bind_to: str) -> None:
    """localhost may be ::1 first, where nobody listens: the next address is tried."""

    async def main() -> None:
        with TcpListener.bind(bind_to) as listener:
            stream = await TcpStream.connect(("localhost", listener.local_addr[1]))
            with stream, await listener.accept():
                assert stream.peer_addr == listener.local_addr

    run(main())


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
@pytest.mark.parametrize("form", ["text", "tuple", "four"])
def test_ipv6(form: str) -> None:
    async def main() -> None:
        with TcpListener.bind("[::1]:0") as listener:
            full: Any = listener.local_addr
            assert len(full) == 4
            addr = {"text": f"[::1]:{full[1]}", "tuple": full[:2], "four": full}[form]
            with await TcpStream.connect(addr) as client, await listener.accept() as server:
                assert client.peer_addr == full
                assert server.peer_addr == client.local_addr

    run(main())


def test_T11_the_port_can_be_bound_again_at_once() -> None:
    async def connection_closed_by_us(listener: TcpListener) -> None:
        client = await TcpStream.connect(listener.local_addr)
        (await listener.accept()).close()  # this end waits in TIME_WAIT, then
        with client:
            assert await client.read() == b""

    with TcpListener.bind("127.0.0.1:0") as first:
        addr = first.local_addr
        run(connection_closed_by_us(first))
    executor_turn()
    with TcpListener.bind(addr) as second:
        run(connection_closed_by_us(second))
    executor_turn()


def test_a_port_that_is_taken_is_named(listener: TcpListener) -> None:
    with pytest.raises(OSError, match=r"in use: 127\.0\.0\.1:") as caught:
        TcpListener.bind(listener.local_addr)
    assert caught.value.errno == errno.EADDRINUSE


def test_reuse_port_lets_several_bind() -> None:
    one = TcpListener.bind("127.0.0.1:0", reuse_port=True)
    with one, TcpListener.bind(one.local_addr, reuse_port=True) as two:
        assert one.local_addr == two.local_addr


def test_several_tasks_accept_and_none_is_lost(listener: TcpListener) -> None:
    async def accept_some(n: int) -> int:
        for _ in range(n):
            (await listener.accept()).close()
        return n

    acceptors = [parked(accept_some(10)) for _ in range(5)]
    for _ in range(50):
        socket.create_connection(listener.local_addr[:2], timeout=TIMEOUT).close()
    assert sum(handle.join(TIMEOUT) for handle in acceptors) == 50


def test_C8_an_acceptor_is_cut_off_as_the_connection_comes(listener: TcpListener) -> None:
    """It was woken for the connection and is gone: the next acceptor gets it."""
    for _ in range(50):
        go, busy_now = threading.Event(), threading.Event()

        async def accept() -> TcpStream:
            return await listener.accept()

        cut: CutOff[TcpStream] = CutOff(accept())
        waiting = parked(cut)

        async def busy(
            cut: CutOff[TcpStream] = cut,
            go: threading.Event = go,
            busy_now: threading.Event = busy_now,
        ) -> None:
            busy_now.set()
            assert go.wait(TIMEOUT)
            cut.cut()

        blocker = spawn(busy())
        assert busy_now.wait(TIMEOUT)
        with socket.create_connection(listener.local_addr[:2], timeout=TIMEOUT) as client:
            go.set()
            blocker.join(TIMEOUT)
            with pytest.raises(GaveUp):
                waiting.join(TIMEOUT)
            with run(accept()) as stream:
                assert stream.peer_addr == client.getsockname()


def test_C1_refused_with_the_address_in_the_message() -> None:
    port = free_port()
    with pytest.raises(ConnectionRefusedError, match=f"127.0.0.1:{port}"):
        run(TcpStream.connect(("127.0.0.1", port)))


def test_C1_refused_by_a_name_names_the_last_address() -> None:
    port = free_port()
    with pytest.raises(ConnectionRefusedError, match=f":{port}"):
        run(TcpStream.connect(("localhost", port)))


def test_the_next_address_of_a_name_is_tried(
    listener: TcpListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    good: Any = listener.local_addr
    bad = ("127.0.0.1", free_port())
    monkeypatch.setattr(
        address_module.HostPort,
        "look_up",
        lambda _: [Endpoint(socket.AF_INET, bad), Endpoint(socket.AF_INET, good)],
    )
    with run(TcpStream.connect(("a.name", 1))) as stream:
        assert stream.peer_addr == good


def test_C2_a_connection_that_is_never_answered() -> None:
    """The backlog of one is taken, so the kernel drops what else wants to connect."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        with socket.create_connection(server.getsockname(), timeout=TIMEOUT):
            with pytest.raises(TimeoutError, match=r"127\.0\.0\.1:\d+"):
                run(TcpStream.connect(server.getsockname(), timeout=0.02))
            cut: CutOff[TcpStream] = CutOff(TcpStream.connect(server.getsockname()))
            waiting = parked(cut)
            settle()
            assert not waiting.done()
            cut.cut()
            with pytest.raises(GaveUp):
                waiting.join(TIMEOUT)


def test_a_timeout_that_is_over_at_once_leaves_no_descriptor(listener: TcpListener) -> None:
    for _ in range(20):
        with contextlib.suppress(TimeoutError):
            run(TcpStream.connect(listener.local_addr, timeout=0)).close()


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1"])
def test_a_bad_timeout_is_refused_at_the_call(timeout: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="timeout"):
        TcpStream.connect("127.0.0.1:1", timeout=timeout)


def test_C4_connected_to_itself_counts_as_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()

    class SameSourcePort(socket.socket):
        """As if the kernel had picked the very port that is connected to."""

        def connect_ex(self, addr: Any) -> int:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.bind(addr)
            return super().connect_ex(addr)

    monkeypatch.setattr(socket, "socket", SameSourcePort)
    with pytest.raises(ConnectionRefusedError, match=f"127.0.0.1:{port}"):
        run(TcpStream.connect(("127.0.0.1", port)))


def test_C5_reset_before_it_was_accepted(listener: TcpListener) -> None:
    client = socket.create_connection(listener.local_addr[:2], timeout=TIMEOUT)
    name = client.getsockname()
    reset(client)

    async def main() -> None:
        async with await listener.accept() as stream:
            assert stream.peer_addr == name
            with pytest.raises(ConnectionResetError):
                await stream.read()

    run(main())


def test_a_connection_that_is_reset_as_soon_as_it_is_made() -> None:
    """It was made, so connect() succeeds, or says that it was reset; nothing else."""
    rounds = 100
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT)

        def reset_all() -> None:
            for _ in range(rounds):
                reset(server.accept()[0])

        thread = in_thread(reset_all)

        async def main() -> None:
            for _ in range(rounds):
                with contextlib.suppress(ConnectionResetError):
                    (await TcpStream.connect(server.getsockname())).close()

        run(main())
        thread.join(TIMEOUT)


def test_reset_between_the_connection_and_the_look_at_its_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The look whether it is connected to itself finds no peer any more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT)
        looks = [server.accept]

        class ResetAtTheLook(socket.socket):
            def getsockname(self) -> Any:
                if looks:  # a repr looks too
                    reset(looks.pop()()[0])
                return super().getsockname()

        monkeypatch.setattr(socket, "socket", ResetAtTheLook)
        server_name = socket.socket.__mro__[1].getsockname(server)  # type: ignore[attr-defined]
        with run(TcpStream.connect(server_name)) as stream:
            monkeypatch.undo()
            with pytest.raises(ConnectionResetError):
                run(stream.read())


class FailingAccept:
    """A listening socket whose accept() first fails as often as it is told to."""

    def __init__(self, sock: socket.socket, code: int, times: int) -> None:
        self._sock = sock
        self._errors = [OSError(code, os.strerror(code))] * times

    def accept(self) -> Any:
        if self._errors:
            raise self._errors.pop()
        return self._sock.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EPERM])
def test_C6_iterating_outlives_a_lost_connection(code: int, listener: TcpListener) -> None:
    listener._sock = FailingAccept(listener.socket, code, 3)  # type: ignore[assignment]

    async def first() -> TcpStream:
        return await anext(aiter(listener))

    client = socket.create_connection(listener.local_addr[:2], timeout=TIMEOUT)
    with client, run(first()) as stream:
        assert stream.peer_addr == client.getsockname()


def test_C6_accept_itself_tells(listener: TcpListener) -> None:
    listener._sock = FailingAccept(  # type: ignore[assignment]
        listener.socket, errno.ECONNABORTED, 1
    )
    with pytest.raises(ConnectionAbortedError):
        run(listener.accept())


def test_iterating_does_not_hide_other_errors(listener: TcpListener) -> None:
    listener._sock = FailingAccept(listener.socket, errno.EINVAL, 1)  # type: ignore[assignment]

    async def first() -> TcpStream:
        return await anext(aiter(listener))

    with pytest.raises(OSError, match="Invalid argument"):
        run(first())


def test_C7_no_descriptors_left_to_accept_with(run_script: Script) -> None:
    """It backs off and says so once, and goes on when there are descriptors again."""
    result = run_script(
        """
        import logging, os, resource, socket, threading
        from trale_py import TcpListener, spawn

        CLIENTS = 10
        records, told, accepted, tries = [], threading.Event(), threading.Semaphore(0), []

        class Handler(logging.Handler):
            def emit(self, record):
                records.append(record.getMessage())
                told.set()

        logging.getLogger("trale_py").addHandler(Handler())

        listener = TcpListener.bind("127.0.0.1:0")
        really_accept = listener._accept

        def accept():
            tries.append(1)
            return really_accept()

        listener._accept = accept

        async def serve():
            async for stream in listener:
                stream.close()  # first, or its number is free only after the others are filled
                accepted.release()

        early, late = ([socket.socket() for _ in range(CLIENTS)] for _ in range(2))
        server = spawn(serve())
        for client in early:
            client.connect(listener.local_addr)
            assert accepted.acquire(timeout=20)

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        fill = []
        try:
            while True:
                fill.append(os.dup(0))
        except OSError:
            pass
        tries.clear()
        for client in late:
            client.connect(listener.local_addr)
        assert told.wait(20)
        assert not accepted.acquire(timeout=0.35)  # while it backs off
        assert 1 <= len(tries) <= 6, tries
        assert len(records) == 1, records
        assert "cannot accept" in records[0] and "Too many open files" in records[0], records

        for fd in fill:
            os.close(fd)
        for _ in range(CLIENTS):
            assert accepted.acquire(timeout=20)
        listener.close()
        try:
            server.join(20)
        except Exception as error:
            print(type(error).__name__)
        for sock in early + late:
            sock.close()
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "ClosedResourceError\n", "")


# -- reading -----------------------------------------------------------------------------


def test_read_returns_what_there_is(pair: Pair) -> None:
    stream, peer = pair
    peer.send(b"hello")
    assert run(stream.read()) == b"hello"
    peer.send(b"hello")
    assert [run(stream.read(n)) for n in (1, 2, 10)] == [b"h", b"el", b"lo"]


def test_B10_the_rest_is_read_without_a_new_event(pair: Pair) -> None:
    """Edge-triggered epoll says nothing after a partial read."""
    stream, peer = pair
    data = os.urandom(100_000)

    async def main() -> bytes:
        parts = []
        while sum(map(len, parts)) < len(data):
            parts.append(await stream.read(1000))
        return b"".join(parts)

    thread = in_thread(lambda: peer.sendall(data))
    assert run(main()) == data
    thread.join(TIMEOUT)


def test_urgent_data_does_not_hide_what_follows_it(pair: Pair) -> None:
    """A read stops short at the urgent mark, though there is more behind it."""
    stream, peer = pair
    waiting = parked(stream.read())
    peer.send(b"x")
    assert waiting.join(TIMEOUT) == b"x"
    peer.send(b"before")
    peer.send(b"!", socket.MSG_OOB)
    peer.send(b"after")
    settle()

    async def main() -> bytes:
        data = b""
        while len(data) < 11:
            data += await stream.read()
        return data

    assert run(main()) == b"beforeafter"


def test_readinto(pair: Pair) -> None:
    stream, peer = pair
    peer.send(b"hello")
    buffer = bytearray(b"......")
    assert run(stream.readinto(memoryview(buffer)[1:4])) == 3
    assert run(stream.readinto(memoryview(buffer)[4:])) == 2
    assert buffer == b".hello"
    peer.send(bytes([1, 2, 3, 4]))
    numbers = array.array("I", [0])
    assert run(stream.readinto(numbers)) == 4
    assert numbers.tobytes() == bytes([1, 2, 3, 4])


def test_readinto_takes_what_was_read_ahead(pair: Pair) -> None:
    stream, peer = pair
    peer.send(b"line\nrest")
    assert run(stream.read_until(b"\n")) == b"line\n"
    buffer = bytearray(2)
    assert run(stream.readinto(buffer)) == 2
    assert bytes(buffer) + run(stream.read()) == b"rest"


@pytest.mark.parametrize("bad", [b"read-only", "text", 3, None])
def test_readinto_wants_a_writable_buffer(bad: Any, pair: Pair) -> None:
    with pytest.raises(TypeError, match="buf must be"):
        run(pair[0].readinto(bad))


def test_read_exact_waits_for_all(pair: Pair) -> None:
    stream, peer = pair
    handle = parked(stream.read_exact(6))
    peer.send(b"abc")
    settle()
    assert not handle.done()
    peer.send(b"defgh")
    assert handle.join(TIMEOUT) == b"abcdef"
    assert run(stream.read()) == b"gh"


def test_read_exact_at_the_end_has_what_came(pair: Pair) -> None:
    stream, peer = pair
    peer.send(b"abc")
    peer.close()
    with pytest.raises(IncompleteRead, match="3 of 6") as caught:
        run(stream.read_exact(6))
    assert (caught.value.partial, caught.value.expected) == (b"abc", 6)
    assert isinstance(caught.value, EOFError)
    with pytest.raises(IncompleteRead, match="0 of 1"):
        run(stream.read_exact(1))


def test_read_exact_cut_off_has_read_nothing(pair: Pair) -> None:
    stream, peer = pair
    cut: CutOff[bytes] = CutOff(stream.read_exact(6))
    handle = parked(cut)
    peer.send(b"abc")
    settle()
    cut.cut()
    with pytest.raises(GaveUp):
        handle.join(TIMEOUT)
    peer.send(b"def")
    assert run(stream.read_exact(6)) == b"abcdef"


def test_read_until(pair: Pair) -> None:
    stream, peer = pair
    peer.send(b"one\r\ntwo\r\nthree")
    assert run(stream.read_until(b"\r\n")) == b"one\r\n"
    assert run(stream.read_until(bytearray(b"\r\n"))) == b"two\r\n"
    handle = parked(stream.read_until(b"\r\n"))
    peer.send(b"\r")
    settle()
    peer.send(b"\nfour")
    assert handle.join(TIMEOUT) == b"three\r\n"  # the delimiter came in two parts
    peer.close()
    assert run(stream.read_until(b"\r\n")) == b"four"
    assert run(stream.read_until(b"\r\n")) == b""


@pytest.mark.parametrize("size", [4, 5, 6, 100])
def test_C16_read_until_its_limit(size: int, pair: Pair) -> None:
    stream, peer = pair
    line = b"x" * (size - 1) + b"\n"
    peer.send(line)
    if size <= 5:
        assert run(stream.read_until(b"\n", limit=5)) == line
        return
    with pytest.raises(DelimiterNotFound, match="within 5 bytes"):
        run(stream.read_until(b"\n", limit=5))
    assert run(stream.read_exact(size)) == line  # nothing was lost


def test_C16_endless_input_meets_the_limit(pair: Pair) -> None:
    stream, peer = pair

    def send_for_ever() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer.sendall(bytes(65536))

    thread = in_thread(send_for_ever)
    with pytest.raises(DelimiterNotFound):
        run(stream.read_until(b"\n", limit=200_000))
    assert len(stream._io.buffer) <= 200_000 + 65536
    stream.close()
    thread.join(TIMEOUT)


def test_lines(pair: Pair) -> None:
    stream, peer = pair
    peer.send(b"unix\ndos\r\n\nend\r in line\nlast")
    peer.close()

    async def main() -> list[bytes]:
        return [line async for line in stream.lines()]

    assert run(main()) == [b"unix", b"dos", b"", b"end\r in line", b"last"]


def test_lines_have_a_limit(pair: Pair) -> None:
    stream, peer = pair
    peer.send(b"1234\n12345\n")

    async def main() -> list[bytes]:
        return [line async for line in stream.lines(limit=5)]

    with pytest.raises(DelimiterNotFound):
        run(main())
    assert run(stream.read()) == b"12345\n"


@pytest.mark.parametrize("n", [0, -1])
def test_C13_no_read_of_nothing(n: int, pair: Pair) -> None:
    stream, _ = pair
    with pytest.raises(ValueError, match="n must be 1 or more"):
        run(stream.read(n))
    with pytest.raises(ValueError, match="1 or more"):
        run(stream.read_until(b"\n", limit=n))
    with pytest.raises(ValueError, match="1 or more"):
        run(stream.readinto(bytearray()))
    with pytest.raises(ValueError, match="sep must have 1 byte"):
        run(stream.read_until(b""))
    with pytest.raises(ValueError, match="n must be 0 or more"):
        run(stream.read_exact(-1))
    with pytest.raises(TypeError, match="n must be an int"):
        run(stream.read(1.5))  # type: ignore[arg-type]


def test_C9_the_end_is_no_error_and_stays(pair: Pair) -> None:
    stream, peer = pair
    peer.send(b"last words")
    peer.close()
    assert run(stream.read()) == b"last words"
    for _ in range(3):
        assert run(stream.read()) == b""


def test_C9_a_reset_is_not_the_end(pair: Pair) -> None:
    stream, peer = pair
    handle = parked(stream.read())
    reset(peer)
    with pytest.raises(ConnectionResetError):
        handle.join(TIMEOUT)


def test_C9_closing_with_unread_data_is_a_reset(pair: Pair) -> None:
    stream, peer = pair
    run(stream.write_all(b"not read"))
    peer.close()
    settle()
    with pytest.raises(ConnectionResetError):
        run(stream.read())


def test_C9_B19_a_reset_is_told_although_others_wait_too(pair: Pair) -> None:
    stream, peer = pair
    with AsyncFd(stream.socket) as fd:
        waiting = parked(fd.readable())
        reset(peer)
        waiting.join(TIMEOUT)
        with pytest.raises(ConnectionResetError):
            run(stream.read_exact(5))


# -- writing -----------------------------------------------------------------------------


def test_write_says_how_much_it_wrote(pair: Pair) -> None:
    stream, peer = pair
    assert run(stream.write(b"hello")) == 5
    assert peer.recv(100) == b"hello"


def test_B11_write_is_short_when_the_buffer_is_full_and_goes_on(pair: Pair) -> None:
    stream, peer = pair
    data = os.urandom(10_000_000)
    received: list[bytes] = []

    async def main() -> None:
        short = await stream.write(data)
        assert 0 < short < len(data)
        await stream.write_all(memoryview(data)[short:])
        await stream.shutdown()

    reader = in_thread(lambda: received.append(receive_all(peer)))
    run(main())
    reader.join(TIMEOUT)
    assert received[0] == data


def test_C15_back_pressure(pair: Pair) -> None:
    stream, peer = pair
    size = 40_000_000  # more than all buffers of the kernel hold
    handle = parked(stream.write_all(bytes(size)))
    settle()
    assert not handle.done()
    received = 0
    while received < size:
        received += len(peer.recv(1 << 20))
    handle.join(TIMEOUT)


@pytest.mark.parametrize(
    "data",
    [
        bytearray(b"abcd"),
        memoryview(b"abcd"),
        memoryview(b"a.b.c.d.")[::2],
        array.array("B", b"abcd"),
    ],
    ids=["bytearray", "memoryview", "strided", "array"],
)
def test_any_bytes_like_object_can_be_written(data: Any, pair: Pair) -> None:
    stream, peer = pair
    assert run(stream.write(data)) == 4
    run(stream.write_all(data))
    assert peer.recv(8, socket.MSG_WAITALL) == b"abcdabcd"


def test_wider_items_count_in_bytes(pair: Pair) -> None:
    stream, peer = pair
    numbers = array.array("I", range(1000))
    run(stream.write_all(numbers))
    assert peer.recv(4000, socket.MSG_WAITALL) == numbers.tobytes()


@pytest.mark.parametrize("bad", ["text", 3, None, [b"x"]])
def test_what_is_not_bytes_like_is_refused(bad: Any, pair: Pair) -> None:
    stream, _ = pair
    for call in (stream.write, stream.write_all):
        if call != stream.write_all or bad != [b"x"]:  # a list is for write_all
            with pytest.raises(TypeError, match="data must be bytes-like, not"):
                run(call(bad))
    with pytest.raises(TypeError, match=r"data\[1\] must be bytes-like, not"):
        run(stream.write_all([b"x", bad]))
    with pytest.raises(TypeError, match="sep must be bytes-like, not"):
        run(stream.read_until(bad))


def test_C13_writing_nothing(pair: Pair) -> None:
    stream, peer = pair
    assert run(stream.write(b"")) == 0
    run(stream.write_all(b""))
    run(stream.write_all(b"x"))
    assert peer.recv(10) == b"x"
    stream.close()
    with pytest.raises(ClosedResourceError):
        run(stream.write(b""))
    with pytest.raises(ClosedResourceError):
        run(stream.write_all(b""))


def test_C10_no_signal_but_an_error(run_script: Script) -> None:
    result = run_script(
        """
        import signal, socket
        from trale_py import TcpStream, block_on

        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            peer, _ = server.accept()
        stream = TcpStream.from_socket(client)
        peer.close()

        async def main():
            try:
                while True:
                    await stream.write_all(b"x")
            except (BrokenPipeError, ConnectionResetError):
                pass
            try:
                await stream.write(b"x")
            except BrokenPipeError as error:
                print(error)
            stream.close()

        block_on(main())
        """
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "Broken pipe" in result.stdout


def test_C12_write_all_cut_off_by_an_error(pair: Pair) -> None:
    stream, peer = pair
    handle = parked(stream.write_all(bytes(40_000_000)))
    peer.recv(1000)
    reset(peer)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        handle.join(TIMEOUT)
    for call in (stream.write, stream.write_all):
        with pytest.raises(BrokenPipeError, match=r"an earlier write_all sent \d+ of 40000000"):
            run(call(b"more"))


def test_C12_write_all_cut_off_by_its_task(pair: Pair) -> None:
    """Nobody knows how much the peer has got; nobody may go on as if it were nothing."""
    stream, peer = pair
    cut: CutOff[None] = CutOff(stream.write_all(bytes(40_000_000)))
    handle = parked(cut)
    cut.cut()
    with pytest.raises(GaveUp):
        handle.join(TIMEOUT)
    with pytest.raises(BrokenPipeError, match="an earlier write_all sent"):
        run(stream.write_all(b"more"))
    peer.send(b"reading goes on")
    assert run(stream.read()) == b"reading goes on"


def test_write_all_cut_off_before_it_sent_anything(pair: Pair) -> None:
    stream, peer = pair

    async def fill() -> None:
        while True:
            await stream.write(bytes(1 << 20))

    filler: CutOff[None] = CutOff(fill())
    filling = parked(filler)
    settle()
    filler.cut()
    with pytest.raises(GaveUp):
        filling.join(TIMEOUT)
    cut: CutOff[None] = CutOff(stream.write_all(b"never sent"))
    handle = parked(cut)
    cut.cut()
    with pytest.raises(GaveUp):
        handle.join(TIMEOUT)
    received: list[bytes] = []
    reader = in_thread(lambda: received.append(receive_all(peer)))
    run(stream.write_all(b"the end"))
    run(stream.shutdown())
    reader.join(TIMEOUT)
    assert received[0].strip(b"\0").endswith(b"the end")


# -- half-closing ------------------------------------------------------------------------


def test_C11_we_close_our_half_and_read_on(pair: Pair) -> None:
    stream, peer = pair
    data = os.urandom(1_000_000)

    async def main() -> bytes:
        await stream.write_all(b"request")
        await stream.shutdown()
        await stream.shutdown()
        with pytest.raises(BrokenPipeError):
            await stream.write(b"more")
        got = await stream.read_exact(len(data))
        assert await stream.read() == b""
        return got

    handle = spawn(main())
    assert receive_all(peer) == b"request"
    peer.sendall(data)
    peer.close()
    assert handle.join(TIMEOUT) == data


def test_C11_the_peer_closes_its_half_and_we_write_on(pair: Pair) -> None:
    stream, peer = pair
    data = os.urandom(1_000_000)
    peer.sendall(b"request")
    peer.shutdown(socket.SHUT_WR)
    received: list[bytes] = []
    reader = in_thread(lambda: received.append(receive_all(peer)))

    async def main() -> None:
        assert await stream.read_exact(7) == b"request"
        assert await stream.read() == b""
        await stream.write_all(data)
        await stream.shutdown()

    run(main())
    reader.join(TIMEOUT)
    assert received[0] == data


def test_shutdown_of_a_connection_that_is_gone(pair: Pair) -> None:
    stream, peer = pair
    reset(peer)
    settle()
    with contextlib.suppress(ConnectionResetError):
        run(stream.read())
    run(stream.shutdown())


def test_shutdown_while_another_task_writes(pair: Pair) -> None:
    stream, peer = pair
    writing = parked(stream.write_all(bytes(40_000_000)))
    with pytest.raises(BusyResourceError):
        run(stream.shutdown())
    peer.close()
    with pytest.raises(OSError, match=r"reset|Broken"):
        writing.join(TIMEOUT)


def test_B16_our_own_shut_rd_ends_the_reader_only(pair: Pair) -> None:
    stream, peer = pair
    reading = parked(stream.read())
    stream.socket.shutdown(socket.SHUT_RD)
    assert reading.join(TIMEOUT) == b""
    run(stream.write_all(b"still"))
    assert peer.recv(10) == b"still"


# -- closing, and two at once ------------------------------------------------------------


def close_from(closer: str, closable: TcpStream | TcpListener) -> None:
    async def close() -> None:
        fd = closable.socket.fileno()
        closable.close()
        assert fd >= 0
        assert closable.socket.fileno() == -1  # in a task it is closed when close() returns

    if closer == "task":
        block_on(close())
    else:
        in_thread(closable.close).join(TIMEOUT)
    assert closable.closed


closers = pytest.mark.parametrize("closer", ["task", "thread"])


@closers
def test_B1_close_under_a_reader(closer: str, pair: Pair) -> None:
    stream, _ = pair
    calls: list[Callable[[], Any]] = [stream.read]
    handles = [parked(call()) for call in calls]
    close_from(closer, stream)
    for handle in handles:
        with pytest.raises(ClosedResourceError, match="TcpStream was closed"):
            handle.join(TIMEOUT)


@closers
def test_B1_close_under_a_reader_and_a_writer(closer: str, pair: Pair) -> None:
    stream, _ = pair
    handles = [parked(stream.read_exact(5)), parked(stream.write_all(bytes(40_000_000)))]
    close_from(closer, stream)
    for handle in handles:
        with pytest.raises(ClosedResourceError):
            handle.join(TIMEOUT)
    for call in (stream.read(), stream.write(b"x"), stream.write_all(b"x"), stream.shutdown()):
        with pytest.raises(ClosedResourceError):
            run(call)


@closers
def test_C23_close_under_acceptors(closer: str, listener: TcpListener) -> None:
    async def iterate() -> None:
        async for _ in listener:
            pass

    handles: list[Any] = [parked(listener.accept()), parked(listener.accept()), parked(iterate())]
    close_from(closer, listener)
    for handle in handles:
        with pytest.raises(ClosedResourceError, match="TcpListener was closed"):
            handle.join(TIMEOUT)


def test_B1_close_before_the_first_operation(pair: Pair) -> None:
    stream, _ = pair
    stream.close()
    stream.close()
    assert stream.socket.fileno() == -1
    with pytest.raises(ClosedResourceError):
        run(stream.read())
    with pytest.raises(ClosedResourceError):
        stream.local_addr  # noqa: B018  # the property is what is tried


def test_what_was_read_ahead_is_gone_with_the_close(pair: Pair) -> None:
    """A closed stream is closed, whatever its buffer holds."""
    stream, peer = pair
    peer.send(b"one\ntwo\n")
    assert run(stream.read_until(b"\n")) == b"one\n"
    stream.close()
    for call in (
        stream.read(),
        stream.readinto(bytearray(9)),
        stream.read_exact(2),
        stream.read_until(b"\n"),
    ):
        with pytest.raises(ClosedResourceError):
            run(call)


def test_closing_in_the_middle_of_a_write_all_is_what_later_writes_say(pair: Pair) -> None:
    stream, _ = pair
    handle = parked(stream.write_all(bytes(40_000_000)))
    stream.close()
    with pytest.raises(ClosedResourceError):
        handle.join(TIMEOUT)
    with pytest.raises(ClosedResourceError):
        run(stream.write(b"x"))


def test_B4_the_number_is_reused_between_the_wake_and_the_read(pair: Pair) -> None:
    """The reader was woken for data; before its turn comes the stream is closed and its number
    belongs to another socket, which must not be read from."""
    stream, peer = pair
    reading = parked(stream.read())
    number = stream.socket.fileno()
    others: list[socket.socket] = []

    async def main() -> None:
        events = Events()
        peer.send(b"wake up")
        events.wait()
        stream.close()
        others.extend(socket.socketpair())
        others[1].send(b"for somebody else")
        others[0].send(b"for somebody else")

    run(main())
    with pytest.raises(ClosedResourceError):
        reading.join(TIMEOUT)
    assert number in {sock.fileno() for sock in others}
    for sock in others:
        assert sock.recv(100) == b"for somebody else"
        sock.close()


def test_B6_a_second_reader_is_refused_and_the_first_unaffected(pair: Pair) -> None:
    stream, peer = pair
    first = parked(stream.read())
    for second in (
        stream.read(),
        stream.readinto(bytearray(5)),
        stream.read_exact(5),
        stream.read_until(b"x"),
        stream.lines().__anext__(),
    ):
        with pytest.raises(BusyResourceError, match="reading"):
            run(second)
    peer.send(b"hello")
    assert first.join(TIMEOUT) == b"hello"
    peer.send(b"again")
    assert run(stream.read()) == b"again"


def test_B6_a_second_writer_is_refused_and_the_first_unaffected(pair: Pair) -> None:
    stream, peer = pair
    size = 40_000_000
    first = parked(stream.write_all(bytes(size)))
    for second in (stream.write(b"x"), stream.write_all(b"x")):
        with pytest.raises(BusyResourceError, match="writing"):
            run(second)
    received: list[bytes] = []
    reader = in_thread(lambda: received.append(receive_all(peer)))
    first.join(TIMEOUT)
    run(stream.shutdown())
    reader.join(TIMEOUT)
    assert received[0] == bytes(size)


def test_B9_the_reader_is_cut_off_with_its_event_in_flight(pair: Pair) -> None:
    stream, peer = pair
    cut: CutOff[bytes] = CutOff(stream.read())
    reading = parked(cut)
    writing = parked(stream.write_all(bytes(10_000_000)))
    peer.send(b"data")
    cut.cut()
    with contextlib.suppress(GaveUp):
        assert reading.join(TIMEOUT) == b"data"
        peer.send(b"data")
    assert run(stream.read()) == b"data"
    received = 0
    while received < 10_000_000:
        received += len(peer.recv(1 << 20))
    writing.join(TIMEOUT)


def test_a_dropped_stream_is_closed_with_a_warning(pair: Pair) -> None:
    stream, peer = pair
    ours = TcpStream.from_socket(stream.socket.dup())
    run(ours.write_all(b"x"))
    stream.close()
    assert peer.recv(1) == b"x"
    with pytest.warns(ResourceWarning, match="unclosed <TcpStream fd="):
        del ours
    assert peer.recv(1) == b""


def test_a_dropped_stream_is_closed_also_if_warnings_are_errors(run_script: Script) -> None:
    result = run_script(
        """
        import socket
        from trale_py import TcpListener, TcpStream, block_on
        from trale_py.core import current

        async def main():
            with TcpListener.bind("127.0.0.1:0") as listener:
                client = await TcpStream.connect(listener.local_addr)
                with await listener.accept() as server:
                    await client.write_all(b"x")
                    assert await server.read() == b"x"
                    del client
                    assert await server.read() == b""

        block_on(main())
        assert current.default_runtime().reactor._poller.sources == {}
        print("closed")
        """
    )
    assert (result.returncode, result.stdout) == (0, "closed\n")
    assert result.stderr.count("ResourceWarning: unclosed") == 1


# -- from_socket -------------------------------------------------------------------------


def test_B27_a_blocking_socket_is_taken_over() -> None:
    with raw_tcp_pair() as (ours, peer):
        ours.setblocking(True)
        with TcpStream.from_socket(ours) as stream:
            assert stream.socket is ours
            assert stream.peer_addr == peer.getsockname()
            reading = parked(stream.read())
            executor_turn()  # the executor is not blocked
            peer.send(b"x")
            assert reading.join(TIMEOUT) == b"x"
        executor_turn()
        assert ours.fileno() == -1


def test_a_listener_from_a_socket() -> None:
    with TcpListener.from_socket(socket.create_server(("127.0.0.1", 0))) as listener:
        client = socket.create_connection(listener.local_addr[:2], timeout=TIMEOUT)
        with client, run(listener.accept()) as stream:
            assert stream.peer_addr == client.getsockname()


@pytest.mark.parametrize("kind", [TcpStream, TcpListener])
def test_a_socket_of_another_kind_is_refused(kind: Any) -> None:
    for sock in (socket.socket(type=socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX)):
        with sock, pytest.raises(ValueError, match="cannot take over"):
            kind.from_socket(sock)
    closed = socket.socket()
    closed.close()
    with pytest.raises(ValueError, match="closed"):
        kind.from_socket(closed)
    for bad in (None, 3, "socket"):
        with pytest.raises(TypeError, match="sock must be"):
            kind.from_socket(bad)


def test_a_socket_that_is_not_connected_is_no_stream() -> None:
    with socket.socket() as sock, pytest.raises(OSError, match="not connected"):
        TcpStream.from_socket(sock)


# -- other runtimes ----------------------------------------------------------------------


def test_awaited_by_asyncio(pair: Pair) -> None:
    stream, peer = pair
    with pytest.raises(RuntimeError, match="trale_py"):
        asyncio.run(awaiting(stream.read()))
    peer.send(b"unharmed")
    assert run(stream.read()) == b"unharmed"


def test_a_stream_belongs_to_the_runtime_that_used_it_first(pair: Pair, runtime: Runtime) -> None:
    stream, peer = pair
    peer.send(b"xy")
    assert run(stream.read(1)) == b"x"
    with pytest.raises(RuntimeError, match="belongs to the default runtime"):
        runtime.spawn(stream.read(1)).join(TIMEOUT)
    assert run(stream.read(1)) == b"y"


def test_a_stream_of_a_runtime_that_is_gone(runtime: Runtime) -> None:
    with stream_and_peer() as (stream, peer):
        peer.send(b"x")
        assert runtime.spawn(stream.read()).join(TIMEOUT) == b"x"
        runtime.shutdown(TIMEOUT)
        with pytest.raises(RuntimeClosed, match="shut down"):
            run(stream.read())
        stream.close()
        assert stream.socket.fileno() == -1


# -- all at once -------------------------------------------------------------------------


def test_twenty_clients_both_ways_at_once(listener: TcpListener) -> None:
    clients, size = 20, 300_000

    async def echo(stream: TcpStream) -> None:
        async with stream:
            while data := await stream.read():
                await stream.write_all(data)

    async def serve() -> None:
        handles = [spawn(echo(await listener.accept())) for _ in range(clients)]
        for handle in handles:
            await handle

    async def client(data: bytes) -> bool:
        async with await TcpStream.connect(listener.local_addr) as stream:

            async def send() -> None:
                await stream.write_all(data)
                await stream.shutdown()

            sending = spawn(send())
            parts = []
            while part := await stream.read():
                parts.append(part)
            await sending
            return b"".join(parts) == data

    server = spawn(serve())
    handles = [spawn(client(os.urandom(size))) for _ in range(clients)]
    assert all(handle.join(TIMEOUT) for handle in handles)
    server.join(TIMEOUT)


def test_A15_a_stream_that_is_always_ready_starves_nobody(pair: Pair) -> None:
    """Many small reads of what is there already: others get their turn in between."""
    stream, peer = pair
    peer.sendall(bytes(50_000))
    turns = itertools.count()
    stop = False

    async def other() -> int:
        while not stop:
            next(turns)
            await checkpoint()
        return next(turns)

    async def reader() -> None:
        nonlocal stop
        for _ in range(50_000):
            await stream.read(1)
        stop = True

    counting = spawn(other())
    run(reader())
    assert counting.join(TIMEOUT) > 50_000 // 128


def test_the_reprs(listener: TcpListener, pair: Pair) -> None:
    stream, _ = pair
    assert repr(stream).startswith(f"<TcpStream fd={stream.socket.fileno()} 127.0.0.1:")
    assert repr(listener).startswith(f"<TcpListener fd={listener.socket.fileno()} 127.0.0.1:")
    stream.close()
    assert repr(stream) == "<TcpStream closed>"
