"""Outcome: settled once, taken from any number of times, and reported if never (R9)."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import pytest

from trale_py import TaskCancelled
from trale_py.core import outcome as outcome_module
from trale_py.core.outcome import Outcome, line_of, listed


@pytest.fixture
def unclaimed() -> dict[int, Outcome[object]]:
    return {}


@pytest.fixture
def outcome(unclaimed: dict[int, Outcome[object]]) -> Outcome[Any]:
    return Outcome(7, "of a test", (None, 0), unclaimed)


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    seen: list[BaseException] = []
    monkeypatch.setattr(outcome_module, "report", lambda *_, error: seen.append(error))
    return seen


def test_a_value_is_given_to_all(outcome: Outcome[Any]) -> None:
    outcome.succeed("value")
    assert outcome.opened
    assert [outcome.unwrap(), outcome.unwrap()] == ["value", "value"]
    assert outcome.delivers()


def test_an_error_keeps_the_traceback_it_had(outcome: Outcome[Any]) -> None:
    try:
        raise LookupError("in the task")
    except LookupError as error:
        outcome.fail(error)
    lengths = []
    for _ in range(3):
        with pytest.raises(LookupError, match="in the task") as caught:
            outcome.unwrap()
        lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(set(lengths)) == 1  # it does not grow with each raise


def test_an_error_that_is_taken_is_not_reported(
    outcome: Outcome[Any], unclaimed: dict[int, object], reports: list[BaseException]
) -> None:
    error = ValueError("taken")
    outcome.fail(error)
    assert unclaimed == {7: outcome}
    assert outcome.claim() is error
    assert unclaimed == {}
    assert not outcome.abandon()
    outcome.report_unclaimed()
    assert reports == []


@pytest.mark.parametrize("abandoned_first", [True, False])
def test_R9_an_error_that_is_not_taken_is_reported_once(
    outcome: Outcome[Any], reports: list[BaseException], abandoned_first: bool
) -> None:
    error = ValueError("nobody's")
    if abandoned_first:
        assert not outcome.abandon()
        outcome.fail(error)
    else:
        outcome.fail(error)
        assert outcome.abandon()
        outcome.report_unclaimed()
    outcome.report_unclaimed()
    assert reports == [error]


def test_a_cancelled_one_delivers_nothing_and_is_no_failure(
    outcome: Outcome[Any], unclaimed: dict[int, object]
) -> None:
    outcome.cancel(TaskCancelled("reason"))
    assert outcome.cancelled
    assert not outcome.delivers()
    assert unclaimed == {}
    with pytest.raises(TaskCancelled, match="reason"):
        outcome.unwrap()


def test_the_line_of_a_spawn() -> None:
    frame = sys._getframe()
    offset, line = frame.f_lasti, frame.f_lineno  # both on this line
    assert line_of(frame.f_code, offset) == f"{__file__}:{line}"
    assert line_of(None, 0) == "?"
    assert line_of(frame.f_code, 10**6) == f"{__file__}:?"


def test_a_long_list_is_cut() -> None:
    outcomes: list[Outcome[Any]] = [Outcome(n, "t", (None, 0), {}) for n in range(13)]
    text = listed(outcomes)
    assert text.startswith("task 0 (t), spawned at ?; task 1 (t)")
    assert text.endswith("task 9 (t), spawned at ?; and 3 more")
