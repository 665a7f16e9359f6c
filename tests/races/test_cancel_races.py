"""Cancellation: when it may come, from where, and what it does to scopes, shields, deadlines."""

from __future__ import annotations

import contextlib
import copy
import gc
import math
import pickle
import signal
import socket
import sys
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.support.net_helpers import (
    TIMEOUT,
    executor_turn,
    parked,
    raw_tcp_pair,
    settle,
    stream_and_peer,
)
from tests.support.tasks import forever, give
from trale_py import (
    PENDING,
    AsyncFd,
    Cancelled,
    CancelScope,
    Context,
    Event,
    Future,
    JoinHandle,
    Mutex,
    Notify,
    Pending,
    Ready,
    TaskCancelled,
    TcpListener,
    TcpStream,
    UdpSocket,
    as_completed,
    block_on,
    current_effective_deadline,
    current_task,
    fail_after,
    gather,
    interval,
    move_on_after,
    now,
    race,
    sleep,
    sleep_until,
    spawn,
    tasks,
    timeout,
    yield_now,
)
from trale_py.core.leaf import checkpoint


async def give_later(value: Any) -> Any:
    await yield_now()
    return value


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads that take turns every few lines."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def why(handle: JoinHandle[Any]) -> object:
    """The reason of a task that has to end cancelled."""
    with pytest.raises(TaskCancelled) as caught:
        handle.join(TIMEOUT)
    assert handle.cancelled()
    return caught.value.reason


async def cancelled_at(awaitable: Any) -> bool:
    """Await it; whether that was a cancellation."""
    try:
        await awaitable
    except Cancelled:
        return True
    return False


# -- when it comes ------------------------------------------------------------------------------


def test_F18_before_the_first_poll_the_coroutine_never_runs() -> None:
    ran = []

    async def never() -> None:
        ran.append(1)

    async def main() -> tuple[Coroutine[Any, Any, None], JoinHandle[None]]:
        coro = never()
        handle = spawn(coro)
        assert handle.cancel("early")
        return coro, handle

    coro, handle = block_on(main())
    assert why(handle) == "early"
    assert "early" in str(handle.exception())
    assert coro.cr_frame is None  # closed; it was not awaited, and no warning says so
    assert ran == []


def test_F18_before_the_first_poll_from_another_thread() -> None:
    for _ in range(300):
        ran = []

        async def perhaps(ran: list[int] = ran) -> None:
            ran.append(1)
            await forever()

        handle = spawn(perhaps())
        handle.cancel()
        assert why(handle) is None
        assert len(ran) <= 1


def test_while_it_is_queued() -> None:
    steps = []

    async def victim() -> None:
        steps.append("began")
        await yield_now()
        steps.append("went on")

    async def main() -> JoinHandle[None]:
        handle = spawn(victim())
        await yield_now()  # it has run, and is queued again
        handle.cancel()
        return handle

    assert why(block_on(main())) is None
    assert steps == ["began"]


def test_while_it_waits() -> None:
    handle = parked(forever())
    assert handle.cancel("enough")
    assert why(handle) == "enough"


def test_while_it_is_polled_from_another_thread() -> None:
    polled, go_on = threading.Event(), threading.Event()

    async def victim() -> str:
        polled.set()
        assert go_on.wait(TIMEOUT)  # blocks the executor: it is in the midst of its poll
        await yield_now()
        return "not reached"

    handle = spawn(victim())
    assert polled.wait(TIMEOUT)
    assert handle.cancel("mid-poll")
    go_on.set()
    assert why(handle) == "mid-poll"


def test_while_it_is_polled_and_about_to_return() -> None:
    polled, go_on = threading.Event(), threading.Event()

    async def victim() -> str:
        polled.set()
        assert go_on.wait(TIMEOUT)
        return "value"

    handle = spawn(victim())
    assert polled.wait(TIMEOUT)
    assert handle.cancel()
    go_on.set()
    assert handle.join(TIMEOUT) == "value"
    assert not handle.cancelled()


def test_twice_the_first_reason_is_heard_and_after_the_end_it_is_false() -> None:
    async def main() -> JoinHandle[None]:
        handle = spawn(forever())
        await yield_now()
        assert handle.cancel("first")
        assert handle.cancel("second")
        return handle

    handle = block_on(main())
    assert why(handle) == "first"
    assert not handle.cancel("third")
    assert why(handle) == "first"
    ended = spawn(give(1))
    ended.join(TIMEOUT)
    assert not ended.cancel()
    assert not ended.cancelled()
    assert ended.result() == 1


def test_cancel_in_a_done_callback_is_after_the_end() -> None:
    said: list[bool] = []
    handle = spawn(give(1))
    handle.add_done_callback(lambda handle: said.append(handle.cancel()))
    handle.join(TIMEOUT)
    executor_turn()
    assert said == [False]


def test_a_task_cancels_itself_by_its_handle() -> None:
    box: list[JoinHandle[None]] = []

    async def suicidal() -> None:
        assert box[0].cancel("by myself")
        await give(1)  # no checkpoint
        await yield_now()
        raise AssertionError("not reached")

    async def main() -> None:
        box.append(spawn(suicidal()))

    block_on(main())
    assert why(box[0]) == "by myself"


