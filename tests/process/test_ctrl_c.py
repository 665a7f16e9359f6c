"""R28: a Ctrl-C at each place where Python looks for one, around and in a script's ``with``."""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import trale_py
from tests.support.interleave import Signal, everywhere
from tests.support.net_helpers import TIMEOUT
from tests.support.tasks import forever
from trale_py import (
    CancelScope,
    Condition,
    JoinHandle,
    Mutex,
    RwLock,
    Semaphore,
    TaskCancelled,
    TaskGroup,
    block_on,
    engine,
    sleep,
    spawn,
)


def ctrl_c() -> None:
    raise KeyboardInterrupt


def script(block: Any, body: Callable[[Any], object]) -> Callable[[], None]:
    """A ``with`` that stands in a file of the package, so that it is interrupted too."""
    source = "def run():\n    with block as entered:\n        body(entered)\n"
    names: dict[str, Any] = {"block": block, "body": body}
    exec(compile(source, trale_py.__file__, "exec"), names)
    return names["run"]  # type: ignore[no-any-return]


async def cleans_up() -> None:
    try:
        await forever()
    finally:
        with CancelScope(shield=True):
            await sleep(0.001)


def undisturbed(call: Callable[[], object]) -> None:
    before = sys.gettrace()
    sys.settrace(None)
    call()
    sys.settrace(before)


# The very beginning of a __exit__ that is written in Python, see with_block.py.
LOST_AT_MOST = 0 if engine == "native" else 1
PATIENCE = TIMEOUT if engine == "native" else 2


def test_R28_in_the_block_of_a_group_the_children_are_cancelled_and_have_ended() -> None:
    lost, interrupted = 0, 0

    def attempt(at: Any) -> None:
        nonlocal lost, interrupted
        handles: list[JoinHandle[None]] = []

        def body(group: TaskGroup) -> None:
            undisturbed(lambda: handles.extend(group.spawn(cleans_up()) for _ in range(2)))
            group.cancel_scope.cancel()

        try:
            at(ctrl_c).run(script(TaskGroup(), body))
        except KeyboardInterrupt:
            interrupted += 1
        if not all(handle.done() for handle in handles):
            lost += 1
            for handle in handles:
                handle.cancel()
                with pytest.raises(TaskCancelled):
                    handle.join(TIMEOUT)

    places = everywhere(trale_py, attempt, Signal)
    assert interrupted > places - 5  # nearly none is swallowed
    assert places > 20
    assert lost <= LOST_AT_MOST


def test_R28_in_the_block_of_a_group_a_second_ctrl_c_stops_the_waiting() -> None:
    """The first one ends the body, the second comes anywhere at the end of the block."""
    lost = 0

    def attempt(at: Any) -> None:
        nonlocal lost
        handles: list[JoinHandle[None]] = []

        def body(group: TaskGroup) -> None:
            undisturbed(lambda: handles.append(group.spawn(forever())))
            raise KeyboardInterrupt("first")

        with pytest.raises(KeyboardInterrupt):
            at(ctrl_c).run(script(TaskGroup(), body))
        for handle in handles:  # none, if it came before the body
            try:
                with pytest.raises(TaskCancelled):
                    handle.join(PATIENCE)
            except TimeoutError:
                lost += 1
                handle.cancel()

    assert everywhere(trale_py, attempt, Signal) > 20
    assert lost <= LOST_AT_MOST


# -- locks ---------------------------------------------------------------------------------------


def free_again(kind: str) -> tuple[Any, Callable[[], bool]]:
    """Something for a ``with``, and whether it can be had again."""
    if kind == "semaphore":
        semaphore = Semaphore(1)
        return semaphore, lambda: semaphore.value == 1
    if kind in ("mutex", "condition", "guard"):
        mutex: Mutex[None] = Mutex()
        block: Any = {"mutex": mutex, "condition": Condition(mutex)}.get(kind)
        return (
            block or mutex.try_lock(),
            lambda: not mutex.locked() and mutex._entered is None and not mutex._waiters,
        )
    lock: RwLock[None] = RwLock()
    block = {
        "read": lock.read,
        "write": lock.write,
        "read guard": lock.try_read,
        "write guard": lock.try_write,
    }[kind]()
    return block, lambda: not lock._readers and not lock._writing and not lock._waiters


KINDS = [
    "semaphore",
    "mutex",
    "condition",
    "guard",
    "read",
    "write",
    "read guard",
    "write guard",
]


# The native engine runs no Python code in a ``with`` of these, while nobody else has them.
ALL_IN_C = ["semaphore", "mutex", "condition"]

# In Python, one that comes as an operation was made and is not used yet leaves it forgotten.
may_be_forgotten = pytest.mark.filterwarnings(
    "ignore:.* was never awaited:RuntimeWarning" if engine == "python" else "error"
)


