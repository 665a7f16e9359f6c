"""A type checker complains about every forgotten await, and about nothing else."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.core.test_leaf import public_operations

ARGUMENTS = """
from datetime import datetime
from trale_py import *
from trale_py import fs, process, tls
from trale_py.channel import *

async def coro() -> None: ...
async def started(task_status: TaskStatus[None]) -> None: ...

async def main(
    stream: TcpStream, listener: TcpListener, udp: UdpSocket, fd: AsyncFd, event: Event,
    count: Notify, eventfd: EventFd, barrier: Barrier, mutex: Mutex[int], semaphore: Semaphore,
    condition: Condition[int], cell: OnceCell[None], tx: Sender[int], rx: Receiver[int],
    once: OneshotReceiver[int], news: BroadcastReceiver[int], seen: WatchReceiver[int],
    ticks: Interval, group: TaskGroup, when: datetime,
    pipe_end: FdStream, unix: UnixStream, unix_listener: UnixListener, notes: UnixDatagram,
    packets: Socket,
    bounded: BoundedSemaphore, limiter: CapacityLimiter, stop: StopToken, jobs: JoinSet[int],
    server: Server, file: fs.File, program: process.Process,
    secure: tls.TlsStream, secure_listener: tls.TlsListener,
) -> None:
"""
STREAMS = [
    ("TcpStream", "stream"),
    ("FdStream", "pipe_end"),
    ("UnixStream", "unix"),
    ("File", "file"),
    ("TlsStream", "secure"),
]
FACE = [
    ("read", ""),
    ("readinto", "bytearray(1)"),
    ("peek", ""),
    ("read_exact", "1"),
    ("read_until", "b'x'"),
    ("write", "b'x'"),
    ("write_all", "b'x'"),
    ("shutdown", ""),
]
FORGOTTEN = {
    "yield_now": "yield_now()",
    "sleep": "sleep(1)",
    "sleep_until": "sleep_until(now())",
    "sleep_until_wall": "sleep_until_wall(when)",
    "gather": "gather(coro(), sleep(1))",
    "race": "race(coro(), sleep(1))",
    "timeout": "timeout(1, event.wait())",
    "Timer.sleep": "Timer.sleep(1)",
    "Interval.tick": "ticks.tick()",
    "TcpStream.connect": "TcpStream.connect('127.0.0.1:1')",
    **{f"{cls}.{name}": f"{word}.{name}({args})" for cls, word in STREAMS for name, args in FACE},
    "TcpListener.accept": "listener.accept()",
    "UnixListener.accept": "unix_listener.accept()",
    "UnixStream.connect": "UnixStream.connect('/socket')",
    "UnixStream.send_fds": "unix.send_fds(b'x', [0])",
    "UnixStream.recv_fds": "unix.recv_fds(1)",
    "UnixDatagram.recv_from": "notes.recv_from()",
    "UnixDatagram.recv": "notes.recv()",
    "UnixDatagram.recv_many": "notes.recv_many(1)",
    "UnixDatagram.send": "notes.send(b'x')",
    "UnixDatagram.send_to": "notes.send_to(b'x', '/socket')",
    "UnixDatagram.send_many": "notes.send_many([])",
    "UnixDatagram.connect": "notes.connect('/socket')",
    "Socket.accept": "packets.accept()",
    "Socket.connect": "packets.connect('/socket')",
    "Socket.recv": "packets.recv(1)",
    "Socket.recvmsg": "packets.recvmsg(1)",
    "Socket.send": "packets.send(b'x')",
    "Socket.sendmsg": "packets.sendmsg([b'x'])",
    "File.pread": "file.pread(1, 0)",
    "File.pwrite": "file.pwrite(b'x', 0)",
    "File.read_to_end": "file.read_to_end()",
    "File.seek": "file.seek(0)",
    "File.stat": "file.stat()",
    "File.sync": "file.sync()",
    "File.tell": "file.tell()",
    "File.truncate": "file.truncate(0)",
    "fs.chmod": "fs.chmod('/file', 0)",
    "fs.exists": "fs.exists('/file')",
    "fs.is_dir": "fs.is_dir('/file')",
    "fs.is_file": "fs.is_file('/file')",
    "fs.link": "fs.link('/file', '/other')",
    "fs.listdir": "fs.listdir('/')",
    "fs.lstat": "fs.lstat('/file')",
    "fs.mkdir": "fs.mkdir('/folder')",
    "fs.read_bytes": "fs.read_bytes('/file')",
    "fs.readlink": "fs.readlink('/file')",
    "fs.remove": "fs.remove('/file')",
    "fs.remove_tree": "fs.remove_tree('/folder')",
    "fs.rename": "fs.rename('/file', '/other')",
    "fs.rmdir": "fs.rmdir('/folder')",
    "fs.scandir": "fs.scandir('/')",
    "fs.stat": "fs.stat('/file')",
    "fs.symlink": "fs.symlink('/file', '/other')",
    "fs.utime": "fs.utime('/file')",
    "fs.write_bytes": "fs.write_bytes('/file', b'x')",
    "Process.wait": "program.wait()",
    "process.run": "process.run(['true'])",
    "TlsListener.accept": "secure_listener.accept()",
    "TlsStream.do_handshake": "secure.do_handshake()",
    "tls.connect": "tls.connect('localhost:1')",
    "tls.start_tls": "tls.start_tls(stream)",
    "UdpSocket.recv_from": "udp.recv_from()",
    "UdpSocket.recv": "udp.recv()",
    "UdpSocket.recv_many": "udp.recv_many(1)",
    "UdpSocket.send_to": "udp.send_to(b'x', '127.0.0.1:1')",
    "UdpSocket.send": "udp.send(b'x')",
    "UdpSocket.send_many": "udp.send_many([])",
    "UdpSocket.connect": "udp.connect('127.0.0.1:1')",
    "AsyncFd.readable": "fd.readable()",
    "AsyncFd.writable": "fd.writable()",
    "Event.wait": "event.wait()",
    "Notify.wait": "count.wait()",
    "EventFd.wait": "eventfd.wait()",
    "Barrier.wait": "barrier.wait()",
    "Mutex.lock": "mutex.lock()",
    "Semaphore.acquire": "semaphore.acquire()",
    "BoundedSemaphore.acquire": "bounded.acquire()",
    "CapacityLimiter.acquire": "limiter.acquire()",
    "CapacityLimiter.acquire_on_behalf_of": "limiter.acquire_on_behalf_of(1)",
    "StopToken.wait": "stop.wait()",
    "resolve": "resolve('localhost')",
    "reverse_lookup": "reverse_lookup('127.0.0.1:1')",
    "Server.wait_closed": "server.wait_closed()",
    "JoinSet.join_next": "jobs.join_next()",
    "Condition.wait": "condition.wait()",
    "Condition.wait_for": "condition.wait_for(bool)",
    "OnceCell.get_or_init": "cell.get_or_init(coro)",
    "Sender.send": "tx.send(1)",
    "Receiver.recv": "rx.recv()",
    "Receiver.recv_many": "rx.recv_many(2)",
    "OneshotReceiver.recv": "once.recv()",
    "BroadcastReceiver.recv": "news.recv()",
    "WatchReceiver.changed": "seen.changed()",
    "TaskGroup.start": "group.start(started)",
}
# These return something to await or to enter, which both checkers take for more than a coroutine.
OF_TWO_KINDS = {"RwLock.read", "RwLock.write", "File.create", "File.open", "Process.spawn"}

FINE = [
    "await sleep(1)",
    "spawn(stream.read())",
    "spawn(coro())",
    "wait = event.wait()",
    "await wait",
]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    lines = [*FORGOTTEN.values(), *FINE]
    path.write_text(ARGUMENTS.lstrip() + "".join(f"    {line}\n" for line in lines))
    return path


def run(program: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command, str(program)],
        capture_output=True,
        text=True,
        check=False,
        cwd=program.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)},
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def lines_of(program: Path, numbers: set[int]) -> list[str]:
    text = program.read_text().splitlines()
    return [text[number - 1].strip() for number in sorted(numbers)]


def test_the_list_of_forgotten_awaits_is_complete() -> None:
    assert FORGOTTEN.keys() | OF_TWO_KINDS == public_operations()


@pytest.mark.slow
def test_mypy_complains_about_each_forgotten_await(program: Path) -> None:
    pytest.importorskip("mypy", reason="needs mypy")
    said = run(program, "mypy", "--strict", "--cache-dir", str(program.parent / "cache"))
    found = re.findall(r"^program\.py:(\d+): error: .*\[([a-z-]+)\]$", said, re.MULTILINE)
    assert {code for _, code in found} == {"unused-coroutine"}, said
    assert lines_of(program, {int(number) for number, _ in found}) == [*FORGOTTEN.values()]


@pytest.mark.slow
def test_pyright_complains_about_each_forgotten_await(program: Path) -> None:
    name = next((one for one in ("pyright", "basedpyright") if importlib.util.find_spec(one)), None)
    if name is None:
        pytest.skip("needs pyright or basedpyright")
    settings = {"typeCheckingMode": "standard", "extraPaths": [str(ROOT)]}
    program.with_name("pyrightconfig.json").write_text(json.dumps(settings))
    said = run(program, name, "--outputjson", "--pythonpath", sys.executable)
    found = [
        (one["rule"], one["range"]["start"]["line"] + 1)
        for one in json.loads(said)["generalDiagnostics"]
        if one["severity"] == "error"
    ]
    assert {rule for rule, _ in found} == {"reportUnusedCoroutine"}, said
    assert lines_of(program, {number for _, number in found}) == [*FORGOTTEN.values()]


@pytest.mark.slow
def test_mypy_and_pyright_infer_the_types_of_the_list() -> None:
    pytest.importorskip("mypy", reason="needs mypy")
    pytest.importorskip("basedpyright", reason="needs basedpyright")
    typed = Path(__file__).with_name("typed.py")
    for command in (("mypy", "--strict"), ("basedpyright", "--level", "error")):
        done = subprocess.run(
            [sys.executable, "-m", *command, str(typed)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_public_types_are_complete() -> None:
    pytest.importorskip("basedpyright", reason="needs basedpyright")
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--verifytypes", "trale_py", "--ignoreexternal"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    score = re.search(r"Type completeness score: ([\d.]+)%", done.stdout)
    assert score is not None, done.stdout + done.stderr
    assert float(score[1]) >= 99, done.stdout
