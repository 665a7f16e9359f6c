"""serve(): from scripts and from tasks, and how it ends."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.support.net_helpers import TIMEOUT, executor_turn
from trale_py import (
    Event,
    StopToken,
    TaskCancelled,
    TcpListener,
    TcpStream,
    WouldDeadlock,
    block_on,
    serve,
    spawn,
    tasks,
    yield_now,
)


async def echo(stream: TcpStream) -> None:
    while data := await stream.read():
        await stream.write_all(data)


def client(server: Any) -> socket.socket:
    return socket.create_connection(server.addresses[0], timeout=TIMEOUT)


def assert_none_left() -> None:
    for _ in range(3):
        executor_turn()
    assert tasks() == []


def wait_until(happened: Any) -> None:
    while not happened():
        executor_turn()


def test_in_a_script() -> None:
    with serve(echo, "127.0.0.1:0") as server:
        with client(server) as sock:
            sock.sendall(b"hello")
            assert sock.recv(100) == b"hello"
        assert repr(server) == f"<Server serving {server.addresses}>"
    assert repr(server) == f"<Server closed {server.addresses}>"
    with pytest.raises(ConnectionError):
        client(server)
    assert_none_left()


def test_in_a_task_with_a_listener_that_is_closed_afterwards() -> None:
    listener = TcpListener.bind("127.0.0.1:0")

    async def main() -> None:
        async with serve(echo, listener) as server:
            stream = await TcpStream.connect(server.addresses[0])
            async with stream:
                await stream.write_all(b"hello")
                assert await stream.read() == b"hello"

    block_on(main())
    assert listener.closed
    assert_none_left()


def is_refused(server: Any) -> bool:
    try:
        client(server).close()
    except ConnectionError:
        return True
    return False


def test_stop_lets_connections_finish_within_the_grace_and_refuses_new_ones() -> None:
    with serve(echo, "127.0.0.1:0", grace=1000) as server, client(server) as sock:
        sock.sendall(b"1")
        assert sock.recv(1) == b"1"
        server.stop()
        wait_until(lambda: is_refused(server))
        sock.sendall(b"2")
        assert sock.recv(1) == b"2"
        with pytest.raises(TimeoutError):
            server.wait_closed_blocking(0.01)
        sock.shutdown(socket.SHUT_WR)
        server.wait_closed_blocking(TIMEOUT)


@pytest.mark.parametrize("way", ["end", "stop(0)", "error", "second stop"])
def test_without_grace_what_runs_is_cancelled(way: str) -> None:
    ended = []

    async def hold(stream: TcpStream) -> None:
        try:
            await stream.write_all(b"x")
            await Event().wait()
        finally:
            ended.append(stream)

    def body(server: Any, sock: socket.socket) -> None:
        assert sock.recv(1) == b"x"
        if way == "stop(0)":
            server.stop(0)
        elif way == "second stop":
            server.stop()
            server.stop(0)
        elif way == "error":
            raise KeyError

    grace = 0 if way == "end" else 1000
    try:
        with serve(hold, "127.0.0.1:0", grace=grace) as server, client(server) as sock:
            body(server, sock)
    except KeyError:
        assert way == "error"
    assert len(ended) == 1
    assert ended[0].closed
    assert_none_left()


def test_an_error_of_a_handler_ends_its_connection_only(caplog: Any) -> None:
    async def fail(stream: TcpStream) -> None:
        if await stream.read() == b"bad":
            raise KeyError("handler")
        await stream.write_all(b"good")

    with serve(fail, "127.0.0.1:0") as server, client(server) as bad, client(server) as good:
        bad.sendall(b"bad")
        assert bad.recv(1) == b""
        good.sendall(b"ok")
        assert good.recv(10) == b"good"
        peer = bad.getsockname()
    [record] = caplog.handler.records
    assert str(peer) in record.getMessage()
    assert record.exc_info[0] is KeyError


def test_at_the_limit_it_does_not_accept() -> None:
    begun: list[TcpStream] = []
    go = Event()

    async def hold(stream: TcpStream) -> None:
        begun.append(stream)
        await go.wait()

    with serve(hold, "127.0.0.1:0", limit=2) as server:
        clients = [client(server) for _ in range(3)]
        wait_until(lambda: len(begun) == 2)
        for _ in range(10):
            executor_turn()
        assert len(begun) == 2
        go.set()
        wait_until(lambda: len(begun) == 3)
        for sock in clients:
            sock.close()


class Broken:
    """A listener whose second accept fails."""

    local_addr = ("nowhere", 0)

    def __init__(self, go: Event) -> None:
        self.closed = False
        self._go = go

    def __aiter__(self) -> Broken:
        return self

    async def __anext__(self) -> Any:
        await self._go.wait()
        raise OSError("accept has failed for good")

    def close(self) -> None:
        self.closed = True


def test_accepting_that_fails_ends_the_block() -> None:
    go = Event()
    listener = Broken(go)
    with pytest.raises(OSError, match="for good"), serve(echo, listener) as server:
        go.set()
        server.wait_closed_blocking(TIMEOUT)
    assert listener.closed

    async def main() -> None:
        go = Event()
        async with serve(echo, Broken(go)):
            go.set()
            await Event().wait()

    with pytest.raises(OSError, match="for good"):
        spawn(main()).join(TIMEOUT)
    assert_none_left()


@pytest.mark.parametrize("where", ["body", "end"])
def test_a_cancelled_task_stops_it_without_grace(where: str) -> None:
    inside = Event()

    async def hold(stream: TcpStream) -> None:
        inside.set()
        await Event().wait()

    async def main() -> None:
        async with serve(hold, "127.0.0.1:0", grace=1000) as server:
            streams.append(await TcpStream.connect(server.addresses[0]))
            await inside.wait()
            if where == "body":
                await Event().wait()

    streams: list[TcpStream] = []
    handle = spawn(main())
    wait_until(inside.is_set)
    for _ in range(5):
        executor_turn()
    handle.cancel()
    with pytest.raises(TaskCancelled):
        handle.join(TIMEOUT)
    streams[0].close()
    assert_none_left()


def test_a_stop_token_and_what_is_refused() -> None:
    token = StopToken()
    with serve(echo, ("127.0.0.1", 0)) as server:
        stopping = spawn(stop_when(token, server))
        token.stop()
        server.wait_closed_blocking(TIMEOUT)
        stopping.join(TIMEOUT)
    with pytest.raises(RuntimeError, match="serve"), server:
        raise AssertionError
    new = serve(echo, "127.0.0.1:0")
    with pytest.raises(RuntimeError, match="with"):
        new.wait_closed_blocking()
    new.stop()
    with new:
        pass
    with pytest.raises(ValueError, match="example"):
        serve(echo, "example.org:80")
    with pytest.raises(TypeError, match="addr_or_listener must be"):
        serve(echo, 80)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="handler must be"):
        serve(None, "127.0.0.1:0")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="limit must be"):
        serve(echo, "127.0.0.1:0", limit=0)
    with pytest.raises(ValueError, match="grace must be"):
        serve(echo, "127.0.0.1:0", grace=-1)

    async def in_task() -> None:
        with pytest.raises(WouldDeadlock), serve(echo, "127.0.0.1:0"):
            pass
        async with serve(echo, "127.0.0.1:0") as server:
            with pytest.raises(WouldDeadlock):
                server.wait_closed_blocking()
            server.stop()
            await server.wait_closed()

    block_on(in_task())
    assert_none_left()


async def stop_when(token: StopToken, server: Any) -> None:
    await token.wait()
    await yield_now()
    server.stop()


def test_L1_no_descriptors_left(run_script: Any) -> None:
    result = run_script(
        """
        import logging, resource, socket
        from trale_py import *

        logging.basicConfig(level=logging.CRITICAL)

        async def echo(stream):
            await stream.write_all(await stream.read())

        with serve(echo, "127.0.0.1:0") as server:
            first = socket.create_connection(server.addresses[0])
            first.sendall(b"1")
            assert first.recv(1) == b"1"
            kept = [open("/dev/null")]
            socks = [socket.socket() for _ in range(3)]
            used = max(sock.fileno() for sock in socks) + 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (used, used))
            for sock in socks:
                sock.connect(server.addresses[0])
                sock.sendall(b"x")
            block_on(sleep(0.05))
            first.close()
            kept[0].close()
            for sock in socks:
                assert sock.recv(1) == b"x"
                sock.close()
        print("served")
        """
    )
    assert (result.returncode, result.stdout) == (0, "served\n"), result.stderr


def test_H4_ctrl_c_in_the_block_ends_it(run_script: Any) -> None:
    result = run_script(
        """
        import os, signal, socket, threading
        from trale_py import *

        async def hold(stream):
            try:
                await stream.write_all(b"x")
                await sleep(1000)
            finally:
                print("ended")

        try:
            with serve(hold, "127.0.0.1:0", grace=1000) as server:
                sock = socket.create_connection(server.addresses[0])
                sock.recv(1)
                threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
                server.wait_closed_blocking()
        except KeyboardInterrupt:
            print(tasks())
        sock.close()
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "ended\n[]\n", "")
