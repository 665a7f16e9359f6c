"""trale_py beside asyncio (and uvloop, if it is installed), each with its loop in a thread.

Run:  make bench        or  python benchmarks/compare.py [--rounds 5]

That is how a script uses them: the main thread hands work to a runtime in the background.
Every row is run by all of them in turn, several rounds, in one process each round; the
figure is the median, and the ratio is taken round by round. Machines are shared and noisy:
trust the ratios, not the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol


class Peer(Protocol):
    """What a row needs of a runtime."""

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> Callable[[], Any]: ...
    def sleep(self, seconds: float) -> Any: ...
    def start(self, coro: Coroutine[Any, Any, Any]) -> Any: ...
    async def echo(self, connections: int, messages: int, size: int) -> None: ...


class Trale:
    def __init__(self) -> None:
        import trale_py

        self.trale = trale_py
        self.sleep = trale_py.sleep
        self.start = trale_py.spawn

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> Callable[[], Any]:
        return self.trale.spawn(coro).join

    async def echo(self, connections: int, messages: int, size: int) -> None:
        listener = self.trale.TcpListener.bind("127.0.0.1:0")
        addr = listener.local_addr

        async def serve(stream: Any) -> None:
            with stream:
                while data := await stream.read(65536):
                    await stream.write_all(data)

        async def accept() -> None:
            for _ in range(connections):
                self.start(serve(await listener.accept()))

        async def client() -> None:
            async with await self.trale.TcpStream.connect(addr) as stream:
                for _ in range(messages):
                    await stream.write_all(bytes(size))
                    await stream.read_exact(size)

        handles = [self.start(accept()), *(self.start(client()) for _ in range(connections))]
        for handle in handles:
            await handle
        listener.close()


class Asyncio:
    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.loop = new_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.sleep = asyncio.sleep
        self.start = asyncio.ensure_future

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> Callable[[], Any]:
        return asyncio.run_coroutine_threadsafe(coro, self.loop).result

    async def echo(self, connections: int, messages: int, size: int) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()

        async def client() -> None:
            reader, writer = await asyncio.open_connection(host, port)
            for _ in range(messages):
                writer.write(bytes(size))
                await writer.drain()
                await reader.readexactly(size)
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*(client() for _ in range(connections)))
        server.close()


async def nothing() -> None:
    pass


def spawn_and_join(peer: Peer) -> float:
    count = 10_000
    start = time.perf_counter()
    for join in [peer.spawn(nothing()) for _ in range(count)]:
        join()
    return count / (time.perf_counter() - start)


def round_trips(peer: Peer) -> float:
    count = 1_000
    start = time.perf_counter()
    for _ in range(count):
        peer.spawn(nothing())()
    return count / (time.perf_counter() - start)


def echo(peer: Peer) -> float:
    connections, messages = 50, 100
    start = time.perf_counter()
    peer.spawn(peer.echo(connections, messages, 64))()
    return connections * messages / (time.perf_counter() - start)


def sleepers(peer: Peer) -> float:
    async def main() -> None:
        for handle in [peer.start(sleep()) for _ in range(20_000)]:
            await handle

    async def sleep() -> None:
        await peer.sleep(0.5)

    start = time.perf_counter()
    peer.spawn(main())()
    return 1 / (time.perf_counter() - start - 0.5)


def short_sleeps(peer: Peer) -> float:
    async def main() -> float:
        over = []
        for _ in range(200):
            start = time.perf_counter()
            await peer.sleep(0.0002)
            over.append(time.perf_counter() - start - 0.0002)
        return statistics.median(over)

    return 1 / max(1e-6, peer.spawn(main())())


ROWS: dict[str, tuple[Callable[[Peer], float], Callable[[float], str]]] = {
    "spawn and join 10,000 tasks": (spawn_and_join, lambda rate: f"{rate:,.0f} /s"),
    "spawn().join(), one by one": (round_trips, lambda rate: f"{1e6 / rate:.0f} us"),
    "TCP echo, 64 B, 50 connections": (echo, lambda rate: f"{rate:,.0f} /s"),
    "20,000 sleepers of 0.5 s": (sleepers, lambda rate: f"{1e3 / rate:.0f} ms over"),
    "sleep(0.0002)": (short_sleeps, lambda rate: f"{1e3 / rate:.2f} ms over"),
}


def make(name: str) -> Peer:
    if name == "trale_py":
        return Trale()
    if name == "uvloop":
        import uvloop

        return Asyncio(uvloop.new_event_loop)
    return Asyncio(asyncio.new_event_loop)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", metavar="PEER", help="one round of one peer, as JSON")
    args = parser.parse_args()
    if args.one:
        peer = make(args.one)
        print(json.dumps({row: measure(peer) for row, (measure, _) in ROWS.items()}))
        return
    peers = ["trale_py", "asyncio"] + ["uvloop"] * bool(importlib.util.find_spec("uvloop"))
    results: dict[str, list[dict[str, float]]] = {peer: [] for peer in peers}
    for _ in range(args.rounds):
        for peer in peers:
            command = [sys.executable, __file__, "--one", peer]
            results[peer].append(json.loads(subprocess.check_output(command)))
    print(f"{'':32}" + "".join(f"{peer:>16}" for peer in peers), *peers[1:], sep="  ratio to ")
    for row, (_, show) in ROWS.items():
        line = f"{row:32}"
        for peer in peers:
            line += f"{show(statistics.median(r[row] for r in results[peer])):>16}"
        for peer in peers[1:]:
            pairs = zip(results["trale_py"], results[peer], strict=True)
            ratios = sorted(ours[row] / theirs[row] for ours, theirs in pairs)
            line += f"   {statistics.median(ratios):5.1f}x ({ratios[0]:.1f}-{ratios[-1]:.1f})"
        print(line)


if __name__ == "__main__":
    main()
