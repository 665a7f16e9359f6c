"""TCP echo: the servers are the contenders, load.c is the client of all.

Measured: what a server gets through while every connection has one message under way, and the
CPU time it takes for each, the kernel's part of it included. Not measured: connecting, the
client, a network. Client and server share the machine: on one with few cores a server of two
threads gets less of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from harness import C_EPOLL, OURS, Figures, Measurement, Row, load, server

from . import Scale

SOME = [OURS, "asyncio", "uvloop", "uvloop Protocol", C_EPOLL]
ALL = [
    *(OURS, "asyncio", "asyncio Protocol", "uvloop", "uvloop Protocol"),
    *("trio", "curio", "anyio", "gevent", "threads", C_EPOLL),
]


def echo(contender: str, *, main: str = "idle", **options: float) -> Figures:
    with server(contender, "tcp_echo", main) as (port, pid):
        return load("echo", "tcp", str(port), p=pid, **options)


def measurements(scale: Scale) -> Iterator[Measurement]:
    for connections in (10, 50, 500):
        work = f"TCP echo 64 B, {connections} connections"
        yield Measurement(
            f"tcp-64-{connections}",
            ALL if connections == 50 else SOME,
            partial(echo, c=connections, s=64, t=scale.seconds),
            [
                Row(work, "rate", "msg/s", at_least={"uvloop": 1.5, "uvloop Protocol": 1}),
                Row(f"{work}, server CPU", "cpu_us", "us/msg", True, {C_EPOLL: 0.8}),
            ],
        )
    for size, name, connections in ((16 << 10, "16 kB", 50), (1 << 20, "1 MB", 10)):
        yield Measurement(
            f"tcp-{name.replace(' ', '')}",
            SOME,
            partial(echo, c=connections, s=size, t=scale.seconds),
            [
                Row(
                    f"TCP echo {name}, {connections} connections",
                    "rate",
                    "msg/s",
                    at_least={"uvloop": 1, "uvloop Protocol": 1},
                )
            ],
        )
    yield Measurement(
        "tcp-ping-pong",
        SOME,
        partial(echo, c=1, s=64, t=scale.seconds),
        [Row("TCP ping-pong, median latency", "p50_us", "us", True, {"uvloop": 0.95})],
    )
    yield Measurement(
        "tcp-busy",
        [OURS, "asyncio", "uvloop"],
        partial(echo, main="busy", c=50, s=64, t=scale.seconds),
        [
            Row(
                "TCP echo 64 B, main thread busy",
                "rate",
                "msg/s",
                at_least={"asyncio": 20, "uvloop": 20},
                limit=15_000,
            )
        ],
    )
