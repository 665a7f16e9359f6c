"""trio: a nursery that stays open in a background thread, and trio's way in from other threads."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any

import trio

from .common import CHUNK, Server, nothing, time_sleeps


async def echo(stream: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError):  # a reset would end the nursery, and all with it
        async with stream:
            while data := await stream.receive_some(CHUNK):
                await stream.send_all(data)


async def take_again_and_again(lock: Any, count: int) -> None:
    for _ in range(count):
        async with lock:
            pass


class Trio:
    def __init__(self) -> None:
        self.started: SimpleQueue[trio.Nursery] = SimpleQueue()
        self.thread = Thread(target=trio.run, args=(self.main,), daemon=True)
        self.thread.start()
        self.nursery = self.started.get()

    async def main(self) -> None:
        self.token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self.started.put(nursery)
            await trio.sleep_forever()

    def call(self, fn: Any, *args: Any) -> Any:
        return trio.from_thread.run(fn, *args, trio_token=self.token)

    def tcp_echo(self) -> Server:
        serve = partial(trio.serve_tcp, echo, 0, host="127.0.0.1")
        listeners = self.call(self.nursery.start, serve)
        return listeners[0].socket.getsockname()[1], self.thread.join

    def udp_echo(self) -> Server:
        async def serve(task_status: trio.TaskStatus[int]) -> None:
            sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
            await sock.bind(("127.0.0.1", 0))
            task_status.started(sock.getsockname()[1])
            while True:
                data, addr = await sock.recvfrom(CHUNK)
                await sock.sendto(data, addr)

        return self.call(self.nursery.start, serve), self.thread.join

    def round_trips(self, count: int) -> None:
        for _ in range(count):
            self.call(nothing)

    def children(self, count: int, at_once: int) -> None:
        async def main() -> None:
            for _ in range(count // at_once):
                async with trio.open_nursery() as nursery:
                    for _ in range(at_once):
                        nursery.start_soon(nothing)

        self.call(main)

    def ping_pong(self, count: int) -> None:
        async def main() -> None:
            there, at = trio.open_memory_channel[int](1)
            back, home = trio.open_memory_channel[int](1)

            async def other() -> None:
                for _ in range(count):
                    await back.send(await at.receive())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(other)
                for i in range(count):
                    await there.send(i)
                    await home.receive()

        self.call(main)

    def mutex(self, count: int) -> None:
        self.call(take_again_and_again, trio.Lock(), count)

    def semaphore(self, count: int) -> None:
        self.call(take_again_and_again, trio.Semaphore(1), count)

    def sleepers(self, count: int, seconds: float) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(trio.sleep, seconds)

        self.call(main)

    def short_sleeps(self, count: int, seconds: float) -> list[float]:
        return self.call(time_sleeps, trio.sleep, count, seconds)
