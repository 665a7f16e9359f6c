"""A group's children from their beginning to the end of the block; and blocks left wrongly."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import math
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.support.net_helpers import TIMEOUT, executor_turn
from tests.support.tasks import forever
from trale_py import (
    Cancelled,
    CancelScope,
    Event,
    JoinHandle,
    TaskCancelled,
    TaskGroup,
    TaskStatus,
    block_on,
    current_effective_deadline,
    current_task,
    fail_after,
    now,
    spawn,
    yield_now,
)
from trale_py.core.runtime import Runtime
from trale_py.core.scope_tree import ScopeTree

log: contextvars.ContextVar[str] = contextvars.ContextVar("log", default="")


class Begins:
    """A child that says that it has begun, and what came at its first checkpoint."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    async def run(self, *, task_status: TaskStatus[None] | None = None) -> None:
        self.steps.append("began")
        try:
            await yield_now()
        except Cancelled:
            self.steps.append("cancelled")
            raise


# -- F16, F18: a child always begins ------------------------------------------------------------


@pytest.mark.parametrize("how", ["by the group", "by its handle", "by a sibling's failure"])
def test_F16_F18_a_child_cancelled_before_its_first_step_begins(how: str) -> None:
    begins = Begins()

    async def fails() -> None:
        raise ValueError

    async def main() -> JoinHandle[None]:
        with contextlib.suppress(ExceptionGroup):
            async with TaskGroup() as group:
                if how == "by a sibling's failure":
                    group.spawn(fails())
                handle = group.spawn(begins.run())
                if how == "by the group":
                    group.cancel_scope.cancel()
                elif how == "by its handle":
                    handle.cancel()
        return handle

    assert block_on(main()).cancelled()
    assert begins.steps == ["began", "cancelled"]


def test_F18_a_child_by_start_begins_in_a_cancelled_scope() -> None:
    begins = Begins()

    async def main() -> bool:
        async with TaskGroup() as group:
            with CancelScope() as scope:
                scope.cancel()
                await group.start(begins.run)
        return scope.cancelled_caught

    assert block_on(main())
    assert begins.steps == ["began", "cancelled"]


def test_F18_a_child_of_a_script_begins() -> None:
    begins = Begins()
    held = threading.Event()
    spawn(hold(held))
    with TaskGroup() as group:
        handle = group.spawn(begins.run())
        handle.cancel()
        held.set()
    assert handle.cancelled()
    assert begins.steps == ["began", "cancelled"]


async def hold(until: threading.Event) -> None:
    assert until.wait(TIMEOUT)


def test_F18_at_the_end_of_the_runtime_a_cancelled_child_does_not_begin(runtime: Runtime) -> None:
    begins = Begins()
    closing = threading.Event()

    async def main() -> None:
        async with TaskGroup() as group:
            group.spawn(begins.run())
            spawned.set()
            assert closing.wait(TIMEOUT)
            group.cancel_scope.cancel()

    spawned = threading.Event()
    handle = runtime.spawn(main())
    assert spawned.wait(TIMEOUT)
    runtime.closing = True  # as shutdown() does first of all
    closing.set()
    runtime.shutdown()
    assert handle.done()
    assert begins.steps == []


def test_F18_a_child_owns_what_it_was_given() -> None:
    """A coroutine that it was to await is not forgotten; warnings are errors here."""
    ran = []

    async def inner() -> None:
        ran.append("inner began")
        await yield_now()
        ran.append("went on")

    async def outer(given: Coroutine[Any, Any, None]) -> None:
        await given

    async def main() -> None:
        async with TaskGroup() as group:
            group.spawn(outer(inner()))
            group.cancel_scope.cancel()

    block_on(main())
    gc.collect()
    assert ran == ["inner began"]


# -- what a child is given ----------------------------------------------------------------------


