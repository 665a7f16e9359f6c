"""aio(): asyncio's code from trale_py's."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import pickle
import threading
from typing import Any

import pytest

import trale_py
from trale_py import (
    Event,
    JoinHandle,
    RuntimeClosed,
    TaskCancelled,
    TaskGroup,
    aio,
    block_on,
    current_task,
    gather,
    move_on_after,
    race,
    sleep,
    spawn,
    timeout,
)

LIMIT = 20
where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


async def add(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


def test_a_function_is_called_in_an_asyncio_task_on_the_executor() -> None:
    def look(*, a: int) -> tuple[Any, ...]:
        return threading.current_thread().name, asyncio.current_task() is not None, a

    assert spawn(aio(look, a=1)).join(LIMIT) == ("trale-executor", True, 1)


@pytest.mark.parametrize(
    "how", ["spawn", "block_on", "await", "group", "gather", "timeout", "race"]
)
def test_it_goes_where_a_coroutine_goes(how: str) -> None:
    async def main() -> Any:
        if how == "await":
            return await aio(add, 1, 2)
        if how == "gather":
            return (await gather(aio(add, 1, 2)))[0]
        if how == "race":
            return await race(aio(add, 1, 2))
        if how == "timeout":
            return await timeout(LIMIT, aio(add, 1, 2))
        async with TaskGroup() as group:
            handle = group.spawn(aio(add, 1, 2))
        return handle.result()

    direct = {
        "spawn": lambda: spawn(aio(add, 1, 2)).join(LIMIT),
        "block_on": lambda: block_on(aio(add(1, 2))),
    }
    assert direct.get(how, lambda: block_on(main()))() == 3


def test_a_coroutine_a_task_and_a_future() -> None:
    async def main() -> list[int]:
        task = aio.loop().create_task(add(1, 1))
        future = aio.loop().create_future()
        aio.loop().call_soon(future.set_result, 3)
        return [await aio(add(0, 1)), await aio(task), await aio(future)]

    assert block_on(main()) == [1, 2, 3]


def test_a_result_that_cannot_be_awaited_is_the_result() -> None:
    assert block_on(aio(len, "four")) == 4


def test_what_is_wrong_is_said_at_the_call() -> None:
    with pytest.raises(TypeError, match=r"aio\(\) takes a function .*, not 5"):
        aio(5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"fn must be a function, not 5"):
        aio(5, 6)  # type: ignore[call-overload]


def test_it_is_used_once() -> None:
    call = aio(add, 1, 2)
    assert block_on(call) == 3
    with pytest.raises(RuntimeError, match="already run"):
        block_on(call)

    async def main() -> None:
        await call

    with pytest.raises(RuntimeError, match="once only"):
        block_on(main())


def test_what_is_forgotten_is_reported() -> None:
    call = aio(add, 1, 2)
    with pytest.warns(RuntimeWarning, match="<aio of add> was never awaited"):
        del call


@pytest.mark.parametrize("use", ["close", "refused", "cancelled"])
def test_what_was_handed_over_and_never_ran_is_closed(use: str) -> None:
    coro = add(1, 2)
    call = aio(coro)
    if use == "close":
        call.close()
    elif use == "refused":
        with pytest.raises(TypeError):
            spawn(call, name=5)  # type: ignore[arg-type]
    else:

        async def main() -> None:
            handle = spawn(call)
            handle.cancel()
            with pytest.raises(TaskCancelled):
                await handle

        block_on(main())
    assert inspect.getcoroutinestate(coro) == inspect.CORO_CLOSED


def test_values_errors_and_tracebacks_come_through() -> None:
    async def fails() -> None:
        raise ExceptionGroup("both", [KeyError("a"), ValueError("b")])

    with pytest.raises(ExceptionGroup, match="both") as caught:
        spawn(aio(fails)).join(LIMIT)
    assert "fails" in [entry.name for entry in caught.traceback]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, Exception])
def test_an_error_of_any_kind_ends_that_task_only(error: type[BaseException]) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise error("the end")

    beside = spawn(aio(asyncio.sleep, 0.02, "alive"))
    with pytest.raises(error, match="the end"):
        spawn(aio(fails)).join(LIMIT)
    assert beside.join(LIMIT) == "alive"


def test_context_variables_are_copied_in() -> None:
    async def ours() -> tuple[str, str]:
        where.set("here")
        return await aio(theirs), where.get()

    async def theirs() -> str:
        before = where.get()
        where.set("there")
        return before

    assert block_on(ours()) == ("here", "here")


def test_who_is_who() -> None:
    sniffio = pytest.importorskip("sniffio")

    async def theirs() -> tuple[Any, ...]:
        return current_task(), sniffio.current_async_library()

    async def ours() -> tuple[Any, ...]:
        inside = await aio(theirs)
        return *inside, sniffio.current_async_library()

    assert block_on(ours()) == (None, "asyncio", "trale")


# -- cancellation ------------------------------------------------------------------------------


class Sleeper:
    """asyncio code that sleeps, and tells how it was woken."""

    def __init__(self, answer: Any = None, rounds: int = 0) -> None:
        self.began = Event()
        self.cancelled = 0
        self.message: Any = None
        self.answer, self.rounds = answer, rounds

    async def sleep(self) -> Any:
        self.began.set()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError as error:
            self.cancelled += 1
            self.message = error.args
            for _ in range(self.rounds):
                await asyncio.sleep(0.001)  # cut off if it were cancelled twice
            if isinstance(self.answer, Exception):
                raise self.answer from None
            if self.answer is not None:
                return self.answer
            raise


def test_a_cancelled_wait_cancels_once_and_waits_for_the_end() -> None:
    sleeper = Sleeper(rounds=5)

    async def main() -> None:
        handle = spawn(aio(sleeper.sleep))
        await sleeper.began.wait()
        handle.cancel("enough")
        with pytest.raises(TaskCancelled, match="enough"):
            await handle

    block_on(main())
    assert (sleeper.cancelled, sleeper.message) == (1, ("enough",))


@pytest.mark.parametrize("answer", ["a value", ValueError("an error")])
def test_what_it_ends_with_nevertheless_is_the_outcome(answer: Any) -> None:
    sleeper = Sleeper(answer, rounds=2)

    async def main() -> Any:
        handle = spawn(aio(sleeper.sleep))
        await sleeper.began.wait()
        handle.cancel()
        return await handle

    if isinstance(answer, Exception):
        with pytest.raises(ValueError, match="an error"):
            block_on(main())
    else:
        assert block_on(main()) == answer


def test_a_scope_around_it() -> None:
    sleeper = Sleeper()

    async def main() -> bool:
        with move_on_after(0.01) as scope:
            await aio(sleeper.sleep)
        return scope.cancelled_caught

    assert block_on(main())
    assert sleeper.cancelled == 1


def test_begun_in_a_cancelled_scope_it_does_nothing() -> None:
    called = []

    async def main() -> None:
        with trale_py.CancelScope() as scope:
            scope.cancel()
            await aio(called.append, 1)

    block_on(main())
    assert called == []


def test_cancelled_by_asyncio_is_task_cancelled() -> None:
    async def gives_up() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel("theirs")
        await asyncio.sleep(0)

    with pytest.raises(TaskCancelled, match="theirs") as caught:
        spawn(aio(gives_up)).join(LIMIT)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


# -- the loop ----------------------------------------------------------------------------------


def test_the_loop_from_a_script() -> None:
    loop = aio.loop()
    assert loop is aio.loop()
    assert loop.is_running()
    assert asyncio.run_coroutine_threadsafe(add(1, 2), loop).result(LIMIT) == 3


@pytest.mark.parametrize("call", ["stop", "close", "run_forever"])
def test_the_loop_is_neither_run_nor_stopped_nor_closed(call: str) -> None:
    loop = aio.loop()
    with pytest.raises(RuntimeError, match=rf"{call}\(\) of trale_py's guest loop.*shutdown"):
        getattr(loop, call)()
    with pytest.raises(RuntimeError, match=r"run_until_complete\(\)"):
        loop.run_until_complete(add(1, 2))
    assert block_on(aio(add, 1, 2)) == 3


def test_after_the_shutdown_there_is_another() -> None:
    loop = aio.loop()
    trale_py.Executor.shutdown(LIMIT)
    assert loop.is_closed()
    with pytest.raises(RuntimeClosed):
        loop.call_soon_threadsafe(print)
    loop.close()
    assert block_on(aio(add, 1, 2)) == 3
    assert aio.loop() is not loop


@pytest.mark.parametrize(
    "call",
    [
        lambda: asyncio.sleep(1),
        lambda: asyncio.Event().wait(),
        lambda: asyncio.to_thread(print),
        lambda: asyncio.open_connection("127.0.0.1", 1),
    ],
)
def test_asyncio_in_a_task_of_ours_names_aio(call: Any) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"aio\(fn"):
            await call()

    block_on(main())


@pytest.mark.parametrize("name", ["create_task", "timeout", "Future", "gather", "run"])
def test_asyncio_calls_in_a_task_of_ours_name_aio(name: str) -> None:
    async def main() -> None:
        coro = add(1, 2)
        try:
            if name == "timeout":
                async with asyncio.timeout(1):
                    pass
            elif name == "Future":
                asyncio.Future()
            elif name == "gather":
                await asyncio.gather(coro)
            else:
                getattr(asyncio, name)(coro)
        finally:
            coro.close()

    with pytest.raises(RuntimeError) as caught:
        block_on(main())
    assert "aio(fn" in "".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


def test_a_bare_yield_of_asyncio_names_aio_too() -> None:
    async def main() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match=r"aio\("):
        block_on(main())


# -- bare futures in tasks of ours -------------------------------------------------------------


def test_a_future_of_the_loop_is_awaited_directly() -> None:
    async def main() -> tuple[Any, ...]:
        loop = aio.loop()
        future = loop.create_future()
        task = loop.create_task(add(1, 2))
        loop.call_later(0.001, future.set_result, "late")
        return await future, await task, await task

    assert block_on(main()) == ("late", 3, 3)


def test_a_cancelled_wait_for_a_future_only_stops_waiting() -> None:
    async def main() -> str:
        loop = aio.loop()
        task = loop.create_task(asyncio.sleep(0.02, "done"))
        for _ in range(3):
            with move_on_after(0.001):
                await task
        assert not task._callbacks  # type: ignore[attr-defined]
        return await task

    assert block_on(main()) == "done"


def test_a_wake_too_many_does_not_resume_it() -> None:
    async def main() -> str:
        future = aio.loop().create_future()
        task = current_task()
        assert task is not None
        waker = task._cx.waker

        async def disturb() -> None:
            for _ in range(5):
                waker.wake()
                await sleep(0)
            future.set_result("right")

        spawn(disturb())
        result: str = await future
        return result

    assert block_on(main()) == "right"


def test_a_future_that_asyncio_cancelled() -> None:
    async def main() -> None:
        future = aio.loop().create_future()
        aio.loop().call_later(0.001, future.cancel, "theirs")
        await future

    with pytest.raises(TaskCancelled, match="theirs"):
        block_on(main())


def test_a_future_that_was_done_at_the_cancellation_is_delivered() -> None:
    went_on = []

    async def waits(future: asyncio.Future[int]) -> None:
        went_on.append(await future)
        await sleep(0)
        went_on.append("never")

    async def main() -> None:
        future = aio.loop().create_future()
        handle: JoinHandle[None] = spawn(waits(future))
        await sleep(0)
        future.set_result(1)
        handle.cancel()
        with pytest.raises(TaskCancelled):
            await handle

    block_on(main())
    assert went_on == [1]


def test_a_future_of_another_loop_is_refused() -> None:
    other = asyncio.new_event_loop()
    future = other.create_future()

    async def main() -> None:
        await future

    with pytest.raises(RuntimeError, match="another library"):
        block_on(main())
    other.close()


def test_aio_is_one_object() -> None:
    assert pickle.loads(pickle.dumps(aio)) is aio


def test_asyncio_is_imported_at_the_first_use(run_script: Any) -> None:
    result = run_script(
        """
        import sys, trale_py
        trale_py.block_on(trale_py.sleep(0))
        assert "asyncio" not in sys.modules
        trale_py.block_on(trale_py.aio(len, ""))
        assert "asyncio" in sys.modules
        """
    )
    assert (result.returncode, result.stderr) == (0, "")
