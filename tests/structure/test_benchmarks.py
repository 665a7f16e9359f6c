"""The benchmarks run: a little of each kind, so that they cannot rot. No figure is judged here."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def bench(*args: str) -> str:
    result = subprocess.run(
        [sys.executable, str(BENCHMARKS / "run.py"), "--quick", *args],
        capture_output=True,
        text=True,
        timeout=50,
        env={k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.skipif(not shutil.which("gcc"), reason="the load generator is written in C")
def test_servers_under_load(tmp_path: Path) -> None:
    peers = "trale_py,asyncio,C epoll"
    out = bench("--only", "tcp-64-10,udp-echo", "--peers", peers, "--output", str(tmp_path))
    assert "TCP echo 64 B, 10 connections, msg/s\n  trale_py" in out
    assert "UDP echo 64 B, 50 clients, datagrams/s\n  trale_py" in out
    results = json.loads((tmp_path / "results.json").read_text())
    for row in results["rows"]:
        assert row["missing"] == {}
        assert set(row["rounds"]) == {"trale_py", "asyncio", "C epoll"}
        assert set(row["ratios"]) == {"asyncio", "C epoll"}


def test_tasks_and_timers(tmp_path: Path) -> None:
    rows = ("--only", "spawn-join,sleepers", "--peers", "trale_py,asyncio")
    out = bench("--rounds", "2", *rows, "--output", str(tmp_path))
    assert "spawn and join from a script, tasks/s\n  trale_py" in out
    assert "targets are met" in out


def test_what_is_not_there_is_left_out_with_a_word(tmp_path: Path) -> None:
    out = bench("--only", "spawn-join", "--peers", "asyncio,nobody", "--output", str(tmp_path))
    assert "asyncio" in out
    assert "0 of 0 targets are met" in out


def test_against_a_commit_names_the_rows_that_fell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    harness = importlib.import_module("harness")
    report = importlib.import_module("report")
    row = harness.Row("a row", "rate", "/s")
    measurement = harness.Measurement("a-row", [], lambda name: {}, [row])

    def slower(ours: list[float], before: list[float]) -> list[str]:
        figures = {
            name: [{"rate": rate} for rate in rates]
            for name, rates in ((harness.OURS, ours), (harness.BEFORE, before))
        }
        return list(report.slower([(measurement, harness.Rounds(figures))]))

    assert slower([100, 90, 50], [100, 91, 100]) == []
    assert slower([90, 97, 100], [100, 100, 100]) == ["  0.97x a row"]


def test_readme_quotes_the_results_in_the_history() -> None:
    """They change together, or not at all."""
    rows = json.loads((BENCHMARKS / "results.json").read_text())["rows"]
    medians = [statistics.median(row["rounds"]["trale_py"]) for row in rows]
    readme = (BENCHMARKS.parent / "README.md").read_text()
    measured = readme[readme.index("| work | trale_py |") :].partition("\n\n")[0]
    quoted = [line.split("|")[2].split()[0] for line in measured.splitlines()[2:]]
    assert len(quoted) > 15
    for figure in quoted:
        value = float(figure.replace(",", ""))
        assert any(abs(value - median) <= 0.02 * median for median in medians), figure


def test_only_a_run_of_everything_is_published() -> None:
    with pytest.raises(AssertionError, match="--publish is for a run of everything"):
        bench("--publish")
