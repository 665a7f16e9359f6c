"""Errors of classes that refuse everything: each reaches those who wait, and nothing else ends.

A class of exceptions may refuse attributes, lie about its class, or raise whatever it is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import pytest

from tests.support.net_helpers import TIMEOUT
from tests.support.tasks import give
from trale_py import (
    CancelScope,
    Context,
    Future,
    Pending,
    Ready,
    TaskCancelled,
    TaskGroup,
    TaskStatus,
    as_completed,
    block_on,
    gather,
    race,
    sleep,
    spawn,
    spawn_blocking,
    timeout,
)
from trale_py.base import log
from trale_py.base.errors import raise_as_it_was, stand_in, traceback_of
from trale_py.core import current
from trale_py.core.latch import Latch

Make = Callable[[], BaseException]


class Asked(BaseException):
    """What every method of these classes raises."""


def refuse(*_: object, **__: object) -> NoReturn:
    raise Asked


# What Python itself needs to make an object and to raise it.
_NEEDED = {"__new__", "__init__", "__init_subclass__", "__dict__", "__doc__", "__module__",
           "__class_getitem__", "__subclasshook__", "__dir__"}  # fmt: skip
_ATTRIBUTES = ("__class__", "__traceback__", "__cause__", "__context__", "__suppress_context__",
               "__notes__", "exceptions", "value", "code")  # fmt: skip
_METHODS = ("__bool__", "__len__", "__iter__", "__call__", "__getattr__", "__contains__",
            "with_traceback", "add_note", "split", "subgroup", "derive")  # fmt: skip


def hostile(base: type[BaseException], *args: object) -> Make:
    """Make errors of a subclass of ``base`` that refuses whatever it is asked."""
    dunders = {name for name in dir(base) if name.startswith("__")} - _NEEDED
    members: dict[str, object] = dict.fromkeys([*dunders, *_METHODS], refuse)
    members |= dict.fromkeys(_ATTRIBUTES, property(refuse, refuse, refuse))
    kind = type(f"Hostile{base.__name__}", (base,), members)
    return lambda: base.__new__(kind, *args)


@dataclass(frozen=True)
class Frozen(Exception):
    number: int


class WrongDerive(BaseExceptionGroup[BaseException]):
    def derive(self, _: object) -> Any:
        return 3


KINDS: dict[str, Make] = {
    base.__name__: hostile(base)
    for base in (Exception, BaseException, OSError, StopIteration, GeneratorExit,
                 KeyboardInterrupt, SystemExit)
}  # fmt: skip
KINDS["frozen"] = lambda: Frozen(1)
KINDS["group"] = hostile(BaseExceptionGroup, "of two", [ValueError(), KeyError()])
KINDS["wrong derive"] = lambda: WrongDerive("of one", [ValueError()])
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def ended_by(wait: Callable[[], object]) -> BaseException | None:
    try:
        wait()
    except BaseException as error:
        return error
    return None


def is_of(error: BaseException | None, make: Make) -> bool:
    """Whether it is such an error, a group of it, or what Python or the library makes of it."""
    kind = type(make())
    while error is not None and type(error) is not kind:
        if type(error) in (ExceptionGroup, BaseExceptionGroup):
            error = vars(BaseExceptionGroup)["exceptions"].__get__(error)[0]
        elif type(error) is RuntimeError:  # also of a StopIteration in a coroutine
            error = error.__cause__
        else:
            return False
    return error is not None


async def fail(make: Make, seconds: float = 0) -> None:
    await sleep(seconds)
    raise make()


async def fail_when_cancelled(make: Make) -> None:
    try:
        await sleep(60)
    finally:
        raise make()


async def in_group(make: Make) -> None:
    async with TaskGroup() as group:
        group.spawn(fail(make))
        group.spawn(fail(make))
        await sleep(60)


async def in_body(make: Make) -> None:
    async with TaskGroup() as group:
        group.spawn(sleep(60))
        raise make()


async def in_start(make: Make) -> None:
    async def begin(*, task_status: TaskStatus[None]) -> None:
        raise make()

    async with TaskGroup() as group:
        await group.start(begin)


async def in_scope(make: Make) -> None:
    with CancelScope() as scope:
        scope.cancel()
        await fail_when_cancelled(make)


async def in_await(make: Make) -> None:
    await spawn(fail(make, 0.01))


async def in_as_completed(make: Make) -> None:
    async for handle in as_completed([fail(make)]):
        handle.result()


def in_script_group(make: Make) -> None:
    with TaskGroup() as group:
        group.spawn(fail(make))


def in_script_body(make: Make) -> None:
    with TaskGroup() as group:
        group.spawn(sleep(60))
        raise make()


def in_callback(make: Make) -> None:
    def called(_: object) -> None:
        raise make()

    handle = spawn(fail(make, 0.01))
    handle.add_done_callback(called)
    handle.join(TIMEOUT)


def raise_it(make: Make) -> None:
    raise make()


class Foreign(Coroutine[Any, Any, None]):
    """Of another library, with a close() that fails."""

    def __init__(self, make: Make) -> None:
        self._make = make

    def send(self, _: object) -> NoReturn:
        raise self._make()

    def throw(self, *_: object) -> NoReturn:
        raise self._make()

    def close(self) -> NoReturn:
        raise self._make()

    def __await__(self) -> Generator[Any, None, None]:
        raise self._make()


class Failing(Future[None]):
    def __init__(self, make: Make) -> None:
        self._make = make

    def poll(self, cx: Context) -> Ready[None] | Pending:
        raise self._make()

    def drop(self) -> None:
        raise self._make()


def when_cancelled(make: Make) -> None:
    begun = spawn(sleep(0.01))
    handle = spawn(fail_when_cancelled(make))
    begun.join(TIMEOUT)
    handle.cancel()
    handle.join(TIMEOUT)


def joined(work: Callable[[Make], Coroutine[Any, Any, object]]) -> Callable[[Make], object]:
    return lambda make: spawn(work(make)).join(TIMEOUT)


WAYS: dict[str, Callable[[Make], object]] = {
    "join": joined(fail),
    "block_on": lambda make: block_on(fail(make)),
    "await": joined(in_await),
    "group": joined(in_group),
    "body": joined(in_body),
    "start": joined(in_start),
    "scope": joined(in_scope),
    "gather": joined(lambda make: gather(fail(make), sleep(60))),
    "race": joined(lambda make: race(fail(make), sleep(60))),
    "as_completed": joined(in_as_completed),
    "timeout": joined(lambda make: timeout(60, fail(make))),
    "script group": in_script_group,
    "script body": in_script_body,
    "pool": lambda make: spawn_blocking(raise_it, make).join(TIMEOUT),
    "callback": in_callback,
    "future": lambda make: spawn(fail(make)).future().result(TIMEOUT),
    "cancelled": when_cancelled,
    "foreign": joined(Foreign),
    "poll": lambda make: spawn(Failing(make)).join(TIMEOUT),
}


@kinds
@pytest.mark.parametrize("way", WAYS)
def test_G16_an_error_of_any_class_reaches_those_who_wait(way: str, make: Make) -> None:
    runtime = current.runtime()
    error = ended_by(lambda: WAYS[way](make))
    if way == "foreign" and issubclass(type(make()), StopIteration):
        assert error is None  # it is how a coroutine returns
    else:
        assert is_of(error, make)
    assert spawn(give(1)).join(TIMEOUT) == 1
    assert current.runtime() is runtime


@kinds
def test_G16_a_foreign_coroutine_that_is_cancelled_before_its_first_step(make: Make) -> None:
    async def main() -> Any:
        handle = spawn(Foreign(make))
        handle.cancel()
        return handle

    handle = spawn(main()).join(TIMEOUT)
    with pytest.raises(TaskCancelled):  # what its close() raises is logged
        handle.join(TIMEOUT)
    assert spawn(give(1)).join(TIMEOUT) == 1


@kinds
def test_G16_an_error_that_nobody_takes_is_logged_however_it_shows(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    handle = spawn(fail(make, 0.01), name="unseen")
    del handle
    deadline = time.monotonic() + TIMEOUT
    while "unseen" not in caplog.text:
        assert time.monotonic() < deadline
        spawn(sleep(0.01)).join(TIMEOUT)
        assert log.flush(TIMEOUT)
    caplog.clear()


def test_G16_what_cannot_be_in_a_group_has_a_stand_in() -> None:
    make = hostile(BaseException)
    error = stand_in(make())
    assert str(error) == "an exception of class HostileBaseException cannot be handled"
    caught = ended_by(lambda: in_script_group(make))
    assert isinstance(caught, ExceptionGroup)
    assert isinstance(caught.exceptions[0], RuntimeError)


def test_an_error_is_raised_again_by_its_base_class() -> None:
    error = hostile(Exception)()
    again = ended_by(lambda: raise_as_it_was(error))
    assert again is error
    assert traceback_of(error) is not None


def test_a_call_at_a_latch_that_fails_keeps_no_other_waiting() -> None:
    latch, told = Latch(), list[str]()
    for name in ("first", "fails", "second", "fails too", "third"):
        call = refuse if "fails" in name else partial(told.append, name)
        assert latch.call_when_open(name, call)
    assert type(ended_by(latch.open)) is Asked
    assert told == ["first", "second", "third"]
    assert latch.waiters == {}
