"""What stands between two steps of the library when the second cannot be taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "support" / "two_steps.py"


def run(how: str) -> str:
    command = [sys.executable, "-P", str(SCRIPT), how]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout


@pytest.mark.timeout(120)
def test_G14_R51_at_the_limit_of_recursion_each_operation_is_whole_or_not_begun() -> None:
    assert run("recursion") == "survived\n"


@pytest.mark.timeout(120)
def test_L3_R51_without_memory_each_operation_is_whole_or_not_begun() -> None:
    pytest.importorskip("_testcapi")
    assert run("memory") == "survived\n"
