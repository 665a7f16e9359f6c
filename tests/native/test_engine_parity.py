"""What both engines show: members, signatures, texts, reprs. And that C passes for Python."""

from __future__ import annotations

import inspect
import math
import socket
import sys
from functools import partial
from types import FunctionType
from typing import Any

import pytest

from tests.support import python_engine as python
from trale_py import Mutex, Semaphore, channel, sleep, sleep_until, yield_now
from trale_py.core import engine
from trale_py.core.engine import native, python_version
from trale_py.core.waker import Waker

pytestmark = pytest.mark.skipif(native is None, reason="there is no native engine")

assert channel.channel  # its part is registered when it is loaded
NAMES = sorted(engine._python)
CLASSES = [name for name in NAMES if isinstance(python_version(name), type)]

# Fields and methods of classes that users do not see, which the one in C does without.
ONLY_IN_PYTHON = {
    "Io": {"busy", "cut_off"},
    "QueueCore": {"gate", "grant_slots", "push", "room"},
    "RunQueue": {"fire_timers", "waiting", "wake"},
    "Source": {"read", "write"},
    "TimerEntry": {"in_heap"},
}


def in_use(name: str) -> Any:
    """The one of that name that the package has."""
    return getattr(sys.modules[python_version(name).__module__], name, None)


def kind(cls: type, name: str) -> str:
    found = inspect.getattr_static(cls, name)
    return "method" if callable(found) or isinstance(found, staticmethod | classmethod) else "field"


def public(cls: type) -> dict[str, str]:
    return {name: kind(cls, name) for name in dir(cls) if not name.startswith("_")}


def test_all_that_is_in_C_is_registered() -> None:
    inside = {"ReadyNow", "Batch", "Waiters", "Operation", "Waiter"}  # nobody names them
    types = {name for name, found in vars(native).items() if isinstance(found, type)}
    assert types - inside == {*CLASSES}
    assert {*native.parts} <= types


@pytest.mark.parametrize("name", CLASSES)
def test_the_public_members_are_the_same(name: str) -> None:
    ours, theirs = public(python_version(name)), public(in_use(name))
    for extra in ONLY_IN_PYTHON.get(name, ()):
        assert extra not in theirs
        del ours[extra]
    if "__slots__" not in vars(python_version(name)):  # then Python's fields are in no class
        theirs = {name: kind for name, kind in theirs.items() if kind == "method" or name in ours}
    assert ours == theirs


@pytest.mark.parametrize("name", NAMES)
def test_what_is_in_C_looks_as_if_it_were_in_Python(name: str) -> None:
    ours, theirs = python_version(name), in_use(name)
    assert theirs.__name__ == ours.__name__
    assert theirs.__qualname__ == ours.__qualname__
    assert theirs.__module__ == ours.__module__
    assert inspect.cleandoc(theirs.__doc__ or "") == inspect.cleandoc(ours.__doc__ or "")
    assert signature(theirs) == signature(ours)
    if isinstance(theirs, type):  # a function in C is none for inspect.getsource
        assert inspect.getsource(theirs) == inspect.getsource(ours)
        assert inspect.getsourcefile(theirs) == inspect.getsourcefile(ours)


@pytest.mark.parametrize("name", CLASSES)
def test_methods_have_the_same_signature_and_text(name: str) -> None:
    cls = in_use(name)
    for attribute, ours in vars(python_version(name)).items():
        if attribute.startswith("__") or attribute not in public(cls):
            continue
        theirs = getattr(cls, attribute)
        if isinstance(ours, FunctionType | property) and ours.__doc__ is not None:
            assert inspect.getdoc(theirs) == inspect.getdoc(ours), attribute
        if isinstance(ours, FunctionType):
            assert signature(theirs) == signature(ours), attribute


def signature(called: Any) -> Any:
    """Names and defaults; the annotations are Python's."""
    if isinstance(called, type) and isinstance(called.__new__, FunctionType):
        called = partial(called.__init__, None)  # __new__ takes whatever __init__ does
    try:
        parameters = inspect.signature(called).parameters.values()
    except ValueError:
        return "none"
    return [(parameter.name, parameter.default) for parameter in parameters]


def test_a_subclass_has_the_signature_of_its_own_init() -> None:
    assert signature(Semaphore) == [("value", inspect.Parameter.empty)]
    assert signature(Mutex) == [("value", None)]


def test_reprs_are_the_same() -> None:
    shown = []
    for side in (python, native):
        queue = side.RunQueue()
        waker = side.Waker(queue, 7)
        poller = side.Poller(queue)
        poller.open()
        ours, peer = socket.socketpair()
        source = poller.watch(ours.fileno())
        source.users += 1
        text = repr([waker, side.Context(waker, None), source])
        shown.append(text.replace(f"fd={ours.fileno()}", "fd=N"))
        poller.unwatch(source)
        poller.close()
        ours.close()
        peer.close()
    assert shown[0] == shown[1]
    for deadline, text in {2**63 - 1: "<sleep for ever>", 2**62: "<sleep, 4611"}.items():
        for cls in (python_version("SleepWait"), native.SleepWait):
            wait = cls(deadline)
            wait.close()
            assert repr(wait).startswith(text)
    for name in CLASSES:
        assert repr(in_use(name)) == repr(python_version(name))


def test_the_types_of_leaves_are_the_same() -> None:
    made = {"SleepWait": [sleep(1), sleep(math.inf), sleep_until(0)], "YieldNow": [yield_now()]}
    for name, leaves in made.items():
        for leaf in leaves:
            assert type(leaf) is in_use(name)
            leaf.close()


def test_super_works_where_a_part_is_in_C() -> None:
    class BaseStream:
        def __init__(self) -> None:
            self._io = native.Io(3)

        def read(self) -> None: ...
        def write_all(self) -> None: ...

        def __repr__(self) -> str:
            return f"mine: {super().__repr__()}"

        @property
        def who(self) -> str:
            return super().__str__()

        @classmethod
        def make(cls) -> Any:
            return super().__new__(cls)

        def own_class(self) -> type:
            return __class__  # type: ignore[name-defined]

    derived: Any = engine._derive(native.BaseStream, BaseStream)
    stream = derived()
    assert repr(stream).startswith("mine: <")
    assert stream.who == repr(stream)
    assert type(derived.make()) is derived
    assert stream.own_class() is derived
    assert issubclass(derived, native.BaseStream)


def test_the_python_version_of_a_whole_class_is_left_as_it_is() -> None:
    assert python_version("Waker") is not Waker
    waker = python.Waker(python.RunQueue(), 1)
    assert waker == python.Waker(waker._run_queue, 1)
    assert waker != python.Waker(waker._run_queue, 2)
    assert waker != 1
