"""UDP: echo, one datagram a call, and the receiving of a flood.

The flood's sender is never further ahead of the receiver than the socket's buffer holds, so
nothing is lost, and all are compared at the same loss; what is measured is how fast a receiver
takes what is already there. Every 64th datagram is answered, which is part of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness import C_EPOLL, OURS, Figures, Measurement, Row, load, server

from . import Scale

ECHO = [OURS, "asyncio", "uvloop", "trio", "curio", "anyio", "gevent", "threads", C_EPOLL]
FLOOD = [OURS, "trale_py recv_from", "asyncio", "uvloop"]


def measurements(scale: Scale) -> Iterator[Measurement]:
    def echo(contender: str) -> Figures:
        with server(contender, "udp_echo") as (port, pid):
            return load("echo", "udp", str(port), c=50, t=scale.seconds, p=pid)

    def flood(contender: str) -> Figures:
        with server(contender, "udp_flood") as (port, pid):
            return load("flood", str(port), t=scale.seconds, p=pid)

    work = "UDP echo 64 B, 50 clients"
    yield Measurement(
        "udp-echo",
        ECHO,
        echo,
        [
            Row(work, "rate", "datagrams/s", at_least={"uvloop": 1, "asyncio": 2}),
            Row(f"{work}, server CPU", "cpu_us", "us/datagram", True),
        ],
    )
    yield Measurement(
        "udp-flood",
        FLOOD,
        flood,
        [
            Row(
                "UDP flood 64 B, recv_many",
                "rate",
                "datagrams/s",
                at_least={"trale_py recv_from": 3, "uvloop": 2},
            ),
            Row("UDP flood 64 B, lost", "lost", "datagrams", True, ratios=False, of_rounds=max),
        ],
    )
