"""The poll protocol: what a future may do, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest

from trale_py import PENDING, Context, Future, Pending, Ready, Waker, block_on, spawn, yield_now


class Scripted(Future[str]):
    """Does as it is told at each poll, and keeps a record."""

    def __init__(self, *steps: object) -> None:
        self.steps = list(steps)
        self.polls = 0
        self.drops = 0

    def poll(self, cx: Context) -> Any:
        self.polls += 1
        step = self.steps.pop(0)
        if isinstance(step, BaseException):
            raise step
        if step is PENDING:
            cx.waker.wake()
        return step

    def drop(self) -> None:
        self.drops += 1


def test_pending_then_ready() -> None:
    future = Scripted(PENDING, PENDING, Ready("value"))
    assert spawn(future).join(10) == "value"
    assert (future.polls, future.drops) == (3, 0)


@pytest.mark.parametrize("wrong", [None, "value", Pending, (1,)])
def test_anything_else_is_a_type_error_in_the_task(wrong: object) -> None:
    future = Scripted(wrong)
    with pytest.raises(TypeError, match=r"Scripted\.poll\(\) returned"):
        spawn(future).join(10)
    assert future.drops == 1


def test_an_error_from_poll_comes_out_of_the_await_after_drop() -> None:
    future = Scripted(PENDING, ValueError("polled"))
    with pytest.raises(ValueError, match="polled"):
        spawn(future).join(10)
    assert future.drops == 1


def test_closed_while_pending_it_is_dropped_once() -> None:
    future = Scripted(PENDING)

    async def main() -> None:
        async def waits() -> str:
            return await future

        coro = waits()
        coro.send(None)
        assert future.drops == 0
        coro.close()

    block_on(main())
    assert future.drops == 1


def test_a_future_without_poll() -> None:
    with pytest.raises(NotImplementedError, match="Future"):
        spawn(Future[int]()).join(10)


def test_subclasses_need_not_call_init_and_add_no_dict() -> None:
    class Bare(Future[int]):
        __slots__ = ()

        def poll(self, cx: Context) -> Ready[int] | Pending:
            return Ready(1)

    assert not hasattr(Bare(), "__dict__")
    assert block_on(Bare()) == 1


def test_a_poll_without_a_wake_is_allowed_and_must_hand_the_waker_on_anew() -> None:
    """A second waker-holder wakes the task: the first future is polled though not ready."""
    polls: list[Waker] = []

    class Patient(Future[int]):
        def poll(self, cx: Context) -> Ready[int] | Pending:
            polls.append(cx.waker)
            return Ready(len(polls)) if len(polls) == 3 else PENDING

    async def main() -> int:
        handle = spawn(Patient())
        for _ in range(2):
            await yield_now()
            polls[-1].wake()
        return await handle

    assert block_on(main()) == 3


def test_wakers_of_a_task_are_equal_and_of_others_are_not() -> None:
    class Mine(Future[Waker]):
        def poll(self, cx: Context) -> Ready[Waker] | Pending:
            return Ready(cx.waker)

    async def two() -> tuple[Waker, Waker]:
        return await Mine(), await Mine()

    first, second = block_on(two())
    (other,) = (block_on(Mine()),)
    assert first == second
    assert first.will_wake(second)
    assert hash(first) == hash(second)
    assert first != other
    assert not first.will_wake(other)
    assert first != "waker"
    assert "task" in repr(first)


def test_what_is_no_waker_or_context_is_named() -> None:
    class Mine(Future[Waker]):
        def poll(self, cx: Context) -> Ready[Waker] | Pending:
            return Ready(cx.waker)

    with pytest.raises(TypeError, match="other must be a Waker, not 7"):
        block_on(Mine()).will_wake(7)  # type: ignore[arg-type]
    operation: Any = yield_now()
    with pytest.raises(TypeError, match="cx must be a Context, not 7"):
        operation.poll(7)
    operation.close()


def test_reprs() -> None:
    assert repr(Ready(1)) == "Ready(1)"
    assert "trale_py" in repr(PENDING)
