"""Poller: what the reactor's thread does. It waits for the kernel and calls wakers.

It sleeps in epoll_wait, on every registered descriptor, on one timerfd armed for the
earliest deadline, and on one eventfd by which the executor interrupts it. Whatever
comes out of epoll, it only ever wakes tasks; they find out for themselves what happened.

Which thread writes what
    executor's thread: which descriptors are watched (``sources`` and the epoll set)
    reactor's thread: the timer heap, the timerfd, the event counts of the sources

    Timers cross over by ``_timer_inbox``, in the manner of the run-queue: the executor
    puts an entry in, to be added or (its waker gone) to be forgotten, and the reactor
    sorts it out when it is next awake.

How a sleep ends
    Its timer is in the heap, and the timerfd is set for the first deadline of the heap. When that
    has come, epoll_wait returns, the timers that are due are taken out and their wakers called.
    The task is polled again and looks at the clock itself: a wake that is early does no harm.

epoll, as far as it is relied on here
    - Edge-triggered registration reports what is ready at that moment, then each change.
      EPOLL_CTL_MOD with the same mask reports anew what is ready now.
    - ERR and HUP come unasked and concern both directions. RDHUP (the peer will send no
      more) and HUP on the read end of a pipe come without IN: both mean "read, and see".
    - A registration belongs to the open file, not to the number: if the descriptor was
      duplicated, close() does not end it. So EPOLL_CTL_DEL always comes before close().
    - ENOENT at MOD: this file is not registered (the number was closed behind our back
      and means another file now). EEXIST at ADD: it is, still. EPERM: not pollable.
    - EINTR (a SIGSTOP and SIGCONT suffice) is retried by Python.

Event for a number that was reused (R5)
    Python's epoll reports the descriptor's number. Between epoll_wait's return and our
    looking it up, the executor may close that descriptor and register another that got
    the same number. Hence ``_recycled``: the numbers unregistered since the current
    epoll_wait began. An event for one of them may be for the old file. It is not
    believed, and the kernel is asked anew with EPOLL_CTL_MOD.
"""

from __future__ import annotations

import contextlib
import select
import time
from queue import SimpleQueue
from typing import Any

from ..base.durations import NEVER
from .engine import accelerated
from .run_queue import RunQueue
from .source import Source
from .timer_heap import TimerEntry, TimerHeap, Wakeable
from .wakeup_fds import LONGEST_WAIT_NS, TimerFd, WakeupFd

_READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
# A read may come out short although there is more: the end, an error, what follows urgent data.
_NOT_DRAINED = select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_MASK = select.EPOLLIN | select.EPOLLPRI | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET

# What one round of the loop takes at most, so that timers and events both get their turn.
BATCH = 256

# How many timers may wait for the reactor to wake of its own accord. Those that are not
# the next to fire need no haste, but they must not pile up without end.
_TIMER_INBOX_LIMIT = 1024


# How late the timerfd may be. Then other code has closed it: epoll forgets a closed one, and
# does not say so. (On a busy machine it may be late as well; then a look too many does no harm.)
_LATE_NS = 10**8


# Those whose descriptors other code has closed: the numbers may be another's by now, and to free
# the objects would close them again.
_lost: list[Poller] = []


