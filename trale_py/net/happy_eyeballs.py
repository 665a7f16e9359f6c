"""Happy eyeballs: of the addresses of a host, the connection to the one that answers first.

An address that cannot be reached often says nothing at all, and TCP gives up after minutes.
So the next address is not tried after the last but beside it, a quarter of a second later,
or at once when an attempt fails. The first connection wins; the others are cancelled. IPv6
and IPv4 take turns, as it is mostly one of them as a whole that does not work.

After `RFC 8305 <https://www.rfc-editor.org/rfc/rfc8305>`_: section 4 is ``in_turn``, section 5
``connect_first``. Section 3, to go on with the first answer of the name servers while others
are waited for, is left out: getaddrinfo(3) answers once, with all of them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from itertools import zip_longest
from typing import Any, Generic, TypeVar

from ..base.closeable import Closing
from ..base.durations import Duration
from ..base.errors import raise_as_it_was
from ..scopes.cancel_scope import move_on_after
from ..scopes.task_group import TaskGroup
from ..sync.event import Event
from .address import Endpoint, show

C = TypeVar("C", bound=Closing)

# The "Connection Attempt Delay" that section 8 recommends. Most handshakes take less, so most
# hosts are knocked at once; and a person hardly notices what one dead address costs.
ATTEMPT_DELAY_SECONDS = 0.25


def in_turn(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """The order to try them in: the first one's family, the other, the first one's, and so on.

    Within a family the order stays the resolver's. What is left of the longer one comes last.
    """
    favourites = [endpoint for endpoint in endpoints if endpoint.family == endpoints[0].family]
    others = [endpoint for endpoint in endpoints if endpoint.family != endpoints[0].family]
    pairs = zip_longest(favourites, others)
    return [endpoint for pair in pairs for endpoint in pair if endpoint is not None]


async def connect_first(
    endpoints: Sequence[Endpoint],
    connect: Callable[[Endpoint], Coroutine[Any, Any, C]],
    delay: Duration = ATTEMPT_DELAY_SECONDS,
) -> C:
    """What ``connect`` returns for the first of the endpoints (one or more) that answers.

    When this ends, all attempts have: what they connected beside it is closed. If all fail
    with OSError, the error that came last is raised; any other error ends the race at once.
    Cancelled, it leaves no connection. One endpoint needs no race, and no task.
    """
    if len(endpoints) == 1:
        return await connect(endpoints[0])
    return await _Race(connect, delay).run(in_turn(endpoints))


class _Race(Generic[C]):
    """The attempts are tasks of a group, which the first to connect cancels."""

    def __init__(
        self, connect: Callable[[Endpoint], Coroutine[Any, Any, C]], delay: Duration
    ) -> None:
        self._connect = connect
        self._delay = delay
        self._attempts = TaskGroup()
        self._failed = Event()  # an attempt has, since the last one was started
        self._error: OSError | None = None
        self._winner: C | None = None
        self._over = False  # an address has won, or the caller no longer waits

    async def run(self, endpoints: Sequence[Endpoint]) -> C:
        failure: BaseException | None = None
        try:
            await self._start(endpoints)
        except BaseException as error:
            self._over = True
            if self._winner is not None:  # cancelled all the same, or an attempt broke
                self._winner.close()
            if not isinstance(error, BaseExceptionGroup) or len(error.exceptions) > 1:
                raise
            failure = error.exceptions[0]
        else:
            if self._winner is not None:
                return self._winner
            failure, self._error = self._error, None
        assert failure is not None
        try:
            raise_as_it_was(failure)
        finally:
            del failure  # or its traceback would lead back to it

    async def _start(self, endpoints: Sequence[Endpoint]) -> None:
        """Start one after the other; return when all have ended."""
        async with self._attempts:
            for endpoint in endpoints:
                self._failed = Event()
                name = f"connect to {show(endpoint.address)}"
                self._attempts.spawn(self._attempt(endpoint), name=name)
                with move_on_after(self._delay):
                    await self._failed.wait()

    async def _attempt(self, endpoint: Endpoint) -> None:
        try:
            connection = await self._connect(endpoint)
        except OSError as error:
            self._error = error
            self._failed.set()
            return
        if self._over:  # it was cancelled, and has connected nevertheless
            connection.close()
            return
        self._winner, self._over = connection, True
        self._attempts.cancel_scope.cancel("another address answered first")
