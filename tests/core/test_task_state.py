"""The table of a task's life, and that the tasks of both engines live by it."""

from __future__ import annotations

import contextvars
import itertools
from typing import Any

import pytest

import trale_py
from trale_py.core import task_state as life
from trale_py.core.outcome import Outcome
from trale_py.core.runtime import Runtime
from trale_py.core.task import Task
from trale_py.core.task_state import (
    END,
    ENDED,
    EVENTS,
    NEW,
    POLL,
    PUSH,
    QUEUE,
    QUEUED,
    REFUSE,
    RUN,
    SETTLE,
    STATES,
    TABLE,
    TAKE,
    TAKEN,
    WAITING,
    WAKE,
)

# How a task comes into each state.
PATHS: dict[int, tuple[str, ...]] = {
    NEW: (),
    QUEUED: (PUSH, TAKE, POLL, WAKE),
    TAKEN: (PUSH, TAKE),
    WAITING: (PUSH, TAKE, POLL),
    ENDED: (PUSH, TAKE, POLL, END),
}
PAIRS = list(itertools.product(STATES, EVENTS))


async def nothing() -> None:
    pass


class Life:
    """A task of a runtime that does not run."""

    def __init__(self) -> None:
        self._runtime = Runtime()
        self.queue: Any = self._runtime.run_queue
        outcome: Outcome[Any] = Outcome(1, "task", (None, 0), self._runtime.unclaimed)
        coro = nothing()
        coro.close()
        self.task: Any = Task(self._runtime, coro, contextvars.copy_context(), outcome, None)
        self._waker = self.task._cx.waker
        self._batch: Any = None
        self.claimed = 0

    def do(self, event: str) -> None:
        if event == PUSH:
            self.queue.push(self.task)
        elif event == TAKE:
            self.taken()
        elif event == POLL:
            self.queue.put_to_wait(self.task)
        elif event == WAKE:
            self._waker.wake()
        else:
            self.queue.remove(self.task)
            self.claimed = self.task._cx._claim_end()

    def taken(self) -> bool:
        """Whether it was in the queue, and is handed out."""
        self.queue.call(int)  # so that there is something in any case
        self._batch = self.queue.next_batch()
        return self.task in list(self._batch)

    def shows(self) -> tuple[bool, bool]:
        """Whether it is handed out now; else, whether it is after a wake."""
        if self.taken():
            return True, False
        self._waker.wake()
        return False, self.taken()


def in_state(state: int) -> Life:
    lived = Life()
    for event in PATHS[state]:
        lived.do(event)
    return lived


# What shows() finds in each state.
SHOWN = {
    NEW: (False, False),
    WAITING: (False, True),
    QUEUED: (True, False),
    TAKEN: (False, False),
    ENDED: (False, False),
}


def test_each_state_with_each_event_is_in_the_table() -> None:
    assert set(TABLE) == set(PAIRS)
    assert {state for state, _ in TABLE.values()} == set(STATES)


@pytest.mark.parametrize("state", STATES)
def test_the_way_into_each_state_follows_the_table(state: int) -> None:
    at = NEW
    for event in PATHS[state]:
        at, todo = TABLE[at, event]
        assert todo != REFUSE
    assert at == state


def test_what_the_table_must_never_do() -> None:
    for (state, event), (following, todo) in TABLE.items():
        assert (todo == QUEUE) == (following == QUEUED != state)  # in the queue once at most
        assert (todo == SETTLE) == (following == ENDED != state)  # settled once
        if todo == REFUSE:
            assert following == state
        if todo == RUN:
            assert following in (TAKEN, WAITING)
        if state == ENDED:
            assert following == ENDED
        if event in (WAKE, TAKE, END):
            assert todo != REFUSE  # legal always


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_a_task_lives_by_the_table(state: int, event: str) -> None:
    following, todo = TABLE[state, event]
    lived = in_state(state)
    if todo == REFUSE:
        if trale_py.engine == "native" or (state, event) != (QUEUED, POLL):
            with pytest.raises(ValueError, match=r"pushed already|is in the queue"):
                lived.do(event)
            assert lived.shows() == SHOWN[state]
        return
    if event == TAKE:
        assert lived.taken() == (todo == RUN)
    else:
        lived.do(event)
    if event == END:
        assert lived.claimed == (todo == SETTLE)
    if (state, event) == (NEW, POLL) and trale_py.engine == "native":  # the push names the cell
        assert lived.queue.is_waiting(lived.task) == (following == WAITING)
        return
    assert lived.shows() == SHOWN[following]


@pytest.mark.skipif(trale_py.engine != "native", reason="of the cells of the native engine")
@pytest.mark.parametrize("state", STATES)
def test_is_waiting_follows_the_table(state: int) -> None:
    lived = in_state(state)
    assert lived.queue.is_waiting(lived.task) == (state == WAITING)


def test_the_states_are_numbered_from_zero() -> None:
    assert list(range(5)) == [life.NEW, life.WAITING, life.QUEUED, life.TAKEN, life.ENDED]
