"""Registration: a waker that waits for a descriptor which is not one of our sockets."""

from __future__ import annotations

import enum
import select
from typing import Protocol

from ..base.log import report
from .contract import RuntimeLike
from .source import Source
from .timer_heap import Wakeable


class Interest(enum.Flag):
    """What to wait for on a descriptor: READABLE, WRITABLE or, joined by ``|``, either."""

    READABLE = enum.auto()
    WRITABLE = enum.auto()


class Sources(Protocol):
    """A Reactor, for a registration."""

    _runtime: RuntimeLike
    _stopping: bool

    def _attach(self, fd: int) -> Source:
        """Start to watch ``fd``, or share its source."""

    def _release(self, source: Source) -> None:
        """Give up one use of ``source``."""


class Registration:
    """A waker that waits for a descriptor: what ``register_waker`` returns."""

    __slots__ = ("_error", "_fd", "_interest", "_reactor", "_source", "_waker")

    def __init__(self, reactor: Sources, fd: int, waker: Wakeable, interest: Interest) -> None:
        self._reactor = reactor
        self._fd = fd
        self._interest = interest
        self._source: Source | None = None
        self._waker = [waker]  # popped once: by the event or by cancel()
        self._error: OSError | None = None  # why the descriptor cannot be watched

    @property
    def _fired(self) -> bool:
        """Whether the wake is over, be it that it was called or that it was cancelled."""
        return not self._waker

    def _arm(self) -> None:
        """Executor's thread."""
        if not self._waker:
            return
        if self._reactor._stopping:  # too late for _stop() to wake it, so it is done here
            self._wake()
            return
        try:
            source = self._source = self._reactor._attach(self._fd)
        except OSError as error:
            self._error = error
            self._wake()
            return
        source.add(
            self,
            _Firing(self),
            Interest.READABLE in self._interest,
            Interest.WRITABLE in self._interest,
        )
        # What came before we were among the waiters was reported to others. It may be that they
        # take it before the reactor looks again: so ask now, and not by EPOLL_CTL_MOD.
        if not source.pollable or self._is_ready():
            self._wake()

    def _is_ready(self) -> bool:
        """Whether the descriptor is ready in a direction that is asked for."""
        mask = 0
        if Interest.READABLE in self._interest:
            mask |= select.POLLIN | select.POLLRDHUP
        if Interest.WRITABLE in self._interest:
            mask |= select.POLLOUT
        poll = select.poll()
        poll.register(self._fd, mask)
        return bool(poll.poll(0))

    def _wake(self) -> None:
        """Fire: wake the waker, once."""
        waker = self._take()
        if waker is None:
            return
        try:
            waker.wake()
        except BaseException as error:  # the user's waker; the reactor must go on
            report("%r, the waker of a descriptor, failed", waker, error=error)

    def cancel(self) -> None:
        """Take the registration back: the waker will not be called any more. Any thread."""
        self._take()

    def _take(self) -> Wakeable | None:
        """The waker, for one caller; the registration ends. None: another caller had it."""
        try:
            waker = self._waker.pop()
        except IndexError:
            return None
        self._reactor._runtime.call_on_executor(self._disarm)
        return waker

    def _disarm(self) -> None:
        """Leave the waiters of its source."""
        source, self._source = self._source, None
        if source is not None:
            source.discard(self)
            self._reactor._release(source)

    def __repr__(self) -> str:
        return f"<Registration fd={self._fd} {'fired' if self._fired else self._interest}>"


class _Firing:
    """The descriptor is ready: what the reactor wakes, as a waiter of the source."""

    __slots__ = ("_registration",)

    def __init__(self, registration: Registration) -> None:
        self._registration = registration

    def wake(self) -> None:
        self._registration._wake()