def test_F11_from_a_signal_handler() -> None:
    by_handle, by_scope = parked(forever()), Event()
    scope = CancelScope()

    async def scoped() -> bool:
        with scope:
            by_scope.set()
            await forever()
        return scope.cancelled_caught

    scoped_handle = spawn(scoped())
    block_on(by_scope.wait())

    def handler(*_: object) -> None:
        by_handle.cancel("signal")
        scope.cancel("signal")

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert why(by_handle) == "signal"
    assert scoped_handle.join(TIMEOUT)
    assert scope.reason == "signal"


def test_F11_from_a_signal_handler_in_the_midst_of_other_cancels() -> None:
    """An interval timer interrupts this thread between any two lines of spawn and cancel."""
    victims: list[JoinHandle[None]] = []

    def handler(*_: object) -> None:
        if victims:
            victims[-1].cancel("signal")

    before = signal.signal(signal.SIGVTALRM, handler)
    reasons = set()
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005, 0.0005)
        for _ in range(500):
            handle = spawn(forever())
            victims.append(handle)
            handle.cancel("main")
            reasons.add(why(handle))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert reasons <= {"signal", "main"}


def test_G15_from_a_del() -> None:
    class Canceller:
        def __init__(self, cancel: Callable[[object], object]) -> None:
            self.cancel = cancel

        def __del__(self) -> None:
            self.cancel("del")

    handle = parked(forever())
    cycle = Canceller(handle.cancel)
    cycle.itself = cycle  # type: ignore[attr-defined]
    del cycle
    gc.collect()
    assert why(handle) == "del"

    async def in_the_executor() -> object:
        with CancelScope() as scope:
            canceller = Canceller(scope.cancel)
            del canceller
            await forever()
        return scope.reason

    assert block_on(in_the_executor()) == "del"


def test_G15_from_a_del_at_any_allocation() -> None:
    class Canceller:
        def __init__(self, handle: JoinHandle[None]) -> None:
            self.handle = handle
            self.itself = self

        def __del__(self) -> None:
            self.handle.cancel("del")

    before = gc.get_threshold()
    try:
        gc.set_threshold(7)
        handles = []
        for _ in range(300):
            handle = spawn(forever())
            Canceller(handle)
            handles.append(handle)
        gc.collect()
        assert {why(handle) for handle in handles} == {"del"}
    finally:
        gc.set_threshold(*before)


def test_F11_from_another_thread_by_handle_and_by_scope() -> None:
    scope = CancelScope()

    async def scoped() -> object:
        with scope:
            await forever()
        return scope.reason

    by_handle, by_scope = spawn(forever()), parked(scoped())

    def cancel() -> None:
        by_handle.cancel("thread")
        scope.cancel("thread")

    thread = threading.Thread(target=cancel)
    thread.start()
    thread.join(TIMEOUT)
    assert why(by_handle) == "thread"
    assert by_scope.join(TIMEOUT) == "thread"


@pytest.mark.usefixtures("quick_switches")
def test_a_scope_is_cancelled_by_another_thread_as_it_is_entered() -> None:
    for i in range(300):
        scope = CancelScope()

        async def scoped(scope: CancelScope = scope) -> bool:
            with scope:
                await forever()
            return scope.cancelled_caught

        handle = spawn(scoped())
        for _ in range(i % 100 * 30):
            pass
        scope.cancel(i)
        assert handle.join(TIMEOUT)
        assert scope.reason == i


