"""Waker and Context by themselves, in Python and in the engine that is in use."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import python_engine
from trale_py.core import run_queue
from trale_py.core.runtime import Runtime

NewQueue = Callable[[], Any]


@pytest.fixture(params=["python", "in use"])
def new_queue(request: pytest.FixtureRequest) -> NewQueue:
    return python_engine.RunQueue if request.param == "python" else run_queue.RunQueue


class Task:
    def __init__(self, queue: Any, runtime: Runtime, task_id: int) -> None:
        self._id = task_id
        self._cx = queue.context(task_id, runtime)


def test_wakers_are_equal_if_they_wake_the_same_task_of_the_same_queue(
    new_queue: NewQueue, runtime: Runtime
) -> None:
    here, there = new_queue(), new_queue()
    context = here.context(7, runtime)
    one, same = context.waker, context.waker
    assert one == same
    assert hash(one) == hash(same)
    assert one.will_wake(same)
    others = [here.context(8, runtime).waker, there.context(7, runtime).waker]
    for other in others:
        assert one != other
        assert not one.will_wake(other)
    assert one != 7
    assert len({one, same, *others}) == 3


def test_a_waker_of_no_task_is_inert(new_queue: NewQueue, runtime: Runtime) -> None:
    queue = new_queue()
    task = Task(queue, runtime, 1)
    queue.context(5, runtime).waker.wake()
    queue.push(task)
    assert list(queue.next_batch()) == [task]


def test_will_wake_names_what_is_no_waker(new_queue: NewQueue, runtime: Runtime) -> None:
    queue = new_queue()
    with pytest.raises(TypeError, match="other must be a Waker, not 'x'"):
        queue.context(1, runtime).waker.will_wake("x")


def test_a_waker_outlives_its_task_and_keeps_nothing_of_it(
    new_queue: NewQueue, runtime: Runtime
) -> None:
    queue = new_queue()
    task = Task(queue, runtime, 1)
    waker = task._cx.waker
    queue.push(task)
    assert list(queue.next_batch()) == [task]
    queue.remove(task)
    gone = weakref.ref(task)
    del queue, task
    waker.wake()
    gc.collect()
    assert gone() is None


def test_the_end_of_a_task_is_claimed_by_one(new_queue: NewQueue, runtime: Runtime) -> None:
    context = new_queue().context(3, runtime)
    assert [context._claim_end() for _ in range(3)] == [True, False, False]
    assert repr(context) == "<Context <Waker of task 3>>"