@may_be_forgotten
@pytest.mark.parametrize("how", ["the body ends", "the body fails"])
@pytest.mark.parametrize("kind", KINDS)
def test_R28_in_the_block_of_a_lock_nothing_stays_locked(kind: str, how: str) -> None:
    lost = 0

    def body(_: object) -> None:
        if how == "the body fails":
            raise ValueError

    def attempt(at: Any) -> None:
        nonlocal lost
        block, free = free_again(kind)
        with contextlib.suppress(KeyboardInterrupt, ValueError):
            at(ctrl_c).run(script(block, body))
        if not free():
            lost += 1
            if hasattr(block, "_let_go"):
                block._let_go()
            elif hasattr(block, "_unlock"):
                block._unlock()
            elif hasattr(block, "_guard"):
                block._guard._let_go()
            elif isinstance(block, Mutex | Condition):
                block.__exit__(None, None, None)

    places = everywhere(trale_py, attempt, Signal)
    assert places > 2 or (engine == "native" and kind in ALL_IN_C)
    assert lost <= LOST_AT_MOST


@may_be_forgotten
@pytest.mark.parametrize("kind", ["semaphore", "mutex", "condition", "read", "write"])
def test_R28_a_wait_in_the_block_of_a_lock_that_is_cut_off_leaves_the_line(kind: str) -> None:
    """It is held, and let go by another thread at some time of the waiting."""
    lost = 0

    def attempt(at: Any) -> None:
        nonlocal lost
        block, free = free_again(kind)
        held: Any  # not by this thread, which would be refused a second time
        if kind in ("read", "write"):
            held = block._guard._lock.try_write()
        elif kind == "semaphore":
            held = block
            assert block.try_acquire()
        else:
            held = block_on((block if kind == "mutex" else block._mutex).lock())
        releaser = threading.Timer(0.002, held.release)
        releaser.start()
        with contextlib.suppress(KeyboardInterrupt):
            at(ctrl_c).run(script(block, lambda _: None))
        releaser.join(TIMEOUT)
        if not free():
            lost += 1

    assert everywhere(trale_py, attempt, Signal) > 5
    assert lost <= LOST_AT_MOST


@pytest.mark.filterwarnings("ignore:.* was never awaited:RuntimeWarning")
def test_R28_a_condition_that_is_waited_for_leaves_nothing_locked() -> None:
    lost = 0

    def attempt(at: Any) -> None:
        nonlocal lost
        mutex: Mutex[None] = Mutex()
        condition = Condition(mutex)

        def notify() -> None:
            with condition:
                condition.notify_all()

        notifier = threading.Timer(0.002, notify)
        notifier.start()
        with contextlib.suppress(KeyboardInterrupt, TimeoutError):
            at(ctrl_c).run(script(condition, lambda _: condition.wait_blocking(0.1)))
        notifier.join(TIMEOUT)
        lost += mutex.locked() or bool(condition._waiters)

    assert everywhere(trale_py, attempt, Signal) > 20
    assert lost <= LOST_AT_MOST


async def give(value: int) -> int:
    return value


# How many, of which so many may be lost in a __del__, and leave something locked.
PRESSES, SWALLOWED, LOCKED = (2000, 1, 0) if engine == "native" else (500, 60, 15)


@pytest.mark.filterwarnings("ignore:.* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings(
    "ignore:.* was garbage-collected without being released:ResourceWarning"
)
def test_R28_R29_many_ctrl_c_at_random_lose_nothing() -> None:
    """By a timer, so wherever the script is: in a block, at its ends, in a ``__del__`` of ours."""
    pressed = heard = lost = 0
    works = False
    swallowed: list[str] = []
    semaphore, mutex, lock = Semaphore(1), Mutex(0), RwLock(0)
    delays = random.Random(1)

    def press(*_: object) -> None:
        nonlocal pressed
        if works:
            pressed += 1
            signal.setitimer(signal.ITIMER_REAL, 0.2)  # if this one is swallowed
            raise KeyboardInterrupt

    def work() -> None:
        while True:
            with semaphore, mutex as guard:
                guard.value += 1
            with lock.write() as writer:
                writer.value += 1
            with lock.read(), mutex.lock_blocking():
                pass
            spawn(give(1))  # its handle is dropped at once
            assert spawn(give(1)).join(TIMEOUT) == 1

    hook, handler = sys.unraisablehook, signal.signal(signal.SIGALRM, press)
    sys.unraisablehook = lambda unraisable: swallowed.append(str(unraisable.object))
    try:
        while pressed < PRESSES:
            try:
                works = True
                signal.setitimer(signal.ITIMER_REAL, delays.uniform(0.0003, 0.0009))
                work()
            except KeyboardInterrupt:
                works = False
            heard += 1
            if semaphore.value != 1 or mutex.locked() or lock._readers or lock._writing:
                lost += 1
                semaphore, mutex, lock = Semaphore(1), Mutex(0), RwLock(0)
    finally:
        works = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        sys.unraisablehook = hook
    assert pressed - heard <= SWALLOWED, swallowed
    assert lost <= LOCKED
