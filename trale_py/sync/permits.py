"""Permits: a pile of tokens, and tasks that wait in line for one.

Notify is a pile that starts empty and that ``notify_one`` adds to. Mutex is a pile of
one, which ``lock`` takes and ``release`` puts back (so does trale's mutex, on its event).

Everybody works on two shared containers by single C calls: any thread, also a
``__del__`` that runs in the midst of another of these functions (R12). The order is
always: put something in, then match what there is. A waiter is matched by whoever pops
it, once; what a popped waiter does not use goes to the next.

One step remains that a Ctrl-C could cut off, between putting a permit in and matching
it. So where tasks may wait, that is done on an executor's thread, where no signal
handler runs; see ``Home``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import current
from ..future import PENDING, Future, Pending, Ready
from ..seam import Context, Waker

if TYPE_CHECKING:
    from ..runtime import Runtime


class Home:
    """Which runtime's tasks wait here: the one that last did. None: nobody ever has."""

    __slots__ = ("runtime",)

    def __init__(self) -> None:
        self.runtime: Runtime | None = None

    def call(self, function: Callable[[], object]) -> None:
        """Call it where no Ctrl-C can come between its steps; here, if nobody can be waiting.

        A first waiter that comes at this moment names its runtime, then enters the line, then
        looks for a permit: it needs nobody to wake it.
        """
        runtime = self.runtime
        if runtime is None or current.thread.runtime is not None:
            function()
        else:
            runtime.publish(function)


class Permits:
    """The pile and the line. Invariant: while there are permits, a match is due or under way."""

    __slots__ = ("home", "pile", "waiting")

    def __init__(self, count: int) -> None:
        self.pile: deque[None] = deque([None] * count)
        self.waiting: dict[PermitWait, Waker] = {}
        self.home = Home()

    def give(self) -> None:
        """Add a permit, for the first in line or the next that comes. Any thread."""
        self.home.call(self._give)

    def _give(self) -> None:
        self.pile.append(None)
        self.match()

    def match(self) -> None:
        """Hand permits to waiters while there are both. Any thread.

        R12: of a permit and a waiter that come at once, each is put in before its owner looks
        for the other, so at least one of them sees both. A permit that found no waiter is put
        back, and then there is another look.
        """
        while self.pile and self.waiting:
            try:
                self.pile.pop()
            except IndexError:
                return
            if not self.wake_one():
                self.pile.append(None)

    def wake_one(self) -> bool:
        """Let the first in line through. False: nobody waits."""
        return any(waiter.let_through(permit=True) for waiter in list(self.waiting))


class PermitWait(Future[None]):
    """A place in the line; ready when a permit was handed over."""

    __slots__ = ("_owes", "_permits", "handed")

    def __init__(self, permits: Permits) -> None:
        self._permits = permits
        self._owes = False  # once out of the line, it has a permit that is used or passed on
        self.handed = False

    def let_through(self, *, permit: bool) -> bool:
        """Take it out of the line, with a permit or without. False: somebody else has."""
        waker = self._permits.waiting.pop(self, None)
        if waker is None:
            return False
        self._owes = permit
        self.handed = True
        waker.wake()
        return True

    def poll(self, cx: Context) -> Ready[None] | Pending:
        if not self.handed:
            self._permits.home.runtime = cx.runtime
            self._owes = True
            self._permits.waiting[self] = cx.waker  # polled again, it keeps its place
            self._permits.match()
        return Ready(None) if self.handed else PENDING

    def drop(self) -> None:
        # Whoever popped this waiter has handed a permit over, or is about to: it goes on.
        if self._owes and self._permits.waiting.pop(self, None) is None:
            self._permits.give()
