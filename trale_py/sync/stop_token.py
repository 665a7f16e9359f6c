"""StopToken: tell many to stop, once."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, Self

from ..base.durations import Duration
from ..base.errors import ClosedResourceError
from ..core.executor import spawn
from ..core.join import JoinHandle
from ..streams.signals import SignalReceiver, open_signal_receiver
from .event import Event
from .statistics import WaitStatistics
from .waiters import block

_REASON: Final = "reason"


class StopToken:
    """A request to stop, which tasks and threads look at or wait for. It is made once, for good.

    Nothing is interrupted by it: each part of the program stops at a place that suits it. May be
    made anywhere, before the runtime exists too. ::

        stop = StopToken()
        with stop.on_signal(signal.SIGTERM), serve(handler, "127.0.0.1:80", grace=5):
            stop.wait_blocking()  # in a task: await stop.wait()

    After Tokio's `CancellationToken
    <https://docs.rs/tokio-util/latest/tokio_util/sync/struct.CancellationToken.html>`_.
    """

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = _Stop(None)

    def stop(self, reason: object = None) -> None:
        """Ask all to stop, those of its children too. The first reason counts. From anywhere, a
        signal handler or a ``__del__`` too; never waits."""
        self._state.stop(reason)

    @property
    def stop_requested(self) -> bool:
        """Whether ``stop`` was called."""
        return self._state.is_set()

    @property
    def reason(self) -> object:
        """As given to ``stop``; None before that."""
        return self._state.said.get(_REASON)

    def wait(self) -> Coroutine[Any, Any, None]:
        """Wait until ``stop`` is called. Cancelling the wait changes nothing for others."""
        return self._state.wait()

    def wait_blocking(self, timeout: Duration | None = None) -> None:
        """The same in a thread, at most ``timeout`` seconds: then TimeoutError.

        Ctrl-C ends the wait. WouldDeadlock on the executor's thread.
        """
        block(self._state.wait(), timeout)

    def child(self) -> StopToken:
        """A token that this one stops, and that can also be stopped alone."""
        token = StopToken()
        token._state = _Stop(self._state)
        return token

    def on_signal(self, *signums: int) -> StopOnSignal:
        """Stop when one of these signals comes: ``with token.on_signal(signal.SIGTERM):``.

        The reason is the signal. From any thread, and in tasks. Only the first signal is taken:
        the next one does what it did before, so a second Ctrl-C interrupts. At the end of the
        block all is as it was. For what ``signums`` may be see ``open_signal_receiver``.
        """
        return StopOnSignal(self, open_signal_receiver(*signums))

    def statistics(self) -> WaitStatistics:
        """How many wait at this moment; those that wait for its children are theirs."""
        return self._state.statistics()

    def __repr__(self) -> str:
        return repr(self._state)


class _Stop(Event):
    """What a token and those that wait for it share. A parent does not keep its children alive,
    and their waiters do."""

    __slots__ = ("__weakref__", "children", "parent", "said")

    def __init__(self, parent: _Stop | None) -> None:
        super().__init__()
        self.said: dict[str, object] = {}  # setdefault() is one C call: one reason is the first
        self.parent = parent  # it is alive as long as its children are
        self.children: dict[weakref.ref[_Stop], object] = {}
        if parent is not None:
            # R73: a stop may come at this moment. We enter ourselves first and look second; the
            # stop is set first, and looks for children second. The later one sees the other. The
            # other way round, both may look too early, and the child would never be stopped.
            parent.children[weakref.ref(self, parent.children.pop)] = None
            if parent.is_set():
                self.stop(parent.said.get(_REASON))

    def stop(self, reason: object) -> None:
        self.said.setdefault(_REASON, reason)
        self.set()
        for child in list(self.children):
            state = child()
            if state is not None:
                state.stop(self.said[_REASON])

    def __repr__(self) -> str:
        if not self.is_set():
            return f"<StopToken waited for by {len(self._waiters)}>"
        reason = self.said.get(_REASON)
        return f"<StopToken stopped{'' if reason is None else f': {reason!r}'}>"


class StopOnSignal:
    """What ``StopToken.on_signal`` returns, for ``with``."""

    __slots__ = ("_receiver", "_task", "_token")

    def __init__(self, token: StopToken, receiver: SignalReceiver) -> None:
        self._token = token
        self._receiver = receiver
        self._task: JoinHandle[None] | None = None

    def __enter__(self) -> Self:
        self._receiver.__enter__()
        try:
            self._task = spawn(self._listen(), name="StopToken.on_signal")
        except BaseException:
            self._receiver.__exit__(None, None, None)
            raise
        return self

    async def _listen(self) -> None:
        with contextlib.suppress(ClosedResourceError):  # the block has ended
            signum = await anext(self._receiver)
            try:
                self._receiver.__exit__(None, None, None)
            finally:
                self._token.stop(signum)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel("the block of on_signal() has ended")
        self._receiver.__exit__(None, None, None)
