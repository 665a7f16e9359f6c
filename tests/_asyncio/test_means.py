"""asyncio's own means on the guest: threads, signals, programs, sockets."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from trale_py import Executor, aio, block_on, sleep, spawn, spawn_blocking

LIMIT = 20

try:
    import aiofastnet
except ImportError:
    aiofastnet = None

TRANSPORTS = [
    "asyncio",
    pytest.param(
        "aiofastnet", marks=pytest.mark.skipif(aiofastnet is None, reason="no aiofastnet")
    ),
]


@pytest.fixture(params=TRANSPORTS)
def transports(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, guest_ends: None
) -> str:
    monkeypatch.setenv("TRALE_AIOFASTNET", "1" if request.param == "aiofastnet" else "0")
    return str(request.param)


# -- threads -----------------------------------------------------------------------------------


def test_to_thread_and_run_in_executor_use_the_runtimes_pool() -> None:
    def name() -> str:
        return threading.current_thread().name

    async def theirs() -> tuple[str, str]:
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(name), await loop.run_in_executor(None, name)

    assert block_on(aio(theirs)) == ("trale-blocking", "trale-blocking")


def test_block_on_and_spawn_in_such_a_thread() -> None:
    async def ours() -> str:
        await sleep(0.001)
        return "ours"

    async def theirs() -> str:
        return await asyncio.to_thread(lambda: block_on(ours()) + spawn(ours()).join(LIMIT))

    assert block_on(aio(theirs)) == "oursours"


def test_errors_of_a_thread() -> None:
    def stops() -> None:
        raise StopIteration("theirs")

    async def theirs() -> None:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        with pytest.raises((RuntimeError, TypeError)) as caught:
            await asyncio.to_thread(stops)
        assert isinstance(caught.value.__cause__, StopIteration)

    block_on(aio(theirs))


def test_a_queued_call_can_be_cancelled() -> None:
    pool = Executor.get().blocking_pool
    gate = threading.Event()
    called = []

    async def theirs() -> None:
        loop = asyncio.get_running_loop()
        first = loop.run_in_executor(None, gate.wait, LIMIT)
        while not pool.size or pool.queued:
            await asyncio.sleep(0.001)
        second = loop.run_in_executor(None, called.append, 1)
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        assert pool.queued == 0
        gate.set()
        await first

    limit, pool.limit = pool.limit, 1
    try:
        block_on(aio(theirs))
    finally:
        pool.limit = limit
    assert called == []


def test_an_executor_of_the_users() -> None:
    from concurrent.futures import ThreadPoolExecutor

    async def theirs() -> str:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1, thread_name_prefix="mine"))
        name = await asyncio.to_thread(lambda: threading.current_thread().name)
        await loop.shutdown_default_executor()
        return name

    assert block_on(aio(theirs)).startswith("mine")


def test_names_are_looked_up_in_their_own_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    look_up = socket.getaddrinfo

    def noted(*args: Any) -> Any:
        threads.append(threading.current_thread().name)
        return look_up(*args)

    monkeypatch.setattr(socket, "getaddrinfo", noted)

    async def theirs() -> Any:
        loop = asyncio.get_running_loop()
        await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST)
        return await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)

    assert block_on(aio(theirs))
    assert threads == ["trale-names"]


def test_run_coroutine_threadsafe_from_a_job() -> None:
    async def add() -> int:
        await asyncio.sleep(0)
        return 3

    async def main() -> int:
        loop = aio.loop()
        return await spawn_blocking(
            lambda: asyncio.run_coroutine_threadsafe(add(), loop).result(LIMIT)
        )

    assert block_on(main()) == 3


# -- signals -----------------------------------------------------------------------------------


def test_signal_handlers_off_the_main_thread() -> None:
    async def theirs() -> tuple[str, str]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, future.set_result, threading.current_thread().name)
        os.kill(os.getpid(), signal.SIGUSR1)
        name = await asyncio.wait_for(future, LIMIT)
        assert loop.remove_signal_handler(signal.SIGUSR1)
        assert not loop.remove_signal_handler(signal.SIGUSR1)
        return name, threading.current_thread().name

    before = signal.getsignal(signal.SIGUSR1)
    name, executor = block_on(aio(theirs))
    assert name == executor == "trale-executor"
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_signal_handler_from_the_main_thread_and_one_that_is_replaced() -> None:
    loop = aio.loop()
    heard = []
    event = threading.Event()
    loop.add_signal_handler(signal.SIGUSR1, heard.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, lambda: (heard.append("second"), event.set()))
    block_on(aio(asyncio.sleep, 0))
    os.kill(os.getpid(), signal.SIGUSR1)
    assert event.wait(LIMIT)
    assert heard == ["second"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_signal_handlers_that_are_wrong() -> None:
    loop = aio.loop()
    with pytest.raises(RuntimeError, match="cannot be caught"):
        loop.add_signal_handler(signal.SIGKILL, print)
    with pytest.raises(ValueError, match="invalid signal"):
        loop.add_signal_handler(10_000, print)
    with pytest.raises(TypeError, match="sig must be"):
        loop.add_signal_handler("SIGUSR1", print)  # type: ignore[arg-type]

    async def coroutine() -> None: ...

    with pytest.raises(TypeError, match="coroutines"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine)


def test_the_shutdown_takes_signal_handlers_back() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    aio.loop().add_signal_handler(signal.SIGUSR2, print)
    Executor.shutdown(LIMIT)
    assert signal.getsignal(signal.SIGUSR2) is before


# -- programs, sockets -------------------------------------------------------------------------


def test_programs_off_the_main_thread() -> None:
    async def theirs() -> tuple[bytes, int | None]:
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "print(input() * 2)"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await program.communicate(b"ab")
        return out, program.returncode

    assert block_on(aio(theirs)) == (b"abab\n", 0)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)
        await writer.drain()
    writer.close()


async def round_trips(address: Any, n: int, data: bytes) -> int:
    reader, writer = await asyncio.open_connection(*address[:2])
    try:
        for _ in range(n):
            writer.write(data)
            if await reader.readexactly(len(data)) != data:
                return 0
        return n
    finally:
        writer.close()
        await writer.wait_closed()


def test_streams(transports: str) -> None:
    async def theirs() -> list[int]:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()
            return await asyncio.gather(*(round_trips(address, 50, b"x" * 2000) for _ in range(5)))

    assert block_on(aio(theirs)) == [50] * 5
    module = type(aio.loop().create_connection).__module__
    assert (module == "functools") is (transports == "aiofastnet")  # a partial


def test_a_large_message(transports: str) -> None:
    async def theirs() -> int:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            return await round_trips(server.sockets[0].getsockname(), 1, bytes(5_000_000))

    assert block_on(aio(theirs)) == 1


def test_a_server_from_a_script_while_the_main_thread_computes(transports: str) -> None:
    loop = aio.loop()
    server = asyncio.run_coroutine_threadsafe(
        asyncio.start_server(echo, "127.0.0.1", 0), loop
    ).result(LIMIT)
    client = spawn(aio(round_trips, server.sockets[0].getsockname(), 20, b"hello"))
    while not client.done():
        sum(range(1000))
    assert client.join(LIMIT) == 20
    loop.call_soon_threadsafe(server.close)


def test_sock_operations(transports: str) -> None:
    async def theirs() -> bytes:
        loop = asyncio.get_running_loop()
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        peer.setblocking(False)
        with ours, peer:
            receiving = asyncio.create_task(loop.sock_recv(ours, 100))
            await asyncio.sleep(0)
            await loop.sock_sendall(peer, b"datagram")
            return await receiving

    assert block_on(aio(theirs)) == b"datagram"


# -- the end -----------------------------------------------------------------------------------


def test_shutdown_with_live_transports_and_servers(transports: str) -> None:
    """It closes them, and says nothing: a ResourceWarning is an error here."""

    async def theirs() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(b"x")
        await reader.readexactly(1)
        kept.append((server, reader, writer))
        await asyncio.create_subprocess_exec("sleep", "1000", stdout=asyncio.subprocess.PIPE)

    kept: list[Any] = []
    block_on(aio(theirs))
    Executor.shutdown(LIMIT)
    server, reader, writer = kept.pop()
    assert server.sockets == ()
    del reader, writer
    gc.collect()


def test_the_order_of_the_end() -> None:
    """asyncio tasks end after trale_py's: each is cancelled once, and may await."""
    order: list[str] = []

    async def generator() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            order.append("generator")

    async def orphan() -> None:
        iterator = generator()
        await anext(iterator)
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.002)
            await asyncio.to_thread(order.append, "asyncio")
            await sleep(0.001)
            keep.append(iterator)

    async def ours() -> None:
        try:
            await sleep(1000)
        finally:
            order.append("ours")

    keep: list[Any] = []

    async def main() -> None:
        spawn(ours())
        aio.loop().create_task(orphan())
        await sleep(0.005)

    block_on(main())
    Executor.shutdown(LIMIT)
    assert order == ["ours", "asyncio", "generator"]


def test_a_task_that_fails_at_the_end_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def orphan() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            raise ValueError("at the end")

    async def main() -> None:
        aio.loop().create_task(orphan())
        await sleep(0.002)

    block_on(main())
    Executor.shutdown(LIMIT)
    assert "at the end" in caplog.text


@pytest.fixture(autouse=True)
def no_program_is_left() -> Iterator[None]:
    yield
    Executor.shutdown(LIMIT)
    with pytest.raises(ChildProcessError):
        while os.waitpid(-1, 0):
            pass
