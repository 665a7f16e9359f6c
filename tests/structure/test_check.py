""".ci/check.py: every step runs, and the last lines say which passed."""

from __future__ import annotations

import runpy
import sys
from typing import Any

import pytest

from tests.conftest import ROOT


@pytest.fixture
def check() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / ".ci" / "check.py"))


def test_steps_after_one_that_failed_run_and_each_has_a_line(
    check: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    step, main = check["Step"], check["main"]

    def steps(everything: bool) -> Any:
        yield step("first", [sys.executable, "-c", "print('of the first')"])
        yield step("fails", [sys.executable, "-c", "raise SystemExit(3)"])
        yield step("is missing", ["/nowhere/program"], prepares=True)
        yield step(
            "engine", [sys.executable, "-c", "import os; print(os.environ['E'])"], {"E": "x"}
        )

    main.__globals__["steps"] = steps
    assert main() is False
    out = capfd.readouterr().out.splitlines()
    assert "first: of the first" in out
    assert "engine: x" in out
    assert [line.rsplit(" ", 2)[0] for line in out[-4:]] == [
        "is missing: FAILED after",
        "first: passed in",
        "fails: FAILED after",
        "engine: passed in",
    ]


def test_what_is_run(check: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pythons = [("3.11", "/usr/bin/python3.11"), ("3.12", "/usr/bin/python3.12")]
    monkeypatch.setitem(check["steps"].__globals__, "pythons", lambda: pythons)

    def tests(everything: bool) -> dict[str, bool]:
        """The steps that run the tests, and whether they are whole."""
        found = [step for step in check["steps"](everything) if "pytest" in step.command]
        return {step.name: "not slow" not in step.command for step in found}

    assert tests(everything=False) == {
        "3.11 native": True,
        "3.11 python": True,
        "3.12 native": True,
        "3.12 python, core": False,
    }
    assert all(tests(everything=True).values())
    assert list(tests(everything=True)) == [
        "3.11 native",
        "3.11 python",
        "3.12 native",
        "3.12 python",
    ]
