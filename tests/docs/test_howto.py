"""Each block of docs/howto.md runs."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest

from tests.conftest import ROOT

TEXT = (ROOT / "docs" / "howto.md").read_text()
BLOCK = re.compile(
    r"^## (?P<title>.+?)$(?:(?!^## ).)*?"
    r"(?P<notes>(?:^<!-- .*? -->\n)*)^```python\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
BLOCKS = {found["title"]: found for found in BLOCK.finditer(TEXT)}


def test_each_block_is_found() -> None:
    assert len(BLOCKS) == TEXT.count("```python") > 8


@pytest.mark.parametrize("title", BLOCKS)
def test_it_runs(title: str, run_script: Any) -> None:
    notes = dict(re.findall(r"<!-- (\w+): (.*?) -->", BLOCKS[title]["notes"]))
    if "needs" in notes and importlib.util.find_spec(notes["needs"]) is None:
        pytest.skip(f"needs {notes['needs']}")
    before = f"import os, signal, threading\n{notes.get('before', '')}\n"
    result = run_script(before + BLOCKS[title]["code"])
    assert (result.returncode, result.stderr) == (0, "")
