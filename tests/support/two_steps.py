"""Operations that are cut off between any two of their steps.

Each task must end, and leave nothing behind.

python tests/support/two_steps.py recursion|memory    prints what is wrong, or "survived"

In a task, each operation is called n frames below the limit of recursion, or with the nth
allocation failing, for each n. test_two_steps.py runs it.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

from trale_py import (
    CancelScope,
    Event,
    Executor,
    Mutex,
    RuntimeClosed,
    TaskGroup,
    current_task,
    move_on_after,
    sleep,
    spawn,
    spawn_blocking,
    tasks,
)
from trale_py.channel import channel

try:
    import _testcapi
except ImportError:
    _testcapi = None

LIMIT = 400  # of recursion
SECONDS = 10  # for a task to end

Operation = Callable[[], Coroutine[Any, Any, object]]


async def nothing() -> None:
    pass


async def spawns() -> None:
    spawn(nothing())


async def spawns_in_group() -> None:
    async with TaskGroup() as group:
        await outermost(lambda: spawn_in(group))


async def spawn_in(group: TaskGroup) -> None:
    group.spawn(nothing())


async def in_group() -> None:
    async with TaskGroup() as group:
        group.spawn(nothing())


async def in_scope() -> None:
    with CancelScope():
        await sleep(0)


async def in_deadline() -> None:
    with move_on_after(60):
        await sleep(0)


async def sleeps() -> None:
    await sleep(0.0001)


async def locks() -> None:
    (await Mutex(1).lock()).release()


async def sends() -> None:
    sender, receiver = channel(1)
    await sender.send(1)
    await receiver.recv()


async def waits() -> None:
    event = Event()
    event.set()
    await event.wait()


async def blocks() -> None:
    await spawn_blocking(int)


async def joins() -> None:
    await spawn(nothing())


OPERATIONS: list[Operation] = [
    spawns, in_group, in_scope, in_deadline, sleeps, locks, sends, waits, joins,
]  # fmt: skip

CutOff = Callable[[Operation], Coroutine[Any, Any, None]]

cut_off: Callable[[int], CutOff]
outermost: CutOff


def frames_left(n: int) -> CutOff:
    async def descend(depth: int, operation: Operation) -> None:
        if depth:
            await descend(depth - 1, operation)
        else:
            await operation()

    return lambda operation: descend(LIMIT - n, operation)


def allocation_fails(n: int) -> CutOff:
    async def starve(operation: Operation) -> None:
        coro = operation()
        _testcapi.set_nomemory(n, n + 1)
        try:
            await coro
        finally:
            _testcapi.remove_mem_hooks()

    return starve


async def work(operation: Operation) -> bool:
    """Whether the task is in the scope that it was in before."""
    task = current_task()
    assert task is not None
    scope = task._innermost()
    with contextlib.suppress(Exception):
        if operation is spawns_in_group:
            await operation()
        else:
            await outermost(operation)
    return task._scope is scope


def fault_of(operation: Operation) -> str:
    """What is wrong after it; "" if nothing is."""
    try:
        # Without memory even leaving a scope may be cut off, and then its task has to end.
        if not spawn(work(operation)).join(SECONDS) and cut_off is frames_left:
            return "a scope stays entered"
    except TimeoutError:
        return "it never ends"
    except MemoryError:
        pass
    except RuntimeClosed as closed:  # the executor itself had no memory, and says so to everybody
        if closed.__cause__ is None:
            return f"{closed!r} by {closed.__cause__!r}"
    deadline = time.monotonic() + SECONDS
    while tasks():
        if time.monotonic() > deadline:
            return f"these stay: {tasks()}"
        time.sleep(0.001)
    return ""


def main(how: str) -> None:
    global outermost, cut_off
    logging.getLogger("trale_py").addHandler(logging.NullHandler())
    logging.getLogger("trale_py").propagate = False
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None
    cut_off = frames_left if how == "recursion" else allocation_fails
    if how == "recursion":
        sys.setrecursionlimit(LIMIT)
        OPERATIONS.append(blocks)  # its thread, too, would be without memory
    faults = 0
    for operation in [*OPERATIONS, spawns_in_group]:
        for n in range(1, 61):
            outermost = cut_off(n)
            fault = fault_of(operation)
            if fault:
                faults += 1
                print(operation.__name__, n, fault)
                with contextlib.suppress(Exception):
                    Executor.shutdown(0.1)
    if not faults:
        print("survived")


main(sys.argv[1])