@accelerated
class Poller:
    """The epoll set of a runtime and its timers. The reactor's thread is in ``run``.

    All the rest is for the executor's thread, if nothing else is said.
    """

    def __init__(self, run_queue: RunQueue[Any]) -> None:
        self._run_queue = run_queue  # hears of faults only: tasks are woken by their wakers
        self.sources: dict[int, Source] = {}
        self._recycled: set[int] = set()
        self._timers = TimerHeap()
        self._timer_inbox: SimpleQueue[TimerEntry] = SimpleQueue()
        self._armed = NEVER  # the deadline we will wake for; the reactor's thread writes it
        self._notified = False  # it was notified, and the reactor has not come to look yet
        self._stopping = False
        self._descriptors = contextlib.ExitStack()  # closes those that are open
        self._robbed = False  # other code has closed our descriptors
        self._epoll_returns = 0
        self._events = 0

    # -- life ---------------------------------------------------------------------------

    def open(self) -> None:
        """Open the descriptors. OSError: nothing is left behind."""
        opened = self._descriptors  # each is in there at once: another thread may fork
        try:
            opened.callback(self._close_own)
            self._epoll = select.epoll()
            self._wakeup_fd = WakeupFd()
            self._timer_fd = TimerFd()
            if self._run_queue.simulation is not None:
                self._run_queue.fire_timers = self._fire_simulated
                opened.callback(setattr, self._run_queue.simulation, "on_idle", None)
            # Level-triggered: should a round miss one of them, the next does not.
            self._epoll.register(self._wakeup_fd.fileno(), select.EPOLLIN)
            self._epoll.register(self._timer_fd.fileno(), select.EPOLLIN)
        except BaseException:
            opened.close()
            raise

    def _close_own(self) -> None:
        for name in ("_epoll", "_wakeup_fd", "_timer_fd"):
            if hasattr(self, name):  # else an exception came before it was opened
                getattr(self, name).close()

    def stop(self) -> None:
        """Have ``run`` return. Any thread. OSError: it cannot be woken."""
        self._stopping = True
        try:
            self._call("eventfd_write", self._wakeup_fd.fileno())
            self._wakeup_fd.notify()
        except OSError:
            self._robbed = True
            raise

    def close(self) -> None:
        """Close the descriptors that are open; ``run`` has returned."""
        if self._robbed:
            _lost.append(self)
        else:
            self._descriptors.close()

    def after_fork_in_child(self) -> None:
        """In a forked child: close our descriptors, and touch nothing that is the parent's."""
        self.close()

    # -- a simulation ---------------------------------------------------------------------

    def _call(self, call: str, fd: int) -> None:
        """A system call is about to be made. OSError: a test has planned that it fails."""
        simulation = self._run_queue.simulation
        if simulation is not None:
            simulation.take(call, fd)

    def _has_test_clock(self) -> bool:
        """Whether the executor fires the timers, by the clock of a test."""
        simulation = self._run_queue.simulation
        return simulation is not None and simulation.has_clock

    def _fire_simulated(self) -> int | None:
        """Executor's thread, before each batch: fire what is due. Returns the next deadline."""
        simulation = self._run_queue.simulation
        if simulation is None or not simulation.has_clock:
            return None
        self._fire_timers(simulation.now_ns())
        return self._timers.next_deadline()

    # -- sources --------------------------------------------------------------------------

    def watch(self, fd: int) -> Source:
        """A new source for ``fd``. What is ready now is reported. OSError: the kernel refuses."""
        # In the table before epoll can report it: else an event would find no source.
        source = self.sources[fd] = Source(fd)
        try:
            self._call("epoll_ctl", fd)
            self._epoll.register(fd, _MASK)
        except PermissionError:
            source.pollable = False
        except FileExistsError:  # the number was closed, but the file lives on in a duplicate
            self.rearm(source)
        except BaseException:
            self.unwatch(source)
            self._look_after_our_own()
            raise
        return source

    def _look_after_our_own(self) -> None:
        """End the runtime if what failed is due to our own descriptors: other code closed them."""
        try:
            self._call("epoll_ctl", self._wakeup_fd.fileno())
            self._epoll.modify(self._wakeup_fd.fileno(), select.EPOLLIN)
        except OSError as error:
            self._break(error)

    def _break(self, error: OSError) -> None:
        """Other code has closed our descriptors: end the runtime."""
        self._robbed = True
        self._run_queue.fail(error)

    def rearm(self, source: Source) -> bool:
        """Have what is ready now reported anew. False: this file is not watched (any more)."""
        try:
            self._call("epoll_ctl", source.fd)
            self._epoll.modify(source.fd, _MASK)
        except OSError:
            return False
        return True

    def watches(self, source: Source) -> bool:
        """Whether its number still means the file that is watched. See sweep.py."""
        if not source.pollable:
            return True
        try:
            self._epoll.register(source.fd, _MASK)
        except FileExistsError:
            return True
        except OSError:
            self._look_after_our_own()
            return False
        with contextlib.suppress(OSError):
            self._epoll.unregister(source.fd)
        return False

    def unwatch(self, source: Source) -> None:
        """Stop watching, if it is watched, and wake all waiters. Call it before close()."""
        if self.sources.get(source.fd) is source:
            del self.sources[source.fd]
            # ENOENT, EBADF: it was closed behind our back, which ended the watching too.
            with contextlib.suppress(OSError):
                self._call("epoll_ctl", source.fd)
                self._epoll.unregister(source.fd)
            # After the DEL, before the number can be used anew (R5).
            self._recycled.add(source.fd)
        source.gone = True
        source.read.wake_all()
        source.write.wake_all()

    # -- timers -------------------------------------------------------------------------------

    @property
    def timers(self) -> int:
        """How many are set. Those count that the reactor has seen."""
        return len(self._timers)

    def add_timer(self, deadline: int, waker: Wakeable) -> TimerEntry:
        """Call ``waker.wake()`` when the clock has reached ``deadline`` (in nanoseconds).

        The entry is for the caller to keep: one that is dropped need not fire.
        """
        entry = TimerEntry(deadline, waker)
        if deadline < NEVER:
            self._timer_inbox.put(entry)
            if self._has_test_clock():
                return entry
            # The entry is put first, and these are looked at last (R6).
            if deadline < self._armed or self._timer_inbox.qsize() > _TIMER_INBOX_LIMIT:
                self._notify()
        return entry

    def cancel_timer(self, entry: TimerEntry) -> None:
        """Forget a timer; a wake that is already on its way still comes. Any thread."""
        if entry.waker is not None and entry.deadline < NEVER:
            entry.waker = None
            self._timer_inbox.put(entry)

    def _notify(self) -> None:
        """Write to the eventfd, unless that was done and the reactor has not looked yet.

        R41: ``_notified`` keeps later calls from writing. If the write fails, it is taken back, or
        every later timer would wait for a reactor that sleeps.
        """
        if self._notified:
            return
        self._notified = True
        try:
            self._call("eventfd_write", self._wakeup_fd.fileno())
            self._wakeup_fd.notify()
        except OSError as error:
            self._notified = False
            self._break(error)
        except BaseException:  # no memory: the next one repeats it
            self._notified = False
            raise

    def counts(self) -> dict[str, int]:
        """What the reactor has done: returns of epoll_wait, events of sources in them."""
        return {"epoll_returns": self._epoll_returns, "events": self._events}

    # -- the loop: reactor's thread -----------------------------------------------------------

    def run(self) -> None:
        """Wait for the kernel and call wakers, until ``stop``."""
        try:
            while not self._stopping:
                self._turn()
        except OSError:
            self._robbed = True
            raise

    def _turn(self) -> None:
        self._notified = False  # from here on an entry may have come too late for this look (R6)
        seconds: float = -1
        if not self._has_test_clock():
            self._fire_timers(time.monotonic_ns())
            seconds = self._set_timer_fd()
        self._recycled.clear()
        self._call("epoll_wait", self._epoll.fileno())
        for fd, mask in self._epoll.poll(seconds, BATCH):
            self._dispatch(fd, mask)
        self._epoll_returns += 1

    def _fire_timers(self, now: int) -> None:
        for _ in range(self._timer_inbox.qsize()):
            entry = self._timer_inbox.get()
            if entry.waker is not None:
                self._timers.push(entry)
            else:
                self._timers.discard(entry)
        for entry in self._timers.pop_due(now, BATCH):
            # Cancelled at this very moment? Then this is a wake too many, which is harmless.
            waker, entry.waker = entry.waker, None
            if waker is not None:
                waker.wake()

    def _set_timer_fd(self) -> float:
        """Set the timerfd for the next deadline. Returns how long to sleep if it does not expire.

        R6: an entry that is due no earlier than ``_armed``, or that finds ``_notified`` set, is
        left in the inbox without a notification: we will come and look. So ``_armed`` is published
        first and the inbox looked at last; ``_notified`` is cleared first and the inbox emptied
        last. add_timer() puts first, and looks at them last: the second one sees the first.
        """
        deadline = self._timers.next_deadline()
        self._armed = NEVER if deadline is None else deadline
        if not self._timer_inbox.empty():
            return 0
        if deadline is None:
            return -1
        now = time.monotonic_ns()
        if deadline <= now:
            return 0
        self._call("timerfd_settime", self._timer_fd.fileno())
        self._timer_fd.set(deadline, now)
        return (min(deadline - now, LONGEST_WAIT_NS) + _LATE_NS) / 10**9

    def _dispatch(self, fd: int, mask: int) -> None:
        source = self.sources.get(fd)
        if fd in self._recycled:
            # R5. The source was looked up first: if it is the new file's, then the number was
            # in _recycled before that file could get it.
            if source is not None:
                with contextlib.suppress(OSError):
                    self._epoll.modify(fd, _MASK)
        elif source is not None:
            if mask & _READABLE:
                source.read.notify(bool(mask & _NOT_DRAINED))
            if mask & _WRITABLE:
                source.write.notify(bool(mask & _NOT_DRAINED))
            self._events += 1
        elif fd == self._wakeup_fd.fileno():
            self._wakeup_fd.clear()
        elif fd == self._timer_fd.fileno():
            self._timer_fd.clear()
