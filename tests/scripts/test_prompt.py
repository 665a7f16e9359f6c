"""python -m trale_py: lines with await are tasks, others run in the main thread."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT


def prompt(lines: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trale_py", *args],
        input=lines,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=ROOT,
    )


def test_lines_and_their_threads() -> None:
    done = prompt(
        "import threading, contextvars\n"
        "var = contextvars.ContextVar('var')\n"
        "_ = var.set('set in a plain line')\n"
        "async def look(): return threading.current_thread().name, var.get()\n"
        "\n"
        "await look()\n"
        "threading.current_thread().name\n"
        "x = await spawn(look())\n"
        "x[1]\n"
        "_ = [var.set('set in an await line'), await sleep(0)]\n"
        "var.get()\n"
        "await spawn(look(1))\n"
        "1 / 0\n"
        "'still here'\n"
    )
    assert done.returncode == 0
    out = done.stdout
    assert "('trale-executor', 'set in a plain line')" in out
    assert "'MainThread'" in out
    assert "'set in an await line'" in out
    assert "'still here'" in out
    assert "TypeError" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_it_exits_like_a_script() -> None:
    done = prompt(
        "async def cleans():\n"
        "    try:\n"
        "        await sleep(1000)\n"
        "    finally:\n"
        "        print('cleaned up')\n"
        "\n"
        "h = spawn(cleans())\n"
        "await sleep(0)\n"
        "exit(3)\n"
    )
    assert (done.returncode, done.stdout.count("cleaned up")) == (3, 1)
    assert prompt("raise SystemExit(await spawn(sleep(0)) or 4)\n").returncode == 4
    assert prompt("", "wrong").returncode == 1
