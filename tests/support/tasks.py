"""Coroutines that many tests spawn."""

from __future__ import annotations

import math
from typing import Any, NoReturn

from trale_py import Event, JoinHandle, sleep


async def give(value: Any) -> Any:
    return value


async def fail(error: BaseException) -> NoReturn:
    raise error


async def forever() -> None:
    await sleep(math.inf)


async def receive(inbox: list[str], there: Event) -> str:
    """From a queue of one's own, made of a list and an Event."""
    await there.wait()
    return inbox.pop()


async def send(
    inbox: list[str], there: Event, victim: JoinHandle[Any], *, cancel_first: bool
) -> None:
    """Hand it to ``victim``, which is cancelled in the same turn."""
    if cancel_first:
        victim.cancel()
    inbox.append("item")
    there.set()
    if not cancel_first:
        victim.cancel()
