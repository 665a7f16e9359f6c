"""trale_py: the runtime is in the background by itself."""

from __future__ import annotations

from typing import Any

from trale_py import Mutex, Semaphore, TcpListener, TcpStream, UdpSocket, block_on, sleep, spawn
from trale_py.channel import channel

from . import NotAvailable
from .common import ACK, ACK_EVERY, CHUNK, Server, nothing, time_sleeps


async def echo(stream: TcpStream) -> None:
    async with stream:
        while data := await stream.read(CHUNK):
            await stream.write_all(data)


async def accept(listener: TcpListener) -> None:
    async for stream in listener:
        spawn(echo(stream))


async def echo_datagrams(sock: UdpSocket) -> None:
    while True:
        data, addr = await sock.recv_from()
        await sock.send_to(data, addr)


async def take_flood_one_by_one(sock: UdpSocket) -> None:
    while True:
        for _ in range(ACK_EVERY):
            _, addr = await sock.recv_from()
        await sock.send_to(ACK, addr)


async def take_flood(sock: UdpSocket) -> None:
    taken = 0
    while True:
        batch = await sock.recv_many(ACK_EVERY)
        taken += len(batch)
        if taken >= ACK_EVERY:
            taken -= ACK_EVERY
            await sock.send_to(ACK, batch[-1][1])


class Trale:
    def __getattr__(self, name: str) -> Any:
        """What is asyncio's code runs on the guest loop; see rows/guest.py."""
        if not name.startswith("aio_"):
            raise AttributeError(name)
        from .loops import Guest

        return getattr(Guest(), name)

    def tcp_echo(self) -> Server:
        listener = TcpListener.bind("127.0.0.1:0")
        return listener.local_addr[1], spawn(accept(listener)).join

    def udp_echo(self) -> Server:
        sock = UdpSocket.bind("127.0.0.1:0")
        return sock.local_addr[1], spawn(echo_datagrams(sock)).join

    def udp_flood(self) -> Server:
        if not hasattr(UdpSocket, "recv_many"):
            raise NotAvailable("UdpSocket.recv_many")
        sock = UdpSocket.bind("127.0.0.1:0")
        return sock.local_addr[1], spawn(take_flood(sock)).join

    def spawn_and_join(self, count: int) -> None:
        for handle in [spawn(nothing()) for _ in range(count)]:
            handle.join()

    def round_trips(self, count: int) -> None:
        for _ in range(count):
            spawn(nothing()).join()

    def children(self, count: int, at_once: int) -> None:
        async def main() -> None:
            for _ in range(count // at_once):
                for handle in [spawn(nothing()) for _ in range(at_once)]:
                    await handle

        block_on(main())

    def ping_pong(self, count: int) -> None:
        async def main() -> None:
            (there, at), (back, home) = channel(1), channel(1)

            async def other() -> None:
                for _ in range(count):
                    await back.send(await at.recv())

            handle = spawn(other())
            for i in range(count):
                await there.send(i)
                await home.recv()
            await handle

        block_on(main())

    def mutex(self, count: int) -> None:
        async def main() -> None:
            mutex = Mutex()
            for _ in range(count):
                async with mutex:
                    pass

        block_on(main())

    def semaphore(self, count: int) -> None:
        async def main() -> None:
            semaphore = Semaphore(1)
            for _ in range(count):
                async with semaphore:
                    pass

        block_on(main())

    def thread_to_task(self, count: int) -> None:
        sender, receiver = channel(1000)

        async def takes() -> None:
            for _ in range(count):
                await receiver.recv()

        handle = spawn(takes())
        for i in range(count):
            sender.send_blocking(i)
        handle.join()

    def sleepers(self, count: int, seconds: float) -> None:
        async def main() -> None:
            for handle in [spawn(sleeper()) for _ in range(count)]:
                await handle

        async def sleeper() -> None:
            await sleep(seconds)

        block_on(main())

    def short_sleeps(self, count: int, seconds: float) -> list[float]:
        return block_on(time_sleeps(sleep, count, seconds))


class TraleOneByOne:
    """A flood taken with one recv_from each, beside recv_many."""

    def udp_flood(self) -> Server:
        sock = UdpSocket.bind("127.0.0.1:0")
        return sock.local_addr[1], spawn(take_flood_one_by_one(sock)).join
