"""Names of other libraries say what they are called here."""

from __future__ import annotations

import pytest

import trale_py


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("create_task", "spawn"),
        ("Queue", "channel"),
        ("Lock", "Mutex"),
        ("run_in_executor", "spawn_blocking"),
        ("open_nursery", "TaskGroup"),
    ],
)
def test_a_name_of_another_library_says_what_it_is_called_here(name: str, here: str) -> None:
    with pytest.raises(AttributeError, match=f"{name}.*here it is.*{here}"):
        getattr(trale_py, name)


def test_no_hint_hides_what_is_there() -> None:
    assert not trale_py._CALLED_HERE.keys() & set(dir(trale_py))
