"""A guest lives as long as its runtime, which ends with each test here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trale_py import Executor


@pytest.fixture(autouse=True)
def guest_ends(nothing_left_behind: None) -> Iterator[None]:
    yield
    Executor.shutdown(20)