def test_the_parent_is_the_groups_host() -> None:
    seen: dict[str, object] = {}

    async def child(name: str, *, task_status: TaskStatus[None] | None = None) -> None:
        task = current_task()
        assert task is not None
        seen[name] = task.parent_id
        if task_status is not None:
            task_status.started()

    async def middle(group: TaskGroup) -> None:
        group.spawn(child("by a sibling"))
        await group.start(child, "by start")

    async def main() -> int:
        task = current_task()
        assert task is not None
        async with TaskGroup() as group:
            group.spawn(middle(group))
            thread = threading.Thread(target=lambda: group.spawn(child("by a thread")))
            thread.start()
            thread.join(TIMEOUT)
        return task.id

    host = block_on(main())
    assert seen == {"by a sibling": host, "by start": host, "by a thread": host}
    with TaskGroup() as group:
        group.spawn(middle(group))
    assert seen["by a sibling"] is seen["by start"] is None


def test_an_empty_name_stands_and_the_context_is_the_one_given() -> None:
    async def child() -> tuple[str, str]:
        task = current_task()
        assert task is not None
        return task.name, log.get()

    context = contextvars.copy_context()
    context.run(log.set, "given")

    async def main() -> None:
        log.set("the host's")
        async with TaskGroup() as group:
            one = group.spawn(child(), name="", context=context)
            two = group.spawn(child(), name="two")
        assert one.result() == ("", "given")
        assert two.result() == ("two", "the host's")

    block_on(main())
    assert spawn(child(), name="").name == ""


@pytest.mark.parametrize("argument", ["name", "context"])
def test_G5_a_wrong_argument_is_named_and_the_coroutine_closed(argument: str) -> None:
    async def main() -> None:
        for spawner in (spawn, group.spawn):
            coro = forever()
            with pytest.raises(TypeError, match=f"^{argument} must be a .*, not 5"):
                spawner(coro, **{argument: 5})  # type: ignore[operator]
            assert coro.cr_frame is None

    with TaskGroup() as group:
        block_on(main())


