"""describe(): what a task waits for, in words. Each leaf of the library has its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib
import pkgutil
import re
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

import trale_py
from tests.support.net_helpers import TIMEOUT, raw_tcp_pair, run
from trale_py import (
    PENDING,
    AsyncFd,
    Barrier,
    Condition,
    Context,
    Event,
    EventFd,
    Future,
    Mutex,
    Notify,
    Pending,
    Ready,
    RwLock,
    Semaphore,
    TaskGroup,
    TcpListener,
    TcpStream,
    Timer,
    UdpSocket,
    channel,
    gather,
    race,
    sleep,
    spawn,
    spawn_blocking,
    tasks,
    yield_now,
)
from trale_py.core.coroutine import describe, leaf_of
from trale_py.core.leaf import Leaf, Operation


def load_all() -> None:
    for module in pkgutil.walk_packages(trale_py.__path__, "trale_py."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # what an extra brings
                importlib.import_module(module.name)


def leaf_classes(base: type = Future) -> Iterator[type]:
    for cls in base.__subclasses__():
        yield cls
        yield from leaf_classes(cls)


def test_each_leaf_class_describes_what_it_waits_for() -> None:
    load_all()
    ours = {cls for cls in leaf_classes() if cls.__module__.partition(".")[0] == "trale_py"}
    assert len(ours) > 20
    names = {cls.__name__ for cls in ours}
    assert {"SleepWait", "LatchWait", "YieldNow", "BlockingCall", "Timer", "_EventWait"} <= names
    if trale_py.engine == "native":
        assert {cls.__name__ for cls in Future.__subclasses__()} >= {"Operation", "Waiter"}
    bases = {Leaf, Operation, *(cls for cls in ours if cls.__name__ == "Waiter")}
    without = {
        cls.__qualname__
        for cls in ours - bases
        if cls._describe is Future._describe and cls.__repr__ is object.__repr__  # type: ignore[attr-defined]
    }
    assert without == set()


class Waiting:
    """A task that waits, and what is said of it."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self.names: dict[str, Any] = {}

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *args: object) -> None:
        self._open.close()

    def keep(self, closeable: Any) -> Any:
        self._open.callback(closeable.close)
        return closeable

    def stream(self) -> TcpStream:
        ours, _ = self._open.enter_context(raw_tcp_pair())
        return self.keep(TcpStream.from_socket(ours))


async def said_of(waiting: Coroutine[Any, Any, Any], name: str = "waits") -> str:
    """What describe() says of a task that is in it."""
    handle = spawn(waiting, name=name)
    try:
        for _ in range(3):
            await yield_now()
        (task,) = (task for task in tasks() if task.id == handle.id)
        assert task.state == "waiting"
        return describe(task)
    finally:
        handle.cancel()
        with contextlib.suppress(Exception):
            await handle


async def as_it_is(awaitable: Any) -> Any:
    return await awaitable


async def in_generator(awaitable: Any) -> AsyncIterator[Any]:
    yield await awaitable


async def in_async_for(awaitable: Any) -> None:
    async for _ in in_generator(awaitable):
        pass


class ByHand:
    """An awaitable of the user's own."""

    def __init__(self, awaitable: Any) -> None:
        self.awaitable = awaitable

    def __await__(self) -> Any:
        return (yield from self.awaitable.__await__())


async def in_own(awaitable: Any) -> None:
    await ByHand(awaitable)


async def in_coroutine_wrapper(awaitable: Any) -> None:
    await ByHand(as_it_is(awaitable))


async def in_anext(awaitable: Any) -> None:
    await anext(in_generator(awaitable), None)


async def in_manager(awaitable: Any) -> None:
    @contextlib.asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        await awaitable
        yield

    async with manager():
        pass


@pytest.mark.parametrize(
    "way", [as_it_is, in_async_for, in_own, in_coroutine_wrapper, in_anext, in_manager]
)
def test_it_is_found_through_all_that_python_has_in_between(
    way: Callable[[Any], Coroutine[Any, Any, Any]],
) -> None:
    assert run(said_of(way(Event().wait()))) == "wait of <Event waited for by 1>"


def test_sleep_and_timers_say_when() -> None:
    said = run(said_of(as_it_is(sleep(3600))))
    assert re.fullmatch(r"sleep, (3600|35\d\d)\.\d+ s left", said)
    assert re.fullmatch(r"Timer in (3600|35\d\d)\.\d+ s", run(said_of(as_it_is(Timer(3600)))))


def test_sockets_say_which_descriptor_and_which_peer() -> None:
    async def main() -> None:
        with Waiting() as world:
            stream = world.stream()
            where = f"fd={stream.socket.fileno()} 127.0.0.1:{stream.local_addr[1]}"
            peer = f"127.0.0.1:{stream.peer_addr[1]}"
            assert await said_of(stream.read()) == f"read of <TcpStream {where} -> {peer}>"
            listener = world.keep(TcpListener.bind("127.0.0.1:0"))
            where = f"fd={listener.socket.fileno()} 127.0.0.1:{listener.local_addr[1]}"
            assert await said_of(listener.accept()) == f"accept of <TcpListener {where}>"
            sock = world.keep(UdpSocket.bind("127.0.0.1:0"))
            assert (await said_of(sock.recv_from())).startswith("recv_from of <UdpSocket fd=")
            fd = world.keep(AsyncFd(sock.socket))
            assert await said_of(fd.readable()) == f"readable of <AsyncFd {sock.socket.fileno()}>"
            event = world.keep(EventFd())
            assert await said_of(event.wait()) == f"wait of <EventFd {event.fileno()}>"

    run(main())


