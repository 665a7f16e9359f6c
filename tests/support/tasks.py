"""Coroutines that many tests spawn."""

from __future__ import annotations

import math
from typing import Any, NoReturn

from trale_py import sleep


async def give(value: Any) -> Any:
    return value


async def fail(error: BaseException) -> NoReturn:
    raise error


async def forever() -> None:
    await sleep(math.inf)