@pytest.mark.parametrize("where", ["in a task", "in a script"])
def test_a_child_that_cannot_be_adopted_fails_and_is_not_waited_for(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is short as it comes under the group's scope."""
    link, failures = ScopeTree._link, [MemoryError("short")]

    def once(self: ScopeTree, parent: ScopeTree | None, task: Any) -> None:
        if failures and task is not None and isinstance(parent, CancelScope) and parent._of_group:
            raise failures.pop()
        link(self, parent, task)

    def spawn_two(group: TaskGroup) -> list[JoinHandle[None]]:
        monkeypatch.setattr(ScopeTree, "_link", once)
        return [group.spawn(yield_now()), group.spawn(yield_now())]

    async def main() -> list[JoinHandle[None]]:
        async with TaskGroup() as group:
            return spawn_two(group)

    if where == "in a task":
        handles = spawn(main()).join(TIMEOUT)
    else:
        with TaskGroup() as group:
            handles = spawn_two(group)
    with pytest.raises(MemoryError, match="short"):
        handles[0].join(TIMEOUT)
    assert handles[1].join(TIMEOUT) is None


def test_an_error_that_is_false_or_has_no_truth_fails_the_group_like_any_other() -> None:
    class Odd(Exception):
        def __bool__(self) -> bool:
            raise AssertionError("nobody asks")

    class Empty(Exception):
        def __len__(self) -> int:
            return 0

    async def fails(error: Exception) -> None:
        raise error

    async def main(error: Exception) -> None:
        async with TaskGroup() as group:
            group.spawn(fails(error))
            await forever()

    for error in (Odd(), Empty()):
        with pytest.raises(ExceptionGroup) as caught:
            spawn(main(error)).join(TIMEOUT)
        assert caught.value.exceptions[0] is error
        with pytest.raises(ExceptionGroup) as caught, TaskGroup() as group:
            group.spawn(fails(error))
        assert caught.value.exceptions[0] is error


# -- leaving ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
def test_leaving_an_empty_group_gives_way_once(fails: bool) -> None:
    async def main() -> None:
        turns = []

        async def other() -> None:
            for i in range(10):
                turns.append(i)
                await yield_now()

        spawn(other())
        with contextlib.suppress(ExceptionGroup):
            async with TaskGroup():
                if fails:
                    raise ValueError
        assert turns == [0]

    block_on(main())


def test_leaving_is_no_cancellation_point() -> None:
    async def main() -> None:
        reached = []

        async def child() -> None:
            with contextlib.suppress(Cancelled):
                await yield_now()

        with CancelScope() as scope:
            scope.cancel()
            async with TaskGroup():
                pass
            reached.append("empty")
            async with TaskGroup() as group:
                group.spawn(child())  # it swallows the cancellation, and ends by itself
            reached.append("a child that swallows it")
        assert reached == ["empty", "a child that swallows it"]
        assert not scope.cancelled_caught

    block_on(main())


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("handle_only", [False, True])
def test_leaving_raises_if_a_scope_around_it_has_ended_a_child(
    outer: bool, handle_only: bool
) -> None:
    async def main() -> None:
        reached = False
        with CancelScope() as around:
            async with TaskGroup() as group:
                handle = group.spawn(forever())
                if handle_only:
                    handle.cancel()
                    with contextlib.suppress(TaskCancelled):
                        await handle
                (around if outer else group.cancel_scope).cancel("why")
            reached = True
        assert reached == (handle_only or not outer)
        assert around.cancelled_caught == (not reached)
        assert group.cancel_scope.cancelled_caught == (not handle_only and not outer)

    block_on(main())


def test_F15_a_groups_error_shows_the_bodys_once() -> None:
    async def main() -> None:
        async with TaskGroup():
            raise ValueError("body")

    with pytest.raises(ExceptionGroup) as caught:
        block_on(main())
    assert caught.value.__suppress_context__
    with pytest.raises(ExceptionGroup) as caught, TaskGroup():
        raise ValueError("body")
    assert caught.value.__suppress_context__


# -- Cancelled in an ExceptionGroup -------------------------------------------------------------


def wrapped(error: BaseException, *others: BaseException) -> BaseExceptionGroup[Any]:
    return BaseExceptionGroup("outer", [BaseExceptionGroup("inner", [error]), *others])


async def wraps(*others: BaseException) -> None:
    try:
        await forever()
    except Cancelled as error:
        raise wrapped(error, *others) from None


def test_F15_cancelled_in_an_exception_group_is_taken_out_by_its_scope() -> None:
    async def main() -> None:
        with CancelScope() as scope:
            scope.cancel()
            await wraps()
        assert scope.cancelled_caught
        context = KeyError("context")
        with pytest.raises(ExceptionGroup) as caught, CancelScope() as scope:
            scope.cancel()
            try:
                raise context
            except KeyError:
                await wraps(ValueError("real"))
        assert [str(error) for error in caught.value.exceptions] == ["real"]
        assert caught.value.message == "outer"
        assert caught.value.__suppress_context__
        assert scope.cancelled_caught
        with CancelScope() as outer:  # not cancelled
            with pytest.raises(ExceptionGroup), fail_after(0):
                await wraps(ValueError("real"))
            with pytest.raises(TimeoutError), fail_after(0):
                await wraps()
        assert not outer.cancelled_caught

    block_on(main())


def test_F15_an_outer_scopes_cancellation_in_an_exception_group_goes_through_the_inner() -> None:
    async def main() -> None:
        with CancelScope() as outer, CancelScope() as inner:
            outer.cancel()
            inner.cancel()
            await wraps()
        assert outer.cancelled_caught
        assert not inner.cancelled_caught

    block_on(main())


def test_F15_what_a_group_raises_has_no_cancelled_in_it() -> None:
    async def main() -> None:
        with CancelScope() as around:
            async with TaskGroup() as group:
                one = group.spawn(wraps(ValueError("child")))
                two = group.spawn(wraps())
                await yield_now()
                around.cancel("around")
                await wraps(OSError("body"))
        assert two.cancelled()
        assert isinstance(one.exception(), ExceptionGroup)

    with pytest.raises(ExceptionGroup) as caught:
        block_on(main())
    assert caught.value.split(Cancelled)[0] is None
    matched, rest = caught.value.split((ValueError, OSError))
    assert matched is not None
    assert rest is None
    assert str(caught.value.exceptions).count("Error(") == 2


def test_a_task_that_ends_by_its_cancellation_in_an_exception_group_is_cancelled() -> None:
    async def main() -> JoinHandle[None]:
        handle = spawn(wraps())
        await yield_now()
        handle.cancel("by hand")
        return handle

    handle = block_on(main())
    with pytest.raises(TaskCancelled, match="by hand"):
        handle.join(TIMEOUT)


def test_cancelled_raised_outside_of_a_cancelled_scope_is_an_ordinary_error() -> None:
    kept: list[Cancelled] = []

    async def keeps() -> None:
        with CancelScope() as scope:
            scope.cancel()
            try:
                await forever()
            except Cancelled as error:
                kept.append(error)
                raise

    async def raises() -> None:
        raise kept.pop()

    block_on(keeps())
    handle = spawn(raises())
    with pytest.raises(Cancelled):
        handle.join(TIMEOUT)
    assert not handle.cancelled()


# -- start() ------------------------------------------------------------------------------------


def test_a_start_under_way_keeps_the_group_open() -> None:
    ready = Event()

    async def service(*, task_status: TaskStatus[str]) -> None:
        await ready.wait()
        task_status.started("value")
        await yield_now()
        steps.append("the service has ended")

    steps: list[str] = []

    async def main() -> None:
        async with TaskGroup() as outer:

            async def starter() -> None:
                steps.append(await inner.start(service))

            async with TaskGroup() as inner:
                outer.spawn(starter())
                await yield_now()
                outer.spawn(later())
            steps.append("left")

    async def later() -> None:
        await yield_now()
        ready.set()

    block_on(main())
    assert sorted(steps[:2]) == ["the service has ended", "value"]
    assert steps[2:] == ["left"]


@pytest.mark.parametrize("ends", ["fails", "is cancelled"])
def test_a_start_that_fails_or_is_cancelled_lets_the_group_end(ends: str) -> None:
    async def service(*, task_status: TaskStatus[str]) -> None:
        if ends == "fails":
            raise ValueError
        await forever()

    async def main() -> None:
        async with TaskGroup() as outer, TaskGroup() as inner:

            async def starter() -> None:
                with contextlib.suppress(ValueError):
                    await inner.start(service)

            outer.spawn(starter())
            await yield_now()
            if ends == "is cancelled":
                outer.cancel_scope.cancel()

    block_on(main())


def test_started_and_then_a_failure_in_the_same_turn_delivers_the_value() -> None:
    async def crashes(*, task_status: TaskStatus[int]) -> None:
        task_status.started(2)
        raise ValueError("after that")

    async def main() -> list[int]:
        got: list[int] = []
        with pytest.raises(ExceptionGroup) as caught:
            async with TaskGroup() as group:
                got.append(await group.start(crashes))
        assert [str(error) for error in caught.value.exceptions] == ["after that"]
        return got

    assert block_on(main()) == [2]


def test_start_keeps_cause_and_context() -> None:
    async def with_cause(*, task_status: TaskStatus[None]) -> None:
        try:
            raise KeyError
        except KeyError as error:
            raise ValueError from error

    async def with_context(*, task_status: TaskStatus[None]) -> None:
        try:
            raise KeyError
        except KeyError:
            raise ValueError  # noqa: B904

    async def main(fn: Callable[..., Any], handling: bool) -> BaseException:
        async with TaskGroup() as group:
            try:
                if handling:
                    raise OSError
                await group.start(fn)
            except OSError:
                try:
                    await group.start(fn)
                except ValueError as error:
                    return error
            except ValueError as error:
                return error
        raise AssertionError("not reached")

    for handling in (False, True):
        error = block_on(main(with_cause, handling))
        assert type(error.__cause__) is type(error.__context__) is KeyError
        assert error.__suppress_context__
        error = block_on(main(with_context, handling))
        assert error.__cause__ is None
        assert type(error.__context__) is KeyError
        assert not error.__suppress_context__


def test_start_in_another_runtime_is_refused(runtime: Runtime) -> None:
    async def service(*, task_status: TaskStatus[None]) -> None:
        task_status.started()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="runtime"):
            await group.start(service)

    with TaskGroup() as group:
        runtime.spawn(main()).join(TIMEOUT)
        with pytest.raises(RuntimeError, match="in a task"):
            group.start(service).send(None)