def test_locks_say_which_task_or_thread_has_them() -> None:
    async def hold(lock: Any, taken: Event) -> None:
        async with lock:
            taken.set()
            await sleep(3600)

    async def main() -> None:
        for mutex, ask in ((Mutex[None](), Mutex.lock), (RwLock[None](), RwLock.read)):
            lock: Any = mutex
            taken = Event()
            holder = spawn(hold(lock.write() if ask is RwLock.read else lock, taken), name="holds")
            await taken.wait()
            said = await said_of(as_it_is(ask(lock)))
            assert f"by task {holder.id} (holds) waiting=1>" in said
            holder.cancel()

    run(main())
    mutex = Mutex[None]()
    with mutex:
        said = run(said_of(as_it_is(mutex.lock())))
        assert said == (f"lock of <Mutex locked by thread {threading.get_native_id()} waiting=1>")


def test_objects_of_sync_and_channel_are_named() -> None:
    async def main() -> None:
        full, empty, once = channel.channel(1), channel.channel(1), channel.oneshot()
        broadcast, watch = channel.broadcast(1), channel.watch(1)
        full[0].try_send(1)
        for waiting, said in (
            (full[0].send(2), "send of <channel values=1"),
            (empty[1].recv(), "recv of <channel values=0"),
            (once[1].recv(), "recv of <channel values=0"),
            (broadcast[1].recv(), "recv of <BroadcastReceiver"),
            (watch[1].changed(), "changed of <WatchReceiver of 1"),
            (Semaphore(0).acquire(), "acquire of <Semaphore"),
            (Notify().wait(), "wait of <Notify permits=0"),
            (Barrier(2).wait(), "wait of <Barrier 1 of 2"),
        ):
            assert (await said_of(as_it_is(waiting))).startswith(said)
        condition: Condition[None] = Condition()

        async def wait() -> None:
            async with condition:
                await condition.wait()

        assert (await said_of(wait())).startswith("wait of <Condition of <Mutex free")

    run(main())


def test_what_waits_for_tasks_names_them() -> None:
    async def grouped() -> None:
        async with TaskGroup() as group:
            group.spawn(as_it_is(sleep(3600)), name="child")

    async def main() -> None:
        awaited = spawn(as_it_is(sleep(3600)), name="awaited")
        name = f"<task {awaited.id} 'awaited'>"
        assert await said_of(as_it_is(awaited)) == f"wait of {name}"
        assert await said_of(gather(awaited)) == f"gather of [{name}]"
        assert await said_of(race(awaited)) == f"race of [{name}]"
        said = await said_of(grouped())
        assert said.startswith("wait of <TaskGroup of [<Task ")
        assert said.endswith(" 'child' waiting>]>")
        awaited.cancel()

    run(main())


def test_calls_in_threads_say_so() -> None:
    async def main() -> None:
        stop = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            for job, said in (
                (spawn_blocking(stop.wait, TIMEOUT), "call in a thread of <BlockingPool"),
                (spawn_blocking(stop.wait, TIMEOUT, executor=pool), "call in an executor, <Future"),
            ):
                for _ in range(3):
                    await yield_now()
                (task,) = (task for task in tasks() if task.id == job.id)
                assert describe(task).startswith(said)
            stop.set()

    run(main())


class Never(Future[None]):
    """The user's, with a repr that fails."""

    def poll(self, cx: Context) -> Ready[None] | Pending:
        return PENDING

    def __repr__(self) -> str:
        raise ZeroDivisionError


def test_a_repr_that_fails_is_no_harm() -> None:
    said = run(said_of(as_it_is(Never())))
    assert said == "an object of Never, whose repr raised ZeroDivisionError"


def test_a_task_that_does_not_wait_says_its_state() -> None:
    async def main() -> tuple[str, str]:
        queued = spawn(as_it_is(sleep(0)))
        states = {task.id: describe(task) for task in tasks()}
        me = trale_py.current_task()
        assert me is not None
        found = states[me.id], states[queued.id]
        await queued
        return found

    assert run(main()) == ("running", "queued")


def test_the_leaf_of_what_does_not_wait_is_none() -> None:
    coro = as_it_is(None)
    assert leaf_of(coro) is None
    coro.close()
    assert leaf_of(coro) is None
    assert leaf_of(None) is None


def test_a_foreign_awaitable_is_found_as_it_is() -> None:
    loop = asyncio.new_event_loop()
    try:
        coro = as_it_is(loop.create_future())
        coro.send(None)
        assert type(leaf_of(coro)).__name__ == "FutureIter"
        coro.close()
    finally:
        loop.close()
