"""The documents name what is there: faults and races by the ids in the names of tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

Names = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def ids_in_tests(kind: str) -> set[str]:
    """Ids in the names of tests: A10 and R1 of test_A10_R1_gc_runs_del."""
    return {
        found
        for path in Path(__file__).parents[1].rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, Names) and node.name.lower().startswith("test")
        for found in re.findall(rf"(?<=_){kind}\d+(?=_|$)", node.name)
    }


def rows(document: str) -> dict[str, str]:
    """The last column of each row of the document's tables, by the id in the first."""
    text = (ROOT / "docs" / document).read_text()
    lines = re.findall(r"^\| ([A-Z]\d+) \|.*\| (.+) \|$", text, re.MULTILINE)
    assert len(lines) == len(dict(lines)), "an id stands twice"
    return dict(lines)


@pytest.mark.parametrize(("kind", "document"), [("[A-LT]", "faults.md"), ("R", "races.md")])
def test_the_ids_in_the_names_of_tests_are_explained(kind: str, document: str) -> None:
    assert ids_in_tests(kind) - set(rows(document)) == set()


def test_a_fault_that_is_said_to_have_tests_has_some() -> None:
    tested = {fault for fault, state in rows("faults.md").items() if state == "tests"}
    assert tested - ids_in_tests("[A-LT]") == set()


def exists(name: str) -> bool:
    """From the root, from the package, or by a name alone, as `poller.c` in a table of native/."""
    if "/" in name:
        return any((ROOT / folder / name).exists() for folder in (".", "trale_py"))
    return (ROOT / name).exists() or any(any((ROOT / part).rglob(name)) for part in PARTS)


PARTS = ("trale_py", "native", "tests", "docs", "examples", "benchmarks")


@pytest.mark.parametrize("document", ["README.md", "docs/design.md", "docs/learn.md"])
def test_the_files_that_a_document_names_are_there(document: str) -> None:
    text = (ROOT / document).read_text()
    named = set(re.findall(r"`([\w./-]+(?:\.(?:py|c|h|md|toml)|/))`", text))
    assert named
    assert {name for name in named if not exists(name)} == set()
