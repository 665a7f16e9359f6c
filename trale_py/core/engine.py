"""The seam: the inner classes, in Python or in C.

What is below is written twice: as plain Python, which is the specification and what one
reads, and as the C extension ``_native`` (its sources are in ``native/``), which does the
same without Python frames and without giving up the GIL. Sockets, semaphores, mutexes and
channels choose theirs where they import a ``plain_`` module; ``in_c`` is for classes of which
only a part is in C. Nobody else knows which one is in use.

``TRALE_PURE=1`` in the environment asks for the Python ones. They are also what a checkout
has that was not built.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

native: Any = None
if not os.environ.get("TRALE_PURE"):
    with contextlib.suppress(ImportError):
        from .. import _native as native  # type: ignore[attr-defined, no-redef]

if TYPE_CHECKING or native is None:
    from .poller import Poller
    from .run_queue import RunQueue
    from .source import Source
    from .thread_state import thread
    from .timer_heap import TimerEntry
    from .waker import Context, Waker
else:
    Context = native.Context
    Poller = native.Poller
    RunQueue = native.RunQueue
    Source = native.Source
    TimerEntry = native.TimerEntry
    Waker = native.Waker
    thread = native.thread


T = TypeVar("T", bound=Callable[..., Any])
_BASETYPE = 1 << 10  # Py_TPFLAGS_BASETYPE, see type.__flags__


def in_c(python: T) -> T:
    """Decorates a class of which a part is written in C too, or a function that is.

    Of a class the part in C is the base: it has the fields, and the methods that each spawn,
    poll and message comes through. These do what is usual. In all other cases they call
    what stands here in Python, which is kept as ``plain_NAME``.
    """
    if native is None:
        return python
    in_c = getattr(native, python.__name__)
    if isinstance(python, types.FunctionType):
        _document(native, python)
        setattr(native, f"plain_{python.__name__}", python)
        in_c.__module__ = python.__module__
    elif in_c.__flags__ & _BASETYPE:  # else it is all there
        in_c = _derive(in_c, python)
        native.made(in_c)
    return in_c  # type: ignore[no-any-return]


def _derive(base: Any, cls: Any) -> type:
    fields = (types.MemberDescriptorType, types.GetSetDescriptorType)
    body = {name: value for name, value in vars(cls).items() if not isinstance(value, fields)}
    for name in vars(base).keys() & body.keys() - {"__module__", "__doc__"}:
        _document(base, body[name])
        body[f"plain_{name}"] = body.pop(name)
    if "__slots__" in body:
        body["__slots__"] = ("__weakref__",) if "__weakref__" in body["__slots__"] else ()
    others = (one for one in getattr(cls, "__orig_bases__", cls.__bases__) if one is not object)
    return types.new_class(
        cls.__name__, (base, *others), exec_body=lambda namespace: namespace.update(body)
    )


def _document(owner: Any, function: Any) -> None:
    """Give the one in C the text and the signature of the one in Python."""
    signature = inspect.signature(function)
    names = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    shown = str(inspect.Signature(names)).replace("(self", "($self", 1)
    text = f"{function.__name__}{shown}\n--\n\n{inspect.cleandoc(function.__doc__ or '')}"
    native.document(owner, function.__name__, text)


engine = "pure" if native is None else "native"

__all__ = [
    "Context",
    "Poller",
    "RunQueue",
    "Source",
    "TimerEntry",
    "Waker",
    "engine",
    "in_c",
    "thread",
]
