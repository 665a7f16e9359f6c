"""R28: a Ctrl-C at each place where Python looks for one, around and in a script's ``with``."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest

import trale_py
from trale_py import (
    CancelScope,
    JoinHandle,
    TaskCancelled,
    TaskGroup,
    engine,
    sleep,
)

from .interleave import Signal, everywhere
from .net_helpers import TIMEOUT


def ctrl_c() -> None:
    raise KeyboardInterrupt


def script(block: Any, body: Callable[[Any], object]) -> Callable[[], None]:
    """A ``with`` that stands in a file of the package, so that it is interrupted too."""
    source = "def run():\n    with block as entered:\n        body(entered)\n"
    names: dict[str, Any] = {"block": block, "body": body}
    exec(compile(source, trale_py.__file__, "exec"), names)
    return names["run"]  # type: ignore[no-any-return]


async def forever() -> None:
    await sleep(math.inf)


async def cleans_up() -> None:
    try:
        await forever()
    finally:
        with CancelScope(shield=True):
            await sleep(0.001)


def undisturbed(call: Callable[[], object]) -> None:
    before = sys.gettrace()
    sys.settrace(None)
    call()
    sys.settrace(before)


# The very beginning of a __exit__ that is written in Python, see with_block.py.
LOST_AT_MOST = 0 if engine == "native" else 1
PATIENCE = TIMEOUT if engine == "native" else 2


def test_R28_in_the_block_of_a_group_the_children_are_cancelled_and_have_ended() -> None:
    lost, interrupted = 0, 0

    def attempt(at: Any) -> None:
        nonlocal lost, interrupted
        handles: list[JoinHandle[None]] = []

        def body(group: TaskGroup) -> None:
            undisturbed(lambda: handles.extend(group.spawn(cleans_up()) for _ in range(2)))
            group.cancel_scope.cancel()

        try:
            at(ctrl_c).run(script(TaskGroup(), body))
        except KeyboardInterrupt:
            interrupted += 1
        if not all(handle.done() for handle in handles):
            lost += 1
            for handle in handles:
                handle.cancel()
                with pytest.raises(TaskCancelled):
                    handle.join(TIMEOUT)

    places = everywhere(trale_py, attempt, Signal)
    assert interrupted > places - 5  # nearly none is swallowed
    assert places > 20
    assert lost <= LOST_AT_MOST


def test_R28_in_the_block_of_a_group_a_second_ctrl_c_stops_the_waiting() -> None:
    """The first one ends the body, the second comes anywhere at the end of the block."""
    lost = 0

    def attempt(at: Any) -> None:
        nonlocal lost
        handles: list[JoinHandle[None]] = []

        def body(group: TaskGroup) -> None:
            undisturbed(lambda: handles.append(group.spawn(forever())))
            raise KeyboardInterrupt("first")

        with pytest.raises(KeyboardInterrupt):
            at(ctrl_c).run(script(TaskGroup(), body))
        for handle in handles:  # none, if it came before the body
            try:
                with pytest.raises(TaskCancelled):
                    handle.join(PATIENCE)
            except TimeoutError:
                lost += 1
                handle.cancel()

    assert everywhere(trale_py, attempt, Signal) > 20
    assert lost <= LOST_AT_MOST
