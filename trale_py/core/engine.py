"""The two engines, and the one way from Python to C.

The package is written in Python. What each spawn, poll, wake, message and timer comes
through is written a second time, in C (``native/``), and does the same with no Python frames
and without giving up the GIL. ``@accelerated`` marks it: the decorated class or function
is the Python version, and on the native engine the one in C takes its place. All other
modules import it from where it is defined, and need not know which one they get.

A class in C is the whole of it, or a part:

- The whole stands in for the Python class.
- A part (``parts`` in native/python/module.c) has the fields and the methods that are hot. It
  becomes the base of the Python class, which keeps all other methods. A method that is in both does
  what is usual in C, and calls the Python version in all other cases. But ``__new__`` and
  ``__init__`` in C make all that is in C, and those in Python are left out.

C calls and reads Python by name. Each C file declares in one table what it needs
(``tpy_use`` in native/python/registry.h). ``register`` looks all of it up while the package is
imported, so a name that was changed on one side only fails the import.

The environment chooses: TRALE_ENGINE is "native" or "python" and must hold, or the import
fails. TRALE_PURE=1 is the second. Without them the native engine is used if it was built. There
is one native engine in a process: if the package was taken out of sys.modules and is imported
a second time, the second has the Python engine. In a subinterpreter there is neither, as
threads, exit and forks are the process's and belong to the main interpreter.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

T = TypeVar("T", bound=Callable[..., Any])

_FIELDS = (types.MemberDescriptorType, types.GetSetDescriptorType)

_python: dict[str, Any] = {}  # the Python versions, by name


def _wanted() -> str:
    """What the environment asks for: "native", "python", or "" for either."""
    engine, pure = os.environ.get("TRALE_ENGINE", ""), os.environ.get("TRALE_PURE", "")
    if engine not in ("", "native", "python"):
        raise ImportError(f"TRALE_ENGINE is {engine!r}; it must be 'native' or 'python'")
    if pure not in ("", "0", "1"):
        raise ImportError(f"TRALE_PURE is {pure!r}; it must be '1', or '0' for no")
    if pure == "1" and engine == "native":
        raise ImportError("TRALE_PURE=1 and TRALE_ENGINE=native contradict each other")
    return "python" if pure == "1" else engine


def _load() -> Any:
    wanted = _wanted()
    if wanted == "python":
        return None
    try:
        from .. import _native  # type: ignore[attr-defined]
    except ImportError as error:
        if wanted == "native":
            raise ImportError(f"TRALE_ENGINE=native, but it cannot be loaded: {error}") from error
        import importlib.util

        if importlib.util.find_spec("trale_py._native") is not None:
            warnings.warn(
                f"trale_py uses its Python engine, as the native one cannot be loaded: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
        return None
    return _native


def _is_main_interpreter() -> bool:
    for name in ("_interpreters", "_xxsubinterpreters"):  # from 3.13 on, and before
        with contextlib.suppress(ImportError):
            interpreters = importlib.import_module(name)
            return bool(interpreters.get_current() == interpreters.get_main())
    return True


if not _is_main_interpreter():
    raise ImportError("trale_py cannot be used in a subinterpreter")
native: Any = _load()
engine = "python" if native is None else "native"


def accelerated(python: T) -> T:
    """Decorates a class or function that is written in C too. See above."""
    name = python.__name__
    _python[name] = python
    if native is None:
        if isinstance(python, type):  # in C: native/python/object.c
            setattr(python, "__reduce__", _refuse_to_copy)  # noqa: B010
        return python
    in_c: Any = getattr(native, name, python)
    if isinstance(in_c, type) and in_c is not python:
        in_c = _derive(in_c, python) if name in native.parts else _adopt(in_c, python)
    elif in_c is not python:
        _document(native, python)
        in_c.__module__ = python.__module__
    native.register(python, in_c)
    return in_c  # type: ignore[no-any-return]


def _refuse_to_copy(self: object) -> NoReturn:
    raise TypeError(f"{type(self)!r} cannot be copied or pickled")


def python_version(name: str) -> Any:
    """The accelerated class or function of that name as it stands in Python. For tests."""
    return _python[name]


def _adopt(in_c: Any, cls: Any) -> type:
    """Let the class in C pass for the Python one, where people look: help(), inspect."""
    _check_names(in_c, cls, set())
    for name in vars(in_c).keys() & vars(cls).keys():
        _document(in_c, vars(cls)[name])
    for name in ("__module__", "__qualname__", "__doc__", "__firstlineno__"):
        if name in vars(cls):
            setattr(in_c, name, vars(cls)[name])
    in_c.__signature__ = _Signature(in_c, cls)
    return in_c  # type: ignore[no-any-return]


class _Signature:
    """How a class with an ``__init__`` in C is called. A subclass may have another in Python."""

    def __init__(self, in_c: type, cls: type) -> None:
        self._in_c = in_c
        self._cls = cls

    def __get__(self, instance: object, owner: Any) -> inspect.Signature:
        if owner.__init__ is not self._in_c.__init__:  # type: ignore[misc]
            raise AttributeError("__signature__")
        return inspect.signature(self._cls)


def _derive(base: Any, cls: Any) -> type:
    """The Python class, with the part in C for a base."""
    _check_names(base, cls, set(vars(cls).get("__slots__", ())) - {"__weakref__"})
    body = {name: value for name, value in vars(cls).items() if not isinstance(value, _FIELDS)}
    for name in vars(base).keys() & body.keys() - {"__module__", "__doc__"}:
        _document(base, body.pop(name))
    if "__getattribute__" in vars(base):  # in C it is both
        body.pop("__getattr__", None)
    if "__init__" in vars(base):
        body["__signature__"] = _Signature(base, cls)
    if "__slots__" in body:
        body["__slots__"] = ("__weakref__",) if "__weakref__" in body["__slots__"] else ()
    others = (one for one in getattr(cls, "__orig_bases__", cls.__bases__) if one is not object)
    derived = types.new_class(
        cls.__name__, (base, *others), exec_body=lambda namespace: namespace.update(body)
    )
    _heal_super(cls, derived)
    return derived


def _check_names(in_c: Any, cls: type, fields: set[str]) -> None:
    """What is in C has a name in Python, and these fields are in C: else they are not the same."""
    only_in_c = {name for name in vars(in_c) if not name.startswith("__")} - set(dir(cls))
    if only_in_c:  # fields of a class without __slots__: they are named in its methods
        for one in cls.__mro__:
            only_in_c.difference_update(*(f.__code__.co_names for f in _functions(one)))
    only_in_python = fields - {name for one in in_c.__mro__ for name in vars(one)}
    for name in sorted(only_in_c | only_in_python):
        raise ImportError(
            f"{cls.__name__}.{name} is in {'C' if name in only_in_c else 'Python'} only: "
            "was it renamed in one, or is the extension an old one?"
        )


def _heal_super(cls: type, derived: type) -> None:
    """``super()`` in a method asks for the class by a cell that all methods share."""
    for function in _functions(cls):
        if "__class__" in function.__code__.co_freevars and function.__closure__ is not None:
            cell = function.__closure__[function.__code__.co_freevars.index("__class__")]
            cell.cell_contents = derived


def _functions(cls: type) -> Iterator[types.FunctionType]:
    """All that are in the body of the class, those of properties and static methods too."""
    for value in vars(cls).values():
        parts = (value, *(getattr(value, name, None) for name in ("fget", "fset", "__func__")))
        yield from (part for part in parts if isinstance(part, types.FunctionType))


def _document(owner: Any, python: Any) -> None:
    """Give the one in C the text and, of a function, the signature of the one in Python."""
    if isinstance(python, property):
        assert python.fget is not None
        native.document(owner, python.fget.__name__, inspect.cleandoc(python.__doc__ or ""))
    if isinstance(python, types.FunctionType):
        text = f"{_signature(python)}\n--\n\n{inspect.cleandoc(python.__doc__ or '')}"
        native.document(owner, python.__name__, text)


def _signature(function: types.FunctionType) -> str:
    """As C has it, in no time: inspect takes a tenth of a millisecond."""
    code, defaults = function.__code__, function.__defaults__ or ()
    count = code.co_argcount
    names = ["$self" if name == "self" else name for name in code.co_varnames[:count]]
    for n, default in enumerate(defaults, count - len(defaults)):
        names[n] += f"={default!r}"
    if function.__kwdefaults__:
        names += ["*", *(f"{name}={value!r}" for name, value in function.__kwdefaults__.items())]
    return f"{function.__name__}({', '.join(names)})"
