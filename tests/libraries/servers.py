"""Servers that a test starts of its own, in a folder of its own, where they are installed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SECONDS = 30


def find(program: str) -> str:
    """Debian keeps PostgreSQL's out of the PATH."""
    folders = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    found = shutil.which(program, path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.connect(str(path))
            return
        time.sleep(0.02)
    pytest.fail(f"{process.args!r} does not answer: {process.poll()}")


@contextlib.contextmanager
def running(args: list[str], answers: Path, **options: object) -> Iterator[None]:
    process = subprocess.Popen(  # type: ignore[call-overload]
        args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )
    try:
        wait_for(answers, process)
        yield
    finally:
        process.terminate()
        process.wait(SECONDS)


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Yields the folder with its socket. It refuses to run as root."""
    initdb, program = find("initdb"), find("postgres")
    user = None
    if os.getuid() == 0:
        user = next((name for name in ("postgres", "nobody") if name in _users()), None)
        shutil.chown(folder, user)
        for parent in folder.parents[:3]:  # pytest's, which are for their owner only
            parent.chmod(parent.stat().st_mode | 0o011)
    data = folder / "data"
    made = subprocess.run(
        [initdb, "-D", data, "-A", "trust", "-U", "trale", "--no-sync"],
        check=False,
        capture_output=True,
        timeout=2 * SECONDS,
        user=user,
    )
    assert made.returncode == 0, made.stderr
    args = [program, "-D", str(data), "-k", str(folder), "-h", "", "-F"]
    with running(args, folder / ".s.PGSQL.5432", user=user):
        deadline = time.monotonic() + SECONDS  # it listens before it has started up
        while subprocess.run([find("pg_isready"), "-q", "-h", folder], check=False).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield str(folder)


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Yields the path of its socket."""
    path = folder / "redis.sock"
    args = [find("redis-server"), "--unixsocket", str(path), "--port", "0", "--save", ""]
    with running(args, path, cwd=folder):
        yield str(path)


def _users() -> set[str]:
    return {entry.pw_name for entry in pwd.getpwall()}
