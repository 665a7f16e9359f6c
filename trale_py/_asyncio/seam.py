"""What the core asks of asyncio's side: see ForeignLoop in core/contract.py."""

from __future__ import annotations

import sys
from typing import Any

from ..core import current
from ..core.waker import Context, Waker
from .stub import add_hint, stub


class Seam:
    """Executor's thread only. It has no state: what there is belongs to the runtime's guest."""

    def take_thread(self) -> bool:
        asyncio: Any = sys.modules["asyncio"]
        if getattr(asyncio.__spec__, "_initializing", False):  # another thread is importing it
            return False
        if asyncio._get_running_loop() is None:
            asyncio._set_running_loop(stub)
        return True

    def enter(self) -> Context | None:
        companion = self._companion()
        return None if companion is None else companion.cx

    def wait(self, cx: Context) -> Any:
        return self._companion().future()

    def _companion(self) -> Any:
        """That of the asyncio task that is running; None: there is none."""
        runtime = current.thread.runtime
        if runtime is None or runtime.guest is None:
            return None
        return runtime.guest.companion()

    def adopt(self, waker: Waker, yielded: object) -> Any:
        if getattr(yielded, "_asyncio_future_blocking", None) is not True:
            return None
        runtime = current.thread.runtime
        future: Any = yielded
        if runtime is None or runtime.guest is None or future.get_loop() is not runtime.guest.loop:
            return None
        from .companion import AsyncioWait

        return AsyncioWait(future, waker)

    def explain(self, error: BaseException) -> None:
        add_hint(error)


current.foreign_loop = Seam()
