"""asyncio's libraries on the guest, each with and without aiofastnet.

They are in the extra ``test-asyncio``; what is not installed is skipped. A library is an async
context manager of asyncio's. It yields two functions: a quick call that checks its answer, and one
that takes long.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests._asyncio.test_means import TRANSPORTS
from tests.libraries import servers
from trale_py import TaskCancelled, aio, block_on, fail_after, gather, sleep, spawn

LIMIT = 20


class Library(NamedTuple):
    quick: Callable[[], Awaitable[Any]]
    slow: Callable[[], Awaitable[Any]]


@contextlib.asynccontextmanager
async def aiohttp_both() -> AsyncIterator[Library]:
    """Client and server."""
    from aiohttp import ClientSession, web

    async def hello(request: Any) -> Any:
        await sleep(0)  # trale_py's, in a handler of aiohttp's
        return web.Response(text="hello")

    async def slow(request: Any) -> Any:
        await asyncio.sleep(1000)

    async def echo(request: Any) -> Any:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    app = web.Application()
    app.add_routes([web.get("/", hello), web.get("/slow", slow), web.get("/echo", echo)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def get() -> None:
        async with session.get(url) as response:
            assert await response.text() == "hello"
        async with session.ws_connect(url + "/echo") as socket:
            await socket.send_str("hi")
            assert (await socket.receive()).data == "hi"

    async def get_slow() -> None:
        async with session.get(url + "/slow"):
            pass

    async with ClientSession() as session:
        yield Library(get, get_slow)
    await runner.cleanup()


@contextlib.asynccontextmanager
async def asyncpg_pool(folder: str) -> AsyncIterator[Library]:
    import asyncpg

    async def select() -> None:
        async with pool.acquire() as connection, connection.transaction():
            assert await connection.fetchval("select $1::int + 1", 2) == 3
        numbers = [row[0] async for row in cursor()]
        assert numbers == [1, 2, 3]

    async def cursor() -> AsyncIterator[Any]:
        async with pool.acquire() as connection, connection.transaction():
            async for row in connection.cursor("select * from generate_series(1, 3)"):
                yield row

    async def slow() -> None:
        await pool.execute("select pg_sleep(1000)")

    async with asyncpg.create_pool(
        host=folder, user="trale", database="postgres", min_size=1, max_size=3
    ) as pool:
        yield Library(select, slow)


@contextlib.asynccontextmanager
async def redis_client(path: str) -> AsyncIterator[Library]:
    import redis.asyncio

    async def count() -> None:
        async with client.pipeline() as pipeline:
            assert (await pipeline.set("n", 1).incr("n").get("n").execute())[-1] == b"2"
        async with client.pubsub() as pubsub:
            await pubsub.subscribe("news")
            assert (await pubsub.get_message(timeout=LIMIT))["type"] == "subscribe"
            await client.publish("news", "hello")
            assert (await pubsub.get_message(timeout=LIMIT))["data"] == b"hello"

    async def slow() -> None:
        await client.blpop("nothing", 1000)

    async with redis.asyncio.Redis(unix_socket_path=path) as client:
        yield Library(count, slow)


@contextlib.asynccontextmanager
async def websockets_both() -> AsyncIterator[Library]:
    import websockets.asyncio.client
    import websockets.asyncio.server

    async def echo(socket: Any) -> None:
        async for message in socket:
            await sleep(0)
            if message != "nothing":
                await socket.send(message)

    async with websockets.asyncio.server.serve(echo, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        async def say() -> None:
            async with websockets.asyncio.client.connect(url) as socket:
                await socket.send("hello")
                assert await socket.recv() == "hello"

        async def slow() -> None:
            async with websockets.asyncio.client.connect(url) as socket:
                await socket.send("nothing")
                await socket.recv()

        yield Library(say, slow)


@contextlib.asynccontextmanager
async def aiosqlite_memory() -> AsyncIterator[Library]:
    import aiosqlite

    async def select() -> None:
        async with database.execute("select 1 union select 2") as cursor:
            assert [row[0] async for row in cursor] == [1, 2]

    async def slow() -> None:
        await select()
        await asyncio.sleep(1000)

    async with aiosqlite.connect(":memory:") as database:
        yield Library(select, slow)


@contextlib.asynccontextmanager
async def httpx_uvicorn_fastapi() -> AsyncIterator[Library]:
    """A FastAPI app, served by uvicorn beside everything else, and asked by httpx."""
    import fastapi
    import httpx
    import uvicorn

    app = fastapi.FastAPI()

    @app.get("/")
    async def hello() -> dict[str, str]:
        await sleep(0)
        return {"hello": "world"}

    @app.get("/plain")
    def plain() -> dict[str, int]:
        return {"n": 1}  # in a thread of anyio's

    @app.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(1000)

    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=0)
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.001)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    async def get() -> None:
        assert (await client.get(url)).json() == {"hello": "world"}
        assert (await client.get(url + "/plain")).json() == {"n": 1}

    async def get_slow() -> None:
        await client.get(url + "/slow")

    async with httpx.AsyncClient(timeout=LIMIT) as client:
        yield Library(get, get_slow)
    server.should_exit = True
    await serving


NAMES = {
    "aiohttp": "aiohttp",
    "asyncpg": "asyncpg",
    "redis": "redis",
    "websockets": "websockets",
    "aiosqlite": "aiosqlite",
    "fastapi": "fastapi uvicorn httpx",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Where the server of that name listens; it is started at the first call."""
    with contextlib.ExitStack() as stack:
        started: dict[str, str] = {}

        def start(name: str) -> str:
            if name not in started:
                folder: Path = tmp_path_factory.mktemp(name)
                started[name] = stack.enter_context(getattr(servers, name)(folder))
            return started[name]

        yield start


