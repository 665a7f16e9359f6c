"""What shows is what public_names.txt has, on either engine; all else has an underscore."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import trale_py
from trale_py import channel, fs, process, tls
from trale_py.core.thread_pool import BlockingPool
from trale_py.streams.signals import SignalReceiver

PACKAGE = Path(trale_py.__file__).parent
LIST = Path(__file__).parents[1] / "public_names.txt"
NAMES = [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]

SUBMODULES = {"channel": channel, "fs": fs, "process": process, "tls": tls}
MODULES = [trale_py, *SUBMODULES.values()]
CLASSES = {
    prefix + name: getattr(module, name)
    for prefix, module in (("", trale_py), *((f"{n}.", m) for n, m in SUBMODULES.items()))
    for name in module.__all__
    if isinstance(getattr(module, name), type)
}
# What public calls return, though it has no public name of its own.
RETURNED = {
    "aio": type(trale_py.aio),
    "Executor.blocking_pool": BlockingPool,
    "open_signal_receiver": SignalReceiver,
}
OURS = {
    name: cls
    for name, cls in CLASSES.items()
    if cls.__module__.partition(".")[0] not in ("concurrent", "subprocess")
}
NOT_LOADED = (
    *("asyncio", "ssl", "multiprocessing", "subprocess", "shutil"),
    *(f"trale_py.{name}" for name in SUBMODULES),
)


def shown() -> Iterator[str]:
    for name in dir(trale_py):
        yield name
        if name in SUBMODULES:
            yield from (f"{name}.{inside}" for inside in dir(SUBMODULES[name]))
    for name, cls in (CLASSES | RETURNED).items():
        yield from (f"{name}.{member}" for member in members(cls))


def members(cls: type) -> set[str]:
    """Own and inherited ones without an underscore, also what methods store in ``self``."""
    found = set(dir(cls))
    for base in cls.__mro__:
        if is_ours(base):
            found |= stored(base)
        else:
            found -= set(dir(base))
    return {name for name in found if not name.startswith("_")}


def is_ours(cls: type) -> bool:
    return cls.__module__.split(".")[0] == "trale_py"


def stored(cls: type) -> set[str]:
    """What ``self`` gets in the body of a class of the package, and what is declared there."""
    return {
        name
        for path in files_of(cls)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__
        for inside in ast.walk(node)
        for name in stored_by(inside)
    }


def files_of(cls: type) -> list[Path]:
    """Where it may be written: a public exception does not tell in which file of its package."""
    if cls.__module__ == "trale_py._native":
        return []
    path = PACKAGE.joinpath(*cls.__module__.split(".")[1:])
    return list(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


parse = cache(lambda path: ast.parse(path.read_text()))


def stored_by(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Attribute(value=ast.Name(id="self"), ctx=ast.Store()):
            yield node.attr
        case ast.ClassDef():
            for inside in node.body:
                if isinstance(inside, ast.AnnAssign) and isinstance(inside.target, ast.Name):
                    yield inside.target.id


def test_what_shows_is_in_the_list_and_the_other_way_round() -> None:
    found = set(shown())
    assert len(found) > 200
    assert sorted(found - set(NAMES)) == []
    assert sorted(set(NAMES) - found) == []


def test_the_list_has_each_name_once() -> None:
    assert len(NAMES) == len(set(NAMES))


def test_the_package_shows_what_it_exports_and_its_submodules() -> None:
    assert set(dir(trale_py)) == {*trale_py.__all__, *SUBMODULES, "__version__"}
    for module in SUBMODULES.values():
        assert dir(module) == sorted(module.__all__)


def test_each_public_name_has_a_docstring() -> None:
    for module in MODULES:
        for name in module.__all__:
            assert name in ("PENDING", "engine") or getattr(module, name).__doc__, name


@pytest.mark.parametrize("module", MODULES)
def test_all_of_it_can_be_imported_by_a_star(module: ModuleType) -> None:
    namespace: dict[str, Any] = {}
    exec(f"from {module.__name__} import *", namespace)
    del namespace["__builtins__"]
    assert namespace == {name: getattr(module, name) for name in module.__all__}


@pytest.mark.parametrize("name", [n for n, cls in OURS.items() if issubclass(cls, BaseException)])
def test_an_exception_is_named_as_it_is_imported(name: str) -> None:
    module, cls = f"trale_py.{name}".rpartition(".")[0], OURS[name]
    assert cls.__module__ == module
    assert getattr(sys.modules[module], cls.__qualname__) is cls


@pytest.mark.parametrize(
    "name", [n for n, cls in OURS.items() if not issubclass(cls, BaseException)]
)
def test_the_source_of_a_class_is_found(name: str) -> None:
    source = inspect.getsource(OURS[name])
    assert source.splitlines()[0 if source.startswith("class") else 1].startswith(
        f"class {name.rpartition('.')[2]}"
    )


def test_the_rest_is_loaded_at_first_use(run_script: Any) -> None:
    result = run_script(
        f"""
        import sys
        import trale_py
        print([name for name in {NOT_LOADED} if name in sys.modules])
        assert "channel" in dir(trale_py)
        tx, rx = trale_py.channel.channel(1)
        try:
            trale_py.no_such_thing
        except AttributeError as error:
            print(error)
        """
    )
    loaded, error = result.stdout.splitlines()
    assert loaded == "[]"
    assert "no_such_thing" in error