@pytest.mark.usefixtures("quick_switches")
def test_cancel_races_with_the_end_and_exactly_one_of_them_wins() -> None:
    """2,000 tries from another thread."""
    gate: list[Callable[[], None]] = [lambda: None]
    ended: list[str] = []

    async def victim(event: Event) -> str:
        try:
            await event.wait()
        except Cancelled:
            ended.append("cancelled")
            raise
        ended.append("value")
        return "value"

    seen = {"value": 0, "cancelled": 0}
    stop = threading.Event()
    start, done = threading.Semaphore(0), threading.Semaphore(0)

    def other() -> None:
        while start.acquire(timeout=TIMEOUT) and not stop.is_set():
            gate[0]()
            done.release()

    thread = threading.Thread(target=other)
    thread.start()
    try:
        for i in range(2000):
            event = Event()
            ended.clear()
            handle = parked(victim(event))
            gate[0] = event.set if i % 2 else handle.cancel
            start.release()
            for _ in range(i // 2 % 100 * 40):
                pass
            (handle.cancel if i % 2 else event.set)()
            assert done.acquire(timeout=TIMEOUT)
            try:
                how = handle.join(TIMEOUT)
                assert not handle.cancelled()
            except TaskCancelled:
                how = "cancelled"
                assert handle.cancelled()
            assert ended == [how]
            assert not handle.cancel()
            seen[how] += 1
    finally:
        stop.set()
        start.release()
        thread.join(TIMEOUT)
    assert min(seen.values()) > 0, seen


# -- swallowing it ------------------------------------------------------------------------------


def test_a_task_that_swallows_it_and_returns_has_that_result() -> None:
    async def stubborn() -> str:
        try:
            await forever()
        except Cancelled as error:
            return f"swallowed {error.reason}"
        return "not reached"

    handle = parked(stubborn())
    assert handle.cancel("once")
    assert handle.join(TIMEOUT) == "swallowed once"
    assert not handle.cancelled()


def test_F5_it_is_raised_again_at_every_checkpoint_until_the_scope_is_left() -> None:
    async def main() -> list[str]:
        seen = []
        with CancelScope() as scope:
            scope.cancel("again and again")
            for awaitable in (sleep(0), sleep(5), yield_now(), Event().wait(), forever()):
                try:
                    await awaitable
                except BaseException as error:
                    seen.append(f"{type(error).__name__} {error}")
            assert current_effective_deadline() == -math.inf
            assert not scope.cancelled_caught
        assert not scope.cancelled_caught  # it came to its end by itself
        await yield_now()  # and outside of it nothing is raised any more
        return seen

    assert block_on(main()) == ["Cancelled again and again"] * 5


def test_F5_in_a_finally_block_too() -> None:
    seen: list[bool] = []

    async def victim() -> None:
        try:
            await forever()
        finally:
            seen.append(await cancelled_at(sleep(1)))
            with CancelScope(shield=True):
                seen.append(await cancelled_at(sleep(0.001)))
            seen.append(await cancelled_at(yield_now()))

    handle = parked(victim())
    handle.cancel()
    assert why(handle) is None
    assert seen == [True, False, True]


def test_F6_a_task_that_swallows_it_for_ever_starves_nobody(run_script: Any) -> None:
    """In a process of its own: the executor's thread is kept with the task for ever."""
    done = run_script(
        """
        import math
        from trale_py import now, sleep, yield_now
        from trale_py.core.runtime import Runtime

        runtime = Runtime()
        swallowed = 0

        async def stubborn():
            global swallowed
            while True:
                try:
                    await sleep(math.inf)
                except BaseException:
                    swallowed += 1

        async def others():
            for _ in range(50):
                await yield_now()
            await sleep(0.001)
            return swallowed

        handles = [runtime.spawn(stubborn()), runtime.spawn(stubborn())]
        runtime.spawn(others()).join(20)
        assert all(handle.cancel() for handle in handles)
        before = runtime.spawn(others()).join(20)
        assert runtime.spawn(others()).join(20) > before > 0
        started = now()
        runtime.shutdown(timeout=0.5)
        assert 0.5 <= now() - started < 10
        for handle in handles:
            try:
                handle.join(20)
            except RuntimeError as error:
                print(error)
        """
    )
    assert done.stderr.count("\n") == done.stderr.count("seems to swallow") == 2  # F5
    assert done.stdout.count("had not ended") == 2
    assert done.returncode == 0


def test_F6_a_cancelled_task_behind_a_shield_is_not_woken_again_and_again() -> None:
    polls = 0
    release = Event()

    class Counts(Future[None]):
        def poll(self, cx: Context) -> Ready[None] | Pending:
            nonlocal polls
            polls += 1
            return Ready(None) if release.is_set() else PENDING

    async def shielded() -> None:
        with CancelScope(shield=True):
            await Counts()

    handle = parked(shielded())
    assert polls == 1
    for _ in range(20):
        handle.cancel()
        executor_turn()
    assert polls == 1
    release.set()
    (task,) = [task for task in tasks() if task.id == handle.id]
    task._cx.waker.wake()
    handle.join(TIMEOUT)


# -- pending wins; drop() -----------------------------------------------------------------------


def test_a_pending_cancellation_wins_over_readiness_and_the_future_is_dropped_once() -> None:
    dropped = []

    class Always(Future[str]):
        waker = None
        polls = 0

        def poll(self, cx: Context) -> Ready[str] | Pending:
            self.polls += 1
            self.waker = cx.waker
            return Ready("ready") if self.polls > 1 else PENDING

        def drop(self) -> None:
            dropped.append(self)

    async def main() -> None:
        for cancel_first in (True, False):
            future = Always()
            handle = spawn(future)
            await yield_now()
            assert future.waker is not None
            if cancel_first:
                handle.cancel()
            future.waker.wake()
            handle.cancel()
            with contextlib.suppress(TaskCancelled):
                await handle
                raise AssertionError("not cancelled")
            assert future.polls == 1
            assert dropped == [future]
            dropped.clear()

    block_on(main())


def test_G11_a_cancelled_task_is_freed_without_the_garbage_collector() -> None:
    class Marker:
        pass

    async def victim(marker: Marker) -> None:
        await forever()

    gc.collect()
    gc.disable()
    try:
        marker = Marker()
        reference = weakref.ref(marker)
        handle = parked(victim(marker))
        del marker
        handle.cancel()
        try:
            handle.join(TIMEOUT)
        except TaskCancelled:
            pass
        assert handle.cancelled()
        del handle
        executor_turn()
        assert reference() is None
    finally:
        gc.enable()


def test_cancelled_is_not_made_by_hand() -> None:
    with pytest.raises(TypeError, match="cancel"):
        Cancelled()

    async def main() -> None:
        raise Cancelled

    with pytest.raises(TypeError):
        block_on(main())


def cancelled_error(reason: object) -> Cancelled:
    async def main() -> Cancelled:
        with CancelScope() as scope:
            scope.cancel(reason)
            try:
                await sleep(0)
            except Cancelled as error:
                error.add_note("a note")
                return error
        raise AssertionError("not cancelled")

    return block_on(main())


@pytest.mark.parametrize("reason", [None, "why", ("a", 1), 0])
def test_cancelled_can_be_copied_and_pickled(reason: object) -> None:
    error = cancelled_error(reason)
    copies = [copy.copy(error), copy.deepcopy(error)]
    copies += [
        pickle.loads(pickle.dumps(error, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ]
    for one in copies:
        assert type(one) is Cancelled
        assert one is not error
        assert (one.reason, one.args, str(one)) == (reason, error.args, str(error))
        assert one.__notes__ == ["a note"]  # type: ignore[attr-defined]


# -- scopes -------------------------------------------------------------------------------------


def test_a_scope_swallows_its_own_cancellation_only() -> None:
    async def main() -> list[bool]:
        with CancelScope() as outer:
            with CancelScope() as inner:
                outer.cancel("outer")
                inner.cancel("inner")
                await yield_now()
            raise AssertionError("the outer one is cancelled too, so it goes on outwards")
        return [inner.cancelled_caught, outer.cancelled_caught]

    assert block_on(main()) == [False, True]

    async def inner_only() -> list[bool]:
        with CancelScope() as outer:
            with CancelScope() as inner:
                inner.cancel()
                await yield_now()
            await yield_now()
        return [inner.cancelled_caught, outer.cancelled_caught]

    assert block_on(inner_only()) == [True, False]


def test_a_cancelled_scope_under_a_shield_of_a_cancelled_one() -> None:
    async def main() -> list[bool]:
        with CancelScope() as outer:
            outer.cancel()
            with CancelScope(shield=True) as inner:
                await yield_now()
                inner.cancel()
                await yield_now()
            assert inner.cancelled_caught
            return [await cancelled_at(yield_now())]
        return []

    assert block_on(main()) == [True]


def test_before_entry_twice_and_after_the_end() -> None:
    scope = CancelScope()
    assert not scope.cancel_called
    scope.cancel("before")
    scope.cancel("later")
    assert scope.cancel_called

    async def main() -> None:
        with scope:
            await yield_now()
            raise AssertionError("cancelled from its beginning")

    block_on(main())
    assert scope.cancelled_caught
    assert scope.reason == "before"

    left = CancelScope()

    async def leaves() -> None:
        with left:
            await yield_now()
        left.cancel("too late")
        await yield_now()

    block_on(leaves())
    assert not left.cancel_called
    assert not left.cancelled_caught
    assert left.reason is None
    assert "left" in repr(left)


def test_a_scope_is_entered_once_and_in_tasks_only() -> None:
    with pytest.raises(RuntimeError, match="task"), CancelScope():
        pass
    with pytest.raises(RuntimeError, match=r"join\(timeout=.*block_on"), move_on_after(1):
        pass
    with pytest.raises(RuntimeError):
        current_effective_deadline()

    async def main() -> None:
        scope = CancelScope()
        with scope:
            with pytest.raises(RuntimeError, match="already been entered"):
                scope.__enter__()
            await yield_now()
        with pytest.raises(RuntimeError, match="already been entered"), scope:
            pass

    block_on(main())


def test_F7_ten_thousand_nested_scopes() -> None:
    depth = 10_000

    async def main(innermost: bool) -> int:
        scopes = [CancelScope() for _ in range(depth)]
        with contextlib.ExitStack() as stack:
            for scope in scopes:
                stack.enter_context(scope)
            (scopes[-1] if innermost else scopes[0]).cancel("deep")
            await forever()
        return sum(scope.cancelled_caught for scope in scopes)

    assert spawn(main(True)).join(TIMEOUT) == 1
    assert spawn(main(False)).join(TIMEOUT) == 1

    async def by_handle() -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(depth):
                stack.enter_context(CancelScope())
            await forever()

    handle = parked(by_handle())
    handle.cancel("deep")
    assert why(handle) == "deep"

    async def abandoned() -> None:
        for _ in range(depth):
            CancelScope().__enter__()

    spawn(abandoned()).join(TIMEOUT)


def test_F8_a_scope_entered_in_one_task_and_left_in_another() -> None:
    scope = CancelScope()
    left = Event()

    async def enters() -> str:
        scope.__enter__()
        await left.wait()
        return "went on"

    async def leaves() -> str:
        with pytest.raises(RuntimeError, match=r"entered in .* exited in"):
            scope.__exit__(None, None, None)
        await yield_now()
        left.set()
        return "went on"

    entered = parked(enters())
    assert spawn(leaves()).join(TIMEOUT) == "went on"
    assert entered.join(TIMEOUT) == "went on"


def test_F8_the_task_whose_scope_another_task_has_left_can_still_be_cancelled() -> None:
    scope = CancelScope()

    async def enters() -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(CancelScope())
            scope.__enter__()
            stack.enter_context(CancelScope())
            await forever()

    async def leaves() -> None:
        with pytest.raises(RuntimeError):
            scope.__exit__(None, None, None)

    handle = parked(enters())
    spawn(leaves()).join(TIMEOUT)
    handle.cancel("still there")
    with pytest.raises((RuntimeError, TaskCancelled)):
        handle.join(TIMEOUT)


def test_F8_left_out_of_order() -> None:
    async def main() -> str:
        outer, inner = CancelScope(), CancelScope(deadline=now() + 3600)
        outer.__enter__()
        inner.__enter__()
        with pytest.raises(RuntimeError, match="before the scopes"):
            outer.__exit__(None, None, None)
        assert current_effective_deadline() == pytest.approx(inner.deadline)  # it is not to blame
        inner.__exit__(None, None, None)
        await yield_now()
        with CancelScope() as scope:  # the task's own scopes are as they were before
            scope.cancel()
            await forever()
        assert scope.cancelled_caught
        assert current_effective_deadline() == math.inf
        return "went on"

    assert block_on(main()) == "went on"


def test_F8_left_out_of_order_the_task_is_still_cancelled_by_its_handle() -> None:
    ready = Event()

    async def main() -> None:
        outer, inner = CancelScope(), CancelScope()
        outer.__enter__()
        inner.__enter__()
        with pytest.raises(RuntimeError):
            outer.__exit__(None, None, None)
        ready.set()
        await forever()

    handle = spawn(main())
    block_on(ready.wait())
    handle.cancel("all the same")
    assert why(handle) == "all the same"


def test_F8_a_scope_around_the_yield_of_a_generator_that_another_task_closes() -> None:
    async def generator() -> AsyncIterator[int]:
        with CancelScope():
            yield 1

    async def enters() -> Any:
        numbers = generator()
        assert await anext(numbers) == 1
        return numbers

    numbers = spawn(enters()).join(TIMEOUT)

    async def closes() -> str:
        with pytest.raises(RuntimeError, match="entered in"):
            await numbers.aclose()
        await yield_now()
        return "went on"

    assert spawn(closes()).join(TIMEOUT) == "went on"


def test_F8_a_scope_that_is_never_left_leaves_no_timer_when_its_task_ends() -> None:
    """The fixture looks whether the timer is gone."""

    async def main() -> None:
        for _ in range(3):
            CancelScope(deadline=now() + 3600).__enter__()
        await yield_now()

    spawn(main()).join(TIMEOUT)


def test_a_coroutine_that_is_closed_outside_of_tasks_leaves_its_scopes() -> None:
    left: list[CancelScope] = []

    async def scoped() -> None:
        with CancelScope() as scope:
            left.append(scope)
            await forever()

    async def drives() -> Coroutine[Any, Any, None]:
        coro = scoped()
        coro.send(None)
        return coro

    coro = block_on(drives())
    coro.close()
    assert "left" in repr(left[0])


def test_F5_who_swallows_its_cancellation_for_ever_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def swallows(times: int) -> str:
        for _ in range(times):
            with contextlib.suppress(Cancelled):
                await forever()
        return "done"

    async def many_scopes() -> None:
        for _ in range(300):
            with CancelScope() as scope:
                scope.cancel()
                await forever()

    for times in (50, 1000):
        handle = spawn(swallows(times), name=f"deaf{times}")
        block_on(yield_now())
        handle.cancel()
        assert handle.join(TIMEOUT) == "done"
    block_on(many_scopes())
    (record,) = [record for record in caplog.records if record.name == "trale_py"]
    assert "deaf1000" in record.getMessage()


# -- shields ------------------------------------------------------------------------------------


def test_F9_a_shield_is_toggled_while_a_cancellation_is_due() -> None:
    async def main() -> list[bool]:
        seen = []
        with CancelScope() as outer:
            outer.cancel()
            with CancelScope() as inner:
                seen.append(await cancelled_at(yield_now()))
                inner.shield = True
                seen.append(await cancelled_at(yield_now()))
                with CancelScope():
                    seen.append(await cancelled_at(yield_now()))
                    inner.shield = False
                    seen.append(await cancelled_at(yield_now()))
                inner.shield = True
                assert inner.shield
            seen.append(await cancelled_at(yield_now()))
            assert not inner.cancel_called
            return seen
        return []

    assert block_on(main()) == [True, False, False, True, True]


def test_F9_a_shield_is_raised_while_cancelled_propagates() -> None:
    """It had been thrown already: a shield does not call it back, and its own scope takes it."""

    async def main() -> tuple[bool, bool]:
        with CancelScope() as outer:
            with CancelScope() as inner:
                outer.cancel()
                try:
                    await yield_now()
                finally:
                    inner.shield = True
                    await yield_now()
            raise AssertionError("not reached")
        return inner.cancelled_caught, outer.cancelled_caught

    assert block_on(main()) == (False, True)


def test_F9_a_shield_taken_down_by_another_thread_lets_the_cancellation_in() -> None:
    scope = CancelScope(shield=True)

    async def main() -> None:
        with scope:
            await forever()

    handle = parked(main())
    handle.cancel("outside")
    executor_turn()
    assert not handle.done()
    scope.shield = False
    assert why(handle) == "outside"


def test_a_shield_holds_against_shutdown_up_to_its_limit(run_script: Any) -> None:
    done = run_script(
        """
        import math
        from trale_py import CancelScope, sleep, yield_now
        from trale_py.core.runtime import Runtime

        runtime = Runtime()

        async def shielded():
            with CancelScope(shield=True):
                await sleep(math.inf)

        async def cleans_up():
            try:
                await sleep(math.inf)
            except BaseException:
                with CancelScope(shield=True):
                    await sleep(0.01)
            return "clean"

        handle, clean = runtime.spawn(shielded()), runtime.spawn(cleans_up())
        runtime.spawn(sleep(0)).join(20)
        runtime.shutdown(timeout=0.5)
        print(clean.join(20))
        try:
            handle.join(20)
        except RuntimeError as error:
            print(error)
        """
    )
    assert done.stderr == ""
    assert "clean" in done.stdout
    assert "had not ended" in done.stdout
    assert done.returncode == 0


# -- deadlines ----------------------------------------------------------------------------------


def test_F10_a_deadline_in_the_past_cancels_at_once() -> None:
    async def main() -> None:
        for deadline in (now() - 1, 0, -5.0, -math.inf):
            with CancelScope(deadline=deadline) as scope:
                assert current_effective_deadline() == -math.inf
                await sleep(0)
                raise AssertionError("not reached")
            assert scope.cancelled_caught
        with move_on_after(0) as scope:
            await yield_now()
            raise AssertionError("not reached")
        assert scope.cancelled_caught

    block_on(main())


def test_F10_nan_and_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="deadline"):
        CancelScope(deadline=math.nan)
    with pytest.raises(TypeError, match="deadline"):
        CancelScope(deadline="soon")  # type: ignore[arg-type]
    for make in (move_on_after, fail_after):
        with pytest.raises(ValueError, match="seconds"):
            make(math.nan)
        with pytest.raises(ValueError, match="seconds"):
            make(-1)
        with pytest.raises(TypeError, match="seconds"):
            make("1")  # type: ignore[arg-type]

    async def main() -> None:
        with CancelScope(deadline=now() + 3600) as scope:
            before = scope.deadline
            with pytest.raises(ValueError, match="deadline"):
                scope.deadline = math.nan
            assert scope.deadline == before
            await yield_now()

    block_on(main())


@pytest.mark.parametrize("by_thread", [True, False], ids=["thread", "task"])
def test_F10_a_deadline_is_moved_earlier_while_it_is_waited_for(by_thread: bool) -> None:
    scope = CancelScope(deadline=now() + 3600)

    async def main() -> bool:
        with scope:
            await forever()
        return scope.cancelled_caught

    async def move() -> None:
        scope.deadline = now() + 0.005

    handle = parked(main())
    if by_thread:
        scope.deadline = now() + 0.005
    else:
        block_on(move())
    assert handle.join(TIMEOUT)
    assert now() >= scope.deadline


@pytest.mark.parametrize("later", [3600.0, math.inf])
def test_F10_a_deadline_is_moved_later_while_it_is_waited_for(later: float) -> None:
    scope = CancelScope()

    async def main() -> bool:
        with scope:
            scope.deadline = first = now() + 0.02
            ready.set()
            await sleep_until(first + 0.03)  # it would have been cut off here
        return scope.cancelled_caught

    ready = Event()
    handle = spawn(main())
    block_on(ready.wait())
    scope.deadline = now() + later
    moved_at = now()
    caught = handle.join(TIMEOUT)
    if moved_at < scope.deadline - later + 0.001:
        assert caught is False or moved_at > scope.deadline - later


def test_F10_a_deadline_moved_into_the_past_or_away_from_it() -> None:
    async def main() -> None:
        with CancelScope(deadline=now() + 3600) as scope:
            scope.deadline = now() - 1
            assert await cancelled_at(yield_now())
            scope.deadline = math.inf  # it has been cancelled, and remains so
            assert scope.cancel_called
            assert await cancelled_at(yield_now())
        fresh = CancelScope(deadline=now() - 1)
        fresh.deadline = now() + 3600  # before entry
        with fresh:
            await yield_now()
        assert not fresh.cancel_called

    block_on(main())


def test_a_deadline_counts_also_behind_a_shield_of_its_own() -> None:
    async def main() -> bool:
        with move_on_after(0.002) as scope:
            scope.shield = True
            await forever()
        return scope.cancelled_caught

    assert block_on(main())


def test_fail_after_and_move_on_after() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError), fail_after(0.001) as scope:
            await forever()
        assert scope.cancelled_caught
        with fail_after(3600) as scope:
            await yield_now()
        assert not scope.cancel_called
        with pytest.raises(KeyError), fail_after(3600):  # another error goes through
            raise KeyError
        with fail_after(0):  # it came to its end: no TimeoutError
            pass
        with move_on_after(0.001) as scope:
            await forever()
        assert scope.cancelled_caught
        with CancelScope() as outer, fail_after(3600):
            outer.cancel()  # not its own cancellation
            await forever()
        assert outer.cancelled_caught

    block_on(main())


def test_current_effective_deadline() -> None:
    async def main() -> None:
        assert current_effective_deadline() == math.inf
        near, far = now() + 1000, now() + 2000
        with CancelScope(deadline=far):
            assert current_effective_deadline() == pytest.approx(far)
            with CancelScope(deadline=near):
                assert current_effective_deadline() == pytest.approx(near)
                with CancelScope(shield=True) as inner:
                    assert current_effective_deadline() == math.inf
                    inner.deadline = far
                    assert current_effective_deadline() == pytest.approx(far)
                    inner.shield = False
                    assert current_effective_deadline() == pytest.approx(near)
                    inner.cancel()
                    assert current_effective_deadline() == -math.inf
            assert current_effective_deadline() == pytest.approx(far)
        assert current_effective_deadline() == math.inf

    block_on(main())


# -- every checkpoint is one --------------------------------------------------------------------


async def cancelled_scope(operation: Callable[[], Any]) -> None:
    """The operation inside a cancelled scope; others get their turn before it raises."""
    turns = []

    async def other() -> None:
        turns.append(1)

    scope = CancelScope()
    scope.cancel()
    with scope:
        spawn(other())
        await operation()
    assert scope.cancelled_caught, "it did not raise Cancelled"
    assert turns == [1], "it did not give way"


def plain_operations() -> dict[str, Callable[[], Any]]:
    event, notify, mutex = Event(), Notify(), Mutex(1)
    event.set()
    notify.notify_one()
    ended = spawn(give(1))
    ended.join(TIMEOUT)

    async def ticks() -> None:
        await interval(1).tick()

    async def enters() -> None:
        async with mutex:
            raise AssertionError("entered")

    async def none() -> None:
        assert notify._count == 1
        assert not mutex.locked()

    async def iterates() -> None:
        async for _ in as_completed([]):
            pass

    return {
        "sleep_0": lambda: sleep(0),
        "sleep": lambda: sleep(0.001),
        "sleep_until": lambda: sleep_until(0),
        "tick": ticks,
        "yield_now": yield_now,
        "checkpoint": checkpoint,
        "event": event.wait,
        "notify": notify.wait,
        "lock": mutex.lock,
        "async_with_mutex": enters,
        "ended_handle": lambda: ended,
        "gather_nothing": gather,
        "as_completed_nothing": iterates,
        "timeout_of_a_handle": lambda: timeout(1, ended),
        "afterwards": lambda: after(none),
    }


async def after(check: Callable[[], Any]) -> None:
    await check()
    await checkpoint()


@pytest.mark.parametrize("name", list(plain_operations()))
def test_every_operation_is_a_checkpoint_also_when_ready_at_once(name: str) -> None:
    operations = plain_operations()
    block_on(cancelled_scope(operations[name]))
    block_on(cancelled_scope(operations["afterwards"]))


READS = ["read", "read_buffered", "read_exact", "read_until", "lines", "readinto"]
WRITES = ["write", "write_nothing", "write_all", "shutdown"]


@pytest.mark.parametrize(
    "name",
    [*READS, *WRITES],
)
def test_every_operation_of_a_stream_is_a_checkpoint_and_does_nothing(name: str) -> None:
    with stream_and_peer() as (stream, peer):
        peer.sendall(b"a line\nmore")

        async def lines() -> None:
            async for _ in stream.lines():
                raise AssertionError("got a line")

        async def prepare() -> None:
            if name in ("read_buffered", "readinto"):
                assert await stream.read_until(b" ") == b"a "
                peer.sendall(b"")
            else:
                await AsyncFd(stream.socket).readable()

        block_on(prepare())
        operation: Callable[[], Any] = {
            "read": stream.read,
            "read_buffered": stream.read,
            "read_exact": lambda: stream.read_exact(2),
            "read_until": lambda: stream.read_until(b"\n"),
            "lines": lines,
            "readinto": lambda: stream.readinto(bytearray(4)),
            "write": lambda: stream.write(b"no"),
            "write_nothing": lambda: stream.write(b""),
            "write_all": lambda: stream.write_all(b"no"),
            "shutdown": stream.shutdown,
        }[name]
        block_on(cancelled_scope(operation))

        async def rest() -> None:
            whole = b"line\nmore" if name in ("read_buffered", "readinto") else b"a line\nmore"
            assert await stream.read_exact(len(whole)) == whole
            await stream.write_all(b"still whole")
            await stream.shutdown()

        block_on(rest())
        received = b""
        while data := peer.recv(100):
            received += data
        assert received == b"still whole"


def test_accept_and_recv_from_and_readable_are_checkpoints_and_take_nothing() -> None:
    with TcpListener.bind("127.0.0.1:0") as listener:
        client = socket.create_connection(listener.local_addr[:2], timeout=TIMEOUT)
        with client:
            block_on(cancelled_scope(listener.accept))
            stream = spawn(listener.accept()).join(TIMEOUT)
            assert stream.peer_addr == client.getsockname()
            stream.close()
    with UdpSocket.bind("127.0.0.1:0") as sock, UdpSocket.bind("127.0.0.1:0") as peer:
        spawn(peer.send_to(b"there", sock.local_addr)).join(TIMEOUT)
        block_on(cancelled_scope(sock.recv_from))
        block_on(cancelled_scope(lambda: sock.send_to(b"not sent", peer.local_addr)))
        block_on(cancelled_scope(lambda: sock.connect(peer.local_addr)))
        assert spawn(sock.recv_from()).join(TIMEOUT) == (b"there", peer.local_addr)
        spawn(sock.send_to(b"sent", peer.local_addr)).join(TIMEOUT)
        assert spawn(peer.recv()).join(TIMEOUT) == b"sent"
    ours, theirs = socket.socketpair()
    with ours, theirs, AsyncFd(ours) as fd:
        theirs.send(b"x")
        block_on(cancelled_scope(fd.readable))
        block_on(cancelled_scope(fd.writable))


def test_connect_in_a_cancelled_scope_does_not_even_knock() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        block_on(cancelled_scope(lambda: TcpStream.connect(server.getsockname())))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("combine", [gather, race], ids=["gather", "race"])
def test_combinators_in_a_cancelled_scope_do_not_begin(combine: Any) -> None:
    ran = []

    async def child() -> None:
        ran.append(1)

    running = parked(forever())
    block_on(cancelled_scope(lambda: combine(child(), running, child())))
    assert ran == []
    assert not running.done()
    running.cancel()


def test_as_completed_in_a_cancelled_scope_does_not_begin() -> None:
    ran = []

    async def child() -> None:
        ran.append(1)

    async def iterate() -> None:
        async for _ in as_completed([child(), child()]):
            raise AssertionError("not reached")

    block_on(cancelled_scope(iterate))
    assert ran == []


def test_a_join_await_that_is_cancelled_leaves_the_task_running() -> None:
    gate = Notify()
    target = parked(gate.wait())

    async def wait() -> None:
        await target

    waiter = parked(wait())
    waiter.cancel()
    assert why(waiter) is None
    assert not target.done()
    gate.notify_one()
    target.join(TIMEOUT)


# -- the network --------------------------------------------------------------------------------


def test_C12_write_all_that_is_cut_off_marks_the_stream() -> None:
    with stream_and_peer() as (stream, _):
        writing = parked(stream.write_all(bytes(1 << 25)))
        settle()
        assert not writing.done()
        writing.cancel()
        assert why(writing) is None
        for attempt in (stream.write, stream.write_all):
            with pytest.raises(BrokenPipeError, match=r"sent \d+ of 33554432 bytes"):
                spawn(attempt(b"more")).join(TIMEOUT)


def test_C12_write_that_is_cancelled_has_written_nothing() -> None:
    with stream_and_peer() as (stream, peer):

        async def fill() -> int:
            sent = 0
            while True:
                with move_on_after(0.02) as scope:
                    sent += await stream.write(bytes(1 << 20))
                if scope.cancelled_caught:
                    return sent

        sent = spawn(fill()).join(TIMEOUT)
        received = 0
        while received < sent:
            received += len(peer.recv(1 << 20))
        spawn(stream.write_all(b"whole")).join(TIMEOUT)
        assert received == sent
        assert peer.recv(100) == b"whole"


def test_C2_a_connect_that_is_cancelled_leaves_no_descriptor() -> None:
    """The fixture counts descriptors."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        fillers = []
        try:
            for _ in range(2):  # the backlog of 0 holds one; from then on nobody answers
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(server.getsockname())
                fillers.append(filler)
            hanging = parked(TcpStream.connect(server.getsockname()))
            settle()
            assert not hanging.done()
            hanging.cancel("no answer")
            assert why(hanging) == "no answer"

            async def main() -> bool:
                with move_on_after(0.01) as scope:
                    await TcpStream.connect(server.getsockname())
                return scope.cancelled_caught

            assert block_on(main())
            with pytest.raises(TimeoutError):
                block_on(timeout(0.01, TcpStream.connect(server.getsockname())))
        finally:
            for filler in fillers:
                filler.close()


def test_C22_a_connect_that_is_cancelled_while_the_name_is_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looking, go_on = threading.Event(), threading.Event()

    look_up = socket.getaddrinfo

    def slow(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("flags", 0) & socket.AI_NUMERICHOST:
            return look_up(*args, **kwargs)
        looking.set()
        assert go_on.wait(TIMEOUT)
        raise socket.gaierror(socket.EAI_AGAIN, "too slow")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    handle = spawn(TcpStream.connect("name.invalid:80"))
    assert looking.wait(TIMEOUT)
    handle.cancel("not waiting for that")
    try:
        assert why(handle) == "not waiting for that"
    finally:
        go_on.set()


def test_a_stream_is_usable_after_a_cancelled_read() -> None:
    with raw_tcp_pair() as (ours, peer), TcpStream.from_socket(ours) as stream:
        for i in range(50):
            reading = parked(stream.read())
            reading.cancel()
            assert why(reading) is None
            peer.sendall(bytes([i]))
            assert spawn(stream.read()).join(TIMEOUT) == bytes([i])


def test_nobody_hears_of_a_coroutine_that_was_never_awaited() -> None:
    """F16, F18: thousands that are cancelled before they begin, and not one warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        async def main() -> None:
            handles = [spawn(forever()) for _ in range(2000)]
            for handle in handles:
                handle.cancel()
            await yield_now()
            assert all(handle.cancelled() for handle in handles)
            assert current_task() is not None

        spawn(main()).join(TIMEOUT)
        gc.collect()
