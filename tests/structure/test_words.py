"""Plain words in comments, docstrings and messages: CONTRIBUTING.md says which."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

TEXTS = [
    path
    for folder in ("trale_py", "native")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".pyi", ".c", ".h"}
]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_plain_words(path: Path) -> None:
    """ "must" says it shorter, and a task, a thread or a caller has a name."""
    assert re.findall(r"\b(?:whoever|has\s+to|have\s+to)\b", path.read_text(), re.IGNORECASE) == []
