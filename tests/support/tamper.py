"""Does to the objects of the native engine whatever Python code can do. A crash ends the process.

python tests/support/tamper.py TYPE    prints "survived"; test_tampering.py runs it for each type
"""

from __future__ import annotations

import contextlib
import contextvars
import copy
import gc
import inspect
import logging
import os
import pickle
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import trale_py
import trale_py.channel
from trale_py import _native as native  # type: ignore[attr-defined]
from trale_py.core.current import thread
from trale_py.core.join import JoinHandle
from trale_py.core.latch import Latch, LatchWait
from trale_py.core.leaf import Forgettable
from trale_py.core.outcome import Outcome
from trale_py.core.runtime import Runtime
from trale_py.core.task import Task
from trale_py.core.with_block import Releasable, WithBlock
from trale_py.sync.mutex import Guard

# Called as they should be, these wait, end the process, or end the default runtime for good.
WAITING = {
    *("next_batch", "run", "wait_blocking", "join", "shutdown", "ensure_running", "block_on"),
    *("_start_thread", "_join_thread", "_run", "_loop", "_stay", "_end_child", "spawn"),
    *("close_for_good", "_wait_blocking", "acquire_blocking", "lock_blocking", "__enter__"),
}


class Odd:
    """Of no use anywhere, and every look at it fails."""

    def __bool__(self) -> bool:
        raise LookupError

    def __eq__(self, other: object) -> bool:
        raise LookupError

    def __hash__(self) -> int:
        return 1

    def __repr__(self) -> str:
        raise LookupError


async def nothing() -> None:
    await trale_py.sleep(0)


class Set:
    """One object of each type, all that belong together of one run-queue."""

    def __init__(self) -> None:
        self.runtime = Runtime()
        self.queue: Any = self.runtime.run_queue
        self.poller = native.Poller(self.queue)
        self.poller.open()
        self.ours, self.peer = socket.socketpair()
        self.ours.setblocking(False)
        self.io = native.Io(self.ours.fileno())
        self.cx = native.Context(native.Waker(self.queue, 1), self.runtime)
        self.cx._budget = 100
        self.outcome: Any = Outcome(1, "task", (None, 0), self.runtime.unclaimed)
        self.permits, self.lock = native.SemaphoreCore(1), native.LockCore(Guard)
        self.permits.try_acquire()

    # What an operation knows of a socket.

    def _attach(self, runtime: object) -> Any:
        if self.io.source is None:
            self.io.source = self.poller.watch(self.ours.fileno())
        return self.io.source

    def _check_open(self) -> None:
        pass

    def polled(self, leaf: Any) -> Any:
        """A leaf that waits."""
        with contextlib.suppress(BaseException):
            leaf.poll(self.cx)
        return leaf

    def batch(self) -> Any:
        self.queue.call(int)
        return self.queue.next_batch()

    def at_once(self) -> Any:
        thread.context = self.cx
        try:
            return native.SemaphoreCore(1).__aenter__()
        finally:
            thread.context = None

    def task(self) -> Any:
        return Task(self.runtime, nothing(), contextvars.copy_context(), self.outcome, None)

    def pushed(self) -> Any:
        task = self.task()
        self.queue.push(task)
        return task

    def handle(self) -> Any:
        return JoinHandle(self.runtime, self.outcome)

    def latch(self) -> Any:
        latch = Latch()
        self.polled(LatchWait(latch))
        return latch

    def stream(self) -> Any:
        return trale_py.TcpStream(self.ours.dup())


