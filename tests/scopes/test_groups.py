"""TaskGroup, in a task and in a script, and its start()."""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import threading
import weakref
from typing import Any

import pytest

from tests.support.net_helpers import TIMEOUT, executor_turn, parked
from tests.support.tasks import fail, forever, give
from trale_py import (
    Cancelled,
    CancelScope,
    Event,
    JoinHandle,
    Notify,
    TaskCancelled,
    TaskGroup,
    TaskStatus,
    WouldDeadlock,
    block_on,
    current_effective_deadline,
    current_task,
    fail_after,
    move_on_after,
    now,
    sleep,
    spawn,
    yield_now,
)
from trale_py.core.runtime import Runtime


async def give_after(turns: int, value: Any) -> Any:
    for _ in range(turns):
        await yield_now()
    return value


async def fail_after_turns(turns: int, error: BaseException) -> None:
    for _ in range(turns):
        await yield_now()
    raise error


class Ends:
    """Tasks that run for ever, and how each of them ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    async def run(self, name: str = "task") -> None:
        try:
            await forever()
        except Cancelled as error:
            self.ended.append(f"{name}: {error.reason}")
            raise

    async def fail_when_cancelled(self, error: BaseException) -> None:
        try:
            await forever()
        finally:
            raise error

    async def swallow(self, value: Any) -> Any:
        try:
            await forever()
        except Cancelled:
            await clean_up()
        return value


async def clean_up() -> None:
    with CancelScope(shield=True):
        await sleep(0.001)


def errors_of(caught: pytest.ExceptionInfo[Any]) -> list[BaseException]:
    assert isinstance(caught.value, BaseExceptionGroup)
    return list(caught.value.exceptions)


# -- TaskGroup in a task ------------------------------------------------------------------------


class TestInATask:
    def test_it_waits_for_all_and_the_handles_have_the_values(self) -> None:
        async def main() -> list[int]:
            async with TaskGroup() as group:
                handles = [group.spawn(give_after(i, i), name=f"n{i}") for i in range(5)]
                assert handles[3].name == "n3"
            assert all(handle.done() for handle in handles)
            return [handle.result() for handle in handles]

        assert block_on(main()) == [0, 1, 2, 3, 4]

    def test_an_empty_one(self) -> None:
        async def main() -> str:
            async with TaskGroup():
                pass
            return "left"

        assert block_on(main()) == "left"

    def test_one_failure_is_an_exception_group_and_cancels_the_rest(self) -> None:
        ends, error = Ends(), ValueError("one")

        async def main() -> None:
            async with TaskGroup() as group:
                group.spawn(ends.run("a"))
                await yield_now()
                group.spawn(fail(error))
                group.spawn(ends.run("b"))
                await ends.run("body")

        with pytest.raises(ExceptionGroup) as caught:
            block_on(main())
        assert errors_of(caught) == [error]
        # b had not begun when the failure came, or it had: it is cancelled in any case
        assert {end.split(":")[0] for end in ends.ended} >= {"a", "body"}
        assert all("failed" in end for end in ends.ended)
        error.__traceback__ = None

    def test_F16_a_child_fails_before_its_siblings_have_begun(self) -> None:
        ran = []

        async def sibling() -> None:
            ran.append("began")
            await yield_now()
            ran.append("went on")

        async def main() -> None:
            async with TaskGroup() as group:
                group.spawn(fail(KeyError("first")))
                handles.extend(group.spawn(sibling()) for _ in range(3))

        handles: list[JoinHandle[None]] = []
        with pytest.raises(ExceptionGroup) as caught:
            block_on(main())
        assert [type(error) for error in errors_of(caught)] == [KeyError]
        assert ran == ["began"] * 3
        assert all(handle.cancelled() for handle in handles)

    def test_the_bodys_failure_cancels_the_children(self) -> None:
        ends = Ends()

        async def main() -> None:
            async with TaskGroup() as group:
                group.spawn(ends.run())
                await yield_now()
                raise ValueError("body")

        with pytest.raises(ExceptionGroup) as caught:
            block_on(main())
        assert [str(error) for error in errors_of(caught)] == ["body"]
        assert len(ends.ended) == 1

    def test_F15_several_failures_with_cancelled_mixed_in(self) -> None:
        ends = Ends()

        async def main() -> None:
            async with TaskGroup() as group:
                group.spawn(ends.fail_when_cancelled(OSError("child 1")))
                group.spawn(ends.run())
                group.spawn(ends.fail_when_cancelled(KeyError("child 2")))
                await yield_now()
                raise ValueError("body")

        with pytest.raises(ExceptionGroup) as caught:
            block_on(main())
        assert {type(error) for error in errors_of(caught)} == {ValueError, OSError, KeyError}

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
    def test_G6_a_child_that_raises_what_is_no_exception(self, kind: type[BaseException]) -> None:
        async def main() -> None:
            async with TaskGroup() as group:
                group.spawn(fail(kind("child")))
                await forever()

        with pytest.raises(BaseExceptionGroup) as caught:
            block_on(main())
        assert not isinstance(caught.value, ExceptionGroup)
        assert [type(error) for error in errors_of(caught)] == [kind]

    def test_nested_groups(self) -> None:
        ends = Ends()

        async def inner() -> None:
            async with TaskGroup() as group:
                group.spawn(ends.run("inner"))
                group.spawn(fail_after_turns(2, ValueError("deep")))

        async def main() -> None:
            async with TaskGroup() as group:
                group.spawn(inner())
                group.spawn(ends.run("outer"))

        with pytest.raises(ExceptionGroup) as caught:
            block_on(main())
        (deep,) = errors_of(caught)
        assert isinstance(deep, ExceptionGroup)
        assert str(deep.exceptions[0]) == "deep"
        assert sorted(end.split(":")[0] for end in ends.ended) == ["inner", "outer"]

    def test_cancelling_the_outer_group_reaches_the_innermost_child(self) -> None:
        ends = Ends()

        async def nest(depth: int) -> None:
            async with TaskGroup() as group:
                group.spawn(nest(depth - 1) if depth else ends.run("deepest"))

        async def main() -> None:
            async with TaskGroup() as group:
                group.spawn(nest(20))
                for _ in range(30):
                    await yield_now()
                group.cancel_scope.cancel("all")

        block_on(main())
        assert ends.ended == ["deepest: all"]

    def test_a_child_spawns_children_while_the_block_is_open_and_while_it_waits(self) -> None:
        ran: list[str] = []

        async def child(group: TaskGroup, depth: int) -> None:
            await yield_now()
            ran.append(f"{depth}")
            if depth:
                group.spawn(child(group, depth - 1))
                group.spawn(child(group, 0))

        async def main() -> None:
            async with TaskGroup() as group:
                group.spawn(child(group, 5))
            ran.append("left")

        block_on(main())
        assert ran[-1] == "left"
        assert len(ran) == 12

    def test_spawn_from_another_thread_while_the_block_waits(self) -> None:
        gate, box = Notify(), []
        ready = threading.Event()

        async def main() -> None:
            async with TaskGroup() as group:
                group.spawn(gate.wait())
                box.append(group)
                ready.set()
            assert handle.done()

        running = spawn(main())
        assert ready.wait(TIMEOUT)
        executor_turn()
        handle = box[0].spawn(give("from a thread"))
        gate.notify_one()
        running.join(TIMEOUT)
        assert handle.join(TIMEOUT) == "from a thread"

    def test_G5_spawn_before_and_after_is_refused_and_the_coroutine_closed(self) -> None:
        def refused(group: TaskGroup) -> None:
            coro = give(1)
            with pytest.raises(RuntimeError, match="not open"):
                group.spawn(coro)
            assert coro.cr_frame is None

        async def main() -> TaskGroup:
            group = TaskGroup()
            refused(group)
            async with group:
                with pytest.raises(TypeError, match="forget to call"):
                    group.spawn(give)  # type: ignore[arg-type]
            refused(group)
            with pytest.raises(RuntimeError, match="already been entered"):
                await group.__aenter__()
            return group

        group = block_on(main())
        refused(group)
        assert "closed" in repr(group)

    def test_spawn_races_with_the_end_of_the_block(self) -> None:
        """From another thread: done by the group, or refused, or failed; never lost or open."""
        outcomes: set[str] = set()
        for i in range(200):
            box: list[TaskGroup] = []
            inside = threading.Event()

            async def main(
                box: list[TaskGroup] = box, inside: threading.Event = inside, i: int = i
            ) -> None:
                async with TaskGroup() as group:
                    box.append(group)
                    inside.set()
                    for _ in range(i % 8):
                        await yield_now()

            running = spawn(main())
            assert inside.wait(TIMEOUT)
            coro = give(i)
            try:
                handle = box[0].spawn(coro)
            except RuntimeError:
                outcomes.add("refused")
            else:
                try:
                    assert handle.join(TIMEOUT) == i
                    outcomes.add("ran")
                except RuntimeError as error:
                    assert "closed before" in str(error)
                    outcomes.add("failed")
            running.join(TIMEOUT)
            assert coro.cr_frame is None
        assert outcomes

    def test_cancel_scope_cancel_ends_the_block_quietly(self) -> None:
        ends = Ends()

        async def main() -> TaskGroup:
            async with TaskGroup() as group:
                group.spawn(ends.run())
                await yield_now()
                group.cancel_scope.cancel("enough")
                await ends.run("body")
                raise AssertionError("not reached")
            return group

        group = block_on(main())
        assert group.cancel_scope.cancelled_caught
        assert sorted(ends.ended) == ["body: enough", "task: enough"]

    def test_F11_cancel_scope_cancel_from_another_thread(self) -> None:
        box: list[TaskGroup] = []
        ends = Ends()

        async def main() -> str:
            async with TaskGroup() as group:
                box.append(group)
                group.spawn(ends.run())
            return "went on"

        running = parked(main())
        executor_turn()
        box[0].cancel_scope.cancel("thread")
        assert running.join(TIMEOUT) == "went on"
        assert ends.ended == ["task: thread"]

    def test_F18_cancelled_before_the_block_children_run_to_their_first_checkpoint(self) -> None:
        ran = []

        async def child() -> None:
            ran.append("began")
            await yield_now()
            ran.append("went on")

        async def main() -> None:
            group = TaskGroup()
            group.cancel_scope.cancel()
            async with group:
                handle = group.spawn(child())
            assert handle.cancelled()

        block_on(main())
        assert ran == ["began"]

    def test_a_child_cancelled_by_its_handle_is_no_failure(self) -> None:
        ends = Ends()

        async def main() -> str:
            async with TaskGroup() as group:
                handle = group.spawn(ends.run())
                await yield_now()
                handle.cancel("only this one")
                other = group.spawn(give_after(3, "unharmed"))
            assert handle.cancelled()
            assert not group.cancel_scope.cancel_called
            return other.result()

        assert block_on(main()) == "unharmed"
        assert ends.ended == ["task: only this one"]

    def test_a_cancellation_from_outside_goes_through(self) -> None:
        ends = Ends()

        async def main() -> None:
            async with TaskGroup() as group:
                group.spawn(ends.run("child"))
                group.spawn(ends.swallow("ignored"))
            raise AssertionError("not reached")

        running = parked(main())
        executor_turn()
        running.cancel("outside")
        with pytest.raises(TaskCancelled) as caught:
            running.join(TIMEOUT)
        assert caught.value.reason == "outside"
        assert ends.ended == ["child: outside"]

    def test_a_cancellation_from_outside_and_a_failure(self) -> None:
        async def main() -> None:
            with CancelScope() as scope:
                scope.cancel()
                async with TaskGroup() as group:
                    group.spawn(give(1))
                    raise ValueError("body")

        with pytest.raises(ExceptionGroup) as caught:
            block_on(main())
        assert [str(error) for error in errors_of(caught)] == ["body"]

    def test_children_stand_under_the_scopes_around_the_group(self) -> None:
        async def child() -> float:
            return current_effective_deadline()

        async def main() -> None:
            deadline = now() + 1000
            with CancelScope(deadline=deadline):
                async with TaskGroup() as group:
                    inside = group.spawn(child())
                    outside = spawn(child())
            assert inside.result() == pytest.approx(deadline)
            assert await outside == math.inf
            with move_on_after(0.002) as scope:
                async with TaskGroup() as group:
                    handle = group.spawn(forever())
            assert scope.cancelled_caught
            assert handle.cancelled()
            with pytest.raises(TimeoutError), fail_after(0.002):
                async with TaskGroup() as group:
                    group.spawn(forever())

        block_on(main())

    def test_outside_of_tasks_it_is_refused(self) -> None:
        async def main() -> None:
            async with TaskGroup():
                pass

        coro = main()
        with pytest.raises(RuntimeError, match="with TaskGroup"):
            coro.send(None)

    def test_a_coroutine_closed_inside_the_block_cancels_the_children(self) -> None:
        ends = Ends()
        box: list[JoinHandle[None]] = []

        async def inner() -> None:
            async with TaskGroup() as group:
                box.append(group.spawn(ends.run()))
                await forever()

        async def main() -> None:
            coro = inner()
            coro.send(None)
            await yield_now()
            coro.close()

        block_on(main())
        with pytest.raises(TaskCancelled):
            box[0].join(TIMEOUT)

    def test_a_cancellation_before_the_adoption_is_not_lost(self) -> None:
        """What shutdown does to a task that another thread has just spawned in a group."""

        async def main() -> bool:
            async with TaskGroup() as group:
                runtime = current_task()._runtime  # type: ignore[union-attr]

                def adopt(task: Any) -> None:
                    task._cancel("early")
                    group._adopt(task)

                handle = runtime.spawn(forever(), adopt=adopt)
                await yield_now()
                await yield_now()
                cancelled = handle.cancelled()
                group.cancel_scope.cancel()
            return cancelled

        assert block_on(main())

    def test_G11_a_group_and_its_error_are_freed_without_the_garbage_collector(self) -> None:
        class Marker(Exception):
            pass

        async def child(marker: list[Marker]) -> None:
            raise marker.pop()

        async def main(marker: list[Marker]) -> None:
            async with TaskGroup() as group:
                group.spawn(child(marker))

        gc.collect()
        gc.disable()
        try:
            markers = [Marker()]
            reference = weakref.ref(markers[0])
            handle = spawn(main(markers))
            try:
                handle.join(TIMEOUT)
            except ExceptionGroup:
                pass
            del handle
            executor_turn()
            assert reference() is None
        finally:
            gc.enable()


async def ctrl_c_until(event: Event) -> None:
    """Press Ctrl-C, and again after a while: a thread that is just about to wait misses one."""
    while not event.is_set():
        os.kill(os.getpid(), signal.SIGINT)
        with move_on_after(1):
            await event.wait()


# -- TaskGroup in a script ----------------------------------------------------------------------


class TestInAScript:
    def test_it_waits_for_all(self) -> None:
        with TaskGroup() as group:
            handles = [group.spawn(give_after(i, i)) for i in range(5)]
            group.spawn(sleep(0.002))
        assert [handle.result() for handle in handles] == [0, 1, 2, 3, 4]
        with pytest.raises(RuntimeError, match="not open"):
            group.spawn(give(1))
        with pytest.raises(RuntimeError, match="already been entered"), group:
            pass

    def test_the_failure_comes_at_the_end_of_the_block(self) -> None:
        ends = Ends()
        steps = []
        with pytest.raises(ExceptionGroup) as caught, TaskGroup() as group:
            running = group.spawn(ends.run())
            failing = group.spawn(fail_after_turns(3, ValueError("child")))
            with pytest.raises(ValueError, match="child"):
                failing.join(TIMEOUT)
            steps.append("the body goes on")
            late = group.spawn(give_after(1, "too late"))
        assert [str(error) for error in errors_of(caught)] == ["child"]
        assert steps == ["the body goes on"]
        assert running.cancelled()
        assert late.cancelled()

    def test_the_bodys_failure_cancels_the_children(self) -> None:
        ends = Ends()
        with pytest.raises(ExceptionGroup) as caught, TaskGroup() as group:
            group.spawn(ends.run())
            executor_turn()
            raise ValueError("body")
        assert [str(error) for error in errors_of(caught)] == ["body"]
        assert len(ends.ended) == 1

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    def test_what_the_body_raises_to_end_the_program_is_raised_itself(
        self, kind: type[BaseException], caplog: pytest.LogCaptureFixture
    ) -> None:
        ends = Ends()
        caplog.set_level(logging.ERROR, "trale_py")
        with pytest.raises(kind, match="body"), TaskGroup() as group:
            group.spawn(ends.run())
            group.spawn(ends.fail_when_cancelled(ValueError("as well")))
            executor_turn()
            raise kind("body")
        assert len(ends.ended) == 1
        assert "as well" in caplog.text

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    def test_G6_what_a_child_raises_is_a_failure_like_any_other(
        self, kind: type[BaseException]
    ) -> None:
        with pytest.raises(BaseExceptionGroup) as caught, TaskGroup() as group:
            group.spawn(fail(kind("child")))
        assert [type(error) for error in errors_of(caught)] == [kind]

    def test_H4_ctrl_c_while_it_waits_cancels_the_children_and_waits_for_their_end(self) -> None:
        ended = []

        async def child() -> None:
            while not group._ending:  # until the script waits at the end of its block
                await yield_now()
            try:
                await ctrl_c_until(Event())
            finally:
                with CancelScope(shield=True):
                    await sleep(0.005)
                ended.append(1)

        with pytest.raises(KeyboardInterrupt), TaskGroup() as group:
            handle = group.spawn(child())
        assert ended == [1]
        assert handle.cancelled()

    def test_H4_a_second_ctrl_c_stops_the_waiting(self) -> None:
        gate = Event()

        async def child() -> None:
            while not group._ending:
                await yield_now()
            try:
                await ctrl_c_until(Event())
            finally:
                with CancelScope(shield=True):
                    await ctrl_c_until(gate)

        with pytest.raises(KeyboardInterrupt), TaskGroup() as group:
            handle = group.spawn(child())
        assert not handle.done()
        gate.set()
        with pytest.raises(TaskCancelled):
            handle.join(TIMEOUT)

    def test_cancel_scope_and_a_child_cancelled_by_its_handle(self) -> None:
        with TaskGroup() as group:
            one = group.spawn(forever())
            one.cancel()
        assert one.cancelled()
        with TaskGroup() as group:
            both = [group.spawn(forever()), group.spawn(forever())]
            executor_turn()
            group.cancel_scope.cancel("script")
        assert all(handle.cancelled() for handle in both)
        with pytest.raises(TaskCancelled, match="script"):
            both[0].result()

    def test_cancelled_before_the_block_and_by_a_deadline(self) -> None:
        group = TaskGroup()
        group.cancel_scope.cancel()
        with group:
            handle = group.spawn(forever())
        assert handle.cancelled()
        group = TaskGroup()
        group.cancel_scope.deadline = now() + 0.005
        with group:
            handle = group.spawn(forever())
        assert handle.cancelled()
        assert now() >= group.cancel_scope.deadline

    def test_children_spawn_children(self) -> None:
        ran = []

        async def child(depth: int) -> None:
            await yield_now()
            ran.append(depth)
            if depth:
                group.spawn(child(depth - 1))

        with TaskGroup() as group:
            group.spawn(child(10))
        assert ran == list(range(10, -1, -1))

    def test_spawn_from_many_threads(self) -> None:
        ran = []

        async def child(i: int) -> None:
            ran.append(i)

        def spawner(group: TaskGroup, base: int) -> None:
            for i in range(50):
                group.spawn(child(base + i))

        with TaskGroup() as group:
            threads = [threading.Thread(target=spawner, args=(group, n * 50)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(TIMEOUT)
        assert sorted(ran) == list(range(200))

    def test_H1_in_a_task_it_would_deadlock(self) -> None:
        async def main() -> None:
            with pytest.raises(WouldDeadlock, match="async with"), TaskGroup():
                pass

        block_on(main())

    def test_shutdown_ends_the_block(self, runtime: Runtime) -> None:
        """The threads of a script that wait at the end of a block do not hang."""
        group = TaskGroup()
        group.cancel_scope._enter(runtime, None, None)
        group._runtime = runtime
        runtime.ensure_running()
        handle = group.spawn(forever())
        runtime.spawn(give(1)).join(TIMEOUT)
        runtime.shutdown()
        assert handle.cancelled()
        group.__exit__(None, None, None)

    def test_groups_of_two_threads_side_by_side(self) -> None:
        def run() -> None:
            with TaskGroup() as group:
                handles.append(group.spawn(give_after(5, "value")))

        handles: list[JoinHandle[str]] = []
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
        assert [handle.result() for handle in handles] == ["value"] * 4


# -- start --------------------------------------------------------------------------------------


class TestStart:
    def test_it_waits_for_started_and_the_task_goes_on_in_the_group(self) -> None:
        steps = []

        async def service(port: int, *, task_status: TaskStatus[str]) -> None:
            await yield_now()
            task_status.started(f"listens on {port}")
            await yield_now()
            steps.append("the task has ended")

        async def main() -> None:
            async with TaskGroup() as group:
                assert await group.start(service, 80, name="service") == "listens on 80"
                steps.append("started")
                assert "1 tasks" in repr(group)
            steps.append("the group has ended")

        block_on(main())
        assert steps == ["started", "the task has ended", "the group has ended"]

    def test_started_without_a_value(self) -> None:
        async def service(*, task_status: TaskStatus[None]) -> None:
            task_status.started()

        async def main() -> None:
            async with TaskGroup() as group:
                assert await group.start(service) is None

        block_on(main())

    def test_an_error_before_started_comes_out_of_start(self) -> None:
        async def service(*, task_status: TaskStatus[None]) -> None:
            await yield_now()
            raise OSError("port in use")

        def no_coroutine(*, task_status: TaskStatus[None]) -> Any:
            raise KeyError("at the call")

        async def main() -> None:
            async with TaskGroup() as group:
                with pytest.raises(OSError, match="port in use"):
                    await group.start(service)
                with pytest.raises(KeyError, match="at the call"):
                    await group.start(no_coroutine)
                with pytest.raises(TypeError, match="coroutine"):
                    await group.start(lambda task_status: 5)  # type: ignore[arg-type,return-value]
                await yield_now()  # the group itself is not cancelled
            assert not group.cancel_scope.cancel_called

        block_on(main())

    def test_an_error_after_started_is_the_groups(self) -> None:
        async def service(*, task_status: TaskStatus[int]) -> None:
            task_status.started(1)
            await yield_now()
            raise OSError("later")

        async def main() -> None:
            async with TaskGroup() as group:
                assert await group.start(service) == 1
                await forever()

        with pytest.raises(ExceptionGroup) as caught:
            block_on(main())
        assert [str(error) for error in errors_of(caught)] == ["later"]

    def test_never_started(self) -> None:
        async def service(*, task_status: TaskStatus[None]) -> None:
            await yield_now()

        async def main() -> None:
            async with TaskGroup() as group:
                with pytest.raises(RuntimeError, match="without calling"):
                    await group.start(service)
                await yield_now()

        block_on(main())

    def test_started_twice_or_elsewhere(self) -> None:
        box: list[TaskStatus[int]] = []

        async def service(*, task_status: TaskStatus[int]) -> None:
            box.append(task_status)
            task_status.started(1)
            with pytest.raises(RuntimeError, match="once"):
                task_status.started(2)

        async def main() -> None:
            async with TaskGroup() as group:
                assert await group.start(service) == 1

        block_on(main())
        with pytest.raises(RuntimeError, match="once"):
            box[0].started(3)

    def test_start_on_a_group_that_is_not_open(self) -> None:
        async def service(*, task_status: TaskStatus[None]) -> None:
            raise AssertionError("not reached")

        async def main() -> None:
            group = TaskGroup()
            with pytest.raises(RuntimeError, match="not open"):
                await group.start(service)
            async with group:
                pass
            with pytest.raises(RuntimeError, match="not open"):
                await group.start(service)

        block_on(main())

    def test_cancelling_start_cancels_the_task(self) -> None:
        ends = Ends()

        async def service(*, task_status: TaskStatus[None]) -> None:
            await ends.run("service")

        async def main() -> None:
            async with TaskGroup() as group:
                with move_on_after(0.002) as scope:
                    await group.start(service)
                assert scope.cancelled_caught
                assert len(ends.ended) == 1
                await yield_now()

        block_on(main())

    def test_started_too_late_does_not_save_the_task(self) -> None:
        """start() was cancelled; the task says started() while it cleans up."""
        ends = Ends()

        async def service(*, task_status: TaskStatus[None]) -> None:
            try:
                await forever()
            except Cancelled:
                task_status.started()
            await ends.run("service")

        async def main() -> None:
            async with TaskGroup() as group:
                with CancelScope() as scope:
                    spawn(cancel(scope))
                    await group.start(service)
                assert scope.cancelled_caught
                assert len(ends.ended) == 1

        async def cancel(scope: CancelScope) -> None:
            await yield_now()
            scope.cancel()

        spawn(main()).join(TIMEOUT)

    def test_started_and_cancelled_in_the_same_turn(self) -> None:
        """The task is the group's and goes on, so the value is delivered; the next await raises."""
        ends = Ends()

        async def service(scope: CancelScope, *, task_status: TaskStatus[str]) -> None:
            await yield_now()
            task_status.started("value")
            scope.cancel("at once")
            await ends.run("service")

        async def main() -> None:
            got = []
            async with TaskGroup() as group:
                with CancelScope() as scope:
                    got.append(await group.start(service, scope))
                    await yield_now()
                assert scope.cancelled_caught
                assert ends.ended == []
                group.cancel_scope.cancel("enough")
            assert got == ["value"]

        spawn(main()).join(TIMEOUT)
        assert ends.ended == ["service: enough"]

    def test_after_started_the_scope_around_start_has_no_hold_on_the_task(self) -> None:
        gate = Notify()

        async def service(*, task_status: TaskStatus[None]) -> str:
            task_status.started()
            await gate.wait()
            return "not cancelled"

        async def main() -> None:
            async with TaskGroup() as group:
                with CancelScope() as scope:
                    await group.start(service)
                    (task,) = group._children
                    scope.cancel()
                gate.notify_one()
            assert task.state == "finished"
            assert not group.cancel_scope.cancel_called

        block_on(main())

    def test_start_in_a_child_of_the_group_while_the_block_waits(self) -> None:
        async def service(*, task_status: TaskStatus[str]) -> None:
            task_status.started("value")

        async def child(group: TaskGroup) -> str:
            await yield_now()
            await yield_now()
            return str(await group.start(service))

        async def main() -> str:
            async with TaskGroup() as group:
                handle = group.spawn(child(group))
            return handle.result()

        assert block_on(main()) == "value"
