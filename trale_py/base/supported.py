"""Where trale_py runs. The build looks here first, and so does the import."""

from __future__ import annotations

import _thread
import os
import select
import sys
from types import BuiltinFunctionType

PATCHED = (
    "trale_py needs real threads and epoll, and something like gevent's or eventlet's monkey patch "
    "has replaced those of this process: do without it, or use trale_py in another process"
)


def has_glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (ValueError, OSError):  # the name is unknown here, or has no value
        return False


def check() -> None:
    """Raise ImportError, with one sentence, where trale_py is not supported."""
    if sys.platform != "linux":
        raise ImportError(
            f"trale_py needs Linux, for epoll, timerfd and eventfd; this is {sys.platform}"
        )
    if sys.implementation.name != "cpython":
        raise ImportError(f"trale_py needs CPython; this is {sys.implementation.name}")
    if "t" in sys.abiflags:
        raise ImportError("trale_py needs a CPython with the GIL; this is a free-threaded build")
    if not has_glibc():
        raise ImportError("trale_py needs glibc; this Python uses another C library, such as musl")


def is_patched() -> bool:
    """Whether Python's threads are replaced, as gevent's or eventlet's monkey patch does."""
    return not isinstance(_thread.start_new_thread, BuiltinFunctionType) or not hasattr(
        select, "epoll"
    )


check()
if is_patched():
    raise ImportError(PATCHED)