MAKERS: dict[str, list[Callable[[Set], Any]]] = {
    "RunQueue": [lambda s: s.queue],
    "Batch": [Set.batch],
    "Waker": [lambda s: s.cx.waker],
    "Context": [lambda s: s.cx],
    "ThreadState": [lambda s: thread],
    "Source": [lambda s: s._attach(None)],
    "TimerEntry": [lambda s: s.poller.add_timer(1 << 62, s.cx.waker)],
    "Poller": [lambda s: s.poller],
    "Simulation": [lambda s: native.Simulation()],
    "Io": [lambda s: s.io],
    "BaseStream": [Set.stream],
    "Latch": [Set.latch],
    "LatchWait": [lambda s: s.polled(LatchWait(Latch())), lambda s: LatchWait(Latch())],
    "Outcome": [lambda s: s.outcome],
    "JoinHandle": [Set.handle],
    "Task": [Set.task, Set.pushed],
    "Executor": [lambda s: s.runtime.executor],
    "Runtime": [lambda s: s.runtime],
    "Waiters": [lambda s: s.permits._waiters],
    "ReadyNow": [Set.at_once],
    "SemaphoreCore": [lambda s: s.permits],
    "LockCore": [lambda s: s.lock],
    "GuardCore": [lambda s: Guard(s.lock)],
    "QueueCore": [lambda s: native.QueueCore(1)],
    "Waiter": [
        lambda s: s.polled(s.permits.acquire()),
        lambda s: s.polled(native.QueueCore(0).send("value")),
        lambda s: s.lock.lock(),
    ],
    "Operation": [
        lambda s: s.polled(s.io.recv(s, 5)),
        lambda s: s.polled(s.io.recv_into(s, bytearray(5))),
        lambda s: s.io.send_all(s, b"data"),
        lambda s: s.polled(s.io.recv_from(s)),
        lambda s: s.io.call(s, lambda: 1 / 0, 0, False),
    ],
    "SleepWait": [lambda s: s.polled(native.SleepWait(1 << 62)), lambda s: native.SleepWait(1)],
    "YieldNow": [lambda s: native.YieldNow()],
    "Checkpoint": [lambda s: native.Checkpoint()],
    "Forgettable": [lambda s: Forgettable(), lambda s: trale_py.RwLock().read()],
    "Releasable": [lambda s: Releasable(), lambda s: trale_py.RwLock().try_read()],
    "WithBlock": [lambda s: WithBlock(), lambda s: trale_py.TaskGroup()],
}


def values(made: Any, other: Any) -> list[Any]:
    return [None, 7, "text", [], Odd(), type(made), other]


