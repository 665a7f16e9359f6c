"""asyncio and uvloop: one loop, run for ever in a background thread.

Streams are their counterpart to plain await code; Protocols, with callbacks, are the fastest
that they have.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import run_coroutine_threadsafe
from collections.abc import Coroutine
from threading import Event, Thread
from typing import Any

from .common import ACK, ACK_EVERY, CHUNK, Server, nothing, time_sleeps


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.close()


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


class TakeFlood(EchoDatagrams):
    taken = 0

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.taken += 1
        if self.taken == ACK_EVERY:
            self.taken = 0
            self.transport.sendto(ACK, addr)


async def take_again_and_again(lock: Any, count: int) -> None:
    for _ in range(count):
        async with lock:
            pass


class Asyncio:
    def __init__(self) -> None:
        self.loop = self.new_loop()
        self.thread = Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()

    def call(self, coro: Coroutine[Any, Any, Any]) -> Any:
        return run_coroutine_threadsafe(coro, self.loop).result()

    def tcp_echo(self) -> Server:
        self.server = self.call(asyncio.start_server(echo, "127.0.0.1", 0))
        return self.server.sockets[0].getsockname()[1], self.thread.join

    def datagrams(self, protocol: type[asyncio.DatagramProtocol]) -> Server:
        endpoint = self.loop.create_datagram_endpoint(protocol, ("127.0.0.1", 0))
        self.transport, _ = self.call(endpoint)
        return self.transport.get_extra_info("sockname")[1], self.thread.join

    def udp_echo(self) -> Server:
        return self.datagrams(EchoDatagrams)

    def udp_flood(self) -> Server:
        return self.datagrams(TakeFlood)

    def spawn_and_join(self, count: int) -> None:
        loop = self.loop
        for future in [run_coroutine_threadsafe(nothing(), loop) for _ in range(count)]:
            future.result()

    def round_trips(self, count: int) -> None:
        for _ in range(count):
            run_coroutine_threadsafe(nothing(), self.loop).result()

    def children(self, count: int, at_once: int) -> None:
        async def main() -> None:
            for _ in range(count // at_once):
                for task in [asyncio.create_task(nothing()) for _ in range(at_once)]:
                    await task

        self.call(main())

    def ping_pong(self, count: int) -> None:
        async def main() -> None:
            there: asyncio.Queue[int] = asyncio.Queue(1)
            back: asyncio.Queue[int] = asyncio.Queue(1)

            async def other() -> None:
                for _ in range(count):
                    await back.put(await there.get())

            task = asyncio.create_task(other())
            for i in range(count):
                await there.put(i)
                await back.get()
            await task

        self.call(main())

    def mutex(self, count: int) -> None:
        self.call(take_again_and_again(asyncio.Lock(), count))

    def semaphore(self, count: int) -> None:
        self.call(take_again_and_again(asyncio.Semaphore(1), count))

    def thread_to_task(self, count: int) -> None:
        import janus

        async def make() -> Any:
            return janus.Queue(1000)

        async def takes() -> None:
            for _ in range(count):
                await queue.async_q.get()
            await queue.aclose()

        queue = self.call(make())
        future = run_coroutine_threadsafe(takes(), self.loop)
        for i in range(count):
            queue.sync_q.put(i)
        future.result()

    def sleepers(self, count: int, seconds: float) -> None:
        async def main() -> None:
            for task in [asyncio.create_task(sleeper()) for _ in range(count)]:
                await task

        async def sleeper() -> None:
            await asyncio.sleep(seconds)

        self.call(main())

    def short_sleeps(self, count: int, seconds: float) -> list[float]:
        return self.call(time_sleeps(asyncio.sleep, count, seconds))

    # The same for trale_py's guest loop, see rows/guest.py.

    def aio_streams(self) -> Server:
        return Asyncio.tcp_echo(self)

    def aio_protocol(self) -> Server:
        return AsyncioProtocol.tcp_echo(self)

    def aio_fastapi(self) -> Server:
        """A FastAPI app that says hello, served by uvicorn."""
        import fastapi
        import uvicorn

        app = fastapi.FastAPI()

        @app.get("/")
        async def hello() -> dict[str, str]:
            return {"hello": "world"}

        app_server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))

        async def serve() -> int:
            self.serving = asyncio.create_task(app_server.serve())
            while not app_server.started:
                await asyncio.sleep(0.01)
            return app_server.servers[0].sockets[0].getsockname()[1]

        return self.call(serve()), self.thread.join

    def aio_create_task(self, count: int) -> None:
        Asyncio.children(self, count, 100)

    def aio_queue(self, count: int) -> None:
        Asyncio.ping_pong(self, count)

    def aio_call_soon(self, count: int) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            done = loop.create_future()

            def next_one(left: int) -> None:
                if left:
                    loop.call_soon(next_one, left - 1)
                else:
                    done.set_result(None)

            next_one(count)
            await done

        self.call(main())


class Guest(Asyncio):
    """trale_py's: its thread is the executor's."""

    def __init__(self) -> None:
        from trale_py import aio

        self.loop = aio.loop()
        self.thread = Thread(target=Event().wait, daemon=True)
        self.thread.start()


class GuestWithoutAiofastnet(Guest):
    def __init__(self) -> None:
        os.environ["TRALE_AIOFASTNET"] = "0"
        super().__init__()


class AsyncioProtocol(Asyncio):
    def tcp_echo(self) -> Server:
        self.server = self.call(self.loop.create_server(Echo, "127.0.0.1", 0))
        return self.server.sockets[0].getsockname()[1], self.thread.join


class Uvloop(Asyncio):
    def new_loop(self) -> asyncio.AbstractEventLoop:
        import uvloop

        return uvloop.new_event_loop()


class UvloopAiofastnet(Uvloop):
    def new_loop(self) -> asyncio.AbstractEventLoop:
        import aiofastnet

        return aiofastnet.patch_loop(super().new_loop())


class UvloopProtocol(AsyncioProtocol, Uvloop):
    pass
