"""The guest at the interpreter's exit, at a fork, at a Ctrl-C: each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests._asyncio.test_means import TRANSPORTS

Run = Callable[..., Any]

SERVED = """
import asyncio, os, signal, socket, sys, threading, time
from trale_py import *

async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()

async def connect():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    return server, reader, writer

async def ask(reader, writer):
    writer.write(b"x")
    return await asyncio.wait_for(reader.readexactly(1), 10)
"""


@pytest.fixture(params=TRANSPORTS)
def serve(request: pytest.FixtureRequest, run_script: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("TRALE_AIOFASTNET", "1" if request.param == "aiofastnet" else "0")
    return lambda rest: run_script(SERVED + rest)


@pytest.mark.parametrize(
    "end",
    [
        "",
        "raise SystemExit(0)",
        "Executor.shutdown(); spawn(aio(asyncio.sleep, 1000))",
        "spawn(aio(asyncio.sleep, 1000)).add_done_callback(print)",
        "spawn(aio(asyncio.to_thread, time.sleep, 1000)); time.sleep(0.05)",
        "aio.loop().call_soon_threadsafe(asyncio.ensure_future, asyncio.sleep(1000))",
        "aio.loop().call_later(1000, print)",
        "spawn(aio(asyncio.create_subprocess_exec, 'sleep', '1000')).join(10)",
    ],
)
def test_the_exit_says_nothing(serve: Run, end: str) -> None:
    result = serve(
        f"""
server, reader, writer = block_on(aio(connect))
assert block_on(aio(ask, reader, writer)) == b"x"
{end}
"""
    )
    out = result.stdout.replace("<JoinHandle", "")
    assert (result.returncode, result.stderr) == (0, "")
    assert "Traceback" not in out


def test_finally_blocks_run_at_the_exit(run_script: Run) -> None:
    result = run_script(
        SERVED
        + """
async def theirs():
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(0.01)
        print("asyncio cleaned up")

spawn(aio(theirs))
aio.loop().call_soon_threadsafe(aio.loop().create_task, theirs())
time.sleep(0.05)
"""
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "asyncio cleaned up\n" * 2


@pytest.mark.slow
def test_what_swallows_its_cancellation_is_left_at_the_exit(run_script: Run) -> None:
    """It is named, and "Task was destroyed but it is pending" is not printed."""
    result = run_script(
        SERVED
        + """
async def swallows():
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass

aio.loop().call_soon_threadsafe(aio.loop().create_task, swallows())
time.sleep(0.05)
"""
    )
    assert result.returncode == 0
    assert "destroyed" not in result.stderr


def test_a_fork_leaves_the_parents_connections_alive(serve: Run) -> None:
    """The child closes a transport of the parent's: the parent must go on hearing of it."""
    result = serve(
        """
server, reader, writer = block_on(aio(connect))
loop = aio.loop()
assert block_on(aio(ask, reader, writer)) == b"x"
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
child = os.fork()
if child == 0:
    for close in (writer.transport.abort, server.close):
        try:
            close()
        except RuntimeError as error:
            pass
    try:
        loop.call_soon_threadsafe(print, "never")
    except RuntimeClosed:
        print("closed", flush=True)
    async def again():
        server, reader, writer = await connect()
        answer = await ask(reader, writer)
        writer.close()
        return answer
    print(block_on(aio(again)), aio.loop() is not loop, flush=True)
    Executor.shutdown()
    os._exit(0)
os.waitpid(child, 0)
for _ in range(10):
    assert block_on(aio(ask, reader, writer)) == b"x"
print("parent", aio.loop() is loop)
"""
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "closed\nb'x' True\nparent True\n"


def test_a_fork_in_asyncio_code_ends_the_child_with_it(run_script: Run) -> None:
    result = run_script(
        SERVED
        + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)

async def beside():
    for n in range(3):
        print("beside", os.getpid() == parent, flush=True)
        await asyncio.sleep(0.01)

async def forks():
    child = os.fork()
    if child == 0:
        print("child", flush=True)
        return
    os.waitpid(child, 0)

parent = os.getpid()
async def main():
    await asyncio.gather(forks(), beside())
block_on(aio(main))
print("end", os.getpid() == parent, flush=True)
"""
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(result.stdout.split("\n")) == ["", *["beside True"] * 3, "child", "end True"]


def test_ctrl_c_in_a_join(run_script: Run) -> None:
    result = run_script(
        SERVED
        + """
ended = []
async def theirs():
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        await asyncio.sleep(1000)
    finally:
        ended.append(True)

handle = spawn(aio(theirs))
try:
    handle.join()
except KeyboardInterrupt:
    print("join", handle.done(), ended)
handle.cancel()
try:
    handle.join(10)
except TaskCancelled:
    print("cancelled", ended)
try:
    block_on(aio(theirs))
except KeyboardInterrupt:
    Executor.shutdown()
    print("block_on", ended)
"""
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "join False []\ncancelled [True]\nblock_on [True, True]\n"
