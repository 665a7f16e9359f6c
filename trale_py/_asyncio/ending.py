"""The end of the guest: an asyncio task, the last one. It leaves nothing open, and says nothing."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from .loop import GuestLoop

_REASON = "the runtime is being shut down"

# Closing a transport takes a few calls of the loop, of which one makes the next.
_ROUNDS = 10


async def wind_up(loop: GuestLoop) -> None:
    """End all other tasks, then generators, executor, transports and servers."""
    await _end_tasks(loop)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
    loop.remove_signal_handlers()
    for _ in range(_ROUNDS):
        if not _close_what_is_open(loop):
            break
        await asyncio.sleep(0)


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


def _close_what_is_open(loop: GuestLoop) -> bool:
    """Whether there was anything. What the loop watches leads to all of it but idle transports."""
    owners: set[Any] = set(loop._transports.values())
    for key in list(loop.guest_selector.get_map().values()):
        for handle in key.data:
            if handle is not None:
                owners.add(getattr(handle._callback, "__self__", None))
                owners.update(one for one in handle._args or () if _is_server(one))
    found = False
    for owner in owners:
        if isinstance(owner, asyncio.BaseTransport) or _is_server(owner):
            found = True
            _close(owner)
    return found


def _is_server(one: object) -> bool:
    return isinstance(one, asyncio.AbstractServer | socket.socket)


def _close(owner: Any) -> None:
    if isinstance(owner, asyncio.BaseTransport):
        # A pipe of a program: the program's transport has it closed, and ends the program.
        owner = getattr(owner.get_protocol(), "proc", owner)
    getattr(owner, "abort", owner.close)()
