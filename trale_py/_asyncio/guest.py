"""Guest: the turns of asyncio's loop, between those of trale_py's tasks.

    any thread   call_soon, call_soon_threadsafe, call_at --------+
    the reactor  the loop's epoll set, or its next timer, is due -+--> wake(): publish a turn
    the executor comes to it: a turn
                 become asyncio's thread
                 run what is ready, for a short while
                 be trale_py's again, and see to the next wake

A turn never waits, and no thread polls: an idle guest costs nothing.

The loop's epoll set is watched like any other descriptor. The reactor is edge-triggered and asyncio
is not: a callback may leave bytes where they are. So when the set has reported something, the
reactor is asked to look at it anew after the turn.

A wake that comes as the guest is about to wait (R67)
    Any thread wakes: it puts a call into the loop and *then* looks at ``_published``. A turn clears
    ``_published`` first and *then* looks for what there is. The second of the two sees the other::

        executor: turn: looks, nothing is ready
                                              thread: call_soon_threadsafe(f); _published is set
        executor: _published = False             <- f would wait for the next wake

    An event that comes as the guest is about to wait (R68) is the same with the reactor: the bell
    is hung up first, and the epoll set asked second, so an event between the two rings.
"""

from __future__ import annotations

import asyncio
import math
import sys
from typing import Any

from ..base.errors import Cancelled
from ..base.log import report
from ..core import current
from ..core.contract import RuntimeLike
from ..core.future import PENDING, Future, Pending
from ..core.task import current_task
from ..core.waker import Context
from ..scopes.cancel_scope import CancelScope
from .companion import Companion
from .ending import wind_up
from .fastnet import use_aiofastnet
from .loop import GuestLoop, check_private
from .stub import stub
from .until import outcome_of, until_end

# A turn ends after so many rounds of the loop, or when this time is over. So that a storm on either
# side leaves the other its turns: a round may take long, and a task's poll takes a microsecond.
_ROUNDS = 16
_SLICE_NS = 50_000

# A deadline on the clock that is further away than a counter of nanoseconds reaches.
_NEVER_SECONDS = 9e9


