"""asyncio's code on the executor, beside asyncio and uvloop with a loop in a thread of its own.

trale_py is its guest loop here, with aiofastnet; "without aiofastnet" is the same with asyncio's
own transports. The echo servers are a Protocol and streams, the clients are load.c. A FastAPI app
that says hello is served by uvicorn, and asked by wrk, or by load.c where that is not installed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from functools import partial

from harness import OURS, Figures, Measurement, Row, finish, inside, load, server, start

from . import Scale

LOOPS = [OURS, "trale_py without aiofastnet", "asyncio", "uvloop", "uvloop + aiofastnet"]
INSIDE = [OURS, "asyncio", "uvloop"]
BEST_BUSY = {"uvloop": 5.0, "uvloop + aiofastnet": 5.0, "asyncio": 5.0}


def echo(contender: str, *, protocol: str, main: str = "idle", **options: float) -> Figures:
    with server(contender, protocol, main) as (port, pid):
        return load("echo", "tcp", str(port), p=pid, **options)


def hello(contender: str, *, main: str, seconds: float) -> Figures:
    wrk = shutil.which("wrk")
    with server(contender, "aio_fastapi", main) as (port, _):
        if wrk is None:
            return load("http", str(port), c=50, t=seconds)
        url = f"http://127.0.0.1:{port}/"
        said = finish(start([wrk, "-t1", "-c50", f"-d{max(1, round(seconds))}s", url]))
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert rate is not None
    return {"rate": float(rate[1])}


def measurements(scale: Scale) -> Iterator[Measurement]:
    for protocol, text in (("aio_protocol", "Protocol"), ("aio_streams", "streams")):
        for connections in (1, 50, 500):
            work = f"asyncio {text} echo, {connections} connections"
            yield Measurement(
                f"guest-{text.lower()}-{connections}",
                LOOPS,
                partial(echo, protocol=protocol, c=connections, s=64, t=scale.seconds),
                [
                    Row(work, "rate", "msg/s"),
                    Row(f"{work}, server CPU", "cpu_us", "us/msg", True, {"asyncio": 0.95}),
                ],
            )
        work = f"asyncio {text} echo, 50 connections, main thread busy"
        yield Measurement(
            f"guest-{text.lower()}-busy",
            LOOPS,
            partial(echo, protocol=protocol, main="busy", c=50, s=64, t=scale.seconds),
            [Row(work, "rate", "msg/s", at_least=BEST_BUSY)],
        )
    for what, text in (
        ("aio_create_task", "asyncio.create_task, 100 at once"),
        ("aio_call_soon", "call_soon, one after the other"),
        ("aio_queue", "asyncio.Queue between two tasks, there and back"),
    ):
        yield Measurement(
            f"guest-{what.removeprefix('aio_')}",
            INSIDE,
            partial(inside, "sync", [what, 2 * scale.tasks]),
            [Row(text, "rate", "/s")],
        )
    for main in ("idle", "busy"):
        yield Measurement(
            f"guest-fastapi-{main}",
            LOOPS,
            partial(hello, main=main, seconds=scale.seconds),
            [Row(f"FastAPI hello, main thread {main}", "rate", "req/s", at_least={"uvloop": 1.0})],
        )
