"""The guest's turns: what wakes it, what it leaves to others, and what it costs when idle."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.interleave import Interleaving, everywhere
from trale_py import Executor, Runtime, RuntimeClosed, aio, block_on, sleep, spawn, yield_now
from trale_py._asyncio import guest as guest_module
from trale_py._asyncio import loop as loop_module
from trale_py._asyncio.guest import Guest, guest_of
from trale_py.core import current
from trale_py.core.simulation import Simulation

LIMIT = 20


def on_executor(function: Callable[[], Any]) -> Any:
    """Its result; it is called between the turns, as the executor calls the turns themselves."""

    async def wait() -> Any:
        results: list[Any] = []
        errors: list[BaseException] = []

        def call() -> None:
            try:
                results.append(function())
            except BaseException as error:
                errors.append(error)

        runtime = current.thread.runtime
        assert runtime is not None
        runtime.publish(call)
        while not (results or errors):
            await yield_now()
        if errors:
            raise errors[0]
        return results[0]

    return block_on(wait())


@pytest.fixture
def guest(guest_ends: None) -> Guest:
    aio.loop()
    runtime: Any = Executor.get()._runtime
    return on_executor(lambda: guest_of(runtime))


def test_R67_a_call_from_a_thread_as_the_guest_is_about_to_wait(guest: Guest) -> None:
    """Whichever line of a turn it comes at, it is made in that turn, or another turn is to come."""

    def attempt(at: Callable[[Callable[[], object]], Interleaving]) -> None:
        outcome: list[bool] = []
        called: list[int] = []

        def turn() -> None:
            interleaving = at(lambda: guest.loop.call_soon_threadsafe(called.append, 1))
            interleaving.run(guest._turn)
            outcome.append(not interleaving.happened or bool(called) or guest._published)

        on_executor(turn)
        assert outcome == [True]

    assert everywhere(guest_module, attempt) > 20


def test_R68_an_event_as_the_guest_is_about_to_wait(guest: Guest) -> None:
    """Whichever line of a turn it comes at, the callback is called."""
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    seen = threading.Event()

    def read() -> None:
        ours.recv(10)
        seen.set()

    def attempt(at: Callable[[Callable[[], object]], Interleaving]) -> None:
        seen.clear()
        made: list[Interleaving] = []

        def turn() -> None:
            made.append(at(lambda: peer.send(b"x")))
            made[0].run(guest._turn)

        on_executor(turn)
        assert not made[0].happened or seen.wait(LIMIT)

    with ours, peer:
        guest.loop.call_soon_threadsafe(guest.loop.add_reader, ours, read)
        for module in (guest_module, loop_module):
            assert everywhere(module, attempt) > 1
        asyncio.run_coroutine_threadsafe(remove(guest.loop, ours), guest.loop).result(LIMIT)


async def nothing() -> None:
    pass


async def remove(loop: Any, sock: socket.socket) -> None:
    loop.remove_reader(sock)


def test_bytes_that_a_callback_leaves_are_reported_again(guest: Guest) -> None:
    """asyncio is level-triggered."""
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    got: list[bytes] = []
    whole = threading.Event()

    def read() -> None:
        got.append(ours.recv(1))
        if len(got) == 5:
            whole.set()

    with ours, peer:
        guest.loop.call_soon_threadsafe(guest.loop.add_reader, ours, read)
        peer.send(b"12345")
        assert whole.wait(LIMIT)
        assert b"".join(got) == b"12345"
        asyncio.run_coroutine_threadsafe(remove(guest.loop, ours), guest.loop).result(LIMIT)


def test_an_idle_guest_has_no_turns(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = []
    run = guest._run
    monkeypatch.setattr(guest, "_run", lambda: (turns.append(1), run())[1])

    async def theirs() -> None:
        await asyncio.sleep(0.3)

    block_on(aio(theirs))
    assert 0 < len(turns) < 10


def test_timers_are_never_early_and_one_stands_for_all(guest: Guest) -> None:
    async def theirs() -> list[float]:
        late = []
        loop = asyncio.get_running_loop()
        for seconds in (0.0, 0.0001, 0.001, 0.003):
            due = loop.time() + seconds
            await asyncio.sleep(seconds)
            late.append(loop.time() - due)
        keep = [loop.call_later(1000 + n, print) for n in range(100)]
        await asyncio.sleep(0)
        for timer in keep:
            timer.cancel()
        return late

    assert min(block_on(aio(theirs))) >= 0


def test_call_at_of_the_farthest_time(guest: Guest) -> None:
    async def theirs() -> None:
        timer = asyncio.get_running_loop().call_at(float("inf"), print)
        await asyncio.sleep(0.001)
        timer.cancel()

    block_on(aio(theirs))


def test_neither_side_starves_the_other(guest: Guest) -> None:
    async def storm() -> None:
        while True:
            await asyncio.sleep(0)

    async def ours() -> int:
        for _ in range(50):
            await sleep(0.0001)
        return 50

    storming = spawn(aio(storm))
    assert spawn(ours()).join(LIMIT) == 50
    storming.cancel()

    async def our_storm() -> None:
        while True:
            await yield_now()

    async def theirs() -> int:
        for _ in range(50):
            await asyncio.sleep(0.0001)
        return 50

    our_storming = spawn(our_storm())
    assert spawn(aio(theirs)).join(LIMIT) == 50
    our_storming.cancel()


def test_calls_that_raise_end_nothing(guest: Guest, caplog: pytest.LogCaptureFixture) -> None:
    for error in (ValueError("plain"), SystemExit("exit"), KeyboardInterrupt("interrupt")):

        def fails(error: BaseException = error) -> None:
            raise error

        guest.loop.call_soon_threadsafe(fails)
    asyncio.run_coroutine_threadsafe(nothing(), guest.loop).result(LIMIT)
    assert "plain" in caplog.text


def test_call_soon_and_call_later_from_a_task_of_ours() -> None:
    async def main() -> list[str]:
        loop = aio.loop()
        called: list[str] = []
        future = loop.create_future()
        loop.call_soon(called.append, "soon")
        loop.call_later(0.002, called.append, "later")
        loop.call_later(0.004, future.set_result, None)
        await future
        return called

    assert block_on(main()) == ["soon", "later"]


# -- ways to use asyncio --------------------------------------------------------------------------


def test_a_task_factory_of_the_users(guest: Guest) -> None:
    made = []

    def factory(loop: Any, coro: Any, **options: Any) -> Any:
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    guest.loop.set_task_factory(factory)

    async def theirs() -> str:
        await sleep(0.001)
        task = asyncio.create_task(asyncio.sleep(0, "made"))
        return await task

    assert block_on(aio(theirs)) == "made"
    assert len(made) == 2


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="from Python 3.12 on")
def test_eager_tasks(guest: Guest) -> None:
    guest.loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]

    async def at_once() -> Any:
        return asyncio.current_task(), asyncio.get_running_loop()

    async def theirs() -> str:
        await sleep(0.001)
        task = asyncio.create_task(ours_inside())
        return await task

    async def ours_inside() -> str:
        await sleep(0.001)
        return "slept"

    async def main() -> Any:
        task = aio.loop().create_task(at_once())  # its first step is its last
        assert task.done()
        return await aio(at_once)

    assert block_on(main())[1] is guest.loop
    assert block_on(aio(theirs)) == "slept"


def test_debug_mode(guest: Guest, caplog: pytest.LogCaptureFixture) -> None:
    guest.loop.call_soon_threadsafe(guest.loop.set_debug, True)

    async def theirs() -> None:
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 0.001
        time.sleep(0.005)
        handle = loop.call_soon(print)
        assert handle._source_traceback[-1].filename == __file__  # type: ignore[attr-defined]
        handle.cancel()

    block_on(aio(theirs))
    assert "took 0.0" in caplog.text

    async def main() -> None:
        for handle in (aio.loop().call_soon(list), aio.loop().call_later(0, list)):
            assert handle._source_traceback[-1].filename == __file__  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError, match="Non-thread-safe"):
            await from_a_thread()

    async def from_a_thread() -> None:
        from trale_py import spawn_blocking

        await spawn_blocking(aio_loop.call_soon, print)

    aio_loop = guest.loop
    block_on(main())


def test_async_generators_are_the_loops_or_ours(guest: Guest) -> None:
    """Each is closed by the side on which it was first iterated over."""
    closed: list[str] = []

    async def generator(name: str) -> Any:
        try:
            yield 1
        finally:
            in_asyncio = name == "theirs"
            await (asyncio.sleep(0) if in_asyncio else sleep(0))
            closed.append(name)

    async def begins(name: str) -> None:
        async for _ in generator(name):
            break

    async def main() -> None:
        await aio(begins, "theirs")
        await begins("ours")
        while len(closed) < 2:
            await sleep(0.001)

    block_on(main())
    assert sorted(closed) == ["ours", "theirs"]


def test_asyncio_run_in_a_script_beside_it(guest: Guest) -> None:
    async def theirs() -> Any:
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    assert asyncio.run(theirs()) is not guest.loop
    assert block_on(aio(theirs)) is guest.loop
    coro = theirs()
    with pytest.raises(RuntimeError, match="running event loop"):
        block_on(aio(asyncio.run, coro))
    coro.close()


@pytest.mark.slow
def test_many_joins_from_many_threads() -> None:
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    wrong: list[int] = []

    def joins(n: int) -> None:
        wrong.extend(i for i in range(1000) if spawn(aio(add, n, i)).join(LIMIT) != n + i)

    threads = [threading.Thread(target=joins, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.slow
def test_10000_tasks_half_of_them_cancelled(guest: Guest) -> None:
    async def theirs() -> int:
        await asyncio.sleep(0.1)
        return 1

    async def main() -> int:
        handles = [spawn(aio(theirs)) for _ in range(10_000)]
        await yield_now()
        for handle in handles[::2]:
            handle.cancel()
        ended = 0
        for handle in handles:
            try:
                ended += await handle
            except Exception:
                assert handle.cancelled()
        return ended

    assert block_on(main()) == 5000
    assert guest._companions == {}


def test_a_missing_private_part_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {**loop_module._NEEDED, asyncio.SelectorEventLoop: ("_run_twice",)}
    monkeypatch.setattr(loop_module, "_NEEDED", needed)
    with pytest.raises(
        RuntimeError, match=r"aio cannot work: asyncio of Python 3\S+ has no .*_run_twice"
    ):
        block_on(aio(asyncio.sleep, 0))
    monkeypatch.undo()
    monkeypatch.setattr(loop_module, "_NEEDED_FIELDS", ("_not_ready",))
    with pytest.raises(RuntimeError, match="_not_ready"):
        block_on(aio(asyncio.sleep, 0))


def test_the_loop_is_that_of_the_current_runtime() -> None:
    with Runtime() as own:
        loop = aio.loop()
        assert own.spawn(aio(asyncio.get_running_loop)).join(LIMIT) is loop
    assert aio.loop() is not loop


def test_a_runtime_of_its_own_has_a_guest_of_its_own(runtime: Any) -> None:
    async def theirs() -> Any:
        return asyncio.get_running_loop()

    assert runtime.spawn(aio(theirs)).join(LIMIT) is not spawn(aio(theirs)).join(LIMIT)
    runtime.shutdown()
    with pytest.raises(RuntimeClosed):
        runtime.spawn(aio(theirs))
    assert spawn(aio(theirs)).join(LIMIT) is aio.loop()


def test_the_loops_time_is_its_runtimes(runtime: Any) -> None:
    """On a test's clock, which jumps while nothing is to do, hours take no time."""
    simulation = Simulation()
    runtime.simulate(simulation)
    simulation.set_now(1000 * 10**9)

    def jump(deadline: int | None) -> bool:
        if deadline is not None:
            simulation.set_now(deadline)
        return deadline is not None

    simulation.on_idle = jump

    async def theirs() -> float:
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(3600)
        await sleep(3600)
        return asyncio.get_running_loop().time() - began

    assert runtime.spawn(aio(theirs)).join(LIMIT) == pytest.approx(7200, abs=1)
    simulation.on_idle = None
    simulation.set_now(None)
    runtime.shutdown()


@pytest.mark.skipif(not hasattr(Runtime, "run"), reason="there is no run yet")
def test_a_guest_under_run() -> None:
    """The calling thread is the executor's and asyncio's in turn, and its own again after it."""

    async def theirs() -> Any:
        await asyncio.sleep(0.001)
        await sleep(0.001)
        return asyncio.get_running_loop()

    async def main() -> Any:
        with pytest.raises(RuntimeError, match="aio"):
            await asyncio.sleep(1)
        return await aio(theirs)

    own: Any = Runtime(thread=False)
    with own:
        loop = own.run(main)
        assert asyncio.run(asyncio.sleep(0, "plain")) == "plain"
        assert own.run(main) is loop
    assert loop.is_closed()
    assert asyncio.run(asyncio.sleep(0, "plain")) == "plain"