class Guest:
    """Executor's thread only, but for ``wake`` and what rings."""

    def __init__(self, runtime: RuntimeLike, loop: GuestLoop | None = None) -> None:
        self.runtime = runtime
        self.is_turning = False
        self._over = False
        self._published = False  # a turn is to come
        self._companions: dict[asyncio.Task[Any], Companion] = {}
        self._bell = _Bell(self)
        self._rung = True
        self._alarm: _Alarm | None = None
        self.loop = GuestLoop(runtime, self) if loop is None else loop
        self._source = runtime.reactor._attach(self.loop.guest_selector.fileno())
        self._hooks_outside = sys.get_asyncgen_hooks()
        self._hooks_inside = (
            self.loop._asyncgen_firstiter_hook,
            self.loop._asyncgen_finalizer_hook,
        )

    @classmethod
    def started(cls, runtime: RuntimeLike) -> Guest:
        """One that lives as long as the runtime."""
        check_private()
        guest = cls(runtime)
        use_aiofastnet(guest.loop)
        runtime._start_service(guest._serve(), "asyncio guest")
        return guest

    # -- turns -----------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have a turn. Any thread, a signal handler or a ``__del__``; any number of times."""
        if not self._published:
            self._published = True
            self.runtime.publish(self._turn)

    def wake_by_reactor(self) -> None:
        """The same. The native engine calls it on the executor's thread: then the turn is now.

        But not in the midst of another turn, of a task, or perhaps of the runtime's end.
        """
        thread, runtime = current.thread, self.runtime
        busy = self.is_turning or thread.context is not None or runtime.closing
        if thread.runtime is runtime and not busy:
            self._turn()
        else:
            self.wake()

    def _turn(self) -> None:
        """One turn, as the head of this file has it. Executor's thread."""
        self._published = False  # R67: first of all
        if self._over:
            return
        if self._rung:
            self._rung = False
            self._source.add(self._bell, self._bell, True, False)  # R68: before the set is asked
            self.loop.guest_selector.news = True
        self._enter()
        try:
            self._run()
        finally:
            self._leave()
        if self.runtime.forked:  # by code of this turn, and this is the child
            return
        self._see_to_next()

    def _run(self) -> None:
        """Rounds of the loop, until nothing is ready or the slice of time is over."""
        loop = self.loop
        end = self.runtime.now_ns() + _SLICE_NS
        for _ in range(_ROUNDS):
            try:
                loop._run_once()
            except (SystemExit, KeyboardInterrupt):
                pass  # the task that raised it has ended by it; asyncio lets it through as well
            except BaseException as error:
                if self.runtime.forked:
                    return
                report("a round of asyncio's loop failed", error=error)
            if not loop._ready or self.runtime.now_ns() > end:
                return

    def _enter(self) -> None:
        """From now on this thread is asyncio's."""
        loop = self.loop
        self.is_turning = True
        loop.woken_by_calls(False)
        sys.set_asyncgen_hooks(*self._hooks_inside)
        asyncio._set_running_loop(loop)
        _tell_sniffio("asyncio")

    def _leave(self) -> None:
        """It is trale_py's again."""
        _tell_sniffio("trale")
        asyncio._set_running_loop(stub)  # type: ignore[arg-type]
        sys.set_asyncgen_hooks(*self._hooks_outside)
        self.loop.woken_by_calls(True)
        self.is_turning = False

    def _see_to_next(self) -> None:
        """Have another turn when there is a reason for one."""
        selector = self.loop.guest_selector
        if selector.has_reported:
            selector.has_reported = False
            self.runtime.reactor._poller.rearm(self._source)
        if self.loop._ready or selector.news:
            self.wake()
        else:
            self._set_alarm()

    def _set_alarm(self) -> None:
        """Have the reactor wake the guest when the loop's next timer is due."""
        scheduled = self.loop._scheduled
        when = scheduled[0]._when if scheduled else math.inf
        if self._alarm is not None and self._alarm.when == when:
            return
        self._drop_alarm()
        if when < _NEVER_SECONDS:
            self._alarm = _Alarm(self, when)

    def _drop_alarm(self) -> None:
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            self.runtime.reactor._cancel_timer(alarm.entry)

    def create_task(self, coro: Any) -> asyncio.Task[Any]:
        """For a trale_py task: with its contextvars."""
        task: asyncio.Task[Any] = self.loop.create_task(coro)
        return task

    def create_task_in_turn(self, create: Any, coro: Any, options: Any) -> Any:
        """Between turns, where a task factory may run the first step at once."""
        context, current.thread.context = current.thread.context, None
        self._enter()
        try:
            return create(coro, **options)
        finally:
            self._leave()
            current.thread.context = context
            self.wake()

    # -- asyncio code that awaits what is trale_py's ---------------------------------------------

    def companion(self) -> Companion | None:
        """Of the asyncio task that this turn is running; None: it is running none."""
        task = asyncio.current_task(self.loop) if self.is_turning else None
        if task is None:
            return None
        companion = self._companions.get(task)
        if companion is None:
            companion = self._companions[task] = Companion(self.runtime, task)
            task.add_done_callback(self._companions.pop)
        return companion

    # -- the end -----------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """The service: it waits for the end of the last task, and then ends the loop."""
        try:
            await _Never()
        except Cancelled:
            with CancelScope(shield=True):
                winding_up = self.create_task(wind_up(self.loop))
                await until_end(winding_up)
                outcome_of(winding_up)
            raise
        finally:
            if not self.runtime.forked:
                self._close()

    def _close(self) -> None:
        self._detach()
        self.loop.close_for_good("the runtime of this event loop has been shut down")

    def _detach(self) -> None:
        """No more turns, and nothing of it is left in the reactor."""
        self._over = True
        self._drop_alarm()
        self._source.discard(self._bell)
        self.runtime.reactor._release(self._source)

    def after_fork_in_child(self) -> None:
        """The loop is the parent's. What the child closes of it must not touch its epoll set."""
        self._over = True
        self.loop.after_fork_in_child(self.runtime.gone)


class _Never(Future[None]):
    """What a service waits for that ends by its cancellation."""

    __slots__ = ()

    def poll(self, cx: Context) -> Pending:
        return PENDING

    def _describe(self) -> str:
        return "the end of the last task"


class _Bell:
    """What the reactor wakes when the loop's epoll set has something to report."""

    __slots__ = ("_guest",)

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def wake(self) -> None:
        self._guest._rung = True
        self._guest.wake_by_reactor()


class _Alarm:
    """What the reactor wakes when the loop's next timer is due."""

    __slots__ = ("_guest", "entry", "when")

    def __init__(self, guest: Guest, when: float) -> None:
        self._guest = guest
        self.when: float | None = when
        self.entry = guest.runtime.reactor._add_timer(math.ceil(when * 1e9), self)

    def wake(self) -> None:
        self.when = None  # it is not set any more
        self._guest.wake_by_reactor()


def _tell_sniffio(name: str) -> None:
    """Have it say, if it is loaded, whose code this thread runs."""
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:
        sniffio.thread_local.name = name


def guest_of(runtime: RuntimeLike) -> Guest:
    """The runtime's guest, started. Executor's thread only."""
    if runtime.guest is None:
        runtime.guest = Guest.started(runtime)
    guest: Guest = runtime.guest
    return guest


def guest_here() -> Guest | None:
    """The guest of the task that is running; None in asyncio code, which needs none."""
    if current_task() is not None:
        return guest_of(current.thread.runtime)  # type: ignore[arg-type]
    runtime = current.thread.runtime
    if runtime is not None and runtime.guest is not None and runtime.guest.is_turning:
        return None
    raise RuntimeError(
        "aio(...) is for trale_py's tasks: in a script, spawn(aio(...)).join() or "
        "block_on(aio(...)) runs it"
    )
