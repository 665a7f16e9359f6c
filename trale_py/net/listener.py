"""Listeners: accepting connections, of whatever family."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Generic, TypeVar

from ..base.log import report
from ..timers.timer import now, sleep
from .socket_base import BaseSocket

S = TypeVar("S")

# accept(2): "treat them like EAGAIN by retrying". The connection was lost before we took it.
_LOST = {
    errno.ECONNABORTED,
    errno.EPROTO,
    errno.ENOPROTOOPT,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EOPNOTSUPP,
    errno.EPERM,  # a firewall's rule
}
# The connection still waits, and the system lacks what it takes to accept it.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# A peer that gives up gives up once. If this many calls in a row say so, it is this machine that
# does not want to (a filter, a network that is down), and each try would say it again at once.
_LOST_IN_A_ROW = 100
_BACK_OFF_SECONDS = 0.1
_REPORT_SECONDS = 1.0
_ACCEPT_LIMIT = struct.pack("ll", 0, 100_000)  # a struct timeval; see socket(7), SO_RCVTIMEO
_NO_LIMIT = struct.pack("ll", 0, 0)


class BaseListener(BaseSocket, Generic[S]):
    """A socket that accepts connections, which ``_wrap`` makes streams of."""

    _KIND = socket.SOCK_STREAM

    _limited = False  # SO_RCVTIMEO is set

    def _wrap(self, sock: socket.socket, address: Any) -> S:
        """A stream of a connection that was accepted."""
        raise NotImplementedError

    def _listen(self, backlog: int) -> None:
        """Begin to, on a socket of our own that is bound."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _ACCEPT_LIMIT)
        self._sock.listen(backlog)
        self._limited = True

    def accept(self) -> Coroutine[Any, Any, S]:
        """Wait for a connection. Several tasks may; each connection goes to one of them.

        Cancelled, it has taken none. ClosedResourceError once closed, OSError (EMFILE, ...)
        from accept(2).
        """
        return self._reading(self._accept)

    def _accept(self) -> S:
        self._set_nonblocking()
        sock, address = self._sock.accept()
        try:
            sock.setblocking(False)
            if self._limited:  # what is accepted inherits it
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _NO_LIMIT)
            return self._wrap(sock, address)
        except BaseException:
            sock.close()
            raise

    def __aiter__(self) -> AsyncIterator[S]:
        """Accept for ever, until the listener is closed (ClosedResourceError).

        A connection that its peer gave up again is skipped. While there are no descriptors
        or no memory for another one, and while each try fails, it tries ten times a second and
        logs once a second.
        """
        return _Incoming(self)


class _Incoming(Generic[S]):
    def __init__(self, listener: BaseListener[S]) -> None:
        self._listener = listener
        self._reported_at = -_REPORT_SECONDS

    def __aiter__(self) -> AsyncIterator[S]:
        return self

    async def __anext__(self) -> S:
        lost = 0
        while True:
            try:
                return await self._listener.accept()
            except OSError as error:
                lost += error.errno in _LOST
                if error.errno in _EXHAUSTED or lost > _LOST_IN_A_ROW:
                    self._report(error)
                    await sleep(_BACK_OFF_SECONDS)
                elif error.errno not in _LOST:
                    raise

    def _report(self, error: OSError) -> None:
        if now() - self._reported_at >= _REPORT_SECONDS:
            self._reported_at = now()
            report("%r cannot accept: %s; trying again", self._listener, error)


def check_backlog(backlog: int) -> None:
    if not isinstance(backlog, int):
        raise TypeError(f"backlog must be an int, not {backlog!r}")
    if backlog.bit_length() > 31:
        raise ValueError(f"backlog must be less than 2**31, not {backlog}")