# -- F8: left in another task, or never ---------------------------------------------------------


class Ended:
    def __init__(self) -> None:
        self.how: list[str] = []

    async def child(self) -> None:
        try:
            await forever()
        finally:
            self.how.append("child")


async def group_of(ended: Ended) -> AsyncIterator[TaskGroup]:
    async with TaskGroup() as group:
        group.spawn(ended.child())
        yield group


async def step(generator: Any) -> Any:
    return await anext(generator, None)


def test_F8_a_group_whose_opening_task_has_ended_is_cancelled_by_its_scope() -> None:
    ended = Ended()
    generator: Any = group_of(ended)
    group = spawn(step(generator)).join(TIMEOUT)
    executor_turn()
    late = group.spawn(ended.child())  # it is still open
    executor_turn()
    assert ended.how == []
    group.cancel_scope.cancel("teardown")
    with pytest.raises(TaskCancelled, match="teardown"):
        late.join(TIMEOUT)
    assert ended.how == ["child", "child"]
    with pytest.raises(RuntimeError, match=r"of a TaskGroup .* in <Task \d+ 'step' finished>, but"):
        spawn(step(generator)).join(TIMEOUT)


@pytest.mark.parametrize("opener_lives", [False, True])
def test_F8_a_group_left_in_another_task_cancels_its_children_and_raises_at_once(
    opener_lives: bool,
) -> None:
    ended = Ended()
    opened, left = Event(), Event()
    generator: Any = group_of(ended)
    after: list[bool] = []

    async def opens() -> None:
        group = await anext(generator)
        opened.set()
        if not opener_lives:
            return
        await left.wait()
        after.append(group.cancel_scope._is_cancelled)
        await yield_now()  # the group's cancellation is not this task's: it is out of the group
        assert current_effective_deadline() == math.inf

    async def leaves() -> None:
        await opened.wait()
        with pytest.raises(RuntimeError, match="entered in"):
            await anext(generator)
        assert ended.how == []  # it has not waited
        left.set()

    handle = spawn(opens())
    spawn(leaves()).join(TIMEOUT)
    handle.join(TIMEOUT)
    executor_turn()
    assert ended.how == ["child"]
    assert after == ([True] if opener_lives else [])


