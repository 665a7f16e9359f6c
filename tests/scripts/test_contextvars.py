"""The table of docs/howto.md: whose context variables what runs has."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from tests.support.net_helpers import TIMEOUT
from trale_py import (
    Runtime,
    TaskGroup,
    as_completed,
    block_on,
    blocking,
    gather,
    map_concurrent,
    race,
    serve,
    spawn,
    spawn_blocking,
)

var: ContextVar[str] = ContextVar("var", default="?")


async def look(*_: object) -> str:
    seen = var.get()
    var.set("its own")
    return seen


async def looks() -> AsyncIterator[str]:
    yield await look()


async def one() -> AsyncIterator[int]:
    yield 1


async def in_group() -> str:
    async with TaskGroup() as group:
        return await group.spawn(look())


async def first_completed() -> str:
    async for handle in as_completed([look()]):
        return handle.result()
    raise AssertionError


def by_callback() -> str:
    seen: list[str] = []
    done = threading.Event()

    async def task() -> None:
        var.set("here")

    handle = spawn(task(), context=copy_context())
    handle.add_done_callback(lambda _: (seen.append(var.get()), done.set()))
    assert done.wait(TIMEOUT)
    return seen[0] if seen[0] == "here" else f"not the task's: {seen[0]}"


def by_call_soon() -> str:
    seen: list[str] = []
    done = threading.Event()
    Runtime.current().call_soon(lambda: (seen.append(var.get()), done.set()))
    assert done.wait(TIMEOUT)
    return seen[0]


def by_serve() -> str:
    seen: list[str] = []

    async def handler(stream: Any) -> None:
        seen.append(await look())
        await stream.write_all(b"x")

    with (
        serve(handler, "127.0.0.1:0") as server,
        socket.create_connection(server.addresses[0], timeout=TIMEOUT) as sock,
    ):
        assert sock.recv(1) == b"x"
    return seen[0]


PLACES: dict[str, Any] = {
    "spawn": lambda: spawn(look()).join(TIMEOUT),
    "block_on": lambda: block_on(look()),
    "group": lambda: block_on(in_group()),
    "gather": lambda: block_on(gather(look()))[0],
    "race": lambda: block_on(race(look())),
    "as_completed": lambda: block_on(first_completed()),
    "spawn_blocking": lambda: spawn_blocking(var.get).join(TIMEOUT),
    "done-callback": by_callback,
    "call_soon": by_call_soon,
    "map_concurrent": lambda: next(iter(map_concurrent(look, [1], limit=1))),
    "map_concurrent, async source": lambda: next(map_concurrent(look, one(), limit=1)),
    "blocking": lambda: next(blocking(looks())),
    "serve": by_serve,
}


@pytest.mark.parametrize("place", PLACES)
def test_what_runs_has_the_context(place: str) -> None:
    token = var.set("here")
    try:
        assert PLACES[place]() == "here"
        assert var.get() == "here"
    finally:
        var.reset(token)


def test_aio_has_the_context(run_script: Any) -> None:
    result = run_script(
        """
        from contextvars import ContextVar
        from trale_py import aio, block_on

        var = ContextVar("var")

        async def look():
            return var.get()

        var.set("here")
        assert block_on(aio(look)) == "here"
        """
    )
    assert (result.returncode, result.stderr) == (0, "")
