"""gather, race, as_completed, timeout."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tests.scopes.test_groups import Ends, fail, fail_after_turns, forever, give, give_after
from tests.support.net_helpers import TIMEOUT, executor_turn, parked
from tests.support.tasks import receive, send
from trale_py import (
    Event,
    JoinHandle,
    Mutex,
    Notify,
    Semaphore,
    TaskCancelled,
    as_completed,
    block_on,
    gather,
    move_on_after,
    race,
    sleep,
    spawn,
    timeout,
    yield_now,
)
from trale_py.channel import channel
from trale_py.core.runtime import Runtime

# -- gather -------------------------------------------------------------------------------------


class TestGather:
    def test_in_the_order_given(self) -> None:
        async def main() -> tuple[Any, ...]:
            running = spawn(give_after(3, "handle"))
            return await gather(give_after(9, "slow"), give(1), running, sleep(0.001), running)

        assert block_on(main()) == ("slow", 1, "handle", None, "handle")

    def test_of_nothing(self) -> None:
        async def main() -> tuple[Any, ...]:
            return await gather()

        assert block_on(main()) == ()

    def test_the_first_failure_cancels_the_rest(self, caplog: pytest.LogCaptureFixture) -> None:
        ends = Ends()

        async def main() -> None:
            running = spawn(ends.run("handle"))
            await yield_now()
            try:
                await gather(
                    ends.run("coroutine"),
                    running,
                    ends.fail_when_cancelled(OSError("in passing")),
                    fail_after_turns(3, ValueError("first")),
                )
            finally:
                assert len(ends.ended) == 1  # it has ended when this is raised
                assert not running.done()  # it was only waited for
                running.cancel()

        with caplog.at_level(logging.ERROR, "trale_py"), pytest.raises(ValueError, match="first"):
            block_on(main())
        assert caplog.text.count("OSError: in passing") == 1
        assert "first" not in caplog.text

    def test_cancelled_from_outside(self) -> None:
        ends = Ends()
        handle = parked(ends.run("handle"))

        async def main() -> None:
            await gather(ends.run("coroutine"), handle)

        running = parked(main())
        executor_turn()
        running.cancel("outside")
        with pytest.raises(TaskCancelled, match="outside"):
            running.join(TIMEOUT)
        assert len(ends.ended) == 1
        assert not handle.done()
        assert handle._outcome.waiters == {}
        handle.cancel()

    def test_a_child_that_was_cancelled_is_its_failure(self) -> None:
        ends = Ends()

        async def main() -> None:
            running = spawn(forever())
            spawn(cancel(running))
            with pytest.raises(TaskCancelled, match="by hand"):
                await gather(running, ends.run())
            assert len(ends.ended) == 1

        async def cancel(handle: JoinHandle[None]) -> None:
            await yield_now()
            handle.cancel("by hand")

        block_on(main())

    def test_of_what_cannot_be_spawned(self) -> None:
        ran = []

        async def child() -> None:
            ran.append(1)

        async def main() -> None:
            handle = spawn(forever())
            after = child()
            with pytest.raises(TypeError):
                await gather(child(), handle, 5, after)  # type: ignore[arg-type]
            assert not handle.done()
            handle.cancel()
            assert after.cr_frame is None

        block_on(main())
        assert ran == []


@pytest.mark.parametrize("how", ["gather", "race", "as_completed", "timeout", "await"])
def test_G3_a_task_that_waits_for_its_own_handle(how: str) -> None:
    box: list[JoinHandle[None]] = []

    async def main() -> None:
        ran = []

        async def child() -> None:
            ran.append(1)

        with pytest.raises(RuntimeError, match="own handle"):
            if how == "gather":
                await gather(child(), box[0])
            elif how == "race":
                await race(child(), box[0])
            elif how == "timeout":
                await timeout(1000, box[0])
            elif how == "as_completed":
                async for _ in as_completed([child(), box[0]]):
                    pass
            else:
                await box[0]
        assert ran == []
        await yield_now()  # it has not cancelled itself

    async def start() -> None:
        box.append(spawn(main()))

    block_on(start())
    box[0].join(TIMEOUT)


# -- race ---------------------------------------------------------------------------------------


class TestRace:
    def test_the_first_to_end_by_a_value(self) -> None:
        ends = Ends()

        async def main() -> Any:
            handle = spawn(ends.run("handle"))
            await yield_now()
            value = await race(ends.run("coroutine"), give_after(2, "winner"), handle)
            assert len(ends.ended) == 1  # the loser has ended
            assert not handle.done()  # it was only waited for
            assert handle._outcome.waiters == {}
            handle.cancel()
            return value

        assert block_on(main()) == "winner"

    def test_the_first_to_end_by_an_error(self) -> None:
        ends = Ends()

        async def main() -> None:
            await race(ends.run(), fail_after_turns(2, ValueError("loses it")))

        with pytest.raises(ValueError, match="loses it"):
            block_on(main())
        assert len(ends.ended) == 1

    def test_the_losers_errors_are_logged_and_their_values_dropped(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        ends = Ends()

        async def main() -> Any:
            return await race(
                ends.fail_when_cancelled(OSError("loser")),
                ends.swallow("second"),
                give_after(2, "first"),
            )

        with caplog.at_level(logging.DEBUG, "trale_py"):
            assert block_on(main()) == "first"
            assert [record.levelname for record in caplog.records] == ["DEBUG"]
            assert caplog.text.count("OSError: loser") == 1

    def test_of_nothing(self) -> None:
        async def main() -> None:
            await race()

        with pytest.raises(ValueError, match="at least one"):
            block_on(main())

    def test_of_one_that_had_ended(self) -> None:
        async def main() -> Any:
            ended = spawn(give("done"))
            await ended
            return await race(forever(), ended)

        assert block_on(main()) == "done"

    def test_cancelled_from_outside(self) -> None:
        ends = Ends()

        async def main() -> None:
            await race(ends.run(), ends.run())

        running = parked(main())
        executor_turn()
        running.cancel("outside")
        with pytest.raises(TaskCancelled, match="outside"):
            running.join(TIMEOUT)
        assert len(ends.ended) == 2

    def test_a_deadline_around_it(self) -> None:
        ends = Ends()

        async def main() -> bool:
            with move_on_after(0.003) as scope:
                await race(ends.run(), ends.run())
            return scope.cancelled_caught

        assert block_on(main())
        assert len(ends.ended) == 2


# -- as_completed -------------------------------------------------------------------------------


class TestAsCompleted:
    def test_in_the_order_of_their_end(self) -> None:
        async def main() -> list[Any]:
            aws = [give_after(9, "slow"), give_after(1, "quick"), spawn(give_after(5, "middle"))]
            return [handle.result() async for handle in as_completed(aws)]

        assert block_on(main()) == ["quick", "middle", "slow"]

    def test_failures_are_handles_like_any_other(self) -> None:
        async def main() -> list[str]:
            seen = []
            cancelled = spawn(forever())
            cancelled.cancel()
            aws: list[Any] = [fail(ValueError("v")), give_after(4, "value"), cancelled]
            async for handle in as_completed(aws):
                error = handle.exception()
                seen.append(type(error).__name__ if error is not None else handle.result())
            return sorted(seen)

        assert block_on(main()) == ["TaskCancelled", "ValueError", "value"]

    def test_of_nothing(self) -> None:
        async def main() -> list[Any]:
            return [handle async for handle in as_completed([])]

        assert block_on(main()) == []

    def test_aclose_cancels_the_rest_and_waits_for_it(self) -> None:
        ends = Ends()

        async def main() -> Any:
            handle = spawn(ends.run("handle"))
            await yield_now()
            async with contextlib.aclosing(
                as_completed([give_after(2, "first"), ends.run("coroutine"), handle])
            ) as completed:
                first = await anext(completed)
            assert len(ends.ended) == 1
            assert not handle.done()
            assert handle._outcome.waiters == {}
            handle.cancel()
            return first.result()

        assert block_on(main()) == "first"

    def test_G12_left_by_break_the_runtime_closes_it(self) -> None:
        ended = Event()

        async def last() -> None:
            try:
                await forever()
            finally:
                ended.set()

        async def main() -> None:
            async for _ in as_completed([give_after(2, "first"), last()]):
                break
            await ended.wait()

        spawn(main()).join(TIMEOUT)
        executor_turn()
        executor_turn()
        executor_turn()

    def test_cancelled_from_outside(self) -> None:
        ends = Ends()

        async def main() -> None:
            async for _ in as_completed([ends.run(), ends.run()]):
                raise AssertionError("not reached")

        running = parked(main())
        executor_turn()
        running.cancel("outside")
        with pytest.raises(TaskCancelled, match="outside"):
            running.join(TIMEOUT)
        assert len(ends.ended) == 2


# -- timeout ------------------------------------------------------------------------------------


class TestTimeout:
    @pytest.mark.parametrize("seconds", [1000, 1000.0, timedelta(days=1), math.inf])
    def test_in_time(self, seconds: Any) -> None:
        async def main() -> list[Any]:
            handle = spawn(give_after(2, "handle"))
            return [
                await timeout(seconds, give_after(2, "coroutine")),
                await timeout(seconds, sleep(0)),
                await timeout(seconds, handle),
                await timeout(seconds, handle),
            ]

        assert block_on(main()) == ["coroutine", None, "handle", "handle"]

    @pytest.mark.parametrize("seconds", [0, 0.002])
    def test_too_late(self, seconds: float) -> None:
        ends = Ends()

        async def main() -> None:
            with pytest.raises(TimeoutError):
                await timeout(seconds, ends.run("coroutine"))
            assert len(ends.ended) == 1
            with pytest.raises(TimeoutError):
                await timeout(seconds, sleep(1000))
            handle = spawn(ends.run("handle"))
            await yield_now()
            with pytest.raises(TimeoutError):
                await timeout(seconds, handle)
            assert not handle.done()  # only the wait has ended
            handle.cancel()

        block_on(main())

    def test_a_value_or_an_error_nevertheless_is_the_outcome(self) -> None:
        ends = Ends()

        async def main() -> None:
            assert await timeout(0.002, ends.swallow("value")) == "value"
            with pytest.raises(OSError, match="while ending"):
                await timeout(0.002, ends.fail_when_cancelled(OSError("while ending")))

        block_on(main())

    def test_an_error_in_time(self) -> None:
        async def main() -> None:
            with pytest.raises(KeyError):
                await timeout(1000, fail(KeyError()))
            handle = spawn(fail(KeyError()))
            with pytest.raises(KeyError):
                await timeout(1000, handle)
            handle = spawn(forever())
            handle.cancel("by hand")
            with pytest.raises(TaskCancelled, match="by hand"):
                await timeout(1000, handle)

        block_on(main())

    @pytest.mark.parametrize(
        ("wrong", "error"), [(math.nan, ValueError), (-1, ValueError), ("1", TypeError)]
    )
    def test_checked_at_the_call_and_the_coroutine_is_closed(
        self, wrong: Any, error: type[Exception]
    ) -> None:
        coro: Coroutine[Any, Any, Any] = give(1)
        with pytest.raises(error, match="seconds"):
            timeout(wrong, coro)
        assert coro.cr_frame is None  # type: ignore[attr-defined]

    def test_cancelled_from_outside(self) -> None:
        ends = Ends()
        handle = parked(ends.run("handle"))

        async def main(awaitable: Callable[[], Any]) -> None:
            await timeout(1000, awaitable())

        for make in (lambda: ends.run("coroutine"), lambda: handle):
            running = parked(main(make))
            executor_turn()
            running.cancel("outside")
            with pytest.raises(TaskCancelled, match="outside"):
                running.join(TIMEOUT)
        assert len(ends.ended) == 1
        assert not handle.done()
        handle.cancel()

    def test_nested_the_inner_one_is_first_and_the_outer_goes_through(self) -> None:
        async def main() -> None:
            with pytest.raises(TimeoutError, match=r"0\.002"):
                await timeout(1000, timeout(0.002, forever()))
            with pytest.raises(TimeoutError, match=r"0\.002"):
                await timeout(0.002, timeout(1000, forever()))

        block_on(main())

    def test_the_end_and_the_deadline_at_once(self) -> None:
        """Exactly one of value and TimeoutError; the task goes on to its end in both cases."""

        async def main() -> set[str]:
            seen = set()
            for i in range(200):
                handle = spawn(sleep(0.0003 + i % 10 * 0.00002))
                try:
                    await timeout(0.0004, handle)
                    seen.add("value")
                    assert handle.done()
                except TimeoutError:
                    seen.add("late")
                await handle
            return seen

        assert spawn(main()).join(TIMEOUT) <= {"value", "late"}


# -- closed from outside --------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["gather", "race", "timeout", "as_completed", "its body"])
@pytest.mark.parametrize("where", ["outside", "in its task"])
def test_G8_closing_a_half_done_combination_cancels_and_does_not_wait(how: str, where: str) -> None:
    """Wherever it waits. What it only waited for goes on, and nothing is left with it."""
    ends = Ends()
    waited_for = parked(forever())

    async def iterate(aws: list[Any]) -> None:
        async for _ in as_completed(aws):
            await forever()

    def combination() -> Coroutine[Any, Any, Any]:
        if how == "timeout":
            return timeout(1000, waited_for)
        aws: list[Any] = [ends.run("a"), waited_for]
        if how == "its body":
            aws.append(give("first"))
        if how in ("as_completed", "its body"):
            return iterate(aws)
        return gather(*aws) if how == "gather" else race(*aws)

    async def main() -> Coroutine[Any, Any, Any]:
        coro = combination()
        coro.send(None)
        await yield_now()
        await yield_now()  # the children have begun, and one may have ended
        if how == "its body":
            coro.send(None)
        if where == "in its task":
            coro.close()
        return coro

    block_on(main()).close()
    executor_turn()
    executor_turn()
    assert len(ends.ended) == (how != "timeout")
    assert not waited_for.done()
    assert waited_for._outcome.waiters == {}
    waited_for.cancel()


@pytest.mark.parametrize("how", ["gather", "race"])
def test_G7_a_task_that_raises_generator_exit_does_not_close_its_combination(how: str) -> None:
    """The others are cancelled, and have ended when it comes out."""
    ends = Ends()

    async def main() -> list[str]:
        with pytest.raises(GeneratorExit):
            await (gather if how == "gather" else race)(
                ends.swallow(1), ends.run("b"), fail_after_turns(2, GeneratorExit())
            )
        return list(ends.ended)

    assert len(block_on(main())) == 1


# -- nothing is lost: R24 -------------------------------------------------------------------------


def channels() -> Any:
    """Three things to wait for that become ready in one turn: how to wait for each, how to make
    them ready, how many of them nobody has taken."""
    pairs = [channel(1) for _ in range(3)]
    waits = [rx.recv for _, rx in pairs]
    return (
        waits,
        lambda: [tx.try_send(1) for tx, _ in pairs],
        lambda: sum(len(rx) for _, rx in pairs),
    )


def semaphores() -> Any:
    three = [Semaphore(0) for _ in range(3)]
    waits = [one.acquire for one in three]
    return waits, lambda: [one.release() for one in three], lambda: sum(one.value for one in three)


def notifies() -> Any:
    three = [Notify() for _ in range(3)]
    waits = [one.wait for one in three]
    return (
        waits,
        lambda: [one.notify_one() for one in three],
        lambda: sum(one._count for one in three),
    )


def mutexes() -> Any:
    three: list[Mutex[None]] = [Mutex() for _ in range(3)]
    guards: list[Any] = [one.try_lock() for one in three]

    async def lock_and_release(mutex: Mutex[None]) -> None:
        (await mutex.lock()).release()
        taken.append(mutex)

    taken: list[Mutex[None]] = []
    waits = [partial(lock_and_release, one) for one in three]
    return (
        waits,
        lambda: [guard.release() for guard in guards],
        lambda: sum(not one.locked() for one in three) - len(taken),
    )


KINDS = pytest.mark.parametrize("make", [channels, semaphores, notifies, mutexes])


@KINDS
@pytest.mark.parametrize("before", [True, False])
def test_R24_what_was_ready_for_the_losers_of_a_race_is_still_there(
    make: Callable[[], Any], before: bool
) -> None:
    """``before``: it was there when the race began."""

    async def main() -> None:
        for _ in range(20):
            waits, fire, left = make()
            if before:
                fire()
            racing = spawn(race(*(wait() for wait in waits)))
            for _ in range(4):
                await yield_now()
            if not before:
                fire()
            await racing
            assert left() == 2

    block_on(main())


@KINDS
def test_R24_the_first_failure_of_a_gather_leaves_the_others_what_was_ready(
    make: Callable[[], Any],
) -> None:
    async def fail_after_it(wait: Callable[[], Any]) -> None:
        await wait()
        raise ZeroDivisionError

    async def main() -> None:
        waits, fire, left = make()
        running = spawn(gather(fail_after_it(waits[0]), waits[1](), waits[2]()))
        for _ in range(4):
            await yield_now()
        fire()
        with pytest.raises(ZeroDivisionError):
            await running
        assert left() == 2

    block_on(main())


def test_R24_a_loser_that_had_no_turn_never_begins() -> None:
    ran = []

    async def child(name: str) -> str:
        ran.append(name)
        return name

    async def main() -> None:
        assert await race(child("a"), child("b"), child("c")) == "a"
        done = spawn(child("done"))
        await done
        assert await race(child("d"), done, child("e")) == "done"
        with pytest.raises(ZeroDivisionError):
            await gather(fail(ZeroDivisionError()), child("f"))

    block_on(main())
    assert ran == ["a", "done"]


def test_R24_a_handle_of_another_runtime_decides_like_any_other(runtime: Runtime) -> None:
    ends = Ends()
    go_on = Event()

    async def elsewhere() -> str:
        await go_on.wait()
        return "elsewhere"

    handle = runtime.spawn(elsewhere())

    async def main() -> Any:
        racing = spawn(race(ends.run(), handle))
        await yield_now()
        await yield_now()
        go_on.set()
        return await racing

    assert spawn(main()).join(TIMEOUT) == "elsewhere"
    assert len(ends.ended) == 1


@pytest.mark.parametrize("how", ["gather", "race", "as_completed", "timeout"])
@pytest.mark.parametrize("cancel_first", [True, False])
def test_R23_R24_what_the_children_were_told_as_it_was_cancelled_is_its_outcome(
    how: str, cancel_first: bool
) -> None:
    """A child has taken an item that was handed to it: it must come out."""

    async def first(aws: list[Any]) -> Any:
        async for handle in as_completed(aws):
            return handle.result()
        raise AssertionError("not reached")

    async def combination(inbox: list[str], there: Event) -> Any:
        child = receive(inbox, there)
        if how == "gather":
            return await gather(child)
        if how == "race":
            return await race(forever(), child)
        if how == "timeout":
            return await timeout(1000, child)
        return await first([forever(), child])

    for _ in range(20):
        inbox, there = list[str](), Event()
        victim = parked(combination(inbox, there))
        executor_turn()
        block_on(send(inbox, there, victim, cancel_first=cancel_first))
        assert victim.join(TIMEOUT) == (("item",) if how == "gather" else "item")
        assert inbox == []


# -- arguments ------------------------------------------------------------------------------------


def test_gather_returns_errors_like_values_if_asked_to() -> None:
    async def main() -> tuple[Any, ...]:
        cancelled = spawn(forever())
        cancelled.cancel("by hand")
        return await gather(
            give(1), fail(KeyError("k")), cancelled, give_after(3, 2), return_exceptions=True
        )

    one, error, cancelled, two = block_on(main())
    assert (one, two) == (1, 2)
    assert isinstance(error, KeyError)
    assert isinstance(cancelled, TaskCancelled)


@pytest.mark.parametrize("how", ["gather", "race"])
def test_a_list_is_not_taken_for_the_awaitables(how: str) -> None:
    async def main() -> None:
        children = [give(1), give(2)]
        with pytest.raises(TypeError, match=rf"{how}\(\*aws\)\?"):
            await (gather if how == "gather" else race)(children)  # type: ignore[arg-type]
        assert all(child.cr_frame is None for child in children)  # type: ignore[attr-defined]

    block_on(main())


def test_as_completed_is_for_one_task_at_a_time() -> None:
    async def main() -> None:
        ends = as_completed([give_after(5, 1), give_after(9, 2)])

        async def take() -> Any:
            return (await anext(ends)).result()

        first = spawn(take())
        await yield_now()
        with pytest.raises(RuntimeError, match="another task"):
            await anext(ends)
        with pytest.raises(RuntimeError, match="another task"):
            await ends.aclose()
        assert await first == 1
        assert await take() == 2
        with pytest.raises(StopAsyncIteration):
            await anext(ends)

    block_on(main())


def test_as_completed_is_over_when_it_was_cut_off() -> None:
    async def main() -> None:
        ends = Ends()
        completed = as_completed([ends.run(), give_after(1, "value")])
        assert (await anext(completed)).result() == "value"
        with move_on_after(0.001) as scope:
            await anext(completed)
        assert scope.cancelled_caught
        assert len(ends.ended) == 1
        with pytest.raises(StopAsyncIteration):
            await anext(completed)
        await completed.aclose()

    block_on(main())


def test_a_loop_of_races_leaves_nothing_with_a_handle_that_it_waits_for() -> None:
    async def main() -> None:
        long = spawn(forever())
        for i in range(100):
            assert await race(long, give(i)) == i
        assert long._outcome.waiters == {}
        long.cancel()

    block_on(main())