@pytest.fixture(params=NAMES)
def library(request: pytest.FixtureRequest, folders: Callable[[str], str], guest_ends: None) -> Any:
    for module in NAMES[request.param].split():
        pytest.importorskip(module)
    make: dict[str, Callable[[], Any]] = {
        "aiohttp": aiohttp_both,
        "asyncpg": lambda: asyncpg_pool(folders("postgres")),
        "redis": lambda: redis_client(folders("redis")),
        "websockets": websockets_both,
        "aiosqlite": aiosqlite_memory,
        "fastapi": httpx_uvicorn_fastapi,
    }
    if request.param in ("asyncpg", "redis"):
        make[request.param]()  # begins the server, or skips
    return make[request.param]


@pytest.fixture(params=TRANSPORTS, autouse=True)
def transports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRALE_AIOFASTNET", "1" if request.param == "aiofastnet" else "0")


async def test_it(library: Callable[[], Any], test: Callable[[Library], Awaitable[None]]) -> None:
    async with aio(library) as made:
        await test(made)


test_it.__test__ = False  # type: ignore[attr-defined]


async def joins(library: Library) -> None:
    await spawn(aio(library.quick))
    await gather(*(aio(library.quick) for _ in range(3)))


async def cancels(library: Library) -> None:
    handle = spawn(aio(library.slow))
    await sleep(0.05)
    assert handle.cancel("enough")
    with pytest.raises(TaskCancelled, match="enough"):
        await handle
    await aio(library.quick)


async def times_out(library: Library) -> None:
    with pytest.raises(TimeoutError), fail_after(0.05):
        await aio(library.slow)
    with pytest.raises(TimeoutError):
        await aio(asyncio.wait_for, library.slow(), 0.05)
    await aio(library.quick)


async def awaits_ours(library: Library) -> None:
    async def ours() -> str:
        await sleep(0.001)
        await aio(library.quick)
        return "ours"

    async def theirs() -> str:
        await library.quick()
        return await spawn(ours())

    assert await aio(theirs) == "ours"


@pytest.mark.parametrize("test", [joins, cancels, times_out, awaits_ours])
def test_a_library(library: Any, test: Callable[[Library], Awaitable[None]]) -> None:
    block_on(test_it(library, test))


def test_a_library_while_the_main_thread_computes(library: Any) -> None:
    handle = spawn(test_it(library, joins))
    while not handle.done():
        sum(range(1000))
    handle.join(LIMIT)


def test_grpc() -> None:
    grpc = pytest.importorskip("grpc")

    async def theirs() -> bytes:
        async def echo(request: bytes, context: Any) -> bytes:
            await sleep(0)
            return request

        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(echo)
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("Echo", {"Say": handler})]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer: bytes = await channel.unary_unary("/Echo/Say")(b"hello")
        await server.stop(None)
        return answer

    assert block_on(aio(theirs)) == b"hello"
