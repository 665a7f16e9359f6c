"""The tutorial's five programs: they run, and say what docs/learn.md says they do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = sorted((ROOT / "from_scratch").glob("*.py"))


def run(step: int) -> list[str]:
    path = STEPS[step - 1]
    result = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


def polls(line: str) -> int:
    found = re.search(r"(\d+) polls", line)
    assert found is not None, line
    return int(found[1])


@pytest.mark.parametrize("path", STEPS, ids=lambda path: path.stem)
def test_a_step_is_short_needs_nothing_and_says_how_to_run_it(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) < 100
    assert f"python from_scratch/{path.name}" in source
    assert f"from_scratch/{path.name}" in (ROOT / "docs" / "learn.md").read_text()
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            imported.add(node.module.partition(".")[0])
    last = path is STEPS[-1]
    assert imported - set(sys.stdlib_module_names) == ({"trale_py"} if last else set())


def test_1_block_on_polls_all_the_time() -> None:
    out = run(1)
    assert out[:2] == ["first", "second"]
    assert out[2].startswith("slept twice")
    assert polls(out[2]) > 1000


def test_2_the_executor_runs_many_tasks_and_never_sleeps() -> None:
    out = run(2)
    assert sorted(out[:3]) == [f"client {n} got b'hello {n}'" for n in range(3)]
    assert polls(out[3]) > 1000


def test_3_the_obvious_queue_is_stuck_and_wakers_poll_no_more_than_needed() -> None:
    out = run(3)
    assert re.fullmatch(r"a lock, a condition and a deque: stuck, after \d+ wakes", out[0])
    assert out[1] == "ping, ping, ping"
    assert polls(out[2]) == 12


def test_4_the_reactor_wakes_for_sockets_and_sleeps() -> None:
    out = run(4)
    assert out[0] == "b'hello 0' b'hello 1' b'hello 2'"
    # The server and three connections begin; each of these sleeps once, and may have to wait for
    # what it reads, as the server may for each connection.
    assert 4 + 3 <= polls(out[1]) <= 4 + 3 + 6


def test_5_trale_py() -> None:
    assert run(5) == [
        "hello 0, hello 1, hello 2",
        "the server was cancelled: enough",
        "ValueError: out of the task, with its traceback",
    ]
