"""The end of the guest: an asyncio task, the last one. It leaves nothing open, and says nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from .loop import GuestLoop

_REASON = "the runtime is being shut down"

# Closing a transport takes a few calls of the loop, of which one makes the next.
_ROUNDS = 10


async def wind_up(loop: GuestLoop) -> None:
    """End all other tasks, then generators, executor, transports and servers."""
    loop.is_ending = True
    await _end_tasks(loop)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
    loop.remove_signal_handlers()
    for _ in range(_ROUNDS):
        owners = _what_is_open(loop)
        if not owners:
            break
        for owner in owners:
            getattr(owner, "abort", owner.close)()
        # A program was killed by that. Until its end is heard of, it would count as running.
        await asyncio.gather(asyncio.sleep(0), *(one._wait() for one in owners & {*loop.programs}))


async def _end_tasks(loop: GuestLoop) -> None:
    """Cancel each once. Those that they make while they end, too."""
    cancelled: set[asyncio.Task[Any]] = set()
    me = {asyncio.current_task()}
    while rest := asyncio.all_tasks(loop) - me:
        for task in rest - cancelled:
            task.cancel(_REASON)
        cancelled |= rest
        await asyncio.wait(rest)
    for task in cancelled:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            loop.call_exception_handler(
                {
                    "message": "an asyncio task failed while the runtime was being shut down",
                    "exception": error,
                    "task": task,
                }
            )


def _what_is_open(loop: GuestLoop) -> set[Any]:
    """Transports and servers: what the loop watches leads to them."""
    owners: set[Any] = set(loop._transports.values())
    for key in list(loop.guest_selector.get_map().values()):
        for handle in key.data:
            if handle is not None:
                owners.add(getattr(handle._callback, "__self__", None))
                owners.update(handle._args or ())
    transports = {one for one in owners if hasattr(one, "get_protocol") and hasattr(one, "close")}
    servers = {one for one in owners if isinstance(one, asyncio.AbstractServer)}
    programs = {one for one in loop.programs if not one.is_closing()}
    # A pipe of a program is the program's transport's to close.
    return {getattr(one.get_protocol(), "proc", one) for one in transports} | servers | programs