def test_F8_a_cancelled_opener_leaves_its_groups_children_cancelled() -> None:
    ended = Ended()

    async def opens() -> None:
        generators.append(group_of(ended))
        await anext(generators[0])
        await forever()

    generators: list[Any] = []
    handle = spawn(opens())
    executor_turn()
    handle.cancel("the opener")
    with pytest.raises(TaskCancelled):
        handle.join(TIMEOUT)
    executor_turn()
    assert ended.how == ["child"]
    with pytest.raises(RuntimeError, match="entered in"):
        spawn(step(generators[0])).join(TIMEOUT)


async def scoped_numbers(scope: CancelScope) -> AsyncIterator[int]:
    with scope:
        yield 1
        yield 2


def test_F8_a_generator_dropped_inside_a_scope_leaves_the_consumer_as_it_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scope = CancelScope(deadline=now() + 1000)

    async def main() -> None:
        async for _ in scoped_numbers(scope):
            break
        gc.collect()
        for _ in range(5):
            await yield_now()  # the runtime closes the generator, in a task of its own
        assert current_effective_deadline() == math.inf
        scope.cancel()
        await yield_now()
        with CancelScope() as own:
            own.cancel()
            await forever()
        assert own.cancelled_caught

    spawn(main()).join(TIMEOUT)
    assert "was entered in" in caplog.text


