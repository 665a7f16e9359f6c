"""A guest lives as long as its runtime, which ends with each test here.

The libraries may keep descriptors of their own, so these are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trale_py import Executor, tasks


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    yield
    Executor.shutdown(20)
    assert tasks() == []


@pytest.fixture
def guest_ends(nothing_left_behind: None) -> None:
    """As in tests/_asyncio."""
