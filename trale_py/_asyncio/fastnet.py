"""aiofastnet's transports on the guest loop, if it is installed.

Its recv and send keep the interpreter's lock. A thread that gives it up in each message gets it
back after the switch interval of 5 ms only, if another one computes. TRALE_AIOFASTNET=0 does
without.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

from .loop import GuestLoop


def use_aiofastnet(loop: GuestLoop) -> None:
    if os.environ.get("TRALE_AIOFASTNET", "") == "0":
        return
    try:
        import aiofastnet
    except ImportError:
        return
    aiofastnet.patch_loop(loop)
    for name in ("connect_read_pipe", "connect_write_pipe"):
        loop.__dict__.pop(name, None)  # pipes gain nothing
    _free_writers_in_any_thread()


def _free_writers_in_any_thread() -> None:
    """Its transports refuse other threads, and the garbage collector frees a StreamWriter in any.

    So where ``StreamWriter.__del__`` asks its transport, it does so on the transport's thread. Of
    writers of other loops nothing changes.
    """
    finalize: Callable[[Any], object] | None = vars(asyncio.StreamWriter).get("__del__")
    if finalize is None or finalize.__module__ == __name__:
        return

    def __del__(self: Any) -> None:
        loop = getattr(self, "_loop", None)
        if not isinstance(loop, GuestLoop) or loop._thread_id == threading.get_ident():
            finalize(self)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(finalize, self)

    asyncio.StreamWriter.__del__ = __del__  # type: ignore[method-assign]
