"""run: the calling thread is the executor for a while.

The loop is the one of every executor. What is different is how it begins and ends. On the main
thread Python runs signal handlers, in the midst of the executor's own frames too. An exception that
one of them raises there may have cut off any step. Then the run ends in order: what was cut off
is mended (``recover``), all tasks are cancelled and have the grace for their end, every
handle is settled, and the run raises that exception.
"""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NoReturn, TypeVar

from ..base.errors import RuntimeClosed, WouldDeadlock
from . import current
from .borrowed import Borrowed, CtrlC
from .coroutine import as_coroutine, close_refused
from .future import Future
from .join import JoinHandle
from .latch import freeze_daemon
from .run_queue import make_call
from .runtime_end import PATIENCE_SECONDS, start_ending, tell_patience
from .task import Task

T = TypeVar("T")


def run(runtime: Any, main: object, args: tuple[Any, ...]) -> Any:
    """See :meth:`trale_py.Runtime.run`. ``runtime`` is a Runtime."""
    coro = called(main, args)
    if current.thread.runtime is not None:
        refuse(coro, WouldDeadlock("run() in a task would deadlock: await the coroutine"))
    if runtime.threaded:
        refuse(coro, RuntimeError("run() is for a Runtime(thread=False): use block_on()"))
    ctrl_c = CtrlC(runtime)
    borrowed = Borrowed(runtime, ctrl_c)
    handle: JoinHandle[Any] | None = None
    try:
        try:
            if not borrowed.claim():
                refuse(coro, _why_not(runtime))
            handle = runtime.spawn(coro)
            ctrl_c.watch(handle.id)
            fault = _stay(runtime, borrowed, handle, math.inf)
        finally:
            borrowed.put_back()
    except BaseException:
        if handle is not None:
            handle.cancel("run() was interrupted")
        raise
    finally:
        borrowed.put_back()
        freeze_daemon()
    try:
        if fault is not None:
            handle._outcome.claim()
            raise fault
        if ctrl_c.stopped or (ctrl_c.count and handle.cancelled()):
            raise KeyboardInterrupt
        return handle.result()
    finally:
        del handle, fault, borrowed, ctrl_c  # see Outcome.unwrap


def _why_not(runtime: Any) -> RuntimeError:
    if runtime.closing:
        return RuntimeClosed(runtime.gone or "the runtime is being shut down")
    return RuntimeError("another thread is in a run of this runtime")


def drive_to_end(runtime: Any, seconds: float, *, in_turn: bool = False) -> bool:
    """Be the executor until a runtime that is being shut down has ended.

    For ``seconds`` at most; then what is left is given up, or ``in_turn``, left for the next one.
    False: another thread is the executor.
    """
    ctrl_c = CtrlC(runtime)
    borrowed = Borrowed(runtime, ctrl_c)
    try:
        try:
            if not borrowed.claim():
                return False
            fault = None
            if not runtime._ended.opened:
                fault = _stay(runtime, borrowed, None, seconds, in_turn=in_turn)
        finally:
            borrowed.put_back()
    finally:
        borrowed.put_back()
    if fault is not None:
        raise fault
    if ctrl_c.stopped:
        raise KeyboardInterrupt
    return True


def called(main: Any, args: tuple[Any, ...]) -> Coroutine[Any, Any, Any]:
    """The coroutine of main: one, or what the function of that name returns."""
    if isinstance(main, Coroutine | Future):
        if args:
            refuse(main, TypeError("args are for an async function, and main is a coroutine"))
        return as_coroutine(main)
    if not callable(main):
        raise TypeError(f"main must be a coroutine or an async function, not {main!r}")
    made = main(*args)
    if not isinstance(made, Coroutine | Future):
        raise TypeError(f"main must be a coroutine or an async function, not {main!r}")
    return as_coroutine(made)


def refuse(coro: object, error: BaseException) -> NoReturn:
    close_refused(coro)
    raise error


def _stay(
    runtime: Any,
    borrowed: Borrowed,
    main: JoinHandle[Any] | None,
    seconds: float,
    *,
    in_turn: bool = False,
) -> BaseException | None:
    """Poll until main has ended, else until the runtime has. What has cut it off, if anything."""
    executor = runtime.executor
    try:
        borrowed.take()
        executor._arrive()
        borrowed.take_signals()
        alarms = []
        if main is not None:
            main._outcome.call_when_open(borrowed, executor._pause)
            if main.done():
                executor._pause()
        elif in_turn:
            alarms.append(_alarm(runtime, seconds, executor._end_turn))
        else:
            alarms.append(_alarm(runtime, seconds, executor._stop))
            alarms.append(_alarm(runtime, PATIENCE_SECONDS, partial(tell_patience, runtime)))
        executor._stay(in_turn=in_turn)
    except BaseException as fault:
        recover(runtime)
        return fault
    return None


def recover(runtime: Any) -> None:
    """An exception has cut off a step of ours: end the runtime in order.

    Each task is mended: one that was taken out of the queue and not polled is put to wait, one
    that has ended is settled. Then all have the grace for their end.
    """
    executor = runtime.executor
    runtime.closing = True
    current.thread.context = None
    with contextlib.suppress(AttributeError):  # read-only in C, where no step is cut off
        executor._polling = None
    try:
        for task in [*runtime.tasks(), *runtime.services()]:
            make_call(partial(_mend, runtime, task))
        alarm = _alarm(runtime, runtime.exit_grace, executor._stop)
        start_ending(runtime)
        while not executor._stopping:
            executor._loop()
        del alarm
    except BaseException as again:  # the engine is broken, or this is a second exception
        executor._fault = again
    executor._stop_runtime()
    _settle_rest(runtime)


def _mend(runtime: Any, task: Task) -> None:
    if task._ended:
        runtime.run_queue.remove(task)
        runtime.forget(task)
        task._settle()
    else:
        with contextlib.suppress(ValueError):  # it is in the queue
            runtime.run_queue.put_to_wait(task)
        task._cx.waker.wake()


def _settle_rest(runtime: Any) -> None:
    """Fail the handles of tasks that were cut off in the midst of being settled.

    They are in no table any more, so handles are looked for among all that refers to the runtime.
    """
    for handle in gc.get_referrers(runtime):
        if type(handle) is not JoinHandle:
            continue
        outcome = handle._outcome
        if not outcome.opened:
            make_call(partial(outcome.fail, RuntimeClosed(runtime.gone), report=False))
        elif outcome.waiters:
            make_call(outcome.open)


def _alarm(runtime: Any, seconds: float, call: Callable[[], object]) -> object:
    """Have ``call`` made on the executor's thread in that time, while what this returns is kept."""
    deadline = runtime.now_ns() + math.ceil(min(seconds, 10**9) * 10**9)
    return runtime.reactor._add_timer(deadline, _Alarm(runtime, call))


class _Alarm:
    def __init__(self, runtime: Any, call: Callable[[], object]) -> None:
        self._runtime = runtime
        self._call = call

    def wake(self) -> None:
        self._runtime.publish(self._call)
