"""What is installed, where it refuses to be, and what its build says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

import trale_py
from tests.conftest import ROOT

ELSEWHERE = {
    "not Linux": ("sys.platform = 'darwin'", "needs Linux", "darwin"),
    "PyPy": ("sys.implementation.name = 'pypy'", "needs CPython", "pypy"),
    "free-threaded": ("sys.abiflags = 't'", "needs a CPython with the GIL", "free-threaded"),
    "musl": ("os.confstr = no_such_name", "needs glibc", "musl"),
}
FAKE = """
import os, sys
def no_such_name(name): raise ValueError("unrecognized configuration name")
"""
elsewhere = pytest.mark.parametrize(("fake", "needs", "found"), ELSEWHERE.values(), ids=ELSEWHERE)


def run(source: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environ},
        check=False,
    )


def build(argv: list[str], fake: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run setup.py in a process of its own."""
    source = "import setuptools.command.build_ext, runpy" + FAKE + fake
    source += f"\nsys.argv = {['setup.py', *argv]}\nrunpy.run_path('setup.py')"
    return run(source, **environ)


PACKAGE = Path(trale_py.__file__).parent
INSTALLED = distribution("trale_py")
EDITABLE = "editable" in (INSTALLED.read_text("direct_url.json") or "")


def test_what_is_tested_is_what_is_installed() -> None:
    installed = Path(str(INSTALLED.locate_file("trale_py")))
    assert (ROOT / "trale_py" if EDITABLE else installed) == PACKAGE


@pytest.mark.skipif(EDITABLE, reason="a build in place is for a debugger")
def test_a_wheel_has_no_debug_information_and_no_path_of_its_builder() -> None:
    compiled = list(PACKAGE.rglob("*.so"))
    assert len(compiled) == 2
    for path in compiled:
        binary = path.read_bytes()
        assert b".debug_info" not in binary
        assert re.findall(rb"/(?:home|root|tmp|usr|work|build)/[\x20-\x7e]*", binary) == []


def test_there_is_one_version() -> None:
    assert INSTALLED.version == trale_py.__version__
    assert trale_py.__version__ not in (ROOT / "pyproject.toml").read_text()


@elsewhere
def test_the_import_refuses_in_one_sentence(fake: str, needs: str, found: str) -> None:
    result = run(f"{FAKE}\n{fake}\nimport trale_py")
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: trale_py {needs}"), result.stderr
    assert found in last


@elsewhere
def test_the_build_refuses_in_one_sentence(fake: str, needs: str, found: str) -> None:
    result = build(["--version"], fake)
    assert result.returncode == 1
    assert result.stderr.startswith(f"\ntrale_py {needs}"), result.stderr
    assert found in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_a_build_without_a_compiler_says_last_what_to_install(tmp_path: Path) -> None:
    result = build(["-q", "build_ext", "--build-temp", str(tmp_path)], CC="/nowhere/gcc -pthread")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert "not found: a C compiler (/nowhere/gcc)." in last
    assert "apt install gcc python3-dev" in last


def test_a_build_that_fails_otherwise_does_not(tmp_path: Path) -> None:
    result = build(["-q", "build_ext", "--build-temp", str(tmp_path)], CFLAGS="-no-such-option")
    assert result.returncode == 1
    assert "no-such-option" in result.stderr
    assert "apt install" not in result.stderr
    assert "exit" in result.stderr.splitlines()[-1]