def quietly(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Whatever it raises is right; an end of the process is not."""
    with contextlib.suppress(BaseException):
        result = function(*args, **kwargs)
        if inspect.iscoroutine(result):
            result.close()


def call(made: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(made, name)(*args, **kwargs)


def change(made: Any, name: str, other: Any, n: int) -> None:
    """Set it to the nth of seven kinds of value; the eighth time, delete it."""
    if n == 7:
        delattr(made, name)
    else:
        setattr(made, name, values(made, other)[n])


def use(made: Any) -> None:
    """All that is asked of any object, and each method without arguments."""
    looks: tuple[Any, ...] = (repr, hash, len, bool, next, vars, weakref.ref, gc.get_referents)
    for look in looks:
        quietly(look, made)
    for name in dir(type(made)):
        if not name.startswith("__"):
            quietly(getattr, made, name)
            if name not in WAITING:
                quietly(call, made, name)
    for name in ("__aenter__", "__aexit__", "__await__", "__iter__", "__exit__", "__del__"):
        quietly(call, made, name)


def tamper_with_fields(make: Callable[[], Any]) -> None:
    """Each attribute set and deleted, on an object of its own, which is then used."""
    for name in dir(make()):
        for n in range(8):
            made = make()
            quietly(change, made, name, make(), n)
            use(made)


def tamper_with_calls(make: Callable[[], Any]) -> None:
    """Each method with arguments that are of no use; what waits, with far too many."""
    for name in dir(make()):
        for n in range(7):
            made, other = make(), make()
            value = values(made, other)[n]
            quietly(call, made, name, *[value] * 9)
            if name in WAITING:
                continue
            for count in range(1, 5):
                quietly(call, made, name, *[value] * count)
            quietly(call, made, name, no_such_name=value)
            if not isinstance(value, type):  # else a Python method would change the class
                quietly(call, type(made), name, value)


def tamper_with_the_making(make: Callable[[], Any]) -> None:
    """__init__ again, __new__ without it, subclasses, other classes, and the collector."""
    made = make()
    for base in type(made).__mro__[:-1]:
        for new in (base.__new__, object.__new__, trale_py.Future.__new__):
            for args in ((), (None,), (made,), (made, made), [Odd()] * 5):
                quietly(lambda new, *args: use(new(*args)), new, base, *args)
        for bases, body in (((base,), {}), ((base,), {"__slots__": ("a",)}), ((base, int), {})):
            quietly(lambda bases, body: use(type("Sub", bases, body)()), bases, body)
    for args in ((), (None,), (made,), [Odd()] * 5):
        quietly(call, made, "__init__", *args)
        use(made)
    for other in (object, int, Odd, type("Plain", (), {}), type("Slots", (), {"__slots__": ()})):
        quietly(setattr, made, "__class__", other)
        use(made)
    gc.collect()


def check_copies(make: Callable[[], Any]) -> None:
    """A TypeError, and nothing else."""
    made = make()
    ways: list[Callable[[Any], object]] = [copy.copy, copy.deepcopy]
    ways += [partial(pickle.dumps, protocol=n) for n in range(pickle.HIGHEST_PROTOCOL + 1)]
    for way in ways:
        try:
            way(made)
        except TypeError as error:
            assert "copied or pickled" in str(error), error
        else:
            raise AssertionError(f"{made!r} by {way!r}")


def tamper_while_it_runs() -> None:
    """A running task does it to itself, its context, its outcome and its runtime."""

    async def victim(field: str, name: str, n: int) -> None:
        task = trale_py.current_task()
        made = getattr(task, field) if field else task
        await trale_py.yield_now()
        quietly(change, made, name, made, n)
        await trale_py.sleep(0)
        await trale_py.yield_now()

    for field in ("", "_cx", "_outcome", "_runtime"):
        for name in names_of(field):
            for n in range(8):
                runtime = Runtime()
                quietly(run_beside_another, runtime, victim(field, name, n))
                quietly(Runtime.shutdown, runtime, 0.01)


def run_beside_another(runtime: Runtime, coro: Any) -> None:
    handle = runtime.spawn(coro)
    runtime.spawn(nothing())
    handle.join(0.05)


def names_of(field: str) -> Iterator[str]:
    async def look() -> list[str]:
        task = trale_py.current_task()
        return dir(getattr(task, field) if field else task)

    # With another end, a shutdown believes that it is under way, and has patience.
    names = set(trale_py.block_on(look())) - {"_end"}
    yield from sorted(name for name in names if not name.startswith("__"))


def still_works() -> None:
    async def main() -> int:
        async with trale_py.TaskGroup() as group:
            handles = [group.spawn(give(n)) for n in range(10)]
        return sum([await handle for handle in handles])

    async def give(n: int) -> int:
        await trale_py.sleep(0.001)
        return n

    assert trale_py.block_on(main()) == 45


def main(name: str) -> None:
    logging.getLogger("trale_py").addHandler(logging.NullHandler())
    logging.getLogger("trale_py").propagate = False
    sys.unraisablehook = lambda _: None
    threading.excepthook = lambda _: None
    if name == "running":
        tamper_while_it_runs()
    else:
        for maker in MAKERS[name]:
            kept: list[Set] = []

            def make(maker: Callable[[Set], Any] = maker, kept: list[Set] = kept) -> Any:
                kept[:] = [*kept[-3:], Set()]  # what is made is used while its run-queue lives
                return maker(kept[-1])

            check_copies(make)
            for step in (tamper_with_fields, tamper_with_calls, tamper_with_the_making):
                step(make)
    still_works()
    print("survived", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
