"""R52, R53: one allocation fails while tasks go on. No runtime ends, and no deadline is lost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import trale_py
from tests.support.net_helpers import TIMEOUT
from trale_py import Event, TaskCancelled, move_on_after, sleep, spawn, yield_now
from trale_py.core.runtime import Runtime

_testcapi = pytest.importorskip("_testcapi")
LAST = 40


async def yields(n: int) -> None:
    _testcapi.set_nomemory(n, n + 1)
    try:
        await yield_now()
        await yield_now()
    finally:
        _testcapi.remove_mem_hooks()


async def spawned(n: int) -> None:
    async def child() -> None:
        _testcapi.set_nomemory(n, n + 1)

    handle = spawn(child())
    try:
        await handle
    finally:
        _testcapi.remove_mem_hooks()


async def deadline(n: int) -> None:
    await sleep(1e-6)  # the reactor's thread is past its first steps: R40 is about these
    with move_on_after(0.001):
        event = Event()
        _testcapi.set_nomemory(n, n + 1)
        try:
            await event.wait()
        finally:
            _testcapi.remove_mem_hooks()


@pytest.mark.skipif(trale_py.engine != "native", reason="of the native engine's executor")
@pytest.mark.skipif(
    sys.version_info >= (3, 12),
    reason="CPython 3.12.1 and 3.13.0 crash by themselves where a function or list cannot be made",
)
@pytest.mark.filterwarnings("ignore:.*was never awaited:RuntimeWarning")
@pytest.mark.parametrize("operation", [yields, spawned, deadline])
def test_R52_R53_the_executor_survives_a_failed_allocation(
    operation: Callable[[int], Coroutine[Any, Any, None]], caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(LAST):
        runtime = Runtime()
        try:
            runtime.spawn(operation(n)).join(TIMEOUT)
        except MemoryError:
            pass  # it was the task's
        finally:
            _testcapi.remove_mem_hooks()
            runtime.shutdown(TIMEOUT)
    caplog.clear()


class NeverCloses(Coroutine[Any, Any, None]):
    """A foreign coroutine whose close() fails."""

    def send(self, value: None) -> None:
        raise AssertionError("it never runs")

    def throw(self, *error: Any) -> None:
        raise AssertionError("it never runs")

    def close(self) -> None:
        raise ZeroDivisionError

    def __await__(self) -> Any:
        raise AssertionError("it never runs")


def test_what_close_raises_does_not_replace_the_cancellation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        handle = spawn(NeverCloses(), name="foreign")
        handle.cancel("no more")
        with pytest.raises(TaskCancelled, match="no more"):
            await handle
        assert handle.cancelled()

    spawn(main()).join(TIMEOUT)
    trale_py.Executor.shutdown(TIMEOUT)  # the report was handed to the handlers
    assert "which never ran, failed" in caplog.text
    caplog.clear()
