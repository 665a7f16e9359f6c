"""The same programs on asyncio and on trale_py: the same bytes, the same order, the same errors.

Each program is written once, against the little that both can do: an adapter.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeAlias

import pytest

import trale_py
from tests.support.net_helpers import TIMEOUT, reset
from trale_py import TcpListener, TcpStream, UdpSocket

Address: TypeAlias = tuple[str, int]


class Stream(Protocol):
    async def read(self, n: int) -> bytes: ...
    async def read_exact(self, n: int) -> bytes: ...
    async def read_line(self) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    async def half_close(self) -> None: ...
    async def close(self) -> None: ...


class Datagrams(Protocol):
    addr: Address

    async def send(self, data: bytes, addr: Address) -> None: ...
    async def receive(self) -> tuple[bytes, Any]: ...
    async def close(self) -> None: ...


Serve: TypeAlias = Callable[[Stream], Coroutine[Any, Any, None]]


class Library(Protocol):
    def run(self, coro: Coroutine[Any, Any, Any]) -> Any: ...
    def spawn(self, coro: Coroutine[Any, Any, Any]) -> Awaitable[Any]: ...
    async def connect(self, addr: Address) -> Stream: ...
    async def listen(self, serve: Serve) -> tuple[Address, Callable[[], Awaitable[None]]]: ...
    async def datagrams(self) -> Datagrams: ...


# -- asyncio -----------------------------------------------------------------------------


class AsyncioStream:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self, n: int) -> bytes:
        return await self.reader.read(n)

    async def read_exact(self, n: int) -> bytes:
        return await self.reader.readexactly(n)

    async def read_line(self) -> bytes:
        return await self.reader.readline()

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def half_close(self) -> None:
        self.writer.write_eof()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):  # it raises what a read has raised already
            await self.writer.wait_closed()


class AsyncioDatagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.addr = transport.get_extra_info("sockname")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.queue.put_nowait((data, addr))

    async def send(self, data: bytes, addr: Address) -> None:
        self.transport.sendto(data, addr)

    async def receive(self) -> tuple[bytes, Any]:
        return await self.queue.get()

    async def close(self) -> None:
        self.transport.close()
        await asyncio.sleep(0)


class Asyncio:
    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(asyncio.wait_for(coro, TIMEOUT))

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
        return asyncio.create_task(coro)

    async def connect(self, addr: Address) -> Stream:
        return AsyncioStream(*await asyncio.open_connection(*addr))

    async def listen(self, serve: Serve) -> tuple[Address, Callable[[], Awaitable[None]]]:
        ended = []

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ended.append(asyncio.current_task())
            await serve(AsyncioStream(reader, writer))

        server = await asyncio.start_server(accepted, "127.0.0.1", 0)

        async def close() -> None:
            server.close()
            await asyncio.gather(*ended)

        return server.sockets[0].getsockname(), close

    async def datagrams(self) -> Datagrams:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_datagram_endpoint(
            AsyncioDatagrams, local_addr=("127.0.0.1", 0)
        )
        return protocol


# -- trale_py ----------------------------------------------------------------------------


class TraleStream:
    def __init__(self, stream: TcpStream) -> None:
        self.stream = stream

    async def read(self, n: int) -> bytes:
        return await self.stream.read(n)

    async def read_exact(self, n: int) -> bytes:
        return await self.stream.read_exact(n)

    async def read_line(self) -> bytes:
        return await self.stream.read_until(b"\n")

    async def write(self, data: bytes) -> None:
        await self.stream.write_all(data)

    async def half_close(self) -> None:
        await self.stream.shutdown()

    async def close(self) -> None:
        self.stream.close()


class TraleDatagrams:
    def __init__(self, sock: UdpSocket) -> None:
        self.sock = sock
        self.addr: Any = sock.local_addr

    async def send(self, data: bytes, addr: Address) -> None:
        await self.sock.send_to(data, addr)

    async def receive(self) -> tuple[bytes, Any]:
        return await self.sock.recv_from()

    async def close(self) -> None:
        self.sock.close()


class Trale:
    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        return trale_py.spawn(coro).join(TIMEOUT)

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
        return trale_py.spawn(coro)

    async def connect(self, addr: Address) -> Stream:
        return TraleStream(await TcpStream.connect(addr))

    async def listen(self, serve: Serve) -> tuple[Address, Callable[[], Awaitable[None]]]:
        listener = TcpListener.bind("127.0.0.1:0")
        handles = []

        async def accept() -> None:
            try:
                async for stream in listener:
                    # One by one: the end comes as an exception.
                    handles.append(trale_py.spawn(serve(TraleStream(stream))))  # noqa: PERF401
            except trale_py.ClosedResourceError:
                for handle in handles:
                    await handle

        accepting = trale_py.spawn(accept())

        async def close() -> None:
            listener.close()
            await accepting

        addr: Any = listener.local_addr
        return addr, close

    async def datagrams(self) -> Datagrams:
        return TraleDatagrams(UdpSocket.bind("127.0.0.1:0"))


# -- the programs ------------------------------------------------------------------------

Program: TypeAlias = Callable[[Library], Coroutine[Any, Any, Any]]


def outcomes(program: Program) -> Any:
    """What the program returns on both, if that is the same."""
    on_asyncio = Asyncio().run(program(Asyncio()))
    on_trale = Trale().run(program(Trale()))
    assert on_trale == on_asyncio
    return on_trale


async def error_of(aw: Awaitable[Any]) -> Any:
    """The type of the built-in exception that comes out, and its errno; or the value."""
    try:
        return await aw
    except EOFError as error:
        return EOFError, getattr(error, "partial", None)
    except OSError as error:
        return type(error), error.errno


async def echo(stream: Stream) -> None:
    while data := await stream.read(65536):
        await stream.write(data)
    await stream.close()


def test_echo_of_many_sizes() -> None:
    messages = [os.urandom(n) for n in (1, 2, 1000, 65535, 65536, 65537, 300_000)]

    async def program(lib: Library) -> list[bytes]:
        addr, close = await lib.listen(echo)
        stream = await lib.connect(addr)
        got = []
        for message in messages:
            writing = lib.spawn(stream.write(message))
            got.append(await stream.read_exact(len(message)))
            await writing
        await stream.half_close()
        got.append(await stream.read(10))
        await stream.close()
        await close()
        return got

    assert outcomes(program) == [*messages, b""]


def test_many_clients_each_gets_its_own() -> None:
    async def program(lib: Library) -> list[Any]:
        addr, close = await lib.listen(echo)

        async def client(n: int) -> list[bytes]:
            stream = await lib.connect(addr)
            got = []
            for i in range(20):
                await stream.write(b"%d %d\n" % (n, i))
                got.append(await stream.read_line())
            await stream.close()
            return got

        clients = [lib.spawn(client(n)) for n in range(10)]
        results = [await task for task in clients]
        await close()
        return results

    results = outcomes(program)
    assert results[7][13] == b"7 13\n"


def test_lines_and_what_is_left_at_the_end() -> None:
    async def serve(stream: Stream) -> None:
        await stream.write(b"one\ntwo\r\n\nlast")
        await stream.close()

    async def program(lib: Library) -> list[bytes]:
        addr, close = await lib.listen(serve)
        stream = await lib.connect(addr)
        got = [await stream.read_line() for _ in range(6)]
        await stream.close()
        await close()
        return got

    assert outcomes(program) == [b"one\n", b"two\r\n", b"\n", b"last", b"", b""]


def test_the_end_in_the_middle() -> None:
    async def serve(stream: Stream) -> None:
        await stream.write(b"half")
        await stream.close()

    async def program(lib: Library) -> list[Any]:
        addr, close = await lib.listen(serve)
        stream = await lib.connect(addr)
        got = [await error_of(stream.read_exact(8)), await error_of(stream.read_exact(1))]
        got.append(await stream.read(1))
        await stream.close()
        await close()
        return got

    assert outcomes(program) == [(EOFError, b"half"), (EOFError, b""), b""]


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        addr = server.getsockname()

    async def program(lib: Library) -> Any:
        return await error_of(lib.connect(addr))

    assert outcomes(program)[0] is ConnectionRefusedError


@pytest.mark.parametrize("call", ["read", "read_exact", "read_line"])
def test_reset_while_reading(call: str) -> None:
    async def program(lib: Library) -> Any:
        with socket.create_server(("127.0.0.1", 0)) as server:
            stream = await lib.connect(server.getsockname())
            peer, _ = server.accept()
        args = () if call == "read_line" else (10,)
        reading = lib.spawn(error_of(getattr(stream, call)(*args)))
        reset(peer)
        got = await reading
        await stream.close()
        return got

    assert outcomes(program)[0] is ConnectionResetError


def test_half_close_and_an_answer_afterwards() -> None:
    async def serve(stream: Stream) -> None:
        got = b""
        while data := await stream.read(1000):
            got += data
        await stream.write(got[::-1])
        await stream.close()

    async def program(lib: Library) -> bytes:
        addr, close = await lib.listen(serve)
        stream = await lib.connect(addr)
        await stream.write(bytes(range(256)) * 100)
        await stream.half_close()
        got = await stream.read_exact(25600)
        await stream.close()
        await close()
        return got

    assert outcomes(program) == (bytes(range(256)) * 100)[::-1]


def test_udp_echo() -> None:
    # Not b"": asyncio does not send it before 3.12.
    messages = [b"x", b"yy", os.urandom(1000), os.urandom(60_000)]

    async def program(lib: Library) -> list[Any]:
        server, client = await lib.datagrams(), await lib.datagrams()

        async def serve() -> list[bytes]:
            got = []
            for _ in messages:
                data, addr = await server.receive()
                got.append((data, addr == client.addr))
                await server.send(data, addr)
            return got

        serving = lib.spawn(serve())
        got: list[Any] = []
        for message in messages:
            await client.send(message, server.addr)
            data, addr = await client.receive()
            got.append((data, addr == server.addr))
        got.append(await serving)
        await server.close()
        await client.close()
        return got

    got = outcomes(program)
    assert got[:-1] == got[-1] == [(message, True) for message in messages]


def test_udp_to_nobody_then_to_somebody() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        nobody = sock.getsockname()

    async def program(lib: Library) -> Any:
        sender, receiver = await lib.datagrams(), await lib.datagrams()
        for _ in range(3):
            await sender.send(b"lost", nobody)
        await sender.send(b"found", receiver.addr)
        data, _ = await receiver.receive()
        await sender.close()
        await receiver.close()
        return data

    assert outcomes(program) == b"found"