def numbers(scope: CancelScope) -> Iterator[int]:
    with scope:
        yield 1


@pytest.mark.parametrize("thread", [False, True])
def test_F8_a_plain_generator_dropped_elsewhere_does_not_stay_the_innermost(thread: bool) -> None:
    """Outside of tasks nothing is raised; the scope is taken out of the midst of the task's."""
    scope = CancelScope(deadline=now() + 1000)
    generators: list[Iterator[int]] = []

    async def main() -> None:
        generators.append(numbers(scope))
        next(generators[0])
        with CancelScope(deadline=now() + 2000) as own:
            assert current_effective_deadline() == scope.deadline
            if thread:
                entered.set()
                await closed.wait()
            else:
                with pytest.raises(RuntimeError, match="before the scopes"):
                    generators.pop().close()  # type: ignore[attr-defined]
            assert current_effective_deadline() == own.deadline
            scope.cancel()
            await yield_now()
        assert current_effective_deadline() == math.inf
        await yield_now()

    entered, closed = Event(), Event()
    handle = spawn(main())
    if thread:
        block_on(entered.wait())
        generators.pop().close()  # type: ignore[attr-defined]
        block_on(yield_now())
        closed.set()
    handle.join(TIMEOUT)
    assert "left" in repr(scope)


def test_F8_a_scope_left_in_another_task_is_not_in_force_any_more() -> None:
    scope = CancelScope(shield=True)
    left = Event()

    async def enters() -> str:
        with contextlib.ExitStack() as stack:
            scope.__enter__()
            stack.enter_context(CancelScope())
            await left.wait()
            scope.cancel("too late")
            await yield_now()  # not cancelled
        await forever()
        return "not reached"

    async def leaves() -> None:
        with pytest.raises(RuntimeError, match="entered in"):
            scope.__exit__(None, None, None)
        left.set()

    handle = spawn(enters())
    executor_turn()
    spawn(leaves()).join(TIMEOUT)
    executor_turn()
    handle.cancel("the shield is gone")
    with pytest.raises(TaskCancelled, match="the shield is gone"):
        handle.join(TIMEOUT)


def test_F8_a_scope_that_is_left_without_having_been_entered_says_so() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="not entered"):
            CancelScope().__exit__(None, None, None)
        with CancelScope() as scope:
            pass
        with pytest.raises(RuntimeError, match="but exited in"):
            scope.__exit__(None, None, None)

    block_on(main())


# -- GeneratorExit: raised in the body, or by close() -------------------------------------------


def test_G7_a_body_that_raises_generator_exit_is_not_taken_for_being_closed() -> None:
    ended = Ended()

    def fails() -> None:
        raise GeneratorExit("by the body")

    async def main(call: bool) -> None:
        async with TaskGroup() as group:
            group.spawn(ended.child())
            await yield_now()
            if call:
                fails()
            raise GeneratorExit("by the body")

    for call in (False, True):
        ended.how.clear()
        with pytest.raises(BaseExceptionGroup) as caught:
            block_on(main(call))
        assert [str(error) for error in caught.value.exceptions] == ["by the body"]
        assert ended.how == ["child"]  # waited for


@pytest.mark.parametrize("where", ["in the body", "deep in the body", "at the end"])
def test_G8_a_coroutine_closed_inside_a_group_cancels_the_children(where: str) -> None:
    ended = Ended()
    handles: list[JoinHandle[None]] = []

    async def wait() -> None:
        await forever()

    async def grouped() -> None:
        async with TaskGroup() as group:
            handles.append(group.spawn(ended.child()))
            if where == "in the body":
                await forever()
            elif where == "deep in the body":
                try:
                    await wait()
                except GeneratorExit:
                    raise

    async def main() -> None:
        coro = grouped()
        coro.send(None)
        await yield_now()
        coro.close()
        with pytest.raises(TaskCancelled):
            await handles[0]
        assert current_effective_deadline() == math.inf

    block_on(main())
    assert ended.how == ["child"]
